"""The plan of the house: which room imports which, without a circle; how full a folder may be; where tests stand.

A room is a folder of modules, or a module that stands directly in `io/`, `transforms/` or `pipelines/`. `house.txt`
lists each room with the rooms that it imports. A change of the plan is a change of that file, so that a review sees it:

    python tests/test_house.py > tests/house.txt

Imports inside functions count, and those for type checkers only: a circle that is hidden is still one.
"""

import ast
import functools
import graphlib
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PLAN = ROOT / "tests" / "house.txt"

# The top folders, and the packages that they are installed as.
PACKAGES = {"io": "penstock.io", "transforms": "penstock.transforms", "pipelines": "pipelines"}

# Everything that may name a module of ours.
READERS = (*PACKAGES, "src", "tests", "benchmarks", "examples", "deploy", "requirements", "docs")

SOURCES = frozenset({".py", ".pyi", ".pyx", ".pxd", ".h"})
MAX_SOURCES = 14
MAX_SHOWN = 20
# Each command has a file there, named after it, and is found by that.
BY_COMMAND = frozenset({"pipelines", "pipelines/_options"})

# Where the paths begin that texts name.
TOPS = (".", "tests")

Graph = Mapping[str, set[str]]


def sources(*folders: str, suffix: str = "") -> Iterator[pathlib.Path]:
    """Our files below some folders, relative to the root."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob(f"*{suffix}")):
            if path.is_file() and path.suffix in SOURCES and not {"__pycache__", ".cache"} & set(path.parts):
                yield path.relative_to(ROOT)


def module_of(path: pathlib.Path) -> str:
    """The name that a file is imported by."""
    inner = [part for part in path.with_suffix("").parts[1:] if part != "__init__"]
    return ".".join([PACKAGES[path.parts[0]], *inner])


def room_of(path: pathlib.Path) -> str:
    """The room that a file stands in."""
    return str(path.parent if len(path.parts) > 2 else path.with_suffix(""))


@functools.cache
def modules() -> Mapping[str, pathlib.Path]:
    """All modules by name, Python's and those of the kernel, in Cython."""
    found = [*sources(*PACKAGES, suffix=".py"), *sources("io", suffix=".pyx")]
    return {module_of(path): path for path in found}


@functools.cache
def imported(path: pathlib.Path) -> tuple[tuple[str, int], ...]:
    """What a Python file imports of ours, as `module` or `module.name`, and in which line."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        found += ((name, node.lineno) for name in names if name.partition(".")[0] in ("penstock", "pipelines"))
    return tuple(found)


def owner(name: str) -> str | None:
    """The module that a dotted name is, or is in; None for a package that is no folder of ours."""
    while name and name not in modules():
        name = name.rpartition(".")[0]
    return name or None


@functools.cache
def graph(place: Callable[[pathlib.Path], str]) -> Graph:
    """What imports what, where each file is taken for the place that it has."""
    arrows: dict[str, set[str]] = {}
    for path in sources(*PACKAGES, suffix=".py"):
        targets = {place(modules()[module]) for name, _ in imported(path) if (module := owner(name))}
        arrows.setdefault(place(path), set()).update(targets - {place(path)})
    return arrows


def plan() -> Graph:
    """What `house.txt` says."""
    lines = [line.partition(":") for line in PLAN.read_text().splitlines()]
    return {room: set(targets.split()) for room, _, targets in lines}


def shown(rooms: Graph) -> str:
    """The plan as `house.txt` has it."""
    return "".join(f"{f'{room}: ' + ' '.join(sorted(rooms[room]))}".rstrip() + "\n" for room in sorted(rooms))


def test_each_room_imports_what_the_plan_says():
    built, planned = graph(room_of), plan()
    rooms = sorted(built.keys() | planned.keys())
    new = [f"{room} -> {to}" for room in rooms for to in sorted(built.get(room, set()) - planned.get(room, set()))]
    gone = [f"{room} -> {to}" for room in rooms for to in sorted(planned.get(room, set()) - built.get(room, set()))]
    assert (new, gone) == ([], []), f"new: {new}; gone: {gone}; see the docstring of {__file__}"
    assert PLAN.read_text() == shown(built), "house.txt must be sorted, with every room"


@pytest.mark.parametrize("place", [pytest.param(room_of, id="rooms"), pytest.param(module_of, id="modules")])
def test_nothing_imports_itself_in_a_circle(place):
    try:
        graphlib.TopologicalSorter(graph(place)).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


def test_lower_folders_do_not_import_higher_ones():
    order = list(PACKAGES)
    upwards = [
        f"{room} -> {to}"
        for room, targets in graph(room_of).items()
        for to in targets
        if order.index(room.partition("/")[0]) < order.index(to.partition("/")[0])
    ]
    assert upwards == []


@pytest.mark.parametrize("reader", READERS)
def test_every_import_finds_its_module_where_it_is(reader):
    named = [(path, *found) for path in sources(reader, suffix=".py") for found in imported(path)]
    assert [f"{path}:{line}: {name}" for path, name, line in named if not _is_there(name)] == []


def _is_there(name: str) -> bool:
    """Whether a dotted name is a module, or something that a module has."""
    module = owner(name)
    if module is None:
        return name.removeprefix("penstock.") in _names(ROOT / "src" / "penstock" / "__init__.py") | {"penstock"}
    path = ROOT / modules()[module]
    inner = name.removeprefix(module).removeprefix(".")
    return inner == "" or path.suffix == ".pyx" or inner in _names(path) | _names(path.with_suffix(".pyi"))


@functools.cache
def _names(path: pathlib.Path) -> set[str]:
    """Names that a file binds at its top, as far as they can be told without running it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text() if path.exists() else "")):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                found |= {alias.asname or alias.name for alias in aliases}
    return found


