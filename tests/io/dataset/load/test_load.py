"""Loading datasets of every format: each record once, the right one, wherever a run is broken off."""

import hashlib
import itertools
import json
import pathlib
import random
import re
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import shards

import penstock
from penstock.io.dataset.load.shards import readers
from penstock.io.dataset.manifest import read_manifest
from penstock.io.errors import ConfigError, DataError, InputError
from penstock.io.examples.encode import try_encode_examples

ROWS = 1500

# Format, compression: what `--output_format` and `--compression` take.
KINDS = [
    ("tfrecord", "gzip"),
    ("tfrecord", "zlib"),
    ("tfrecord", "none"),
    ("sequence_example", "gzip"),
    ("parquet", "zstd"),
    ("parquet", "none"),
    ("arrayrecord", "zstd"),
    ("arrayrecord", "none"),
    ("webdataset", "none"),
    ("webdataset", "gzip"),
    ("mds", "none"),
    ("mds", "zstd"),
]
COLUMNS = pa.schema(
    [("id", pa.int64()), ("fare", pa.float64()), ("name", pa.string()), ("clicks", pa.list_(pa.int64()))]
)


def row(number: int) -> dict[str, object]:
    return {
        "id": number,
        "fare": None if number % 10 == 0 else number / 4,
        "name": f"näme {number}" * (number % 5),
        "clicks": None if number % 7 == 0 else list(range(number % 4)),
    }


def rows_of(batches) -> list[dict[str, object]]:
    rows = [found for batch in batches for found in batch.to_pylist()]
    return [{**found, "name": _text(found["name"])} for found in rows]


def _text(value: object) -> object:
    return value.decode() if isinstance(value, bytes) else value


def ids(batches) -> list[int]:
    return [number for batch in batches for number in batch["id"].to_pylist()]


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def dataset(request, tmp_path_factory) -> str:
    return written(request.param, tmp_path_factory)


_WRITTEN: dict[tuple[str, str], str] = {}


def written(kind: tuple[str, str], tmp_path_factory) -> str:
    """Writes the rows in a format once for all tests of this module."""
    if kind not in _WRITTEN:
        if kind[0] == "arrayrecord":
            pytest.importorskip("array_record.python.array_record_module", reason="the extra arrayrecord")
        output = tmp_path_factory.mktemp("-".join(kind)) / "dataset"
        batches = [pa.RecordBatch.from_pylist([row(number) for number in range(ROWS)], COLUMNS)]
        columns = {"columns": COLUMNS} if kind[0] in ("parquet", "sequence_example", "webdataset", "mds") else {}
        shards.write(output, batches, format=kind[0], compression=kind[1], **columns)
        _WRITTEN[kind] = str(output)
    return _WRITTEN[kind]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> str:
    return written(("tfrecord", "none"), tmp_path_factory)


def opened(dataset: str, index: int = 0, count: int = 1, **options):
    loaded = penstock.load(dataset, split="train", **options)
    return loaded.shard(index, count)


@pytest.mark.parametrize("is_shuffled", [False, True], ids=["in_order", "shuffled"])
def test_an_epoch_has_each_record_once_for_any_number_of_ranks(dataset, is_shuffled):
    expected = [row(number) for number in range(ROWS)]
    for ranks in (1, 2, 3, 7):
        loaded = [opened(dataset, rank, ranks) for rank in range(ranks)]
        batches = [(one.shuffle(1, buffer=64) if is_shuffled else one).batches(50) for one in loaded]
        epochs = [list(one) for one in batches]
        assert {len(epoch) for epoch in epochs} == {len(batches[0])}, "all ranks have equally many steps"
        assert sorted(rows_of(itertools.chain.from_iterable(epochs)), key=lambda found: found["id"]) == expected


def test_the_records_are_those_that_the_manifest_has_digests_of(plain):
    table = pa.Table.from_batches(opened(plain).batches(77))
    for shard in read_manifest(plain).shards:
        encoded, _ = try_encode_examples(table.slice(0, shard.records).combine_chunks().to_batches()[0])
        assert hashlib.sha256(encoded.data).hexdigest() == shard.sha256
        table = table.slice(shard.records)
    assert table.num_rows == 0


