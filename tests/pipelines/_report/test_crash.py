"""A fault of the job itself fits into a line; its traceback is kept."""

import pytest

from pipelines._report.crash import in_one_line, keep_traceback, without_traceback

WORKER = (
    'Traceback (most recent call last):\n  File "a.py", line 1, in process\n    1 / 0\n'
    "ZeroDivisionError: division by zero\n"
)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a\nb"), "ValueError: a b"),
        (ValueError(), "ValueError:"),
        (RuntimeError(WORKER), "ZeroDivisionError: division by zero"),
        (RuntimeError(f"bundle 1 failed: {WORKER}"), "bundle 1 failed: ZeroDivisionError: division by zero"),
        (KeyError("x" * 1000), f"KeyError: '{'x' * 489}..."),
    ],
    ids=["lines", "empty", "of a worker", "of another worker", "long"],
)
def test_an_error_in_one_line(error, line):
    assert in_one_line(error) == line


def test_a_text_without_traceback_stays():
    assert without_traceback("a\nb") == "a\nb"


def test_the_traceback_is_kept_with_its_causes(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    try:
        try:
            _ = 1 // 0
        except ZeroDivisionError as cause:
            raise ValueError("http://me:secret@host/x \udcff") from cause
    except ValueError as error:
        path = keep_traceback(error)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert "ZeroDivisionError" in text
    assert text.endswith("ValueError: http://me:***@host/x \\udcff\n")


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    assert keep_traceback(ValueError()) is None
