"""Shared code of formats with typed columns: planning parts, and rejecting texts that are not UTF-8."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa

from penstock.io.columns.explode import explode_batch
from penstock.io.dead_letters.record import row_letters
from penstock.io.formats.base import Parsed, Part
from penstock.io.reasons import Reason
from penstock.io.reserved import ORIGIN

_RAW_TYPES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}


def runs(sizes: Sequence[float], part_bytes: int) -> Iterator[Part]:
    """Joins neighbouring pieces of these sizes to parts of about `part_bytes`, of at least one piece each.

    A file without pieces has one empty part, so its columns are still checked.

    >>> list(runs([5, 5, 30, 5], 10))
    [Part(start=0, end=2, first_row=0), Part(start=2, end=3, first_row=0), Part(start=3, end=4, first_row=0)]
    """
    start, taken = 0, 0.0
    for index, size in enumerate(sizes):
        if index > start and taken + size > part_bytes:
            yield Part(start, index)
            start, taken = index, 0.0
        taken += size
    yield Part(start, len(sizes))


def decode_dictionaries(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Replaces dictionary encoded columns by plain ones."""
    for index, field in enumerate(batch.schema):
        if pa.types.is_dictionary(field.type):
            plain = field.with_type(field.type.value_type)
            batch = batch.set_column(index, plain, batch.column(index).dictionary_decode())
    return batch


def explode_rows(
    batches: Iterable[pa.RecordBatch], explode: str | None, names: Sequence[str], uri: str
) -> Iterator[pa.RecordBatch]:
    """Makes a row of each item of a list, and selects the columns; without a list to explode, batches stay as they are.

    Args:
      batches: flattened rows with `_origin`.
      explode: the column with the list.
      names: the columns to keep, beside `_origin`.
      uri: the file that a message should name.
    """
    for batch in batches:
        if explode is None:
            yield batch
        else:
            for rows in explode_batch(batch, explode, uri):
                yield decode_dictionaries(rows.select([*names, ORIGIN]))


def reject_non_utf8(batch: pa.RecordBatch, code: str) -> Parsed:
    """Keeps the rows whose texts are UTF-8, and turns the others into dead letters with `code`.

    Arrow does not check this when it reads such files, and not all writers do.
    """
    reasons: dict[int, list[Reason]] = {}
    readable = batch
    for index, field in enumerate(batch.schema):
        if (raw_type := _raw_type(field.type)) is None or _is_valid(batch.column(index)):
            continue
        for row in _invalid_rows(batch.column(index)):
            detail = f"column {field.name!r}: the text is not UTF-8"
            reasons.setdefault(row, []).append(Reason(code, detail))
        raw = batch.column(index).cast(raw_type)
        readable = readable.set_column(index, field.with_type(raw_type), raw)
    if not reasons:
        return Parsed(batch)
    kept = np.setdiff1d(np.arange(batch.num_rows), list(reasons))
    return Parsed(batch.take(pa.array(kept)), row_letters(readable, reasons, "read"))


def _raw_type(arrow_type: pa.DataType) -> pa.DataType | None:
    """Returns the binary type that stores a text type or a list of texts; None for any other type."""
    if arrow_type in _RAW_TYPES:
        return _RAW_TYPES[arrow_type]
    if not _is_list(arrow_type) or arrow_type.value_type not in _RAW_TYPES:
        return None
    item = _RAW_TYPES[arrow_type.value_type]
    return pa.large_list(item) if pa.types.is_large_list(arrow_type) else pa.list_(item)


def _is_list(arrow_type: pa.DataType) -> bool:
    is_variable = pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type)
    return is_variable or pa.types.is_fixed_size_list(arrow_type)


def _is_valid(values: pa.Array) -> bool:
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _invalid_rows(values: pa.Array) -> list[int]:
    rows = (values.slice(row, 1) for row in range(len(values)))
    # Validating one list would validate all values of the array it is a slice of; `flatten` gives its own values.
    texts = (row.flatten() if _is_list(values.type) else row for row in rows)
    return [row for row, text in enumerate(texts) if not _is_valid(text)]
