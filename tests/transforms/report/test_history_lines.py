import datetime

import pyarrow as pa
import pytest
from report_samples import history

from penstock.io.errors import ConfigError
from penstock.transforms.report.charts import draw_line, step_path
from penstock.transforms.report.history_lines import MAX_POINTS, Line, changing, lines_of


def test_lines_of_features_and_of_whole_datasets_in_the_order_of_time():
    shuffled = history(12).take([5, 0, 3, 1, 2, 4])
    lines = lines_of(shuffled)
    assert set(lines) == {"", "delay"}
    assert [line.label for line in lines[""]] == ["num_examples (train)"]
    assert lines["delay"][0].times == sorted(lines["delay"][0].times)
    assert lines["delay"][0].values == [12.5, 13.5, 14.5]


def test_the_newest_points_are_kept():
    [line] = lines_of(history(300).filter(pa.array([True, False] * 300)))[""]
    assert len(line.values) == MAX_POINTS
    assert line.values[-1] == 1299


def test_a_window_is_at_its_start():
    start = datetime.datetime(2026, 1, 1, 5, tzinfo=datetime.UTC)
    table = history(1).append_column("window_start", pa.array([start, None], pa.timestamp("us", "UTC")))
    lines = lines_of(table)
    assert lines[""][0].times == ["2026-01-01T05:00:00+00:00"]
    assert lines["delay"][0].times == ["2026-01-01T00:00:00+00:00"]


def test_no_history_is_no_line():
    assert lines_of(history(1).slice(0, 0)) == {}
    assert changing(lines_of(history(1))[""]) == []


def test_a_table_that_is_no_history_is_refused():
    with pytest.raises(ConfigError, match=r"must have the columns created, .*; it lacks split, metric"):
        lines_of(history(1).drop(["split", "metric"]))


def test_points_stand_at_their_times():
    line = Line("rows", ["2026-01-01", "2026-01-02", "2026-01-05"], [0.0, 10.0, float("nan")])
    drawn = draw_line(line)
    assert drawn.points == "4.0,44.0 62.0,4.0"
    assert drawn.text == "rows: 3 points from 2026-01-01 to 2026-01-05, between 0 and 10, last NaN"


@pytest.mark.parametrize("times", [["x", "y"], ["2026-01-01", "2026-01-01"]], ids=["no times", "one time"])
def test_times_that_cannot_be_placed_are_placed_all_the_same(times):
    assert draw_line(Line("m", times, [1.0, 1.0])).points.count(",") == 2


def test_a_bar_of_any_rows_can_be_seen():
    assert step_path([1, 0, 1_000_000]) == "M0 20V19H1V20H2V0H3V20Z"
    assert step_path([0, 0]) == "M0 20V20H1V20H2V20Z"
