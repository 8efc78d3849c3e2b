"""Texts of messages as lines, so that what reads files of text reads them.

The texts are joined by line breaks, so that they are the lines of a block; unlike lines they may hold line breaks
themselves.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from penstock.io.formats.lines import Lines


def texts_of(values: pa.Array) -> list[bytes]:
    """The values of an array without nulls, one by one."""
    return values.to_numpy(zero_copy_only=False).tolist()  # several times faster than to_pylist


def as_lines(texts: Sequence[bytes]) -> Lines:
    """Texts as lines; a line break follows each."""
    nexts = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)) + 1)
    starts = np.concatenate((np.zeros(1, np.int64), nexts[:-1]))[: len(texts)]
    return Lines(b"\n".join([*texts, b""]), 0, starts, nexts - 1, nexts)
