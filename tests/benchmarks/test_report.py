import dataclasses
import xml.etree.ElementTree

import pytest
from benchmarks.report import Entry, Result, Run, chart, markdown, table, wrong_digests


def entry(name, *seconds, **fields):
    runs = tuple(Run("a setting", each, each + 1, each * 2, 150_000_000) for each in seconds)
    return Entry(name, name.title(), runs=runs, rows_out=990, bytes_out=400_000, digest="aa", **fields)


RESULT = Result(
    "main",
    "CSV & <12> columns",
    1_000,
    10,
    107_000,
    "2026-01-01T00:00:00+00:00",
    {"cpu": "A Machine", "cores": 2},
    (
        entry("penstock", 2.5, 2.0),
        entry("floor", 1.0),
        entry("beam", 40.0),
        Entry("ray", "Ray", "not installed", "no such package"),
        dataclasses.replace(entry("tfds", 0.1), status="wrong", note="1 row out, not 990"),
    ),
)


def test_json_reads_back():
    assert Result.from_json(RESULT.to_json()) == RESULT


def test_json_spells_out_the_best_run():
    assert '"rows_per_second": 500.0' in RESULT.to_json()


def test_the_fastest_run_counts():
    assert RESULT.best_of("penstock").seconds == 2.0


@pytest.mark.parametrize("name", ["ray", "tfds", "nobody"])
def test_who_did_not_do_the_work_has_no_time(name):
    assert RESULT.best_of(name) is None


def test_the_table():
    assert [line.split() for line in table(RESULT).splitlines()[2:]] == [
        ["rows/s", "seconds", "x", "floor", "CPU", "s", "x", "floor", "peak", "MB", "MB", "out"],
        ["Floor", "1,000", "1.00", "1.0", "2.0", "1.0", "150", "0.4", "a", "setting"],
        ["Penstock", "500", "2.00", "2.0", "4.0", "2.0", "150", "0.4", "a", "setting"],
        ["Beam", "25", "40.00", "40.0", "80.0", "40.0", "150", "0.4", "a", "setting"],
        ["Ray", "not", "installed:", "no", "such", "package"],
        ["Tfds", "wrong:", "1", "row", "out,", "not", "990"],
    ]


def test_the_table_without_a_floor():
    result = dataclasses.replace(RESULT, entries=RESULT.entries[:1])
    assert table(result).splitlines()[-1].split() == ["Penstock", "500", "2.00", "4.0", "150", "0.4", "a", "setting"]


def test_others_are_compared_with_the_base():
    result = dataclasses.replace(RESULT, base="penstock", product="statistics", bad_rows=0)
    assert "1,000 rows (0 MB) to statistics" in table(result)
    assert "× penstock" in markdown(result)
    assert "| Beam | 25 | 40.00 | 20.0 | 80.0 | 20.0 | 150 | 0.4 | a setting |" in markdown(result)


def test_markdown_names_all_contestants():
    lines = markdown(RESULT).splitlines()
    assert len(lines) == 2 + len(RESULT.entries)
    assert lines[2] == "| Floor | 1,000 | 1.00 | 1.0 | 2.0 | 1.0 | 150 | 0.4 | a setting |"
    assert {line.count("|") for line in lines} == {10}


def test_the_chart_has_a_bar_for_each_time():
    root = xml.etree.ElementTree.fromstring(chart(RESULT))
    bars = root.findall("{http://www.w3.org/2000/svg}rect")
    widths = [float(bar.get("width")) for bar in bars]
    assert len(bars) == 3
    assert widths[0] == pytest.approx(2 * widths[1])
    assert "CSV & <12> columns" in "".join(root.itertext())


def test_an_empty_chart_is_one():
    assert xml.etree.ElementTree.fromstring(chart(dataclasses.replace(RESULT, entries=())))


def test_digests_are_compared_with_what_most_have():
    odd = dataclasses.replace(entry("odd", 1.0), digest="bb")
    assert wrong_digests([*RESULT.entries, odd]) == {"odd"}
    assert wrong_digests([]) == set()
