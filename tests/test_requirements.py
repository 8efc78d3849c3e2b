"""The lock is whole and within the bounds of pyproject.toml; what is newer is told, and which package breaks what."""

import importlib.metadata
import itertools
import pathlib
import re
import tomllib

import packaging.requirements
import pytest
from requirements import newest
from requirements.newest import Change, changes, find_culprit, locked_versions

ROOT = pathlib.Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = (ROOT / "requirements" / "lock.txt").read_text()
_ENTRY = re.compile(r"^(\S+==\S+(?: ; [^\\]+)?) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def bounds() -> list[packaging.requirements.Requirement]:
    """All requirements of the project and its extras, but for those that name other extras."""
    texts = itertools.chain(PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    found = map(packaging.requirements.Requirement, texts)
    return [requirement for requirement in found if requirement.name != "penstock"]


# Its wheel is for one kind of GPU and has gigabytes beside it: who trains has one already.
NOT_LOCKED = {"torch"}


@pytest.mark.parametrize("requirement", bounds(), ids=str)
def test_every_requirement_has_a_lower_and_an_upper_bound(requirement):
    operators = {specifier.operator for specifier in requirement.specifier}
    assert operators in ({">=", "<"}, {"=="})


def test_every_bound_of_the_core_has_its_reason_beside_it():
    lines = (ROOT / "pyproject.toml").read_text().partition("dependencies = [\n")[2].partition("\n]\n")[0].splitlines()
    assert len(lines) == len(PROJECT["dependencies"])
    assert [line for line in lines if not re.search(r", +# \w", line)] == []


@pytest.mark.parametrize("requirement", [found for found in bounds() if found.name not in NOT_LOCKED], ids=str)
def test_what_is_locked_is_within_the_bounds(requirement):
    assert requirement.specifier.contains(locked_versions(LOCK)[newest._normal(requirement.name)])


def test_every_version_is_locked_with_hashes_and_is_a_constraint():
    entries = [entry[1] for entry in _ENTRY.finditer(LOCK)]
    assert entries == (ROOT / "requirements" / "constraints.txt").read_text().splitlines()
    assert entries == re.findall(r"^\w.*==[^\\]*[^\\ ]", LOCK, re.MULTILINE)


def test_all_that_penstock_needs_here_is_locked():
    locked, seen, found = locked_versions(LOCK), set(), [packaging.requirements.Requirement("penstock[dev]")]
    while found:
        requirement = found.pop()
        extras = ("", *requirement.extras)
        needed = [
            packaging.requirements.Requirement(text) for text in importlib.metadata.requires(requirement.name) or []
        ]
        for one in needed:
            applies = not one.marker or any(one.marker.evaluate({"extra": extra}) for extra in extras)
            if applies and str(one) not in seen:
                seen.add(str(one))
                found.append(one)
                assert newest._normal(one.name) in locked | {"penstock": ""}, f"{requirement} needs {one}: make lock"
    assert len(seen) > 100


def test_versions_of_other_pythons_are_left_out():
    lock = "a==1 ; python_full_version < '3.11' \\\n    --hash=x\na==2 ; python_full_version >= '3.11' \\\nB_c==3\n"
    assert locked_versions(lock) == {"a": "2", "b-c": "3"}


def test_changes_are_of_versions_that_both_have():
    assert changes({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "4", "d": "5"}) == [Change("b", "2", "4")]


LOCKED = "".join(f"{name}=={version}\n" for name, version in locked_versions(LOCK).items())
CHANGED = [Change(name, "1", "2") for name in "abcdefg"]


@pytest.mark.parametrize("guilty", CHANGED, ids=lambda change: change.package)
def test_the_package_that_breaks_something_is_found(guilty):
    tried = []

    def passes_without(locked):
        tried.append(locked)
        return guilty in locked

    assert find_culprit(CHANGED, passes_without) is guilty
    assert len(tried) <= 4


@pytest.mark.parametrize("changed", [CHANGED, []], ids=["changed", "unchanged"])
def test_a_failure_that_has_nothing_to_do_with_versions_has_no_culprit(changed):
    assert find_culprit(changed, lambda locked: False) is None


def test_what_is_said_names_the_package_and_the_mend():
    check = newest.Check("the demo", ())
    assert newest._table([Change("duckdb", "2.0.1", "2.0.2")]).endswith("  duckdb 2.0.1 -> 2.0.2")
    assert "hold" in newest._table([])
    said = newest._verdict(check, Change("duckdb", "2.0.0", "2.0.1"))
    assert "the demo fails with duckdb 2.0.1 and passes with 2.0.0" in said
    assert "bound duckdb in pyproject.toml" in said
    assert "fails with the locked versions too" in newest._verdict(check, None)


def test_where_the_newest_versions_are_the_locked_ones_nothing_is_installed(monkeypatch, capsys):
    monkeypatch.setattr(newest, "_uv", lambda command, what, *_, **__: LOCKED if what == "compile" else None)
    assert newest.main([]) == 0
    assert "newest: the lock holds the newest versions, all of them" in capsys.readouterr().out


@pytest.mark.parametrize("differs", [f"{LOCKED}another==1\n", re.sub(r"(?m)^duckdb==.*$", "duckdb==9", LOCKED)])
def test_where_they_differ_all_is_tried(monkeypatch, capsys, differs):
    monkeypatch.setattr(newest, "_uv", lambda *_, **__: differs)
    tried = []
    monkeypatch.setattr(newest.Check, "passes", lambda check: not tried.append(check.name))
    assert newest.main([]) == 0
    assert len(tried) == 3
    assert ("duckdb" in capsys.readouterr().out) == ("duckdb==9" in differs)


def test_a_check_passes_when_all_of_its_commands_do():
    assert newest.Check("a", (("true",), ("true",))).passes()
    assert not newest.Check("a", (("true",), ("false",), ("true",))).passes()


def test_the_tests_that_are_chosen_are_there():
    assert [path for path in newest.TESTS if not (ROOT / path).exists()] == []
