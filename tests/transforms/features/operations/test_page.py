"""docs/features.md: the tables of operations are made of the operations themselves, and the examples bind.

After a change of the operations:

    python tests/transforms/features/operations/test_page.py
"""

import pathlib
import re

import pytest
import yaml

from penstock.io.schema import Feature, Kind
from penstock.transforms.features.functions import parse_features
from penstock.transforms.features.operations import OPERATIONS, THEMES
from penstock.transforms.features.operations.operation import SHAPES, Operation, Parameter

PAGE = pathlib.Path(__file__).parents[4] / "docs" / "features.md"
_BEGIN, _END = "<!-- made of the operations: begin -->\n", "<!-- made of the operations: end -->"


def tables() -> str:
    """All operations, a table for each theme."""
    return "\n".join(
        "\n".join([f"### {theme}\n", "| operation | | takes | gives |", "| --- | --- | --- | --- |", *map(line, found)])
        + "\n"
        for theme, found in THEMES.items()
    )


def line(operation: Operation) -> str:
    parameters = "".join(map(said, operation.parameters.items()))
    means = f"{operation.doc}{parameters}".replace("|", r"\|")
    return f"| `{shown(operation)}` | {means} | {takes(operation)} | {gives(operation)} |"


def said(item: tuple[str, Parameter]) -> str:
    name, parameter = item
    return f"<br>`{name}`: {parameter.doc}{'' if parameter.required else ' (optional)'}"


def shown(operation: Operation) -> str:
    return f"{operation.name}: {operation.main.upper()}" if operation.main else operation.name


def kinds(found: frozenset[Kind]) -> str:
    return "any" if found == frozenset(Kind) else " or ".join(sorted(kind.value for kind in found))


def takes(operation: Operation) -> str:
    least, most = operation.min_inputs, operation.max_inputs
    many = "" if most == 1 else f"{least} inputs, " if least == most else f"{least} to {most} inputs, "
    return f"{many}{kinds(operation.takes)}; {SHAPES[operation.shape]}"


def gives(operation: Operation) -> str:
    if "to" in operation.parameters and operation.name != "lookup":
        return "INT or FLOAT"
    if operation.kind is not None:
        return "what it chooses from"
    return operation.gives.value if operation.gives else "the same"


def written(text: str) -> str:
    """The page with the tables of today."""
    before, _, rest = text.partition(_BEGIN)
    return f"{before}{_BEGIN}\n{tables()}\n{_END}{rest.partition(_END)[2]}"


def test_the_page_has_the_operations_of_today() -> None:
    text = PAGE.read_text()
    assert text.count(_BEGIN) == text.count(_END) == 1
    assert text == written(text), f"python {pathlib.Path(__file__).relative_to(PAGE.parents[1])}"


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS.keys())
def test_every_operation_and_argument_says_in_a_line_what_it_means(operation: Operation) -> None:
    for text in (operation.doc, *(parameter.doc for parameter in operation.parameters.values())):
        assert text
        assert "\n" not in text
        assert not text.endswith(".")


EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL) if PAGE.exists() else []
COLUMNS = {
    Kind.BYTES: ("city", "country", "email", "payment", "pickup", "dropoff"),
    Kind.INT: ("age", "picked_up_at", "rides", "tip"),
    Kind.FLOAT: ("fare", "distance", "tolls"),
}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_bind(example: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "regions.csv").write_text("key,value\nOslo,north\n")
    columns = [Feature(name, kind, multivalued=False) for kind, names in COLUMNS.items() for name in names]
    columns += [Feature("title", Kind.BYTES, multivalued=True)]
    columns += [Feature(name, Kind.FLOAT, multivalued=True, length=3) for name in ("start", "end")]
    bound = parse_features(example).bind(columns)
    assert len(bound.outputs) == len(yaml.safe_load(example)["features"])


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
