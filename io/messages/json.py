"""JSON objects in messages, read by the code for JSON Lines.

A message may hold line breaks. In JSON they can only stand between tokens, where Arrow's parser treats them as white
space.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from penstock.io.columns.explode import check_explodes
from penstock.io.formats.json.format import JsonRowReader, left_out_notes
from penstock.io.formats.lines import Lines, invalid_utf8
from penstock.io.messages.base import DecodedMessages, Decoder
from penstock.io.messages.texts import as_lines, texts_of
from penstock.io.reasons import Reason
from penstock.io.schema import Feature

_WHITE_SPACE = b" \t\r\n"


def json_decoder(features: Sequence[Feature] | None, explode: str | None = None) -> Callable[[], Decoder]:
    """Returns a maker of `JsonDecoder`s.

    Raises:
      ConfigError: when no feature is of the list to explode.
    """
    check_explodes(explode, features)
    return functools.partial(JsonDecoder, features, explode)


class JsonDecoder:
    """Decodes JSON objects; learns the column types for Arrow from the first ones.

    With `explode`, each item of the list of that name becomes a row.
    """

    def __init__(self, features: Sequence[Feature] | None, explode: str | None = None):
        self._reader = JsonRowReader(features, explode)

    def decode(self, values: pa.Array) -> DecodedMessages:
        """See `penstock.io.messages.base.Decoder`."""
        lines = as_lines(texts_of(values))
        blank, foreign = _blank(lines), invalid_utf8(lines)
        good = ~(blank | foreign)
        found = self._reader.read(lines.select(good))
        indices = np.flatnonzero(good)
        faults = {int(indices[row]): [reason] for row, reason in found.faults.items()}
        for row in np.flatnonzero(~good).tolist():
            faults[row] = [
                Reason("jsonl.encoding", "the message is not UTF-8")
                if foreign[row]
                else Reason("jsonl.parse", "the message is empty")
            ]
        notes = left_out_notes(found.left_out)
        return DecodedMessages(
            indices[found.indices], found.columns, faults, notes=notes, explodes=self._reader.explodes
        )


def _blank(lines: Lines) -> np.ndarray:
    """Masks the lines that hold only white space."""
    mask: np.ndarray = lines.starts == lines.ends
    first = np.frombuffer(lines.data, np.uint8)[lines.starts]
    for row in np.flatnonzero(np.isin(first, np.frombuffer(_WHITE_SPACE, np.uint8)) & ~mask).tolist():
        mask[row] = not lines.line(row).strip(_WHITE_SPACE)
    return mask
