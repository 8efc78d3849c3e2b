"""Why rows were rejected in a pass that keeps none: counts, and the first row of each reason."""

import gzip

import apache_beam as beam
import pytest
from helpers import local_pipeline

from penstock.io.dead_letters.first import FirstRejects, FirstRejectsHandler, first_rejects, line_number, read_first
from penstock.io.dead_letters.handler import RejectingTransform
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch
from penstock.io.reasons import Reason


def letter(position: int, *codes: str, uri: str = "a.csv", payload: str = "x,y", **fields) -> DeadLetter:
    reasons = tuple(Reason(code, f"why {code}") for code in codes)
    return DeadLetter(reasons, "read", uri, position, payload, **{"payload_encoding": "text", **fields})


LETTERS = [letter(9, "b"), letter(4, "a", "b"), letter(7, "b"), letter(1, "a", uri="b.csv")]


def test_counts_and_the_first_letter_of_each_reason_do_not_depend_on_the_order():
    expected = FirstRejects(4, {"a": 2, "b": 3}, {"a": LETTERS[1], "b": LETTERS[1]})
    assert FirstRejects.of(LETTERS) == FirstRejects.of(reversed(LETTERS)) == expected
    assert FirstRejects.of(RejectedBatch.of(LETTERS)) == expected
    parts = [FirstRejects.of([part]) for part in LETTERS]
    for order in (parts, parts[::-1]):
        merged = FirstRejects()
        for part in order:
            merged = merged.merge(part)
        assert merged == expected
    assert FirstRejects.from_json(expected.to_json()) == expected


def test_examples_name_the_most_frequent_reasons_first():
    assert FirstRejects.of(LETTERS[:1]).examples() == "1 for b (a.csv at 9: why b: 'x,y')"
    assert FirstRejects.of(LETTERS).examples() == (
        "3 for b (a.csv at 4: why b: 'x,y'), 2 for a (a.csv at 4: why a: 'x,y')"
    )
    assert FirstRejects().examples() == ""


def test_a_reason_for_two_columns_counts_its_row_once():
    found = FirstRejects.of([letter(0, "a", "b", "a"), letter(1, "a")])
    assert (found.rows, dict(found.reasons)) == (2, {"a": 2, "b": 1})


def test_examples_are_cut_and_escaped():
    found = FirstRejects.of([letter(0, *"abcde", payload="\x1b[31m\n" + "é" * 100)]).examples()
    assert found.endswith(", 2 more reasons")
    assert "\\x1b[31m\\n" + "é" * 74 + "...'" in found
    assert "\x1b" not in found


def test_only_inputs_are_opened_to_count_lines(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a,b\n1,2\n")
    uri = str(tmp_path / "a.csv")
    found = FirstRejects.of([letter(4, "a", uri=uri, payload="1,2")])
    assert f"{uri}, line 2: " in found.examples({uri})
    assert f"{uri} at 4: " in found.examples()
    assert f"{uri} at 4: " in found.examples({f"{uri}.gz"})


def test_a_reason_without_a_letter_is_counted():
    assert FirstRejects(2, {"late": 2}).examples() == "2 for late"


DATA = b"a,b\n1,2\n\nx,y\n"


@pytest.mark.parametrize(
    ("name", "position", "payload", "line"),
    [
        ("t.csv", 4, "1,2", 2),
        ("t.csv", 9, "x,y", 4),
        ("t.csv.gz", 9, "x,y", 4),
        ("t.csv", 8, "x,y", None),
        ("t.csv", 900, "x,y", None),
        ("t.csv", -1, "x,y", None),
        ("none.csv", 9, "x,y", None),
    ],
    ids=["line", "behind_a_blank_line", "compressed", "elsewhere", "behind_the_end", "unknown", "gone"],
)
def test_lines_are_counted_where_the_payload_stands(tmp_path, name, position, payload, line):
    (tmp_path / "t.csv").write_bytes(DATA)
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(DATA))
    assert line_number(letter(position, "a", uri=str(tmp_path / name), payload=payload)) == line


def test_rows_that_are_no_lines_have_no_line_number(tmp_path):
    (tmp_path / "t.csv").write_bytes(DATA)
    uri = str(tmp_path / "t.csv")
    assert line_number(letter(4, "a", uri=uri, payload="1,2", payload_encoding="json")) is None
    assert line_number(letter(4, "a", uri="kafka://h/t/0")) is None


class _Reject(RejectingTransform):
    def expand(self, letters):
        self._reject(letters)
        return letters


def test_all_steps_of_a_pipeline_are_summed_and_nothing_is_left(tmp_path):
    with first_rejects(str(tmp_path / "schema [x] ?")) as handler:
        with local_pipeline() as pipeline:
            rows = pipeline | beam.Create([RejectedBatch.of(LETTERS[:2]), RejectedBatch.of(LETTERS[2:])])
            _ = rows | "One" >> _Reject().with_error_handler(handler)
            _ = rows | "Two" >> _Reject().with_error_handler(handler)
        assert handler.found() == FirstRejects.of(LETTERS * 2)
        assert list(tmp_path.iterdir()) != []
    assert list(tmp_path.iterdir()) == []


def test_without_rejects_nothing_is_written(tmp_path):
    handler = FirstRejectsHandler(str(tmp_path / "none"))
    assert handler.found() == FirstRejects()


def test_dead_letters_on_disk_are_summarized_from_their_beginning(tmp_path):
    (tmp_path / "a.jsonl").write_text("".join(line + "\n" for line in RejectedBatch.of(LETTERS[:2]).json_lines("run")))
    (tmp_path / "b.jsonl").write_text(LETTERS[2].to_json() + "\n" + LETTERS[3].to_json()[:20])
    assert read_first(str(tmp_path)) == FirstRejects.of(LETTERS[:3])
    assert read_first(str(tmp_path / "none")) == FirstRejects()
