"""`ReadFrom<Format>`: `ReadRecords` of the files of one format, with its options as arguments; one for each format.

They follow from `penstock.io.formats.registry`: `ReadFromCsv` is that of `CsvFormat`.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from penstock.io.formats.base import Format
from penstock.io.formats.registry import FORMATS
from penstock.io.schema import Feature
from penstock.io.sources.read import ReadRecords

_READ_FROM = "ReadFrom"


def __getattr__(name: str) -> Callable[..., ReadRecords]:
    """The transform of a name; its module is that of the format, which is imported now."""
    made_by = name.replace(_READ_FROM, "", 1) + "Format"
    for entry in FORMATS.values():
        if name.startswith(_READ_FROM) and entry.made_by.endswith(f":{made_by}"):
            transform = _reader(name, entry.load(), entry.title)
            globals()[name] = transform
            return transform
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _reader(name: str, kind: type[Format], title: str) -> type[ReadRecords]:
    def __init__(
        self: ReadRecords,
        inputs: Sequence[str],
        features: Sequence[Feature] | None = None,
        **options: Any,
    ) -> None:
        ReadRecords.__init__(self, inputs, kind(**options), features)

    taken = list(inspect.signature(__init__).parameters.values())[:-1]
    own = [option.replace(kind=option.KEYWORD_ONLY) for option in inspect.signature(kind).parameters.values()]
    __init__.__signature__ = inspect.Signature([*taken, *own], return_annotation=None)  # type: ignore[attr-defined]
    doc = f"`ReadRecords` of files of {title}; the options are those of `{kind.__name__}`."
    return type(name, (ReadRecords,), {"__init__": __init__, "__doc__": doc, "__module__": __name__})
