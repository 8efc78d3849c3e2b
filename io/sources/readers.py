"""`ReadFrom<Format>`: for each format a `ReadRecords` of its files, with the format's options as arguments.

They are generated from `penstock.io.formats.registry`: `ReadFromCsv` takes its options and their descriptions from
`CsvFormat`.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from penstock.io.files.partitions import Partitioning
from penstock.io.formats.base import Format
from penstock.io.formats.registry import FORMATS
from penstock.io.schema import Feature
from penstock.io.sources.read import ReadRecords

_READ_FROM, _FORMAT = "ReadFrom", "Format"

_ARGUMENTS = """
Args:
  inputs: patterns of files, folders, and lists of them.
  features: the schema's features; None takes the types of the files, texts where they have none.
  partitioning: whether folders `key=value` are columns (`auto`, `none`), as in `ReadRecords`."""


def __getattr__(name: str) -> Callable[..., ReadRecords]:
    """Makes the transform of a name; imports the module of its format."""
    for entry in FORMATS.values():
        format_name = entry.made_by.partition(":")[2]
        if name == _READ_FROM + format_name.removesuffix(_FORMAT):
            transform = _reader(name, entry.load(), entry.title)
            globals()[name] = transform
            return transform
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _reader(name: str, kind: type[Format], title: str) -> type[ReadRecords]:
    def __init__(
        self: ReadRecords,
        inputs: Sequence[str],
        features: Sequence[Feature] | None = None,
        *,
        partitioning: Partitioning = "auto",
        **options: Any,
    ) -> None:
        ReadRecords.__init__(self, inputs, kind(**options), features, partitioning=partitioning)

    taken = list(inspect.signature(__init__).parameters.values())[:-1]
    own = [option.replace(kind=option.KEYWORD_ONLY) for option in inspect.signature(kind).parameters.values()]
    __init__.__signature__ = inspect.Signature([*taken, *own], return_annotation=None)  # type: ignore[attr-defined]
    return type(name, (ReadRecords,), {"__init__": __init__, "__doc__": _doc(kind, title), "__module__": __name__})


def _doc(kind: type[Format], title: str) -> str:
    """Makes the docstring of a reader from that of its format."""
    text, _, options = (inspect.getdoc(kind) or "").partition("\nAttributes:\n")
    head = f"Reads files into RecordBatches: {title}.\n\nElements and errors are those of `ReadRecords`."
    return "\n".join([head, "", text.rstrip(), _ARGUMENTS, options]).rstrip() + "\n"
