"""Finds and checks the quotes of a block of CSV lines, all at once.

numpy recognizes lines whose quotes all open or close fields, or are doubled within one; the few other lines are checked
one by one.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from penstock.io.kernel.shared.positions import CR, LF, occurrences
from penstock.io.kernel.shared.quoting import QUOTE, Dialect, is_well_quoted

_Ints = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class Quotes:
    """All quotes of a block: their indices, and whether each could open a field or close one."""

    indices: _Ints
    opens: _Flags
    closes: _Flags


def find_quotes(data: bytes, delimiter: int) -> Quotes:
    """Finds the quotes of a block."""
    # A quote may open a field after a delimiter, a line break or another quote, and close one before them. The other
    # quote is there in `""`, which is either an empty field or a doubled quote: close one, open the next.
    indices = occurrences(data, QUOTE)
    array = np.frombuffer(data, np.uint8)
    border = np.zeros(256, bool)
    border[[QUOTE, LF, delimiter]] = True
    before = (indices == 0) | border[array[np.maximum(indices - 1, 0)]]
    following = np.minimum(indices + 1, len(array) - 1)
    after = (indices == len(array) - 1) | border[array[following]]
    # CRLF ends a record too; a lone CR does not.
    crlf = (array[following] == CR) & (array[np.minimum(indices + 2, len(array) - 1)] == LF)
    return Quotes(indices, before, after | crlf)


def misquoted_lines(data: bytes, starts: _Ints, ends: _Ints, delimiter: int) -> _Flags:
    """Masks the lines that are not one record: with an odd number of quotes, or text around a quoted field."""
    mask = np.zeros(len(starts), bool)
    if not len(starts) or b'"' not in data:
        return mask
    quotes = find_quotes(data, delimiter)
    firsts = np.searchsorted(quotes.indices, starts)
    counts = np.searchsorted(quotes.indices, ends) - firsts
    mask = counts % 2 == 1
    # The rank of a quote in its line decides whether it must open or close a field; quotes outside the lines do not
    # count.
    owner = np.searchsorted(starts, quotes.indices, side="right") - 1
    ranks = np.arange(len(quotes.indices)) - firsts[owner]
    strays = np.where(ranks % 2 == 0, ~quotes.opens, ~quotes.closes) & (owner >= 0) & (ranks < counts[owner])
    for row in np.unique(owner[strays]).tolist():
        mask[row] = mask[row] or not is_well_quoted(data[starts[row] : ends[row]], Dialect(bytes([delimiter])))
    return mask
