"""Encoded records: sorts them, copies them in a given order, joins them from parts and takes them apart."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.kernel.shared.offsets import Ints, starts_of
from penstock.io.kernel.shared.pieces import Bytes, Pieces, content_of, gathered, put_slices, slices

_LENGTH_BYTES = 4
_NO_LIST = np.uint32(0xFFFFFFFF)
_OTHER_COLUMNS = "a record is not of these columns"


def discard(file: int, start: int, end: int) -> None:
    """Does nothing: Python cannot free the disk space and cached pages between two offsets of a file."""


def sort_order(splits: npt.NDArray[np.uint16], keys: npt.NDArray[np.uint64], data: Bytes, offsets: Ints) -> Ints | None:
    """Sorts records by split, key and bytes, stable; returns the order, int64[n], or None when they are sorted already.

    Args:
      splits: uint16[n].
      keys: uint64[n].
      data: uint8, the bytes of the records.
      offsets: int64[n + 1], the start of each record in `data`, and the end of the last.

    Raises:
      ValueError: when the sizes of the arrays do not match (`pyarrow.ArrowInvalid` here).
    """
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(data)]
    record = pa.Array.from_buffers(pa.large_binary(), len(keys), buffers)
    names = ["split", "key", "record"]
    rows = pa.record_batch([pa.array(splits, pa.uint16()), pa.array(keys, pa.uint64()), record], names)
    order = pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in names]).to_numpy().astype(np.int64)
    return None if (order == np.arange(len(order))).all() else order


def gather(
    data: Bytes, offsets: Ints, order: Ints, index: int, skip: int, out: Bytes, filled: int
) -> tuple[int, int, int]:
    """Copies records in `order` to `out[filled:]`, until `out` is full or all are copied.

    Args:
      data: uint8, the bytes of all records.
      offsets: int64[n + 1], the start of each record in `data`, and the end of the last.
      order: int64, the wanted records.
      index: how many of them are already copied.
      skip: how many bytes of the next one are already copied.
      out: uint8, the output.
      filled: how many bytes of the output are already filled.

    Returns:
      `index`, `skip` and `filled` after the copy.
    """
    while index < len(order) and filled < len(out):
        # Try as many records as would fit if all had the mean size; copy those that fit whole, and of the next one the
        # bytes that fit.
        count = max(1, (len(out) - filled) * (len(offsets) - 1) // max(1, int(offsets[-1] - offsets[0])))
        rows = order[index : index + count]
        starts, sizes = offsets[rows], offsets[rows + 1] - offsets[rows]
        starts[0] += skip
        sizes[0] -= skip
        ends = filled + np.cumsum(sizes)
        whole = int(ends.searchsorted(len(out), side="right"))
        put_slices(out, (ends - sizes)[:whole], data, starts[:whole], sizes[:whole])
        if whole:
            index, skip, filled = index + whole, 0, int(ends[whole - 1])
        if whole < len(rows):
            part = len(out) - filled
            out[filled:] = data[starts[whole] : starts[whole] + part]
            skip, filled = skip + part, len(out)
    return index, skip, filled


def join_parts(rows: int, fixed: Sequence[Bytes], pieces: Sequence[tuple[Bytes, Ints]]) -> tuple[Bytes, Ints]:
    """Joins the parts of each row, one after the other; returns uint8, the records, and int64[rows + 1], their bounds.

    Args:
      rows: how many.
      fixed: uint8[rows, width] each, or uint8[1, width] for a part that is the same in all rows.
      pieces: the parts behind these: of each uint8, its bytes, and int64[rows + 1], where those of each row start.

    Raises:
      ValueError: when the sizes of the arrays do not match.
    """
    if any(len(part) not in (1, rows) for part in fixed) or any(len(bounds) != rows + 1 for _, bounds in pieces):
        raise ValueError("parts must be of as many rows")
    width = sum(part.shape[1] for part in fixed)
    joined = np.concatenate([np.broadcast_to(part, (rows, part.shape[1])) for part in fixed], axis=1).reshape(-1)
    offsets: Ints = np.arange(rows + 1) * width
    if not pieces:
        return joined, offsets
    parts = [slices(joined, offsets), *(slices(*piece) for piece in pieces)]
    return content_of(pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary())))


def take_apart(
    data: Bytes, offsets: Ints, flag_bytes: int, columns: Sequence[tuple[int, int, bool]]
) -> tuple[Bytes, list[Bytes], list[list[Bytes]]]:
    """Takes apart the records of `penstock.io.dataset.shard_formats.rows`, which describes them.

    Args:
      data: uint8, the records.
      offsets: int64[n + 1], the start of each record in `data`, and the end of the last.
      flag_bytes: of each record.
      columns: of each the number of levels of lists, the bytes of a value, and whether the innermost level is texts.

    Returns:
      The flags, uint8[n, flag_bytes]; of each column uint8[n, width], its fixed part; and of each its pieces, uint8:
      the lengths of each level but the first, the nulls of values that are no texts, the values.

    Raises:
      ValueError: for bytes that are no records of these columns.
    """
    if len(offsets) < 2:
        return np.zeros((0, flag_bytes), np.uint8), *_nothing(columns)
    widths = [_LENGTH_BYTES if levels else width for levels, width, _ in columns]
    starts = flag_bytes + starts_of(np.array(widths, np.int64))
    if int(np.diff(offsets).min()) < starts[-1]:
        raise ValueError(_OTHER_COLUMNS)
    flags = gathered(data, offsets[:-1], flag_bytes)
    fixed = [gathered(data, offsets[:-1] + start, width) for start, width in zip(starts, widths, strict=False)]
    pieces = _CheckedPieces(data, offsets[:-1] + starts[-1], offsets[1:])
    found = []
    for index, (levels, width, is_bytes) in enumerate(columns):
        bit = 2 * index + 1
        has_nulls = (flags[:, bit >> 3] >> (bit & 7) & 1).astype(bool)
        found.append(list(_pieces(pieces, fixed[index], has_nulls, levels, width, is_bytes)) if levels else [])
    if (pieces.starts != pieces.ends).any():
        raise ValueError(_OTHER_COLUMNS)
    return flags, fixed, found


class _CheckedPieces(Pieces):
    """Refuses to read behind the end of a record."""

    def __init__(self, data: Bytes, starts: Ints, ends: Ints):
        super().__init__(data, starts)
        self.ends = ends

    def take(self, sizes: Ints) -> Bytes:
        if (sizes > self.ends - self.starts).any():
            raise ValueError(_OTHER_COLUMNS)
        return super().take(sizes)


def _nothing(columns: Sequence[tuple[int, int, bool]]) -> tuple[list[Bytes], list[list[Bytes]]]:
    fixed = [np.zeros((0, _LENGTH_BYTES if levels else width), np.uint8) for levels, width, _ in columns]
    counts = [levels + (levels > 0 and not is_bytes) for levels, _, is_bytes in columns]
    return fixed, [[np.zeros(0, np.uint8)] * count for count in counts]


def _pieces(
    pieces: _CheckedPieces, lengths: Bytes, has_nulls: npt.NDArray[np.bool_], levels: int, width: int, is_bytes: bool
) -> Iterator[Bytes]:
    items = lengths.view("<u4")[:, 0].astype(np.int64)  # of each row, at the level that is read next
    for _ in range(levels - 1):
        marked = pieces.take(items * _LENGTH_BYTES)
        yield marked
        counts = np.where(marked.view("<u4") == _NO_LIST, 0, marked.view("<u4")).astype(np.int64)
        items = np.diff(starts_of(counts)[starts_of(items)])
    if not is_bytes:
        yield pieces.take(np.where(has_nulls, items, 0))
    yield pieces.take(items * width)
