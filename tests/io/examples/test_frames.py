import io

import numpy as np
import pytest
from fuzz.wire import frame
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases.damaged_frames import flip

from penstock.io.errors import InputError
from penstock.io.examples.frames import Frames, read_frames
from penstock.io.kernel.shared.tfrecord import unmask_crcs


def read_all(data, **options):
    return list(read_frames(io.BytesIO(data), "a.tfrecord", **options))


def records_of(frames):
    return [record for part in frames for record in part.records()]


@given(st.lists(st.binary(max_size=90), max_size=30), st.integers(1, 200))
def test_records_offsets_and_bytes_for_any_block_size(records, block_bytes):
    content = b"".join(map(frame, records))
    frames = read_all(content, block_bytes=block_bytes)
    assert records_of(frames) == records
    assert b"".join(part.data for part in frames) == content
    starts = np.cumsum([0, *(len(record) + 16 for record in records)])[:-1]
    assert [offset for part in frames for offset in part.offsets] == starts.tolist()
    assert sum(map(len, frames)) == len(records)


@pytest.mark.parametrize("in_place", [False, True])
def test_bytes_have_the_place_in_a_page_that_they_have_in_the_file(in_place):
    content = b"".join(frame(bytes(length)) for length in range(400))
    found = b""
    for part in read_frames(io.BytesIO(content), "a.tfrecord", block_bytes=5000, in_place=in_place):
        assert np.frombuffer(part.data, np.uint8).ctypes.data % 4096 == part.first_offset % 4096
        found += part.data
    assert found == content


def test_frames_that_are_kept_are_not_overwritten():
    content = b"".join(frame(bytes([number]) * 3000) for number in range(100))
    held = []
    for part in read_frames(io.BytesIO(content), "a.tfrecord", block_bytes=20_000, in_place=True):
        if part.first_offset % 3:
            part.keep()
            held.append((part.records(), part))
    assert len(held) > 5
    assert all(part.records() == records for records, part in held)


def test_little_more_is_read_than_is_given_at_once():
    stream = io.BytesIO(frame(bytes(1000)) * 5000)
    parts = read_frames(stream, "a", block_bytes=2_000_000, in_place=True, cut=lambda frames: frames // 100 * 100)
    given = 0
    for expected in (1900, 1900, 1200):
        part = next(parts)
        assert len(part) == expected
        given += len(part.data)
        assert stream.tell() <= given + 60_000
    assert next(parts, None) is None


def test_a_whole_block_is_read_where_it_has_fewer_frames_than_are_best_given():
    stream = io.BytesIO(frame(bytes(1000)) * 5000)
    parts = read_frames(stream, "a", block_bytes=2_000_000, in_place=True, cut=lambda frames: frames // 3000 * 3000)
    assert [len(part) for part in parts] == [1968, 1968, 1064]


def test_records_written_by_tensorflow_are_found(tmp_path):
    tf = pytest.importorskip("tensorflow")
    records = [bytes([i % 256]) * i for i in range(300)]
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        for record in records:
            writer.write(record)
    assert records_of(read_all((tmp_path / "a.tfrecord").read_bytes(), block_bytes=1000)) == records


def test_stream_with_short_reads_is_not_taken_for_its_end():
    class Dribble(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 3))

    content = frame(b"abc") + frame(b"d" * 100)
    frames = list(read_frames(Dribble(content), "a"))
    assert records_of(frames) == [b"abc", b"d" * 100]


def test_record_longer_than_a_block_is_read_whole():
    big = bytes(1_000_003)
    assert records_of(read_all(frame(b"a") + frame(big) + frame(b"z"), block_bytes=1000)) == [b"a", big, b"z"]


def test_empty_stream_has_no_frames():
    assert read_all(b"") == []


def test_empty_records_are_records():
    assert records_of(read_all(frame(b"") * 3)) == [b"", b"", b""]


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.data())
def test_every_cut_inside_a_record_is_an_error_that_names_its_offset(records, data):
    content = b"".join(map(frame, records))
    borders = np.cumsum([0, *(len(record) + 16 for record in records)])
    cut = data.draw(st.integers(1, len(content) - 1).filter(lambda at: at not in borders))
    start = max(border for border in borders if border < cut)
    with pytest.raises(InputError, match=rf"^a\.tfrecord: .* at byte {start}; the file is truncated"):
        read_all(content[:cut], block_bytes=16)


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=8), st.integers(1, 100), st.data())
def test_every_flipped_bit_is_found_at_its_record(records, block_bytes, data):
    content = b"".join(map(frame, records))
    borders = np.cumsum([0, *(len(record) + 16 for record in records)])
    at = data.draw(st.integers(0, len(content) - 1))
    start = max(border for border in borders if border <= at)
    with pytest.raises(InputError, match=rf"the record at byte {start} does not match"):
        read_all(flip(content, at), block_bytes=block_bytes)


