"""How far a stream is whose workers are elsewhere."""

import json
import time

import pytest

from pipelines._report.progress import showing_progress
from pipelines._report.windows import PublishedWindows, showing_windows

BAD = "20260101T000100Z_20260101T000200Z"


def write(output, minute, rows=10, **fields):
    start, end = (f"2026-01-01T00:{minute + number:02d}:00.000000Z" for number in (0, 1))
    manifest = {
        **{"version": 1, "run_id": "r", "created": end, "window": [start, end], "windows": "fixed:1m", "final": True},
        **{"status": "published", "rows_in": rows, "rows_out": rows - 3, "rows_on_time": rows - 5, "rows_late": 2},
        **{"rows_rejected": 3, "rejected_by_reason": {"late": 3}, "shards": [], "dead_letters": [], "extras": []},
    }
    name = f"20260101T00{minute:02d}00Z_20260101T00{minute + 1:02d}00Z"
    (output / "windows").mkdir(parents=True, exist_ok=True)
    (output / "windows" / f"{name}.json").write_text(json.dumps(manifest | fields))


def looked(windows):
    windows.look()
    return windows.counts()


def test_counts_what_is_published(tmp_path):
    windows = PublishedWindows(str(tmp_path))
    assert looked(windows).done["windows"] == 0
    write(tmp_path, 0)
    write(tmp_path, 1, final=False, status="quarantined")
    counts = looked(windows)
    assert counts.done == {"windows": 2, "final": 1, "bad": 1, "rows": 20, "late": 4, "rejected": 6}
    assert counts.values == {"up_to": 1_767_225_720_000_000}


def test_reads_again_what_was_not_final(tmp_path):
    windows = PublishedWindows(str(tmp_path))
    write(tmp_path, 0)
    write(tmp_path, 1, final=False)
    looked(windows)
    write(tmp_path, 0, rows=99)
    write(tmp_path, 1, rows=12)
    assert (looked(windows).done["rows"], looked(windows).done["final"]) == (22, 2)


@pytest.mark.parametrize("content", ["", "{}", "[1]"], ids=["being written", "no manifest", "a list"])
def test_a_window_that_cannot_be_read_is_read_at_the_next_look(tmp_path, content):
    windows = PublishedWindows(str(tmp_path))
    write(tmp_path, 1)
    (tmp_path / "windows" / f"{BAD}.json").write_text(content)
    assert looked(windows).done["windows"] == 0
    write(tmp_path, 1)
    assert looked(windows).done["windows"] == 1


def test_a_log_gets_a_line_before_and_after_the_first_window(tmp_path, capsys):
    def wait_for(text):
        shown, deadline = "", time.monotonic() + 60
        with showing_progress(0.1), showing_windows(str(tmp_path), 0.03):
            while text not in shown:
                assert time.monotonic() < deadline, shown
                time.sleep(0.02)
                shown += capsys.readouterr().err

    wait_for("streaming: 0 rows/s, 0 published, 0 rows, 0:00:0")
    write(tmp_path, 0)
    text = "1 published, 3 rejected, 2 late, published up to 2026-01-01T00:01:00Z, 10 rows"
    wait_for(f"streaming: 0 rows/s, {text}")
