"""Jobs whose input is a list: what is recorded of it, what is refused, and what a replay makes of it."""

import pathlib

import pytest
from helpers import dead_letters, examples, manifest_of, run_prepare, write_csv, write_schema_file

from penstock.io.errors import ConfigError, InputError
from pipelines import check, fit, profile, relax, replay

ROWS = [{"id": row, "x": row / 2} for row in range(10)]


@pytest.fixture(autouse=True)
def _files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write_csv(tmp_path / "data" / "a.csv", ROWS, ["id", "x"])
    write_csv(tmp_path / "data" / "b.csv", ROWS, ["id", "x"])
    write_schema_file(tmp_path / "schema.pbtxt", id="INT", x="FLOAT")
    (tmp_path / "may.txt").write_text("data/a.csv\ndata/b.csv\n")


def test_the_manifest_says_which_list():
    assert run_prepare("--input=@may.txt", "--output=out") == 0
    assert run_prepare("--input=data/*.csv", "--output=plain") == 0
    listed, plain = manifest_of(pathlib.Path("out")), manifest_of(pathlib.Path("plain"))
    assert listed.dataset_id == plain.dataset_id
    assert listed.provenance["inputs"] == plain.provenance["inputs"]
    assert [entry.keys() for entry in plain.provenance["inputs"]] == 2 * [{"uri", "size", "mtime", "version", "ends"}]
    [told] = listed.provenance["input_lists"]
    assert told.items() >= {"uri": "may.txt", "kind": "paths", "files": 2}.items()
    assert "input_lists" not in plain.provenance


def test_a_dataset_is_prepared_from_a_dataset():
    assert run_prepare("--input=data/a.csv", "--output=one") == 0
    assert run_prepare("--input=@one/manifest.json", "--output=two", "--schema=one/schema.pbtxt") == 0
    one, two = pathlib.Path("one"), pathlib.Path("two")
    assert sorted(row["id"] for row in examples(two)) == sorted(row["id"] for row in examples(one))
    [told] = manifest_of(two).provenance["input_lists"]
    assert told["dataset_ids"] == [manifest_of(one).dataset_id]
    assert [entry["crc32c"] for entry in manifest_of(two).provenance["inputs"]] == [
        shard.crc32c for shard in manifest_of(one).shards
    ]


@pytest.mark.parametrize(
    ("run", "flags"),
    [
        (profile.run, []),
        (check.run, ["--schema=schema.pbtxt"]),
        (relax.run, ["--schema=schema.pbtxt", "--output=relaxed.pbtxt"]),
    ],
    ids=["profile", "check", "relax"],
)
def test_other_jobs(run, flags, capsys):
    assert run(["--input=@may.txt", *flags]) == 0
    assert "20" in capsys.readouterr().out
    pathlib.Path("may.txt").write_text("data/a.csv\ndata/none.csv\n")
    with pytest.raises(InputError, match=r"^may\.txt:2: no file matches data/none\.csv"):
        run(["--input=@may.txt", *flags])


def test_the_format_of_a_replay_is_that_of_the_files():
    with open("data/a.csv", "a") as file:
        file.write("one,2\n")
    assert run_prepare("--input=@may.txt", "--output=out", "--schema=schema.pbtxt", "--max_reject_fraction=0.5") == 0
    [letter] = dead_letters(pathlib.Path("out"))
    assert letter["uri"] == "data/a.csv"
    lenient = write_schema_file(pathlib.Path("lenient.pbtxt"), id="BYTES", x="FLOAT")
    assert replay.run(["--dead_letters=out/dead_letters/*", f"--schema={lenient}", "--output=again"]) == 0
    assert [row["id"] for row in examples(pathlib.Path("again"))] == [["one"]]


@pytest.mark.parametrize(
    ("lines", "output", "message"),
    [
        ("data/a.csv\nout/x.csv\n", "out", r"^may\.txt:2: out/x\.csv: lies in --output out, and would be deleted"),
        ("data\n", "data/out", r"^--output data/out: lies in may\.txt:1: data, so the next run would read what this"),
        ("data/**\n", "data/out", r"^may\.txt:1: data/\*\*: matches what the job writes to --output data/out, such as"),
        ("data/a.csv\n", ".", r"^--input @may\.txt: lies in --output \., and would be deleted"),
    ],
)
def test_what_a_list_names_lies_apart_from_the_output(lines, output, message):
    pathlib.Path("out").mkdir()
    pathlib.Path("out/x.csv").write_text("id,x\n1,2\n")
    pathlib.Path("may.txt").write_text(lines)
    with pytest.raises(ConfigError, match=message):
        run_prepare("--input=@may.txt", f"--output={output}")
    if output == "out":
        pathlib.Path("features.yaml").write_text("features: {y: {input: x}}\n")
        with pytest.raises(ConfigError, match=message):
            fit.run(["--input=@may.txt", "--features=features.yaml", f"--output={output}"])


def test_flags_that_do_not_go_together():
    flags = ("--output=out", "--schema=schema.pbtxt", "--event_time=id:s", "--window=fixed:60s")
    with pytest.raises(ConfigError, match=r"^--input @may\.txt lists files that are there, and --watch looks for new"):
        run_prepare("--input=@may.txt", "--watch=1", *flags)
    with pytest.raises(
        ConfigError, match=r"^--inventory_columns names those of a CSV file: pass it with --input @FILE"
    ):
        run_prepare("--input=@may.txt", "--inventory_columns=Bucket,Key,Size", "--output=out")
    with pytest.raises(ConfigError, match=r"^--input @: names no list: write it as @FILE$"):
        run_prepare("--input=@", "--output=out")
    with pytest.raises(ConfigError, match=r"^--input @nix://b/x: no filesystem is known for nix://"):
        run_prepare("--input=@nix://b/x", "--output=out")