_PATH = re.compile(
    r"(?<![\w/.*<-])(?:io|transforms|pipelines|tests|benchmarks|deploy|examples)/[\w/]*\w\.(?:pyx|py|md|txt|yaml)\b"
)


def test_every_path_that_is_named_is_there():
    pages = [path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md")]
    named = [
        (path, name)
        for path in [*sources(*READERS), *pages, pathlib.Path("README.md")]
        for name in _PATH.findall((ROOT / path).read_text())
    ]
    # Tests name each other from their own folder.
    assert [f"{path}: {name}" for path, name in named if not any((ROOT / top / name).exists() for top in TOPS)] == []
    assert len(named) > 20


# Beam's filesystems, which only the seam to stores may use: others would not reach what is not Beam's.
_BEAMS_FILES = re.compile(r"\bFileSystems\b|\bBeamIOError\b|apache_beam\.io\.filesystems")
_SEAM = ("io/files/stores/", "io/beam/flags.py")


def test_files_are_reached_by_one_seam():
    code = {path: (ROOT / path).read_text() for path in sources(*PACKAGES, suffix=".py")}
    using = [str(path) for path, text in code.items() if _BEAMS_FILES.search(text)]
    assert [path for path in using if not path.startswith(_SEAM)] == []
    assert "io/files/stores/beam.py" in using


@pytest.mark.parametrize("folder", sorted({str(path.parent) for path in sources(*PACKAGES)}))
def test_a_folder_holds_what_one_can_overlook(folder):
    files = [path for path in sources(folder) if str(path.parent) == folder]
    most = MAX_SHOWN if folder in BY_COMMAND else MAX_SOURCES
    assert len(files) <= most, f"{folder} has {len(files)} source files; part it by what they are about"


def test_io_shows_what_one_can_overlook():
    entries = [path for path in (ROOT / "io").iterdir() if path.is_dir() or path.suffix in SOURCES]
    names = sorted(path.name for path in entries if path.name != "__pycache__")
    assert len(names) <= MAX_SHOWN, f"io/ shows {len(names)} entries: {names}"


def test_tests_stand_in_the_folders_of_what_they_test():
    tested = {str(path.parent.relative_to("tests")) for path in sources(*(f"tests/{name}" for name in PACKAGES))}
    assert sorted(tested - {str(path.parent) for path in sources(*PACKAGES)}) == []


if __name__ == "__main__":
    print(shown(graph(room_of)), end="")
