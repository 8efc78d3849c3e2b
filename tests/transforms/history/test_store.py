"""The folder of a history: what is appended, what is replaced, what is read while files are put together."""

import datetime
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tensorflow_metadata.proto.v0 import statistics_pb2

from penstock.io.errors import ConfigError, InputError, StorageError
from penstock.transforms.history import store
from penstock.transforms.history.metrics import SCHEMA
from penstock.transforms.history.store import append, read
from penstock.transforms.statistics.compute import compute_statistics

START = datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC)
HOUR = datetime.timedelta(hours=1)


def of(rows, features=("x",), name="train"):
    """Statistics of so many rows."""
    proto = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = proto.datasets.add(name=name, num_examples=rows)
    for feature in features:
        stats = dataset.features.add(name=feature, type=statistics_pb2.FeatureNameStatistics.FLOAT).num_stats
        stats.mean, stats.common_stats.num_non_missing, stats.common_stats.tot_num_values = rows / 2, rows, rows
    return proto


def window(number):
    return START + number * HOUR, START + (number + 1) * HOUR


def rows_of(path, **chosen):
    return read(str(path), feature="", metrics=["rows"], **chosen)["value"].to_pylist()


def test_points_are_read_in_the_order_of_time(tmp_path):
    for number in (2, 0, 1):
        append(str(tmp_path), of(10 + number), "run", window(number))
    table = read(str(tmp_path))
    assert table.schema == SCHEMA
    assert rows_of(tmp_path) == [10, 11, 12]
    assert table["window_start"].to_pylist() == sorted(table["window_start"].to_pylist())


def test_a_late_pane_replaces_its_window(tmp_path):
    append(str(tmp_path), of(10), "run", window(0), START + HOUR)
    append(str(tmp_path), of(20), "run", window(1), START + 2 * HOUR)
    append(str(tmp_path), of(13), "another run", window(0), START + 3 * HOUR)
    assert rows_of(tmp_path) == [13, 20]


def test_what_was_made_earlier_replaces_nothing(tmp_path):
    append(str(tmp_path), of(13), "run", window(0), START + 3 * HOUR)
    append(str(tmp_path), of(10), "run", window(0), START + HOUR)
    assert rows_of(tmp_path) == [13]


def test_a_run_that_is_appended_again_is_replaced_and_others_stay(tmp_path):
    append(str(tmp_path), of(10), "a", created=START)
    append(str(tmp_path), of(20), "b", created=START + HOUR)
    append(str(tmp_path), of(11), "a", created=START + 2 * HOUR)
    assert rows_of(tmp_path) == [20, 11]
    append(str(tmp_path), of(11), "a", created=START + 2 * HOUR)
    assert rows_of(tmp_path) == [20, 11]
    assert len(os.listdir(tmp_path)) == 3


def test_a_feature_that_a_new_version_lacks_is_gone(tmp_path):
    append(str(tmp_path), of(10, ("x", "y")), "run", window(0), START + HOUR)
    append(str(tmp_path), of(10, ("x",)), "run", window(0), START + 2 * HOUR)
    assert read(str(tmp_path), feature="y").num_rows == 0
    assert read(str(tmp_path), feature="x").num_rows > 0


def test_a_part_is_read(tmp_path):
    proto = of(10, ("x", "y"))
    proto.MergeFrom(of(4, ("x",), "eval"))
    append(str(tmp_path), proto, "run", created=START)
    table = read(str(tmp_path), split="train", feature="y", metrics=["mean"])
    assert table.to_pylist() == [
        {
            "run": "run",
            "window_start": None,
            "window_end": None,
            "created": START,
            "split": "train",
            "feature": "y",
            "metric": "mean",
            "value": 5.0,
        }
    ]
    assert rows_of(tmp_path, split="eval") == [4]


def test_many_files_are_put_together(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "COMPACT_FILES", 4)
    for number in range(17):
        append(str(tmp_path), of(number + 1), "run", window(number), START + 100 * HOUR + number * HOUR)
    append(str(tmp_path), of(100), "run", window(3), START + 200 * HOUR)
    assert rows_of(tmp_path) == [100 if number == 3 else number + 1 for number in range(17)]
    names = sorted(os.listdir(tmp_path))
    assert [name[:3] for name in names] == ["L0-", "L0-", "L2-"]
    whole = pq.read_table(tmp_path / names[-1])
    assert len(set(whole["window_start"].to_pylist())) == 16


def test_only_the_end_of_a_long_history_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "COMPACT_FILES", 4)
    for number in range(22):  # 16 + 4 + 1 + 1
        append(str(tmp_path), of(number + 1), "run", window(number), START + number * HOUR)
    assert sorted(name[:2] for name in os.listdir(tmp_path)) == ["L0", "L0", "L1", "L2"]
    for newest, count in ((1, 1), (2, 2), (3, 6), (6, 6), (7, 22), (100, 22)):
        assert rows_of(tmp_path, newest=newest) == [number + 1 for number in range(22 - count, 22)]


