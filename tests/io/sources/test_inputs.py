"""Which files an input names, and what is said of those that are left out."""

import logging

import pytest

from penstock.io.errors import InputError
from penstock.io.files.inputs import match_files
from penstock.io.formats.csv.format import CsvFormat
from penstock.io.formats.partitioned import PartitionedFormat
from penstock.io.sources.inputs import find_inputs, with_partitions


@pytest.fixture
def make(tmp_path, monkeypatch):
    def made(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("x\n")

    monkeypatch.chdir(tmp_path)
    return made


def found(*patterns, **options):
    return [file.uri for file in find_inputs(patterns, **options)]


def test_a_folder_is_its_data_files_and_the_others_are_told(make, caplog):
    make("in/a.csv", "in/deep/b.CSV.gz", "in/_SUCCESS", "in/.b.csv.crc", "in/README.md", "in/LICENSE")
    assert found("in") == ["in/a.csv", "in/deep/b.CSV.gz"]
    assert [record.getMessage() for record in caplog.records] == [
        "left out in/LICENSE and 1 more, whose suffixes tell no format; --format reads all files of a folder"
    ]
    assert found("in", is_named=True) == ["in/LICENSE", "in/README.md", "in/a.csv", "in/deep/b.CSV.gz"]


def test_what_a_pattern_leaves_out_is_told(make, caplog):
    make("in/a.csv", "in/_SUCCESS", "in/.a.csv.crc")
    assert found("in/*") == ["in/a.csv"]
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [
        (
            logging.WARNING,
            "left out in/.a.csv.crc and 1 more, whose names begin with _ or .; a pattern that spells the _ or . reads "
            "them",
        )
    ]


def test_suffixes_do_not_matter_for_what_a_pattern_names(make):
    make("in/a.dat", "more/b.csv")
    assert found("in/*.dat", "more") == ["in/a.dat", "more/b.csv"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["in/a.dat"], r"in: no file has a suffix that tells its format \(in/a\.dat\); pass --format csv\|jsonl"),
        (
            ["in/a.csv", "in/b.json", "in/x/c.jsonl"],
            r"several formats: in/a\.csv \(csv\), in/b\.json \(jsonl\); name those of one .* such as 'in/\*\*\.csv'",
        ),
        (
            ["in/manifest.json", "in/train/part-00000-of-00001.parquet", "in/dead_letters/part-00000-of-00001.jsonl"],
            r"in is a dataset, whose rejected rows .* a split, such as in/train, or all of its shards by @in$",
        ),
        (
            ["in/x/windows/a_b.json", "in/x/eval/a/late-00000-of-00001.parquet"],
            r"in/x is a dataset, .* such as in/x/eval, or all of its shards by @in/x$",
        ),
        (["in/_a.csv"], r"in is a folder without data: it has no files but those whose names, .* begin with _ or \."),
    ],
    ids=["unknown", "several", "dataset", "windows", "hidden"],
)
def test_folders_that_are_no_input(make, names, message):
    make(*names)
    with pytest.raises(InputError, match=message):
        found("in")


def test_a_split_of_a_dataset_is_an_input(make):
    make("in/manifest.json", "in/train/part-00000-of-00001.parquet", "in/dead_letters/part-00000-of-00001.jsonl")
    assert found("in/train") == ["in/train/part-00000-of-00001.parquet"]


def test_a_manifest_of_others_is_data(make):
    make("in/manifest.json", "in/b.json")
    assert found("in") == ["in/b.json", "in/manifest.json"]


def test_columns_of_folders_are_told(make, caplog):
    make("in/y=1/m=02/a.csv", "in/y=2/m=10/b.csv")
    files = match_files(["in/**.csv"])
    assert with_partitions(CsvFormat(), files, "none") == CsvFormat()
    assert not caplog.records
    assert with_partitions(CsvFormat(), files, "auto") == PartitionedFormat(CsvFormat(), frozenset("y"))
    assert [record.getMessage() for record in caplog.records] == [
        "columns from the names of folders: y (whole numbers), m (texts, since 02 has a leading zero; a schema with "
        "INT reads numbers); --partitioning none leaves them out"
    ]


def test_folders_that_are_no_columns_are_told(make, caplog):
    make("in/y=1/deep/a.csv", "b.csv")
    assert with_partitions(CsvFormat(), match_files(["b.csv"]), "auto") == CsvFormat()
    assert not caplog.records
    assert with_partitions(CsvFormat(), match_files(["in/**.csv"]), "auto") == CsvFormat()
    assert "in/y=1/deep/a.csv: the folder y=1 is no column, since other folders lie" in caplog.records[0].getMessage()
