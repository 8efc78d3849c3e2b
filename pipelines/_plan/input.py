"""What a job says of its input: how it looks, and that it has no rows."""

import logging
from collections.abc import Sequence
from typing import Any

from penstock.io.dead_letters.first import FirstRejects
from penstock.io.errors import NoRowsError
from penstock.io.files.apart import check_outside
from penstock.io.reasons import Note
from penstock.io.sources.base import Source, SourceRequest
from penstock.io.sources.files import FileSource
from penstock.io.sources.registry import open_source
from pipelines._plan.known import with_ends

_LOGGER = logging.getLogger(__name__)


def open_input(request: SourceRequest, output: str) -> Source:
    """Opens what `--input` names, and checks that none of its files lies in the output.

    Raises:
      ConfigError: when the input cannot be what the flags say, or a file is in the output.
      InputError: when there is no such input.
    """
    source = open_source(request)
    if isinstance(source, FileSource):
        check_outside((file.uri for file in source.files), "--input", output)
    return source


def input_provenance(source: Source) -> dict[str, Any]:
    """What a manifest says of the input: each part of it, and the lists that name them, if there are any.

    Raises:
      InputError: when a file cannot be read.
    """
    lists = [found.describe() for found in source.lists] if isinstance(source, FileSource) else []
    inputs = with_ends(source.inputs()) if isinstance(source, FileSource) else source.inputs()
    return {"inputs": inputs, **({"input_lists": lists} if lists else {})}


def look_at(source: Source) -> None:
    """Warns of what looks wrong about the input, before anything is written.

    Raises:
      InputError: when the input cannot be what the flags say.
    """
    for text in source.look() if isinstance(source, FileSource) else ():
        _LOGGER.warning("%s", text)


def no_rows(source: Source, rejects: FirstRejects | None = None, notes: Sequence[Note] = ()) -> NoRowsError:
    """The error of an input without a single row; says why its rows are rejected, or what was left out of them."""
    if notes:
        return NoRowsError(
            f"the input has no rows with a member that can be a column ({_told(notes)}): {source.describe()}; nothing "
            "is written"
        )
    if rejects is not None and rejects.rows:
        return NoRowsError(
            f"the input has no rows that can be read: {source.describe()}; nothing is written; "
            f"{rejected_text(rejects, source)}"
        )
    why = source.why_empty() if isinstance(source, FileSource) else ""
    return NoRowsError(f"the input has no rows: {source.describe()}{why}; nothing is written")


def rejected_text(rejects: FirstRejects, source: Source) -> str:
    """Says how many rows are rejected, with the first of them."""
    examples = rejects.examples(input_uris(source))
    return f"{rejects.rows:,} {'row is' if rejects.rows == 1 else 'rows are'} rejected: {examples}"


def input_uris(source: Source) -> frozenset[str]:
    """Lists what a source reads."""
    return frozenset(str(entry["uri"]) for entry in source.inputs())


def _told(notes: Sequence[Note]) -> str:
    return "; ".join(f"{note.subject!r}, in {note.count:,} rows: {note.detail}" for note in notes)
