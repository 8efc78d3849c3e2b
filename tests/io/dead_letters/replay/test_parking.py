"""Dead letters that failed often enough go to a folder of their own."""

import json

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from penstock.io.dead_letters.record import DeadLetter, RejectedBatch
from penstock.io.dead_letters.replay.parking import ParkingHandler, split_parked
from penstock.io.reasons import Reason


def letters(*attempts):
    return [DeadLetter((Reason("a.b", ""),), "read", "u", 0, "{}", "json", attempt) for attempt in attempts]


def test_letters_are_parked_from_that_many_attempts_on():
    tried, parked = split_parked(RejectedBatch.of(letters(1, 2, 3, 9)), 3)
    assert [letter.attempt for letter in tried] == [1, 2]
    assert [letter.attempt for letter in parked] == [3, 9]


def test_each_step_writes_both_kinds_and_counts_them(tmp_path):
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        handler = ParkingHandler(str(tmp_path), "run", max_attempts=2)
        for index, attempts in enumerate([(1, 2, 3), (1,), (7,)]):
            batch = RejectedBatch.of(letters(*attempts))
            handler.add_error_pcollection(pipeline | f"Create{index}" >> beam.Create([batch]))
        handler.close()
        counted = handler.output() | beam.Map(lambda file: (file.path, file.records))
        _ = counted | beam.Map(json.dumps) | beam.io.WriteToText(str(tmp_path / "counted"))
    found = {path: path.read_text().splitlines() for path in tmp_path.rglob("*.jsonl")}
    kept, parked = (
        sorted(json.loads(line)["attempt"] for path in tmp_path.glob(pattern) for line in found[path])
        for pattern in ("*.jsonl", "parked/*")
    )
    assert (kept, parked) == ([1, 1], [2, 3, 7])
    said = [json.loads(line) for path in tmp_path.glob("counted*") for line in path.read_text().splitlines()]
    assert dict(map(tuple, said)) == {str(path): len(lines) for path, lines in found.items()}
