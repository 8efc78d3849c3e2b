"""What a job reads and what it writes lie apart: every way in which a path can lead into a folder."""

import os

import pytest

from penstock.io.errors import ConfigError
from penstock.io.files.apart import check_apart, check_outside, lies_in

WRITTEN = [
    "manifest.json",
    "schema.pbtxt",
    "dead_letters/part-00000-of-00001.jsonl",
    "train/part-00000-of-00001.tfrecord",
]


@pytest.fixture(autouse=True)
def tree(tmp_path, monkeypatch):
    for name in ("ds/train/part-0.tfrecord", "data/a.csv", "data/deep/b.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "link").symlink_to("ds")
    (tmp_path / "data" / "shard.tfrecord").symlink_to(tmp_path / "ds" / "train" / "part-0.tfrecord")
    monkeypatch.chdir(tmp_path)
    return tmp_path


IN_OUTPUT = {
    "file": ("ds/train/part-0.tfrecord", "ds"),
    "pattern": ("ds/train/*.tfrecord", "ds"),
    "pattern of all": ("ds/**", "ds"),
    "folder": ("ds/train", "ds/"),
    "the same folder": ("ds", "ds"),
    "through dots": ("data/../ds/train/*", "./ds"),
    "absolute output": ("ds/train/*", "{here}/ds"),
    "linked output": ("ds/train/*", "link"),
    "linked input": ("link/train/*", "ds"),
    "linked file": ("data/shard.tfrecord", "ds"),
    "output to come": ("new/out/*.csv", "new/out"),
    "everything here": ("data/*.csv", "."),
    "store": ("gs://b/ds/train/*", "gs://b/ds/"),
    "store, several slashes": ("gs://b//ds/x", "GS://b/./ds"),
}


@pytest.mark.parametrize("case", IN_OUTPUT)
def test_input_in_the_output_is_refused(case, tree):
    value, output = (text.format(here=tree) for text in IN_OUTPUT[case])
    with pytest.raises(ConfigError, match=r"--input .*: lies in --output .*, and would be deleted when .* overwrites"):
        check_apart(value, f"--input {value}", output, WRITTEN)


AROUND_OUTPUT = {
    "folder": ("data", "data/out", "the next run would read what this one writes"),
    "folder through a link": ("link/", "ds/deeper/out", "the next run would read"),
    "folder of a store": ("gs://b/data/", "gs://b/data/out", "the next run would read"),
    "everything below": ("data/**", "data/out", r"matches what the job writes .* such as manifest\.json"),
    "dead letters": ("data/**/*.jsonl", "data/out", "such as dead_letters/part"),
    "one folder of each": ("data/*/*/*.tfrecord", "data/out", "such as train/part"),
    "from here": ("*/*/train/part*", "data/out", "such as train/part"),
    "classes": ("data/o[a-u]?/*.json", "data/out", r"such as manifest\.json"),
    "absolute": ("{here}/data/**.pbtxt", "link/../data/out", r"such as schema\.pbtxt"),
    "store": ("gs://b/**.jsonl", "gs://b/out/", "such as dead_letters/part"),
}


@pytest.mark.parametrize("case", AROUND_OUTPUT)
def test_output_among_the_inputs_is_refused(case, tree):
    value, output, message = (text.format(here=tree) for text in AROUND_OUTPUT[case])
    with pytest.raises(ConfigError, match=message):
        check_apart(value, f"--input {value}", output, WRITTEN)


APART = {
    "beside": ("data/*.csv", "out"),
    "below, out of reach": ("data/*.csv", "data/out"),
    "below, of another suffix": ("data/**.csv", "data/out"),
    "hidden": ("data", "data/_out"),
    "hidden from a pattern": ("data/**", "data/_out"),
    "name with the same beginning": ("ds2/*", "ds"),
    "another store": ("s3://b/ds/*", "gs://b/ds"),
    "local and remote": ("/b/ds/*", "gs://b/ds"),
    "file with brackets": ("data/a[1].csv", "data/a1.csv/out"),
    "dead letters of another": ("ds/dead_letters/*.jsonl", "repaired"),
}


@pytest.mark.parametrize("case", APART)
def test_what_lies_apart_is_no_fault(case, tree):
    value, output = APART[case]
    check_apart(value, f"--input {value}", output, WRITTEN)


def test_files_are_looked_at_one_by_one_for_links(tree):
    check_outside(["data/a.csv", "data/deep/b.csv", "a.csv"], "--input", "ds")
    with pytest.raises(ConfigError, match=r"^--input data/shard\.tfrecord: lies in --output link, and would be"):
        check_outside(["data/a.csv", "data/shard.tfrecord"], "--input", "link")
    with pytest.raises(ConfigError, match=r"^--schema ds/schema\.pbtxt: lies in --output \./ds"):
        check_outside(["ds/schema.pbtxt"], "--schema", "./ds")
    check_outside(["ds/schema.pbtxt", "link/../ds/schema.pbtxt"], "--schema", "link/", kept="schema.pbtxt")
    check_outside(["gs://b/ds/schema.pbtxt"], "--schema", "gs://b/ds/", kept="schema.pbtxt")


def test_folders_are_compared_by_identity_where_names_differ(tree, monkeypatch):
    """As on a filesystem that does not tell Data from data."""
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **given: stat(str(path).replace("DS", "ds"), **given))
    assert lies_in("ds/train/part-0.tfrecord", "DS")
    assert lies_in("DS/new", "ds")
    assert not lies_in("data/a.csv", "DS")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["it's [[]a].csv", "[[&&x].csv", r"[\d].csv", "[~~|].csv"])
def test_brackets_in_a_pattern_do_not_warn(tmp_path, name):
    check_apart(f"{tmp_path}/{name}", "--input", f"{tmp_path}/out", ["train/part-00000"])
