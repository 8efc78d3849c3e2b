"""The documentation is true: its snippets run, its commands parse, its links lead somewhere, its names exist."""

import ast
import contextlib
import doctest
import importlib
import importlib.util
import inspect
import itertools
import pathlib
import pkgutil
import pydoc
import re
import shlex
import shutil
import subprocess
import sys
import tomllib

import forked
import pytest
from apache_beam.yaml import main as beam_yaml
from helpers import APART

import penstock.io
import penstock.transforms
import pipelines
from penstock.io.formats.registry import FORMATS, choose_format
from pipelines import (
    _main,
    check,
    compare,
    export,
    fit,
    history,
    prepare,
    profile,
    relax,
    replay,
    show,
    spans,
    status,
    verify,
)
from pipelines._cli.beam import beam_parser
from pipelines._cli.flags import flag_names, job_parser
from pipelines._main import JOBS

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
# tests/tutorials runs the others, with all that they hold.
READ = [page for page in PAGES if page.parent.name != "tutorials"]
MODULES = {
    "prepare": prepare,
    "profile": profile,
    "check": check,
    "compare": compare,
    "export": export,
    "fit": fit,
    "history": history,
    "relax": relax,
    "replay": replay,
    "spans": spans,
    "show": show,
    "status": status,
    "verify": verify,
}
# Stable codes of dead letters, as the sources spell them.
_STAGES = ("event_time", "label", "read", "rule", "schema", "transform", "write")
_CODE = re.compile(rf"(?:{'|'.join((*FORMATS, *_STAGES))})\.[a-z0-9_]+")


