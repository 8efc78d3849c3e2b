import io
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.dataset.shard_formats import SHARD_FORMATS, known_compression, load_format, shard_kind
from penstock.io.dataset.shard_formats.base import RecordGroups, ShardFormat
from penstock.io.errors import ConfigError
from penstock.io.sort.records import EncodedRecords

RECORDS = st.lists(st.binary(max_size=12), max_size=30)


def encoded(records):
    offsets = np.cumsum([0, *map(len, records)])
    data = np.frombuffer(b"".join(records), np.uint8)
    return EncodedRecords(np.zeros(len(records), np.uint16), np.zeros(len(records), np.uint64), data, offsets)


def expected_groups(records, max_bytes, max_records):
    groups = [[]]
    for record in records:
        groups[-1].append(record)
        if sum(map(len, groups[-1])) >= max_bytes or len(groups[-1]) == max_records:
            groups.append([])
    return [group for group in groups if group]


@given(records=RECORDS, max_bytes=st.integers(1, 40), max_records=st.integers(1, 9), data=st.data())
def test_groups_follow_from_the_records_alone(tmp_path_factory, records, max_bytes, max_records, data):
    """Records come as they lie, in an order, and from a file, in pieces of any size."""
    found = []

    def take(content, offsets):
        assert offsets[0] == 0
        assert offsets[-1] == len(content)
        found.append([bytes(content[start:end]) for start, end in itertools.pairwise(offsets)])

    groups = RecordGroups(take, max_bytes, max_records)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=4)))
    for start, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
        piece = records[start:end]
        match data.draw(st.integers(0, 2)):
            case 0:
                groups.write_records(encoded(piece))
            case 1:
                groups.write_ordered(encoded(piece[::-1]), np.arange(len(piece), dtype=np.int64)[::-1].copy())
            case _:
                path = tmp_path_factory.mktemp("runs") / "run"
                path.write_bytes(b"xy" + b"".join(piece))
                with io.FileIO(str(path)) as file:
                    groups.copy_records(file, encoded(piece).offsets + 2)
    groups.flush()
    assert found == expected_groups(records, max_bytes, max_records)


@pytest.mark.parametrize("name", SHARD_FORMATS)
def test_every_format_of_the_registry_is_there(name):
    kind = shard_kind(name)
    assert isinstance(load_format(name, known_compression(name, None)), ShardFormat)
    assert all(suffix.startswith(".") for suffix in kind.suffixes.values())
    assert "/" in kind.media_type


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match=r"format must be one of tfrecord, parquet.*, got 'orc'"):
        shard_kind("orc")
    with pytest.raises(ConfigError, match="must be one of zstd, snappy, gzip, none for the format parquet, got 'zlib'"):
        known_compression("parquet", "zlib")