def test_all_batches_have_the_types_of_the_schema(dataset):
    loaded = opened(dataset)
    assert {batch.schema == loaded.schema for batch in loaded.shuffle(0, 10).batches(1)} == {True}


def test_epochs_differ_and_a_seed_repeats_them(plain):
    first, again, other = (opened(plain).shuffle(seed, 500).batches(100) for seed in (5, 5, 6))
    epochs = [ids(first) for _ in range(3)]
    assert epochs == [ids(again) for _ in range(3)]
    assert len({tuple(epoch) for epoch in (*epochs, ids(other))}) == 4


@pytest.mark.parametrize("is_shuffled", [False, True], ids=["in_order", "shuffled"])
def test_a_resume_loses_and_doubles_nothing(dataset, is_shuffled):
    random.seed(dataset)
    batches, seen, epochs = _resumed(None, dataset, 3, is_shuffled), [], 0
    for _ in range(20):
        loops = [iter(one) for one in batches]
        for _ in range(random.randint(0, 9)):
            found = [next(loop, None) for loop in loops]
            assert len({batch is None for batch in found}) == 1
            if found[0] is not None:
                seen += ids(found)
        states = [json.dumps(one.state_dict()) for one in batches]
        assert len(set(states)) == 1, "ranks have the same state after the same steps"
        state = json.loads(states[0])
        if state["epoch"] > epochs:
            assert sorted(seen) == list(range(ROWS))
            seen, epochs = [], state["epoch"]
        batches = _resumed(state, dataset, random.choice([1, 2, 3, 7]), is_shuffled)
    seen += ids(batch for one in batches for batch in one)
    assert sorted(seen) == list(range(ROWS))


def _resumed(state, dataset, ranks, is_shuffled):
    """Batches of some size for each rank, which go on from a state."""
    size, made = random.choice([10, 32, 100]), []
    for rank in range(ranks):
        loaded = opened(dataset, rank, ranks)
        made.append((loaded.shuffle(9, 64) if is_shuffled else loaded).batches(size))
        if state is not None:
            made[-1].load_state_dict(state)
    return made


def test_the_same_ranks_go_on_with_the_same_batches(dataset):
    loaded = opened(dataset, 1, 2).shuffle(4, 100)
    whole = [batch["id"].to_pylist() for _, batch in zip(range(40), _endless(loaded.batches(32)), strict=False)]
    for step in random.Random(1).sample(range(1, 39), 5):
        first, second = loaded.batches(32), loaded.batches(32)
        for _ in zip(range(step), _endless(first), strict=False):
            pass
        # `zip` has taken one more than it gave.
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        rest = [batch["id"].to_pylist() for _, batch in zip(range(40 - step), _endless(second), strict=False)]
        assert rest == whole[step : step + len(rest)]


def _endless(batches):
    while True:
        yield from batches


def test_a_loop_that_is_left_goes_on(plain):
    batches = opened(plain).batches(1000)
    for batch in batches:
        first = ids([batch])
        break
    assert sorted(first + ids(batches)) == list(range(ROWS))


def test_drop_gives_full_batches_only(plain):
    batches = [opened(plain, rank, 7).shuffle(0, 100).batches(50, last="drop") for rank in range(7)]
    epochs = [[batch.num_rows for batch in one] for one in batches]
    assert epochs == [[50] * 4] * 7
    assert {len(one) for one in batches} == {4}


def test_workers_of_ranks_share_the_part_of_their_rank(plain):
    parts = [ids(opened(plain, rank, 2).shard(worker, 3).batches(9)) for rank in range(2) for worker in range(3)]
    assert sorted(itertools.chain.from_iterable(parts)) == list(range(ROWS))