def relative(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(language: str) -> list:
    """Fenced blocks of all pages that are not run, with where they are."""
    found = []
    for page in READ:
        for block in re.finditer(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL):
            line = page.read_text()[: block.start()].count("\n") + 1
            found.append(pytest.param(block[1], id=f"{relative(page)}:{line}"))
    return found


def commands() -> list:
    """Command lines of the jobs in pages, in `--help` and in docstrings, and of the Makefile."""
    texts = {relative(page): "".join(block.values[0] for block in blocks("sh")) for page in READ[:1]}
    texts |= {relative(page): page.read_text() for page in READ[1:]}
    texts["Makefile"] = (ROOT / "Makefile").read_text().replace("$(DEMO)", "demo-output")
    for name, job in MODULES.items():
        texts[f"pipelines/{name}.py"] = f"{job.__doc__}\n{JOBS[name][0].examples}"
    texts["pipelines/_main.py"] = _main._EXAMPLES
    pattern = re.compile(
        rf"(?:python -m pipelines\.|penstock )({'|'.join(JOBS)}) ((?:-|\w+\.pb|dataset)(?:[^\n`\\|#]|\\\n)+)"
    )
    return [
        pytest.param(found[1], found[2].replace("\\\n", " "), id=f"{where}:{number}")
        for where, text in texts.items()
        for number, found in enumerate(pattern.finditer(text))
    ]


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> pathlib.Path:
    """A folder with what the snippets read, to run them in."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    shutil.copy(ROOT / "examples" / "flights" / "job.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# tests/tutorials runs docs/pipelines.md, with what it prints.
SNIPPETS = [page for page in READ if "```python" in page.read_text() and page.name != "pipelines.md"]


def snippets_of(page: pathlib.Path) -> str:
    """All snippets of a page, one after the other."""
    snippets = "\n".join(re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))
    if "import tensorflow" in snippets:
        pytest.importorskip("tensorflow")
    return snippets


@pytest.mark.parametrize("page", [page for page in SNIPPETS if page.name != "README.md"], ids=relative)
def test_python_snippets_of_a_page_run_one_after_the_other(page, checkout):
    exec(compile(snippets_of(page), relative(page), "exec"), {"__name__": "__main__"})


def test_python_snippets_of_the_first_page_are_a_program(checkout):
    program = f"{snippets_of(ROOT / 'README.md')}\nprint(len(list(examples)))"
    done = forked.run(["-c", program])
    assert done.returncode == 0, done.stderr
    rows = len((ROOT / "examples" / "tips" / "tips.csv").read_text().splitlines()) - 1
    assert done.stdout.split()[-1] == str(rows), "what was written is what is trained from"


@pytest.mark.parametrize(("name", "arguments"), commands())
def test_commands_parse(name, arguments, checkout):
    argv = shlex.split(arguments)
    if "--config" in argv and "--input" not in argv:  # somebody's own file, which names them
        argv += ["--input=flights.csv", "--output=dataset"]
    with contextlib.suppress(SystemExit) if argv == ["--help"] else contextlib.nullcontext():
        JOBS[name][0].parse(argv)


def test_there_are_commands_and_snippets():
    assert len(commands()) >= 10
    assert {name for name, _ in (command.values for command in commands())} == set(JOBS)
    assert len(blocks("python")) >= 2


def test_every_command_of_a_shell_block_is_of_a_kind_that_is_checked():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
    for block in blocks("sh"):
        for line in re.sub(r"\\\n", " ", block.values[0]).splitlines():
            match shlex.split(line, comments=True):
                case [] | ["python" | ".venv/bin/python", "-m", *_]:
                    pass
                case ["penstock" | ".venv/bin/penstock", name, *flags]:
                    assert name in JOBS or (name, len(flags)) in (("--version", 0), ("completion", 1))
                case ["make", target, *_]:
                    assert target in targets
                case ["pip", "install", *_]:
                    assert {name for names in re.findall(r"\[([\w,]+)\]", line) for name in names.split(",")} <= extras
                case _:
                    pytest.fail(f"{line!r} is not checked by any test")


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), f"{relative(page)} links to {target}"
        if anchor:
            assert anchor in _anchors(linked), f"{relative(page)} links to {target}"


def _anchors(page: pathlib.Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_flags_that_are_named_exist(page):
    known = flag_names(beam_parser()) | flag_names(_main._parser("penstock"))
    for family in [kind for options, _ in JOBS.values() for kind in options.families().values()]:
        known |= flag_names(job_parser("any", "", "", [family]))
    known |= set(re.findall(r"'(--\w+)'", inspect.getsource(beam_yaml)))
    folders = (ROOT / "benchmarks").glob, (ROOT / "deploy").rglob, (ROOT / "examples").rglob
    for program in itertools.chain.from_iterable(files("*.py") for files in folders):
        known |= set(re.findall(r'add_argument\(\s*"(--\w+)"', program.read_text()))
    text = re.sub(r"^pip .*$", "", page.read_text(), flags=re.MULTILINE)
    named = set(re.findall(r"(?<![\w-])--[a-z]\w*", text))
    assert named <= known, named - known


def test_names_of_the_package_exist():
    for page in PAGES:
        for name in set(re.findall(r"\b(?:penstock|pipelines)(?:\.\w+)+", page.read_text())) - {"pipelines.md"}:
            assert _exists(name), f"{relative(page)} names {name}"


def _exists(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    module, _, attribute = name.rpartition(".")
    if importlib.util.find_spec(module) and hasattr(importlib.import_module(module), attribute):
        return True
    return importlib.util.find_spec(name) is not None


def test_suffixes_in_the_table_of_formats_are_read():
    rows = re.findall(r"^\| ([\w. ]+?) \| (`\.\w+`[^|]*) \| ([^|]*)\|", (ROOT / "README.md").read_text(), re.MULTILINE)
    formats = {entry.title: entry for entry in FORMATS.values()}
    assert [title for title, _, _ in rows] == list(formats)
    for title, suffixes, compressed in rows:
        entry = formats[title]
        assert re.findall(r"`\.(\w+)`", suffixes) == list(entry.suffixes)
        ends = re.findall(r"`(\.\w+)`", compressed)
        assert bool(ends) == bool(entry.compressions)
        for name in [f"data.{suffix}{end}" for suffix in entry.suffixes for end in ("", *ends)]:
            assert choose_format(None, [name]) is entry


def test_codes_of_dead_letters_are_documented():
    section = (ROOT / "docs" / "dataset.md").read_text().partition("## Dead letters")[2].partition("\n## ")[0]
    documented = set(_CODE.findall(section))
    used = _codes()
    assert documented <= used, f"documented, but nowhere in the sources: {documented - used}"
    missing = {code for code in used - documented if not code.startswith(("schema.", "rule."))}
    assert not missing, f"not in docs/dataset.md: {missing}"


def _codes() -> set[str]:
    """Texts that are passed as the code of a `Reason`, or stand in a table of them."""
    codes = set()
    for folder in ("io", "transforms"):
        for text in [path.read_text() for path in (ROOT / folder).rglob("*.py")]:
            for node in ast.walk(ast.parse(text)) if _CODE.search(text) else ():
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and _CODE.fullmatch(node.value):
                    codes.add(node.value)
    return codes - {"avro.schema", "avro.codec"}  # keys of an Avro header


def modules() -> list[str]:
    """All modules of both packages, by name."""
    return [
        found.name
        for package in (penstock, pipelines)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if found.name not in APART
    ]


def test_each_module_can_be_imported():
    assert len({importlib.import_module(name) for name in modules()}) > 500


def modules_with_examples() -> list[str]:
    """The modules that hold an example; to look for one in each docstring takes a while."""
    paths = {name: importlib.util.find_spec(name).origin for name in modules()}
    return [name for name, path in paths.items() if path.endswith(".py") and ">>> " in pathlib.Path(path).read_text()]


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_in_docstrings(name):
    failed, attempted = doctest.testmod(importlib.import_module(name))
    assert failed == 0
    assert attempted > 0, "where an example is not in a docstring, nothing runs it"


def test_there_are_examples_in_docstrings():
    assert len(modules_with_examples()) >= 10


PUBLIC = {"io": penstock.io, "transforms": penstock.transforms}


@pytest.mark.parametrize("package", PUBLIC.values(), ids=PUBLIC)
def test_help_lists_what_a_package_exports_with_one_line_each(package):
    listed = re.findall(r"^`(\w+)` +(\S.*)$", package.__doc__, re.MULTILINE)
    assert sorted(name for name, _ in listed) == sorted(package.__all__)
    assert dict(listed) == {name: inspect.getdoc(getattr(package, name)).splitlines()[0] for name in package.__all__}
    assert f"`{package.__all__[0]}`" in pydoc.plain(pydoc.render_doc(package.__name__)).partition("PACKAGE CONTENTS")[0]


@pytest.mark.parametrize(("name", "package"), PUBLIC.items(), ids=PUBLIC)
def test_the_reference_has_what_a_package_exports(name, package):
    page = (ROOT / "docs" / "reference" / f"{name}.rst").read_text()
    described = re.findall(r"^\.\. auto(class|exception|function):: (\w+)$", page, re.MULTILINE)
    assert [named for _, named in described] == re.findall(r"^`(\w+)`  ", package.__doc__, re.MULTILINE)
    assert {named: kind for kind, named in described} == {named: _kind(package, named) for named in package.__all__}


def _kind(package, name: str) -> str:
    exported = getattr(package, name)
    if not isinstance(exported, type):
        return "function"
    return "exception" if issubclass(exported, Exception) else "class"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    """`make docs`: every link leads somewhere, every docstring of the reference can be read as it is meant."""
    pytest.importorskip("sphinx")
    command = re.search(
        r"^docs:.*\n\t\$\(BIN\)/python (-m sphinx .*) \$\(SITE\)$", (ROOT / "Makefile").read_text(), re.M
    )
    done = subprocess.run(
        [sys.executable, *shlex.split(command[1]), "-d", tmp_path / "doctrees", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site" / "docs" / "reference" / "transforms.html").read_text()
    assert 'id="penstock.transforms.AssignSplit"' in page
    assert 'href="#penstock.transforms.AssignSplit"' in page, "the list at the head of the page links to what it lists"