def test_a_damaged_file_is_in_no_ones_way_but_a_readers(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "COMPACT_FILES", 3)
    (tmp_path / "L0-1-0123456789abcdef.parquet").write_bytes(b"PAR1")
    for number in range(4):
        append(str(tmp_path), of(1), "run", window(number), START + number * HOUR)
    assert len(os.listdir(tmp_path)) == 5


def test_files_that_go_while_they_are_read_are_looked_for_again(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "COMPACT_FILES", 3)
    append(str(tmp_path), of(1), "run", window(0), START)
    append(str(tmp_path), of(2), "run", window(1), START)
    read_file, done = store._content, []

    def append_first(path):
        if not done:
            done.append(path)
            append(str(tmp_path), of(3), "run", window(2), START)
        return read_file(path)

    monkeypatch.setattr(store, "_content", append_first)
    assert rows_of(tmp_path) == [1, 2, 3]
    assert len(os.listdir(tmp_path)) == 1


def test_what_a_killed_append_left_is_not_read_and_goes_in_time(tmp_path):
    for name, age in ((".tmp-old", 2 * 86_400), (".tmp-new", 0)):
        (tmp_path / name).write_bytes(b"PAR1")
        os.utime(tmp_path / name, (os.stat(tmp_path / name).st_mtime - age,) * 2)
    append(str(tmp_path), of(1), "run", created=START)
    assert rows_of(tmp_path) == [1]
    assert sorted(name for name in os.listdir(tmp_path) if name.startswith(".tmp")) == [".tmp-new"]


def test_no_history_is_empty(tmp_path):
    assert read(str(tmp_path / "nothing")).num_rows == 0
    assert read(str(tmp_path)).schema == SCHEMA


@pytest.mark.parametrize("content", [b"", b"PAR1 is not enough"], ids=["empty", "broken"])
def test_a_damaged_file_is_named(tmp_path, content):
    (tmp_path / "L0-1-0123456789abcdef.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"L0-1-0123456789abcdef.parquet: is no file of a history, or damaged"):
        read(str(tmp_path))


def test_wherever_a_file_is_damaged_it_is_named(tmp_path):
    append(str(tmp_path), of(1), "run")
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    damaged = [whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :] for place in range(0, len(whole), 29)]
    told = []
    for content in (*damaged, *(whole[:size] for size in range(0, len(whole), 400))):
        path.write_bytes(content)
        try:
            read(str(tmp_path))
        except InputError as error:
            told.append(str(error))
    assert len(told) > 20
    assert [text for text in told if f"{path}: is no file of a history, or damaged" not in text] == []


def test_a_file_of_other_columns_is_named(tmp_path):
    pq.write_table(pa.table({"feature": ["x"]}), tmp_path / "L0-1-0123456789abcdef.parquet")
    with pytest.raises(InputError, match="is no file of a history, or damaged"):
        read(str(tmp_path))


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        append(str(tmp_path / "file" / "history"), of(1), "run")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": ""}, "run must be the id of the run"),
        ({"created": datetime.datetime(2026, 1, 1)}, "must have time zones"),
        ({"window": (datetime.datetime(2026, 1, 1),) * 2}, "must have time zones"),
        ({"statistics": statistics_pb2.DatasetFeatureStatisticsList()}, "the statistics have no dataset"),
    ],
)
def test_what_is_no_point_is_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        append(str(tmp_path), **{"statistics": of(1), "run": "run", **changes})


def test_metrics_are_those_of_the_rows(tmp_path):
    batch = pa.record_batch(
        {
            "n": [0.0, 1.0, 5.0, None, float("nan")],
            "t": ["a", "bb", "a", "", None],
            "l": [[1, 2], [3], None, [], [4]],
            "none": pa.nulls(5),
        }
    )
    append(str(tmp_path), compute_statistics([batch]).to_proto(), "run", created=START)
    found = {
        (row["feature"], row["metric"]): row["value"]
        for row in read(str(tmp_path)).to_pylist()
        if row["value"] is not None
    }
    assert found["", "rows"] == 5
    expected = {
        "n": {"missing": 0.2, "num_values": 1, "mean": 2, "min": 0, "max": 5, "median": 1, "zeros": 0.25, "nan": 0.25},
        "t": {"missing": 0.2, "distinct": 3, "avg_length": 1, "top_share": 0.5, "invalid_utf8": 0},
        "l": {"missing": 0.2, "num_values": 1, "mean": 2.5},
        "none": {"missing": 1},
    }
    for feature, metrics in expected.items():
        for metric, value in metrics.items():
            assert found[feature, metric] == pytest.approx(value), (feature, metric)
    assert ("none", "mean") not in found
