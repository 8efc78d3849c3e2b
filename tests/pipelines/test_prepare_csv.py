"""CSV of other people, through the jobs: line 1, quoted line breaks, what is told before anything is written."""

import json

import pytest
from helpers import FLAGS, dead_letters, examples, job, manifest_of, run_prepare, write_schema_file

from penstock.io.formats.csv import torn
from penstock.transforms.verify import verify_dataset
from pipelines import replay
from pipelines._report.result import DATA_FAILED, DONE, WRONG_USAGE

# 100 records; record 60 is a letter of three lines, one of which looks like a row.
RECORDS = [f'{row},"x{row}",{row}' for row in range(100)]
RECORDS[60] = '60,"Dear sir,\n7,invoice,99\nkind regards",60'


@pytest.fixture
def letter(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("id,text,n\n" + "\n".join(RECORDS) + "\n")
    return path


def test_quoted_line_breaks_are_told_before_anything_is_written(tmp_path, letter):
    for flags in ((), ("--columns=id,text,n", "--header=skip"), ("--csv_delimiter=,",)):
        code, stderr = job("--input", letter, "--output", tmp_path / "out", *flags)
        assert code == DATA_FAILED
        assert f"{letter}: quoted fields hold line breaks: lines 62 to 64, from byte " in stderr
        assert "are one record; pass --csv_multiline" in stderr
        assert not (tmp_path / "out").exists()


def test_inch_marks_and_spaces_are_read_with_a_flag_and_so_are_their_dead_letters(tmp_path):
    path, out = tmp_path / "in.tsv", tmp_path / "out"
    rows = [f'{row}" pipe\t {row} ' for row in range(40)]
    path.write_text("size\tn\n" + "\n".join(rows) + '\n5" nail\t x \n')
    schema = write_schema_file(tmp_path / "s.pbtxt", size="BYTES", n="INT")
    flags = ("--csv_quoting=none", "--csv_trim", "--schema", schema)
    assert run_prepare("--input", path, "--output", out, *flags) == DONE
    assert {row["size"][0]: row["n"][0] for row in examples(out)} == {f'{row}" pipe': row for row in range(40)}
    (letter,) = dead_letters(out)
    assert letter["payload"] == '5" nail\t x '
    again = [*FLAGS, f"--dead_letters={out}/dead_letters/*.jsonl", f"--output={tmp_path}/again"]
    assert replay.run(again) == DONE
    (letter,) = dead_letters(tmp_path / "again")
    assert letter["payload"] == '5" nail\t x '
    assert "'x'" in letter["detail"]


def test_with_the_flag_they_are_values(tmp_path, letter):
    assert job("--input", letter, "--output", tmp_path / "out", "--csv_multiline") == (DONE, "")
    assert manifest_of(tmp_path / "out").rows_in == 100
    texts = {row["id"][0]: row["text"][0] for row in examples(tmp_path / "out")}
    assert texts[60] == "Dear sir,\n7,invoice,99\nkind regards"


def test_behind_the_beginning_of_a_file_they_reject_their_lines_and_a_replay_invents_no_row(tmp_path, letter):
    filler = "".join(f'{row},"{"y" * 200}",{row}\n' for row in range(1000, 1000 + torn.REACH // 200))
    letter.write_text("id,text,n\n" + filler + "\n".join(RECORDS) + "\n")
    out = tmp_path / "out"
    assert run_prepare("--input", letter, "--output", out) == DONE
    manifest = manifest_of(out)
    assert manifest.rejected_by_reason == {"csv.line_break": 3}
    assert manifest.rows_in == manifest.rows_out + 3 == 102 + torn.REACH // 200
    assert {row["id"][0] for row in examples(out)} >= set(range(100)) - {60}
    assert 7 in {row["id"][0] for row in examples(out)}  # the row itself, once
    assert manifest.rows_out == len({row["id"][0] for row in examples(out)})
    letters = sorted(dead_letters(out), key=lambda found: found["position"])
    assert "\n".join(found["payload"] for found in letters) == RECORDS[60]
    assert all("pass --csv_multiline" in found["detail"] for found in letters)
    assert list(verify_dataset(str(out))) == []
    flags = [*FLAGS, f"--dead_letters={out}/dead_letters/*.jsonl", f"--output={tmp_path}/again"]
    assert replay.run(flags) == DONE
    again = manifest_of(tmp_path / "again")
    assert (again.rows_in, again.rows_out) == (3, 0)


def test_an_index_of_pandas_gets_a_name_and_one_warning(tmp_path, caplog):
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text(",n,n\n0,1,x\n1,2,y\n")
    assert run_prepare("--input", tmp_path / "?.csv", "--output", tmp_path / "out") == DONE
    assert [record.getMessage() for record in caplog.records if record.name == "pipelines._plan.input"] == [
        f"{tmp_path}/a.csv, and 1 more: line 1 gives some columns no name, or one that another has: column 1 is "
        "'column_1', column 3 is 'n_2'; --header skip --columns NAME,NAME,... names the columns, and skips line 1"
    ]
    assert [sorted(row) for row in examples(tmp_path / "out")] == [["column_1", "n", "n_2"]] * 4


HEADERS = {
    "keep": ((), ["id", "id_2"]),
    "none": (("--header=none",), ["column_1", "column_2"]),
    "skip": (("--header=skip", "--columns=x,y"), ["x", "y"]),
    "multiline": (("--csv_multiline",), ["id", "id_2"]),
}


@pytest.mark.parametrize(("flags", "names"), HEADERS.values(), ids=HEADERS)
def test_dead_letters_are_replayed_under_the_names_of_the_run(tmp_path, flags, names):
    (tmp_path / "in.csv").write_text('id,id\n1,"5,5"\n2,6\n')
    first, second = names
    strict = write_schema_file(tmp_path / "strict.pbtxt", **{first: "BYTES", second: "INT"})
    loose = write_schema_file(tmp_path / "loose.pbtxt", **{first: "BYTES", second: "BYTES"})
    out, again = tmp_path / "out", tmp_path / "again"
    given = ("--input", tmp_path / "in.csv", "--schema", strict, "--max_reject_fraction=1", *flags)
    assert run_prepare(*given, "--output", out) == DONE
    assert (
        replay.run([*FLAGS, f"--dead_letters={out}/dead_letters/*.jsonl", f"--output={again}", f"--schema={loose}"])
        == DONE
    )
    repaired = {row[first][0]: row[second][0] for row in examples(again)}
    assert repaired.pop("id", "id") == "id"
    assert repaired == {"1": "5,5"}


def test_header_and_columns_contradict_each_other_before_anything_runs(tmp_path):
    (tmp_path / "in.csv").write_text("a\n1\n")
    flags = ("--input", tmp_path / "in.csv", "--output", tmp_path / "out", "--columns=a")
    assert job(*flags, "--header=keep")[0] == WRONG_USAGE
    code, stderr = job(*flags)
    assert (code, "line 1 repeats the names of --columns; pass --header skip" in stderr) == (DATA_FAILED, True)
    code, stderr = job(*flags, "--header=maybe")
    assert (code, "--header: invalid choice: 'maybe'" in stderr) == (WRONG_USAGE, True)


def test_json_of_the_result_is_alone_on_stdout(tmp_path, capsys):
    (tmp_path / "in.csv").write_text("a,a\n1,2\n")
    assert job("--input", tmp_path / "in.csv", "--output", tmp_path / "out", "--json")[0] == DONE
    assert json.loads(capsys.readouterr().out)["rows_out"] == 1