def test_columns_are_chosen_in_their_order(dataset):
    loaded = opened(dataset, columns=["name", "id"])
    assert loaded.schema.names == ["name", "id"]
    assert next(iter(loaded.batches(2))).schema.names == ["name", "id"]


def _flipped(dataset: str, copy: pathlib.Path, place: float) -> None:
    """Copies a dataset, and flips a bit of one of its shards."""
    shutil.copytree(dataset, copy)
    shard = sorted((copy / "train").glob("part-*"))[1]
    data = bytearray(shard.read_bytes())
    # Blocks of ArrayRecord are filled up with zeros.
    size = len(data) if shard.suffix != ".array_record" else len(data.rstrip(b"\0")) // 3
    data[int(size * place)] ^= 4
    shard.write_bytes(data)


@pytest.mark.parametrize("place", [0.02, 0.3, 0.5, 0.77])
def test_a_flipped_bit_is_found(dataset, place, tmp_path):
    _flipped(dataset, tmp_path / "copy", place)
    loaded = opened(str(tmp_path / "copy"))
    with pytest.raises(InputError, match=r"train/part-00001-of-00003") as raised:
        list(loaded.batches(100))
    if loaded.reading.contents.format in ("tfrecord", "arrayrecord"):
        assert any(word in str(raised.value) for word in ("at byte", "number", "stream", "damaged"))
    if loaded.reading.contents.format == "webdataset":
        assert any(word in str(raised.value) for word in ("at byte", "before byte", "stream", "__columns__"))


@pytest.mark.parametrize("place", [0.02, 0.3, 0.5, 0.77])
def test_what_is_damaged_is_skipped_and_counted_on_request(dataset, place, tmp_path):
    _flipped(dataset, tmp_path / "copy", place)
    for is_shuffled in (False, True):
        loaded = opened(str(tmp_path / "copy"), damaged="skip")
        batches = (loaded.shuffle(0, 200) if is_shuffled else loaded).batches(100)
        found = rows_of(batches)
        assert batches.skipped > 0
        assert len(found) + batches.skipped == ROWS == sum(loss.rows for loss in batches.losses) + len(found)
        assert all(one == row(one["id"]) for one in found)
        assert len({one["id"] for one in found}) == len(found)


def test_a_damaged_footer_of_arrayrecord_is_damage_to_its_shard(tmp_path_factory, tmp_path):
    shutil.copytree(written(("arrayrecord", "none"), tmp_path_factory), tmp_path / "copy")
    shard = sorted((tmp_path / "copy" / "train").iterdir())[1]
    data = bytearray(shard.read_bytes())
    data[-(64 << 10) + 40] ^= 4  # in the header of the last block, which has the footer
    shard.write_bytes(data)
    told = r"train/part-00001-of-00003.array_record: not an ArrayRecord file, or it is damaged"
    with pytest.raises(InputError, match=told):
        list(opened(str(tmp_path / "copy")).batches(100))
    with pytest.raises(InputError, match=told):
        opened(str(tmp_path / "copy")).source(missing="mask").__getitems__(range(ROWS))
    batches = opened(str(tmp_path / "copy"), damaged="skip").batches(100)
    assert len(ids(batches)) == ROWS - batches.skipped
    assert batches.skipped == read_manifest(str(tmp_path / "copy")).shards[1].records


def _with_damaged_columns(source: str, copy: pathlib.Path, number: int, is_readable: bool) -> str:
    """Copies a dataset of which one shard has no columns that can be read, or others."""
    shutil.copytree(source, copy)
    shard = sorted((copy / "train").glob("part-*"))[number]
    data = bytearray(shard.read_bytes())
    if is_readable:
        data = data.replace(b"fare", b"farf")
    elif shard.suffix == ".parquet":
        data[-8:-4] = bytes(4)
    else:
        data[:600] = bytes(600)
    shard.write_bytes(data)
    return str(copy)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("is_readable", [False, True], ids=["no_columns", "other_columns"])
