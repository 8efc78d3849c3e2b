"""What is refused before Beam is loaded, Beam would not have found; in the same words."""

import os
import pathlib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import find_files, match_files
from penstock.io.files.paths import check_matches, check_readable, walk_files

FILES = [
    "a.csv",
    "data/a.csv",
    "data/.hidden.csv",
    "data/deep/b.csv",
    "run[1]/c.csv",
    "z[1].csv",
    "q?.csv",
    "back\\d.csv",
]


@pytest.fixture
def files(tmp_path, monkeypatch):
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folders" / "only").mkdir(parents=True)
    (tmp_path / "link.csv").symlink_to("a.csv")
    (tmp_path / "linked").symlink_to("data")
    (tmp_path / "nowhere.csv").symlink_to("none.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(check, pattern):
    try:
        check(pattern)
    except InputError as error:
        return str(error)
    return None


def by_beam(pattern, folders=False):
    return refusal(lambda text: find_files([text]) if folders else match_files([text]), pattern)


def as_input(pattern):
    check_matches(pattern, folders=True)


MISSING = [
    "b.csv",
    "data",
    "data/b.csv",
    "none/",
    "none/*.csv",
    "none/**",
    "data/*.json",
    "empty/*",
    "empty/",
    "nowhere.csv",
]
THERE = [
    "a.csv",
    "data/*.csv",
    "data/*",
    "data/.h*",
    "d*/a.csv",
    "./a.csv",
    "link.csv",
    "linked/*",
    "z[1].csv",
]
LATER = ["data/**.json", "run[2]/c.csv", "data/?.json", "folders/*", "data/x\\*", "linked/**"]


@pytest.mark.parametrize("pattern", MISSING)
def test_what_is_missing_is_told_at_once_as_later(files, pattern):
    assert refusal(check_matches, pattern) == by_beam(pattern) is not None
    if pattern != "data":
        assert refusal(as_input, pattern) == by_beam(pattern, folders=True) is not None


@pytest.mark.parametrize("folder", ["data", "data/", "linked", "run[1]"])
def test_a_folder_is_an_input_and_no_file_of_dead_letters(files, folder):
    assert refusal(as_input, folder) == by_beam(folder, folders=True) is None
    assert "is a directory; name its files" in str(refusal(check_matches, folder))


@pytest.mark.parametrize("pattern", [*THERE, *LATER, *(name for name in FILES if "/" not in name)])
def test_what_may_be_there_is_left_to_beam(files, pattern):
    assert refusal(check_matches, pattern) is None


def test_remote_files_are_not_looked_for():
    check_matches("gs://bucket/none.csv")
    check_readable("gs://bucket/none.yaml", "--rules")


PARTS = st.text(st.sampled_from("ab*?[]!/.-\\"), min_size=1, max_size=8)


@given(pattern=PARTS)
def test_nothing_that_beam_finds_is_refused(tmp_path_factory, pattern):
    root = _tree(tmp_path_factory)
    early = refusal(check_matches, f"{root}/{pattern}")
    if early is not None:
        assert early == by_beam(f"{root}/{pattern}")


_TREES: list[pathlib.Path] = []


def _tree(factory) -> pathlib.Path:
    """Names of a few letters, which short patterns hit."""
    if not _TREES:
        root = factory.mktemp("tree")
        for name in ("a", "b.a", "ab/a", "ab/b/a", "[a]", "a[b", "b!", ".a", "b-/.b", "*"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            if not (root / name).is_dir():
                (root / name).write_text("x\n")
        _TREES.append(root)
    return _TREES[0]


@pytest.mark.parametrize(
    ("name", "message"),
    [("none", r"--x none: cannot be read: .*No such file"), ("data", r"--x data: cannot be read: .*Is a directory")],
)
def test_a_file_that_cannot_be_read_is_refused(files, name, message):
    with pytest.raises(ConfigError, match=message):
        check_readable(name, f"--x {name}")
    with pytest.raises(ConfigError, match=rf"{message}.*; give another$"):
        check_readable(name, f"--x {name}", "give another")
    check_readable("a.csv", "--x a.csv")


def test_walking_lists_files_with_their_sizes_and_does_not_follow_links(files):
    found = {file.path: file.size for file in walk_files(".")}
    assert {name: found[name] for name in FILES} == dict.fromkeys(FILES, 2)
    assert found.keys() - set(FILES) == {"link.csv", "linked", "nowhere.csv"}
    assert list(walk_files("none")) == list(walk_files("a.csv")) == []


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize("pattern", ["in.csv", "in*"])
def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path, monkeypatch, kind, pattern):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as own:
        {"pipe": os.mkfifo, "socket": own.bind, "device": lambda name: os.symlink(os.devnull, name)}[kind]("in.csv")
    checks = [lambda: find_files([pattern]), *([lambda: check_matches(pattern)] if pattern == "in.csv" else [])]
    for check in checks:
        with pytest.raises(InputError, match=f"^in.csv is a {kind}, not a file.*write what comes of it to a file"):
            check()
