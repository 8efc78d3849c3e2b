"""Files as a stream on a runner that streams: they come while the job runs, and the watermark goes with them."""

import json
import pathlib
import time
import uuid

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows
from helpers import write_jsonl

from penstock.io.dead_letters.handler import DeadLetterHandler
from penstock.io.schema import Feature, Kind
from penstock.io.sources.watch import WatchRecords
from penstock.transforms.event_time import AssignEventTime

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]

FEATURES = [Feature("t", Kind.INT, multivalued=False)]
HOUR = 3600


def write_hour(folder, hour, name=None):
    rows = [{"t": hour * HOUR + minute * 60} for minute in range(60)]
    whole = write_jsonl(folder / f".{hour}", rows)
    whole.rename(folder / f"{name or hour}.jsonl")


class _NoteWindowFn(beam.DoFn):
    """Writes down each window as it closes: its hour and its rows."""

    def __init__(self, directory):
        self._directory = directory

    def process(self, group, window=beam.DoFn.WindowParam):
        note = {"hour": int(window.start) // HOUR, "rows": sum(group[1])}
        pathlib.Path(self._directory, uuid.uuid4().hex).write_text(json.dumps(note))


def closed_windows(notes):
    """Rows of each window that has closed, by its hour."""
    found = [json.loads(path.read_text() or "null") for path in notes.iterdir()]
    return {note["hour"]: note["rows"] for note in found if note}


def wait_for(found, expected):
    deadline = time.monotonic() + 90
    while found() != expected:
        assert time.monotonic() < deadline, f"waited for {expected}, got {found()}"
        time.sleep(0.2)


def rejected(letters):
    lines = [line for path in letters.glob("*") for line in path.read_text().splitlines()]
    return {letter["reason"]: letter["uri"].rsplit("/", 1)[1] for letter in map(json.loads, lines)}


def test_windows_close_when_files_with_later_rows_are_read_and_none_of_them_is_late(tmp_path, prism):
    """Three old files at once, then one for each hour: everything is on time.

    Beam drops what is late: had the watermark gone with the clock, only the first file would have rows.
    """
    folder, notes, letters = (tmp_path / name for name in ("in", "notes", "letters"))
    folder.mkdir()
    notes.mkdir()
    for hour in (2, 0, 1):
        write_hour(folder, hour)
    options = PipelineOptions(["--streaming", "--runner=PrismRunner", f"--prism_location={prism}"])
    pipeline = beam.Pipeline(options=options)
    handler = DeadLetterHandler(str(letters), "run")
    watch = WatchRecords([f"{folder}/*.jsonl*"], "500ms", "jsonl", FEATURES, event_time="t:s")
    batches = pipeline | watch.with_error_handler(handler)
    timed = batches | AssignEventTime("t:s").with_error_handler(handler)
    counts = timed | beam.Map(lambda batch: (0, batch.num_rows)) | beam.WindowInto(FixedWindows(HOUR))
    _ = counts | beam.GroupByKey() | beam.ParDo(_NoteWindowFn(str(notes)))
    handler.close()
    job = pipeline.run()
    try:
        wait_for(lambda: closed_windows(notes), {0: 60, 1: 60})
        (folder / "broken.jsonl.gz").write_bytes(b"no gzip")
        wait_for(lambda: rejected(letters), {"file.broken": "broken.jsonl.gz"})
        write_hour(folder, 3)
        wait_for(lambda: closed_windows(notes), {0: 60, 1: 60, 2: 60})
        write_hour(folder, 4)
        write_hour(folder, 5)
        wait_for(lambda: closed_windows(notes), dict.fromkeys(range(5), 60))
        write_hour(folder, 6, name="3")
        wait_for(lambda: rejected(letters), {"file.broken": "broken.jsonl.gz", "file.changed": "3.jsonl"})
    finally:
        job.cancel()
    assert closed_windows(notes) == dict.fromkeys(range(5), 60)
