"""What docs/architecture.md draws agrees with the plan of the house; what it and the glossary name is there."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text()


def drawn() -> dict[str, int]:
    """The line of each room in the drawing."""
    drawing = PAGE.partition("## Rooms")[2].partition("```\n")[2].partition("```")[0]
    lines = (re.match(r"(?:(?:io|transforms|pipelines)[/\w]*(?: |$))+", line) for line in drawing.splitlines())
    return {room: number for number, found in enumerate(lines) if found for room in found[0].split()}


DRAWN = drawn()
# What tests/test_house.py holds against the imports.
PLAN = [line.partition(":")[::2] for line in (ROOT / "tests" / "house.txt").read_text().splitlines()]


def place(room: str) -> str | None:
    """The room of the drawing that a room of the plan is, or lies in; None for the head of a package."""
    inner = pathlib.PurePath(room)
    return next((str(one) for one in (inner, *inner.parents) if str(one) in DRAWN), None)


def test_the_drawing_has_rooms_of_all_floors():
    assert {room.partition("/")[0] for room in DRAWN} == {"io", "transforms", "pipelines"}
    assert [room for room in DRAWN if not ((ROOT / room).is_dir() or (ROOT / f"{room}.py").is_file())] == []


def test_each_room_of_the_plan_lies_in_one_of_the_drawing():
    homeless = [room for room, _ in PLAN if place(room) is None and not room.endswith("/__init__")]
    assert not homeless, f"draw them in docs/architecture.md: {homeless}"


@pytest.mark.parametrize(("room", "imports"), PLAN, ids=[room for room, _ in PLAN])
def test_a_room_imports_only_what_is_drawn_above_it(room, imports):
    own = place(room)
    for other in imports.split():
        theirs = place(other)
        if own != theirs and not other.endswith("/__init__"):
            assert DRAWN[theirs] < DRAWN[own], f"{room} imports {other}, which is drawn below it"


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
    folders = ("io", "transforms", "pipelines")
    texts = [path.read_text() for folder in folders for path in (ROOT / folder).rglob("*.py")]
    begin = re.compile(rf"(?:def|class) (?:{'|'.join(named)})\b")
    trees = [ast.parse(text) for text in texts if begin.search(text)]
    defined = {
        node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    assert len(named) > 15
    assert not named - defined
