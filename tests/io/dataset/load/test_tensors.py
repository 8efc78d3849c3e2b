import pyarrow as pa
import pytest
import shards
from quick_windows import ids_of, write_windows

import penstock

tf = pytest.importorskip("tensorflow", reason="the extra tft")

COLUMNS = pa.schema([("id", pa.int64()), ("name", pa.string()), ("clicks", pa.list_(pa.int64()))])


@pytest.mark.parametrize("format", ["tfrecord", "parquet"])
def test_a_pass_over_tf_data_is_an_epoch(format, tmp_path):
    rows = [{"id": number, "name": f"n{number}", "clicks": [number] * (number % 3)} for number in range(100)]
    columns = {"columns": COLUMNS} if format == "parquet" else {}
    shards.write(tmp_path / "out", [pa.RecordBatch.from_pylist(rows, COLUMNS)], format=format, **columns)
    loaded = penstock.load(str(tmp_path / "out"), split="train").shuffle(3, 40)
    dataset = loaded.tf_data(16)
    assert dataset.element_spec["clicks"] == tf.RaggedTensorSpec([None, None], tf.int64)
    orders = []
    for _ in range(2):
        found = [
            {"id": number, "name": name.decode(), "clicks": clicks}
            for batch in dataset
            for number, name, clicks in zip(
                batch["id"].numpy().tolist(), batch["name"].numpy().tolist(), batch["clicks"].to_list(), strict=True
            )
        ]
        assert sorted(found, key=lambda one: one["id"]) == rows
        orders.append([one["id"] for one in found])
    assert orders[0] != orders[1]
    padded = next(iter(loaded.tf_data(4, pad={"clicks": 2})))
    assert padded["clicks"].shape == (4, 2)
    assert padded["clicks$length"].shape == (4,)


def test_a_pass_that_was_left_early_takes_no_row_from_the_next_one(tmp_path):
    shards.write(tmp_path / "out", [pa.RecordBatch.from_pydict({"id": list(range(100))})])
    dataset = penstock.load(str(tmp_path / "out"), split="train").shuffle(3, 40).tf_data(16)
    assert dataset.cardinality() == len(list(dataset)) == 7
    for left_early in (dataset.take(1), dataset.prefetch(2).take(2)):
        assert len(list(left_early)) < 7
        assert sorted(number for batch in dataset for number in batch["id"].numpy().tolist()) == list(range(100))


def test_a_pass_over_what_is_followed_has_what_comes_meanwhile(tmp_path):
    write_windows(tmp_path, range(2))
    steps = [lambda: None, lambda: write_windows(tmp_path, [2])]

    def until():
        if steps:
            steps.pop(0)()
        return not steps

    dataset = penstock.load(str(tmp_path)).follow(0.001, until).tf_data(4)
    assert dataset.element_spec["id"] == tf.TensorSpec([None], tf.int64)
    assert dataset.cardinality() == tf.data.UNKNOWN_CARDINALITY
    for _ in range(2):
        found = [number for batch in dataset for number in batch["id"].numpy().tolist()]
        assert found == [one for number in range(3) for one in ids_of(number)]
    endless = penstock.load(str(tmp_path)).follow().tf_data(4)
    assert len(list(endless.take(2))) == 2
