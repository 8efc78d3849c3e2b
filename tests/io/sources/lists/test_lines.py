"""Lists of paths, a line each."""

import gzip
import os

import pytest

from penstock.io.errors import InputError
from penstock.io.sources.inputs import find_named
from penstock.io.sources.lists.lines import check_list, named_by, parse_lines
from penstock.io.sources.read import ReadRecords


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    for name in ("data/a.csv", "data/b.csv", "data/sub/c.csv", "@odd.csv", "data/x[1].csv", "data/_SUCCESS"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("n\n1\n")
    (tmp_path / "lists").mkdir()
    monkeypatch.chdir(tmp_path)


def write(path, text):
    with open(path, "w", newline="") as file:
        file.write(text)


def found(*inputs):
    return [file.uri for file in find_named(inputs).files]


def test_a_list_has_paths_patterns_and_folders(tmp_path):
    write("lists/may.txt", "﻿# may\n\n  ../data/a.csv\r\n../data/sub/\n../data/x[1].csv\n#../data/none.csv\n")
    assert found("@lists/may.txt") == ["data/a.csv", "data/sub/c.csv", "data/x[1].csv"]
    write("all.txt", f"data/*.csv\n{tmp_path}/data/sub/c.csv\n./@odd.csv\ndata/a.csv\n")
    assert found("@all.txt") == ["./@odd.csv", f"{tmp_path}/data/sub/c.csv", *found("data/*.csv")]
    assert found("@all.txt", "@lists/may.txt", "data/b.csv")[-1] == "data/x[1].csv"
    assert found("./@odd.csv") == ["./@odd.csv"]
    assert ReadRecords(["@lists/may.txt"])._found().files == find_named(["@lists/may.txt"]).files


def test_a_list_may_be_packed():
    with gzip.open("may.txt.gz", "wt") as file:
        file.write("data/a.csv\n")
    assert found("@may.txt.gz") == ["data/a.csv"]


def test_a_path_leads_where_links_lead(tmp_path):
    (tmp_path / "far" / "lists").mkdir(parents=True)
    write("far/d.csv", "n\n1\n")
    os.symlink("far/lists", "linked")
    write("linked/may.txt", "../d.csv\n")
    assert found("@linked/may.txt") == ["linked/../d.csv"]


def test_what_a_pattern_leaves_out_is_told(caplog):
    write("may.txt", "data/*\n")
    assert "data/_SUCCESS" not in found("@may.txt")
    assert "left out data/_SUCCESS, whose names begin with _ or ." in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# no\ndata/a.csv\ndata/no*.csv\n", r"^may\.txt:3: no file matches data/no\*\.csv; check the path"),
        ("data/none.csv", r"^may\.txt:1: no file matches data/none\.csv"),
        ("\n# none\n", r"^@may\.txt: the list names no file: write one path or pattern on each line$"),
        ("@other.txt", r"^may\.txt:1: @other\.txt names a list, .* a file of that name is \./@other\.txt$"),
        ("kafka://h:1/t", r"^may\.txt:1: kafka://h:1/t is no file: pass it as an --input of its own$"),
        ("a\0b", r"^may\.txt:1: the line holds a NUL, so that this is no list of paths$"),
    ],
)
def test_lines_that_name_no_file(text, message):
    write("may.txt", text)
    for look in (lambda: check_list("may.txt"), lambda: found("@may.txt")):
        with pytest.raises(InputError, match=message):
            look()


def test_a_path_of_the_working_folder_is_told():
    write("lists/may.txt", "data/a.csv\n")
    with pytest.raises(
        InputError, match=r"may\.txt:1: no file matches lists/data/a\.csv; .*; data/a\.csv is there, but a "
    ):
        found("@lists/may.txt")


def test_lists_that_cannot_be_read():
    with pytest.raises(
        InputError, match=r"^@odd\.csv: the list cannot be read: .*; a file of that name is \./@odd\.csv$"
    ):
        found("@odd.csv")
    with pytest.raises(InputError, match=r"^may\.txt:2: the list is not UTF-8; convert it"):
        list(parse_lines(b"a\n\xff\n", "may.txt"))
    write("may.txt.gz", "data/a.csv\n")
    with pytest.raises(InputError, match=r"^@may\.txt\.gz: the list cannot be read: Not a gzipped file"):
        found("@may.txt.gz")


def test_what_an_input_names():
    write("lists/may.txt", "../data/*.csv\ngs://b/x\n")
    assert list(named_by("in/*.csv")) == [("in/*.csv", "--input in/*.csv")]
    assert list(named_by("@lists/may.txt")) == [
        ("lists/may.txt", "--input @lists/may.txt"),
        ("data/*.csv", "lists/may.txt:1: ../data/*.csv"),
        ("gs://b/x", "lists/may.txt:2: gs://b/x"),
    ]
