"""Presents the texts of messages as lines, for the code that reads text files.

Line breaks join the texts, and each text is one line of the block. Unlike other lines, a text may itself hold line
breaks.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from penstock.io.formats.lines import Lines


def texts_of(values: pa.Array) -> list[bytes]:
    """Lists the values of an array without nulls."""
    return values.to_numpy(zero_copy_only=False).tolist()  # several times faster than to_pylist


def as_lines(texts: Sequence[bytes]) -> Lines:
    """Joins texts to a block of lines; a line break follows each text."""
    # Text i begins where text i - 1 and its line break end: `nexts` is the running sum of lengths plus one.
    nexts = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)) + 1)
    starts = np.concatenate((np.zeros(1, np.int64), nexts[:-1]))[: len(texts)]
    return Lines(b"\n".join([*texts, b""]), 0, starts, nexts - 1, nexts)
