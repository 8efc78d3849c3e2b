"""Docstrings of the reference can be read as they are meant; `make docs` builds the site of them, and takes longer."""

import importlib
import inspect
import io
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

docutils = pytest.importorskip("docutils.core")
napoleon = pytest.importorskip("sphinx.ext.napoleon")

from docutils import nodes  # noqa: E402
from docutils.parsers.rst import roles  # noqa: E402

PAGES = sorted((pathlib.Path(__file__).parent.parent / "docs" / "reference").glob("*.rst"))
_DIRECTIVE = re.compile(r"^\.\. (?:auto(module|class|exception|function)|currentmodule):: (\S+)$", re.MULTILINE)


def described(page: pathlib.Path) -> Iterator[tuple[str, Any]]:
    """What a page has sphinx describe, and the members that come with it, by their names."""
    module = None
    for kind, name in _DIRECTIVE.findall(page.read_text()):
        if kind in ("", "module"):
            module = importlib.import_module(name)
            yield name, module
            continue
        found = getattr(module, name)
        yield name, found
        members = vars(found) if kind in ("class", "exception") else {}
        yield from ((f"{name}.{own}", member) for own, member in members.items() if own[0] != "_" and own != "expand")


def faults(docstring: str) -> str:
    """What docutils says of it, after napoleon has made fields of its sections."""
    text = str(napoleon.GoogleDocstring(docstring, napoleon.Config(napoleon_use_ivar=True)))
    said = io.StringIO()
    docutils.publish_doctree(text, settings_overrides={"report_level": 2, "halt_level": 5, "warning_stream": said})
    return said.getvalue()


@pytest.fixture(autouse=True)
def names_in_backticks(monkeypatch):
    """As docs/conf.py has it, whatever the names are: whether the reference has them is for the site to say."""
    monkeypatch.setitem(roles._roles, "", lambda name, raw, text, *_: ([nodes.literal(raw, text)], []))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_docstrings_can_be_read(page):
    found = {name: faults(inspect.getdoc(member) or "") for name, member in described(page)}
    assert len(found) > 5
    assert {name: said for name, said in found.items() if said} == {}


@pytest.mark.parametrize(
    ("docstring", "said"),
    [
        ("Batches of `Row`s.", "without end-string"),
        ("K = max |U_t|.", "Undefined substitution"),
        ("=  =\na  b\n=  =\nab c\n=  =", "Malformed table"),
        ("Says it.\n\nArgs:\n  a: one, *and\n", "without end-string"),
        ("Has a list:\n- of this\n  - and that\n", "Unexpected indentation"),
        ("Returns `x`, `y.z` and 2 * 3.\n\nReturns:\n  A *text*.\n", ""),
    ],
)
def test_what_cannot_be_read_is_found(docstring, said):
    assert said in faults(docstring)
    assert bool(said) == bool(faults(docstring))
