"""docs/architecture.md is true: rooms import only what is above them, and what the answers name is there."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PACKAGES = {"io": "penstock.io", "transforms": "penstock.transforms", "pipelines": "pipelines"}


def drawn() -> dict[str, int]:
    """The line of each room in the drawing."""
    drawing = PAGE.partition("## Rooms")[2].partition("```\n")[2].partition("```")[0]
    lines = (re.match(r"(?:(?:io|transforms|pipelines)[/\w]*(?: |$))+", line) for line in drawing.splitlines())
    return {room: number for number, found in enumerate(lines) if found for room in found[0].split()}


def modules() -> dict[str, pathlib.Path]:
    """All modules of the three packages by name."""
    paths = [path for folder in PACKAGES for path in (ROOT / folder).rglob("*.py")]
    return {_name(path): path for path in paths}


def _name(path: pathlib.Path) -> str:
    folder, *inner = path.relative_to(ROOT).with_suffix("").parts
    return ".".join([PACKAGES[folder], *(part for part in inner if part != "__init__")])


ROOMS, MODULES = drawn(), modules()
# They export names; what imports them imports something else, too.
HEADS = {ROOT / folder / "__init__.py" for folder in PACKAGES}


def room(path: pathlib.Path) -> str | None:
    """The innermost room that a module lies in; None for the head of a package."""
    if path in HEADS:
        return None
    inner = path.relative_to(ROOT).with_suffix("")
    return next((str(place) for place in (inner, *inner.parents) if str(place) in ROOMS), None)


def imported(path: pathlib.Path) -> set[str]:
    """Names of the modules that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{name.name}" for name in node.names}
            found |= names if names <= MODULES.keys() else {node.module, *names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found & MODULES.keys()


def test_the_drawing_has_rooms_of_all_floors():
    assert {name.partition("/")[0] for name in ROOMS} == set(PACKAGES)
    assert len(ROOMS) > 20
    assert [name for name in ROOMS if not ((ROOT / name).is_dir() or (ROOT / f"{name}.py").is_file())] == []


def test_each_module_lies_in_a_room():
    homeless = [str(path.relative_to(ROOT)) for path in MODULES.values() if room(path) is None and path not in HEADS]
    assert not homeless, f"not in the drawing of docs/architecture.md: {homeless}"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_rooms_above_its_own(name):
    own = room(MODULES[name])
    for other in imported(MODULES[name]):
        theirs = room(MODULES[other])
        if own and theirs and theirs != own:
            assert ROOMS[theirs] < ROOMS[own], f"{name} of {own} imports {other} of {theirs}, which is drawn below it"


ANSWERS = re.findall(r"\[([\w/]+\.py)\]\(\.\./\1\)(?: \(((?:`\w+`(?:, )?)+)\))?", PAGE)


@pytest.mark.parametrize(("path", "names"), ANSWERS, ids=[path for path, _ in ANSWERS])
def test_an_answer_names_what_is_there(path, names):
    tree = ast.parse((ROOT / path).read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert set(re.findall(r"\w+", names)) <= defined


def test_the_questions_are_answered():
    assert len(ANSWERS) > 15
    rows = PAGE.partition("## Where is it done?")[2].partition("\n## ")[0]
    asked = re.findall(r"^\| (Where .*\?) \| (.*) \|$", rows, re.MULTILINE)
    assert len(asked) >= 10
    assert all("](../" in answer for _, answer in asked)


def test_the_glossary_names_what_is_there():
    page = (ROOT / "docs" / "glossary.md").read_text()
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", page, re.MULTILINE)
    words = [word for word, _ in rows if word not in ("word", "---")]
    assert len(words) == len(set(words)) > 50
    named = {name for _, meaning in rows for name in re.findall(r"\(`(\w+)`\)", meaning)}
    trees = [ast.parse(path.read_text()) for path in MODULES.values()]
    defined = {
        node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    assert len(named) > 15
    assert not named - defined