def test_absurd_length_with_a_good_crc_is_refused_without_reading_on():
    with pytest.raises(InputError, match=r"the record at byte 19 claims 1099511627776 bytes"):
        read_all(frame(b"abc") + frame(b"x", length=1 << 40))
    with pytest.raises(InputError, match=r"the record at byte 0 claims 18446744073709551615 bytes"):
        read_all(frame(b"x", length=(1 << 64) - 1))


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        pytest.param(b"\x1f\x8b\x08\x00" + bytes(30), "suffix .gz", id="gzip"),
        pytest.param(b"\x78\x9c" + bytes(30), "suffix .zlib", id="zlib"),
        pytest.param(b"a,b,c\n1,2,3\n4,5,6\n", "not a TFRecord file", id="text"),
    ],
)
def test_what_is_not_tfrecord_says_what_to_do(content, hint):
    with pytest.raises(InputError, match=rf"a\.tfrecord: the length CRC of the record at byte 0 .*{hint}"):
        read_all(content)


def test_short_junk_is_truncated():
    with pytest.raises(InputError, match=r"cut off after 5 of 12 bytes at byte 0"):
        read_all(b"hello")


def test_unmask_undoes_the_mask():
    values = [0, 1, 0xFFFFFFFF, 0xA282EAD8, 0x12345678]
    masked = [(((v >> 15) | (v << 17)) + 0xA282EAD8) & 0xFFFFFFFF for v in values]
    assert unmask_crcs(np.array(masked, np.uint32)).tolist() == values


def test_frames_know_their_place():
    part = Frames(frame(b"ab"), np.array([12]), np.array([2]), 100)
    assert part.offsets.tolist() == [100]
    assert part.records() == [b"ab"]


def test_some_frames_are_selected_over_the_same_data():
    (part,) = read_all(b"".join(map(frame, [b"a", b"bc", b"def"])))
    assert part.select(slice(1, 3)).records() == [b"bc", b"def"]
    assert part.select(np.array([2])).offsets.tolist() == [35]
    assert [part.record(row) for row in range(3)] == part.records()


class TestLongRecords:
    """Passed over, in pieces, with a limit of 50 bytes."""

    def read(self, data, block_bytes=20):
        found = []
        options = {"block_bytes": block_bytes, "max_record_bytes": 50, "too_long": found.append}
        return records_of(read_all(data, **options)), found

    @given(st.lists(st.integers(0, 90), max_size=9), st.integers(1, 40))
    def test_they_are_told_from_the_others(self, lengths, block_bytes):
        records = [bytes([index]) * length for index, length in enumerate(lengths)]
        short, long = self.read(b"".join(map(frame, records)), block_bytes)
        assert short == [record for record in records if len(record) <= 50]
        offsets = np.cumsum([0, *(len(record) + 16 for record in records)]).tolist()
        expected = [(at, len(record)) for at, record in zip(offsets, records, strict=False) if len(record) > 50]
        assert [(record.offset, record.length) for record in long] == expected
        assert all(records[offsets.index(record.offset)].startswith(record.head) for record in long)

    def test_their_crcs_are_checked(self):
        with pytest.raises(InputError, match=r"a\.tfrecord: the data CRC of the record at byte 17 does not match"):
            self.read(frame(b"a") + flip(frame(b"z" * 90), 60))

    @pytest.mark.parametrize("cut", [1, 4, 5, 60])
    def test_one_that_is_cut_off_is_a_fault_of_the_file(self, cut):
        with pytest.raises(InputError, match=r"a\.tfrecord: the file ends in the record at byte 0; it is truncated"):
            self.read(frame(b"z" * 90)[:-cut])
