"""Workers of a rank that take its batches in turn: together they are the loop of one process, from any state."""

import itertools
import json
import shutil

import pyarrow as pa
import pytest
import shards

import penstock


@pytest.fixture(scope="module", params=["tfrecord", "parquet"])
def dataset(request, tmp_path_factory) -> str:
    output = tmp_path_factory.mktemp(request.param) / "dataset"
    schema = pa.schema([("id", pa.int64()), ("name", pa.string())])
    rows = pa.RecordBatch.from_pylist([{"id": number, "name": f"n{number}"} for number in range(1003)], schema)
    columns = {"columns": schema} if request.param == "parquet" else {}
    shards.write(output, [rows], format=request.param, compression="none", **columns)
    return str(output)


def ids(batch) -> list[int]:
    return batch["id"].to_pylist()


def merged(lanes):
    """One item of each lane in turn, as a DataLoader takes them."""
    return [item for items in itertools.zip_longest(*lanes) for item in items if item is not None]


@pytest.mark.parametrize("last", ["short", "drop"])
@pytest.mark.parametrize("buffer", [None, 70])
@pytest.mark.parametrize("start", [0, 3])
def test_workers_in_turn_read_what_one_loop_reads(dataset, last, buffer, start):
    loaded = penstock.load(dataset, split="train").shard(1, 2)
    loaded = loaded if buffer is None else loaded.shuffle(3, buffer)

    def at(state):
        batches = loaded.batches(16, last)
        batches.load_state_dict(json.loads(json.dumps(state)))
        return batches

    first = loaded.batches(16, last)
    assert sum(1 for _ in itertools.islice(first, start)) == start
    state = first.state_dict()
    expected = [ids(batch) for batch in at(state)]
    for workers in (1, 2, 3, 7):
        lanes = []
        for worker in range(workers):
            batches = at(state)
            lane = [ids(batch) for batch in itertools.islice(batches.in_turns(worker, workers), 2)]
            going_on = at(batches.state_dict())
            lane += [ids(batch) for batch in going_on.in_turns(0, workers)]
            assert list(at(going_on.state_dict()).in_turns(0, workers)) == [], "nothing is left for this worker"
            lanes.append(lane)
        assert merged(lanes) == expected


def test_steps_go_where_a_loop_goes(dataset):
    read, counted = (penstock.load(dataset, split="train").batches(100) for _ in range(2))
    for _ in range(2):
        states = [read.state_dict() for _ in read]
        assert [counted.state_dict() for _ in counted.steps()] == states


def test_a_worker_neither_decodes_nor_counts_the_rows_of_others(dataset, tmp_path):
    if penstock.load(dataset).reading.contents.format != "tfrecord":
        pytest.skip("a damaged page of Parquet is not one record")
    shutil.copytree(dataset, tmp_path / "copy")
    shard = sorted((tmp_path / "copy" / "train").iterdir())[0]
    data = bytearray(shard.read_bytes())
    data[-6] ^= 4  # of the last record
    shard.write_bytes(data)
    counts = []
    for worker in range(3):
        batches = penstock.load(str(tmp_path / "copy"), split="train", damaged="skip").shuffle(1, 50).batches(10)
        assert sum(batch.num_rows for batch in batches.in_turns(worker, 3)) > 300
        counts.append(batches.skipped)
    assert sorted(counts) == [0, 0, 1]
