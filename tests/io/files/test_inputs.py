import bz2
import gzip
import os
import zlib

import pytest
import zstandard

from penstock.io.beam import progress
from penstock.io.errors import InputError
from penstock.io.files.inputs import find_files, match_files, open_decompressed, open_plain, stat_file
from penstock.io.files.suffixes import format_suffix

CONTENT = os.urandom(200_000)
COMPRESSORS = {"gz": gzip.compress, "bz2": bz2.compress, "zst": zstandard.compress, "zlib": zlib.compress}


def only(path):
    (file,) = match_files([str(path)])
    return file


def read(path):
    with open_decompressed(only(path)) as stream:
        return b"".join(iter(lambda: stream.read(1 << 16), b""))


def test_match_is_sorted_and_names_each_file_once(tmp_path):
    for name in ("b.csv", "a.csv"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "c.csv").mkdir()
    files = match_files([f"{tmp_path}/b*", f"{tmp_path}/*.csv"])
    assert [os.path.basename(file.uri) for file in files] == ["a.csv", "b.csv"]
    assert [file.size for file in files] == [1, 1]
    assert stat_file(files[0].uri) == files[0]


def test_stat_takes_a_name_as_it_is_not_as_a_pattern(tmp_path):
    (tmp_path / "x[1].csv").write_bytes(b"123")
    (tmp_path / "x1.csv").write_bytes(b"1")
    assert stat_file(f"{tmp_path}/x[1].csv").size == 3


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("nothing*.csv", r"no file matches .*nothing\*\.csv"), ("", r"is a directory; name its files .*\*\.jsonl")],
)
def test_pattern_without_a_file_is_refused(tmp_path, pattern, message):
    with pytest.raises(InputError, match=message):
        match_files([os.path.join(tmp_path, pattern)])


@pytest.fixture
def tree(tmp_path, monkeypatch):
    names = ["a.csv", "in/a.csv", "in/.a.csv", "in/_SUCCESS", "in/deep/b.csv", "in/deep/.b.csv.crc", "in/_tmp/c.csv"]
    for name in [*names, "in/x[1]/d.csv", "_only/e.csv", "none/_f.csv"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "linked").symlink_to("in/deep")
    (tmp_path / "in" / "deep" / "loop").symlink_to(tmp_path / "in")
    monkeypatch.chdir(tmp_path)


IN = ["in/a.csv", "in/deep/b.csv", "in/x[1]/d.csv"]


@pytest.mark.parametrize(
    ("pattern", "found", "left_out"),
    [
        ("in", IN, []),
        ("in/", IN, []),
        ("in/x[1]", ["in/x[1]/d.csv"], []),
        ("linked", ["linked/b.csv", "linked/loop/a.csv", "linked/loop/x[1]/d.csv"], []),
        ("_only", ["_only/e.csv"], []),
        ("in/d*", ["in/deep/b.csv"], []),
        ("*.csv", ["a.csv"], []),
        ("i*/*.csv", ["in/a.csv"], ["in/.a.csv"]),
        ("in/*", ["in/a.csv"], ["in/.a.csv", "in/_SUCCESS"]),
        ("in/**/*.csv", IN, ["in/.a.csv", "in/_tmp/c.csv"]),
        ("in/**.csv", IN, ["in/.a.csv", "in/_tmp/c.csv"]),
        ("in/**/b.csv", ["in/deep/b.csv"], []),
        ("in/_tmp/*", ["in/_tmp/c.csv"], []),
        ("in/_*", ["in/_SUCCESS"], []),
        ("**/_tmp/*.csv", ["in/_tmp/c.csv"], []),
        ("in/_SUCCESS", ["in/_SUCCESS"], []),
        ("none/*", [], None),
        ("none", [], None),
    ],
)
def test_patterns_and_folders_name_files_that_are_not_hidden(tree, pattern, found, left_out):
    if left_out is None:
        with pytest.raises(InputError, match=r"names.* begin with _ or \."):
            find_files([pattern])
        return
    files = find_files([pattern])
    assert [file.uri for file in files.files] == found
    assert list(files.left_out) == left_out


def test_what_a_pattern_matches_is_of_no_folder(tree):
    found = find_files(["in", "in/*.csv"])
    assert [file.uri for file in found.files] == IN
    assert found.in_folders == {"in/deep/b.csv", "in/x[1]/d.csv"}


@pytest.mark.parametrize("pattern", ["", "*", "**"])
def test_a_name_that_is_not_utf8_is_refused(tmp_path, pattern):
    try:
        (tmp_path / os.fsdecode(b"\xff.csv")).write_bytes(b"x")
    except OSError:
        pytest.skip("this filesystem takes UTF-8 alone")
    with pytest.raises(InputError, match=r"\\udcff\.csv': the name of the file is not UTF-8; rename it"):
        find_files([os.path.join(tmp_path, pattern)])


def test_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.csv: the file is gone or cannot be read"):
        stat_file(f"{tmp_path}/gone.csv")


@pytest.mark.parametrize("suffix", COMPRESSORS)
def test_content_is_decompressed_by_suffix(tmp_path, suffix):
    path = tmp_path / f"x.csv.{suffix}"
    path.write_bytes(COMPRESSORS[suffix](CONTENT))
    assert read(path) == CONTENT


@pytest.mark.parametrize("suffix", ["gz", "bz2", "zst"])
def test_members_are_read_one_after_the_other(tmp_path, suffix):
    path = tmp_path / f"x.csv.{suffix}"
    path.write_bytes(COMPRESSORS[suffix](CONTENT) + COMPRESSORS[suffix](b"more"))
    assert read(path) == CONTENT + b"more"


@pytest.mark.parametrize("suffix", COMPRESSORS)
@pytest.mark.parametrize("damage", [lambda data: data[:-50], lambda data: b"junk" + data], ids=["truncated", "junk"])
def test_damaged_stream_is_an_error_that_names_the_file(tmp_path, suffix, damage):
    path = tmp_path / f"x.csv.{suffix}"
    path.write_bytes(damage(COMPRESSORS[suffix](CONTENT)))
    with pytest.raises(InputError, match=rf"x\.csv\.{suffix}: the .* stream is truncated or corrupt"):
        read(path)


def test_reads_are_counted_for_the_progress_bar(tmp_path):
    (tmp_path / "x.csv").write_bytes(CONTENT)
    progress.reset()
    with open_plain(only(tmp_path / "x.csv")) as stream:
        stream.read(1000)
    assert progress.snapshot() == progress.Counts(done={"bytes": 1000}, planned={})


@pytest.mark.parametrize(
    ("uri", "suffix"),
    [("/a/b.CSV", "csv"), ("gs://b/x.jsonl.gz", "jsonl"), ("/a.b/c", ""), ("x.tfrecord.zst", "tfrecord")],
)
def test_format_suffix_looks_below_the_compression(uri, suffix):
    assert format_suffix(uri) == suffix