@pytest.mark.parametrize("kind", ["parquet", "mds", "webdataset"])
def test_any_shard_whose_columns_are_damaged_is_skipped_on_request(
    kind, is_readable, number, tmp_path_factory, tmp_path
):
    source = written((kind, "none"), tmp_path_factory)
    copy = _with_damaged_columns(source, tmp_path / "copy", number, is_readable)
    batches = opened(copy, damaged="skip").batches(100)
    found = rows_of(batches)
    assert batches.skipped == read_manifest(copy).shards[number].records == ROWS - len(found)
    assert all(one == row(one["id"]) for one in found)


def test_columns_that_are_damaged_in_all_shards_are_an_error(tmp_path_factory, tmp_path):
    copy = written(("webdataset", "none"), tmp_path_factory)
    for number in range(3):
        copy = _with_damaged_columns(copy, tmp_path / f"copy{number}", number, False)
    with pytest.raises(InputError, match="train/part-00000-of-00003"):
        opened(copy, damaged="skip")


@pytest.mark.parametrize("number", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize("kind", [("parquet", "none"), ("mds", "none")], ids="-".join)
def test_damage_to_what_the_format_has_no_checksum_of_is_found(kind, number, tmp_path_factory, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(written(kind, tmp_path_factory), copy)
    shard = sorted((copy / "train").glob("part-*"))[number]
    shard.write_bytes(shard.read_bytes().replace(b"fare", b"farf"))
    with pytest.raises(InputError, match=rf"train/part-0000{number}-of-00003\S*: the shard is damaged: its CRC32C is"):
        list(opened(str(copy)).batches(100))


@pytest.mark.parametrize("kind", [("parquet", "none"), ("mds", "none")], ids="-".join)
def test_a_shard_that_is_checked_as_a_whole_is_lost_as_a_whole(kind, tmp_path_factory, tmp_path):
    _flipped(written(kind, tmp_path_factory), tmp_path / "copy", 0.5)
    batches = opened(str(tmp_path / "copy"), damaged="skip").batches(100)
    records = read_manifest(str(tmp_path / "copy")).shards[1].records
    assert len(ids(batches)) == ROWS - records
    assert [loss.rows for loss in batches.losses] == [records]
    assert "train/part-00001-of-00003" in batches.losses[0].reason


def test_one_damaged_record_of_tfrecord_is_one_record(plain, tmp_path):
    _flipped(plain, tmp_path / "copy", 0.5)
    batches = opened(str(tmp_path / "copy"), damaged="skip").batches(100)
    assert len(ids(batches)) == ROWS - 1
    assert re.search(r"at byte \d+: the data CRC of the record does not match", batches.losses[0].reason)


def test_a_shard_that_is_cut_off_is_an_error(plain, tmp_path):
    shutil.copytree(plain, tmp_path / "copy")
    shard = sorted((tmp_path / "copy" / "train").iterdir())[1]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"the manifest says .* it was replaced or cut off"):
        list(opened(str(tmp_path / "copy"), damaged="skip").batches(100))
    shard.unlink()
    with pytest.raises(DataError, match="the shard cannot be read"):
        list(opened(str(tmp_path / "copy"), damaged="skip").batches(100))


def test_a_missing_value_is_an_error_until_it_is_said_what_it_becomes(dataset):
    with pytest.raises(
        DataError, match=r"column 'fare': \d+ of 300 rows of the batch have no value; say .*missing='mask'"
    ):
        list(opened(dataset, columns=["id", "fare"]).numpy(300))


def test_missing_values_become_what_is_given(dataset):
    (found,) = opened(dataset, columns=["id", "fare"]).numpy(ROWS, missing={"fare": -1})
    expected = np.where(found["id"] % 10 == 0, -1, found["id"] / 4)
    np.testing.assert_array_equal(found["fare"], expected)


def test_masks_tell_missing_values_and_lists(dataset):
    (found,) = opened(dataset).numpy(ROWS, missing="mask")
    np.testing.assert_array_equal(found["fare$present"], found["id"] % 10 != 0)
    np.testing.assert_array_equal(found["clicks$present"], found["id"] % 7 != 0)
    lists = np.split(found["clicks"].values, found["clicks"].row_splits[1:-1])
    expected = [[] if number % 7 == 0 else list(range(number % 4)) for number in found["id"].tolist()]
    assert [one.tolist() for one in lists] == expected


def test_lists_are_padded_to_a_width(dataset):
    (found,) = opened(dataset, columns=["id", "clicks"]).numpy(ROWS, missing="mask", pad={"clicks": 4})
    assert found["clicks"].shape == (ROWS, 4)
    np.testing.assert_array_equal(found["clicks$length"], np.where(found["id"] % 7 == 0, 0, found["id"] % 4))
    np.testing.assert_array_equal(found["clicks"].sum(axis=1), [sum(range(n)) for n in found["clicks$length"]])
    with pytest.raises(DataError, match="column 'clicks': a list has 3 values, and pad says 2"):
        list(opened(dataset, columns=["clicks"]).numpy(ROWS, missing="mask", pad={"clicks": 2}))


WRONG = {
    "split": (lambda path: penstock.load(path, "test"), "there is no split 'test'; the splits are train"),
    "folder": (lambda path: penstock.load(path + "-not"), "holds no dataset"),
    "column": (lambda path: penstock.load(path, columns=["nam"]), "'nam' is not a .*did you mean 'name'"),
    "damaged": (lambda path: penstock.load(path, damaged="drop"), "damaged must be one of error, skip, got 'drop'"),
    "rank": (lambda path: opened(path, 2, 2), "got index 2 of 2"),
    "buffer": (lambda path: opened(path).shuffle(0, 0), "buffer must be >= 1, got 0"),
    "seed": (lambda path: opened(path).shuffle(-1), "seed must be from 0"),
    "batch_size": (lambda path: opened(path).batches(0), "batch_size must be >= 1, got 0"),
    "last": (lambda path: opened(path).batches(1, last="pad"), "last must be one of short, drop, got 'pad'"),
    "missing": (lambda path: opened(path).numpy(1, missing="zero"), "missing must be 'error', 'mask', or values"),
    "columns_text": (lambda path: penstock.load(path, columns="id"), "columns must be a list of one name at least"),
    "columns_none": (lambda path: penstock.load(path, columns=[]), r"one name at least, or None for all, got \[\]"),
    "version": (lambda path: penstock.load(path, version="1"), "version must be a whole number, .*got '1'"),
    "file": (lambda path: penstock.load(f"{path}/manifest.json"), "manifest.json: is a file; name the folder"),
    "missing_column": (lambda path: opened(path).numpy(1, missing={"far": 1}), "missing: 'far' is not a column"),
    "missing_value": (lambda path: opened(path).numpy(1, missing={"fare": "x"}), "missing: column 'fare' is of float"),
    "missing_list": (lambda path: opened(path).numpy(1, missing={"clicks": 0}), "missing: column 'clicks' is of list"),
    "pad": (lambda path: opened(path).numpy(1, pad={"fare": 1}), "pad: column 'fare' has one value in each row"),
    "width": (lambda path: opened(path).numpy(1, pad={"clicks": 0}), "the width of column 'clicks' must be"),
    "columns_twice": (
        lambda path: penstock.load(path, columns=["id", "name", "id"]),
        "each column once, got 'id' twice",
    ),
    "missing_none": (lambda path: opened(path).numpy(1, missing=None), "missing must be 'error', 'mask', .*got None"),
    "pad_list": (lambda path: opened(path).numpy(1, pad=["clicks"]), "pad must be widths by column, .*got .'clicks'"),
    "batch_size_float": (lambda path: opened(path).batches(2.5), "batch_size must be a whole number, got 2.5"),
    "batch_size_bool": (lambda path: opened(path).batches(True), "batch_size must be a whole number, got True"),
    "rank_float": (lambda path: opened(path, 0.5, 2), "shard: index must be a whole number, got 0.5"),
    "ranks_none": (lambda path: opened(path, 0, None), "shard: count must be a whole number, got None"),
    "seed_float": (lambda path: opened(path).shuffle(1.5), "shuffle: seed must be a whole number, got 1.5"),
    "buffer_float": (lambda path: opened(path).shuffle(1, 1e4), "shuffle: buffer must be a whole number, got 10000.0"),
    "prefetch_float": (lambda path: opened(path).prefetch(shards=2.5), "shards must be a whole number, got 2.5"),
    "state": (lambda path: opened(path).batches(1).load_state_dict({}), "the state has version None"),
    "state_of": (
        lambda path: opened(path).batches(1).load_state_dict(opened(path).shuffle(1).batches(1).state_dict()),
        "the state has shuffle .*, and what is loaded None",
    ),
    "state_taken": (
        lambda path: opened(path).batches(1).load_state_dict({**opened(path).batches(1).state_dict(), "taken": [[1]]}),
        "not a state of these batches",
    ),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said(call, message, plain):
    with pytest.raises(ConfigError, match=message):
        call(plain)


@pytest.mark.parametrize(("rank", "ranks", "workers"), [(0, 1, 1), (1, 2, 1), (0, 1, 4)])
def test_batches_of_long_texts_stay_what_they_are_while_others_follow(rank, ranks, workers, tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "_BLOCK_BYTES", 1 << 18)
    monkeypatch.setattr(readers, "_COLUMN_BYTES", 1)
    texts = [bytes([number % 251]) * (2000 + number % 7) for number in range(ROWS)]
    batch = pa.record_batch({"id": pa.array(range(ROWS)), "text": pa.array(texts, pa.binary())})
    shards.write(tmp_path / "d", [batch], compression="none", num_shards=3)
    batches = opened(str(tmp_path / "d"), rank, ranks).batches(100)
    held = list(batches.in_turns(0, workers))
    assert {row["id"] for one in held for row in one.to_pylist()} <= set(range(ROWS))
    assert all(row["text"] == texts[row["id"]] for one in held for row in one.to_pylist())
    assert sum(one.num_rows for one in held) >= ROWS // ranks // workers


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8], ids=lambda kind: kind.__name__)
def test_integers_of_numpy_are_taken_and_their_state_is_json(kind, plain):
    def batches_of(number):
        return (
            opened(plain, number(1), number(200))
            .shard(number(1), number(2))
            .shuffle(number(7), number(5))
            .batches(number(2))
        )

    batches, expected = batches_of(kind), batches_of(int)
    assert ids(itertools.islice(batches, 1)) == ids(itertools.islice(expected, 1))
    state = json.loads(json.dumps(batches.state_dict()))
    assert state == expected.state_dict() == batches.state_dict()
    for again in (batches_of(kind), batches_of(int)):
        again.load_state_dict(batches.state_dict())
        assert ids(again) == ids(expected)
        expected.load_state_dict(state)


def test_the_remedy_for_missing_lists_is_one_that_is_taken(plain):
    with pytest.raises(DataError, match=r"column 'clicks': .* say what they become: missing='mask'$"):
        list(opened(plain, columns=["clicks"]).numpy(100))


def test_two_loops_at_once_are_refused(plain):
    batches = opened(plain).batches(10)
    first = iter(batches)
    next(first)
    next(iter(batches))
    with pytest.raises(RuntimeError, match="another loop over these batches has begun"):
        next(first)


def test_loading_takes_neither_beam_nor_tensorflow(tmp_path_factory):
    program = (
        "import sys, penstock\n"
        "for dataset in sys.argv[1:]:\n"
        "    for _ in penstock.load(dataset, 'train').numpy(10, missing='mask'): pass\n"
        "print(sorted({'apache_beam', 'tensorflow', 'grpc', 'pandas'} & set(sys.modules)))"
    )
    datasets = [written(kind, tmp_path_factory) for kind in KINDS]
    done = subprocess.run([sys.executable, "-c", program, *datasets], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
