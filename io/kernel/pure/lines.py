"""The line index of a block of text."""

import numpy as np

from penstock.io.kernel.shared.positions import LF, without_cr

Index = np.ndarray


def index_lines(data: bytes) -> tuple[Index, Index, Index]:
    """Returns the starts of a block's lines, and their ends without and with line ends: int64, one for each line."""
    array = np.frombuffer(data, np.uint8)
    nexts = np.flatnonzero(array == LF) + 1
    ends = nexts - 1
    if len(array) and array[-1] != LF:
        nexts = np.append(nexts, len(array))
        ends = np.append(ends, len(array))
    starts = np.concatenate((np.zeros(1, np.int64), nexts[:-1]))[: len(nexts)]
    return starts, without_cr(data, starts, ends, nexts), nexts


def has_nan_or_inf(data: bytes) -> bool:
    """Returns whether the letters NaN or Inf are anywhere in a block."""
    return b"NaN" in data or b"Inf" in data


def suspects(data: bytes) -> tuple[bool, bool, bool]:
    """Returns whether a block has a NUL, a byte beyond ASCII, and a CR that no LF follows."""
    return b"\0" in data, not data.isascii(), data.count(b"\r") > data.count(b"\r\n")


def joined(pieces: list[bytes], stop: int) -> bytes:
    """Returns the bytes of the pieces, one after the other, of the last one only those up to an index.

    The compiled one copies without the interpreter lock: fresh memory costs more than the copy.

    Raises:
      ValueError: when there is no piece, or the last one has fewer bytes.
    """
    if not pieces or not 0 <= stop <= len(pieces[-1]):
        raise ValueError("the last piece must have as many bytes as are wanted of it")
    return b"".join([*pieces[:-1], pieces[-1][:stop]])
