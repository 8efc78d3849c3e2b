"""Shared code of formats with typed columns: planning parts, and rejecting texts that are not UTF-8."""

import itertools
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.batches import MAX_BATCH_BYTES, origin_array
from penstock.io.columns.explode import explode_batch, exploded_schema
from penstock.io.columns.values import is_readable, item_type
from penstock.io.dead_letters.record import RejectedBatch, row_letters
from penstock.io.errors import InputError
from penstock.io.formats.base import Parsed, Part
from penstock.io.reasons import Reason
from penstock.io.reserved import ORIGIN, RESERVED

_TEXT_TYPES = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())

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


def flat_schema(schema: pa.Schema, uri: str, explode: str | None = None) -> pa.Schema:
    """Returns the flattened schema of a file, in which a list to explode is its items.

    Raises:
      InputError: when a name is not UTF-8, or two are the same once structs are flattened.
      ConfigError: when the column to explode is missing, or no list.
    """
    try:
        return exploded_schema(schema, explode, uri)
    except UnicodeDecodeError as error:
        raise not_utf8_name(uri, error) from error


def not_utf8_name(uri: str, error: UnicodeDecodeError) -> InputError:
    """Makes the error for a file of which Arrow cannot give a column's name to Python."""
    return InputError(f"{uri}: the column name {error.object!r} is not UTF-8; write the file with another name")


def is_part_of(path: str, names: Collection[str]) -> bool:
    """Returns whether a path of the file's schema, such as `a.b.list.element`, is a named column or inside one."""
    return any(found in names for found in itertools.accumulate(path.split("."), lambda *parts: ".".join(parts)))


def refusable(schema: pa.Schema, names: Sequence[str]) -> Iterator[Parsed]:
    """Yields a batch without rows if a column has a type that no tf.Example can hold.

    So that steps which refuse the type do it before the data is decoded, of which a few bytes may be gigabytes.
    """
    if not all(is_readable(item_type(schema.field(name).type)) for name in names):
        yield Parsed(empty_batch(schema, names))


def empty_batch(schema: pa.Schema, names: Sequence[str]) -> pa.RecordBatch:
    """Makes a batch without rows, with the named columns of a schema and `_origin`."""
    fields = [field.with_type(_decoded_type(field.type)) for field in map(schema.field, names)]
    columns = [pa.nulls(0, field.type) for field in fields]
    origin = origin_array("", np.empty(0, np.int64))
    return pa.RecordBatch.from_arrays([*columns, origin], schema=pa.schema([*fields, pa.field(ORIGIN, origin.type)]))


def decode_dictionaries(
    batch: pa.RecordBatch, max_row_bytes: int, code: str
) -> Iterator[pa.RecordBatch | RejectedBatch]:
    """Replaces dictionary codes, and lists of them, by what they stand for, some rows at a time.

    A code takes 4 bytes, and may stand for a text of megabytes. So the sizes of the rows are computed first: what is
    decoded at once keeps to `MAX_BATCH_BYTES`, and a row over `max_row_bytes` becomes a dead letter with `code`, whose
    payload lacks the columns that make it so large.

    Args:
      batch: rows with `_origin`.
      max_row_bytes: in bytes, of the decoded columns of a row together.
      code: the code of the reason.
    """
    coded = {name: _decoded_bytes(batch.column(name)) for name in batch.schema.names if _is_coded(batch, name)}
    if not coded:
        yield batch
        return
    sizes = np.sum([*coded.values()], axis=0)
    start = 0
    for stop in (*np.flatnonzero(sizes > max_row_bytes).tolist(), batch.num_rows):
        for first, last in _slices(sizes[start:stop], MAX_BATCH_BYTES):
            yield _decoded(batch, start + first, start + last)
        if stop < batch.num_rows:
            yield _too_long(batch.slice(stop, 1), {name: int(size[stop]) for name, size in coded.items()}, code)
        start = stop + 1


def is_text_list(arrow_type: pa.DataType) -> bool:
    """Returns whether a column holds lists of texts, of any length."""
    return _has_items(arrow_type) and arrow_type.value_type in _TEXT_TYPES


def _has_items(arrow_type: pa.DataType) -> bool:
    return pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type)


def has_codes(arrow_type: pa.DataType) -> bool:
    """Returns whether a column has dictionary codes, at any depth."""
    if pa.types.is_dictionary(arrow_type):
        return True
    return any(has_codes(arrow_type.field(index).type) for index in range(arrow_type.num_fields))


def _is_coded(batch: pa.RecordBatch, name: str) -> bool:
    arrow_type = batch.schema.field(name).type
    return name not in RESERVED and _decoded_type(arrow_type) is not arrow_type


def _decoded_type(arrow_type: pa.DataType) -> pa.DataType:
    """Returns the type of what dictionary codes, or lists of them, stand for; any other type as it is."""
    if pa.types.is_dictionary(arrow_type):
        return arrow_type.value_type
    if not _has_items(arrow_type) or not pa.types.is_dictionary(arrow_type.value_type):
        return arrow_type
    item = arrow_type.value_field.with_type(arrow_type.value_type.value_type)
    return pa.large_list(item) if pa.types.is_large_list(arrow_type) else pa.list_(item)


def _decoded_bytes(column: pa.Array) -> np.ndarray:
    """Returns int64, the bytes that each row of codes, or of lists of codes, has when it is decoded."""
    if not pa.types.is_dictionary(column.type):
        ends = np.concatenate(([0], np.cumsum(_decoded_bytes(column.values))))
        sizes: np.ndarray = np.diff(ends[column.offsets.to_numpy()])
        return sizes
    lengths = _lengths(column.dictionary)
    codes = column.indices.fill_null(len(lengths)).to_numpy()
    return np.append(lengths, 0)[codes]


def _lengths(values: pa.Array) -> np.ndarray:
    """Returns int64, the bytes of each value."""
    if pa.types.is_primitive(values.type) or pa.types.is_fixed_size_binary(values.type):
        return np.full(len(values), values.type.bit_width // 8, np.int64)
    if values.type in _TEXT_TYPES:
        return pc.binary_length(values).fill_null(0).to_numpy().astype(np.int64)
    return np.full(len(values), values.nbytes // max(len(values), 1), np.int64)


def _slices(sizes: np.ndarray, max_bytes: int) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) of runs of rows that have at most `max_bytes` together, or are one row.

    >>> list(_slices(np.array([1, 1, 1, 9, 2]), 2))
    [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    ends, start = np.cumsum(sizes), 0
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        stop = max(int(np.searchsorted(ends, before + max_bytes, "right")), start + 1)
        yield start, stop
        start = stop


def _decoded(batch: pa.RecordBatch, start: int, stop: int) -> pa.RecordBatch:
    """Decodes some rows."""
    piece = batch.slice(start, stop - start)
    for index, field in enumerate(batch.schema):
        if not _is_coded(batch, field.name):
            continue
        column = piece.column(index)
        if pa.types.is_dictionary(field.type):
            values = column.dictionary_decode()
        else:
            # A slice of lists still holds the codes of all rows, and a cast would decode them.
            codes = column if len(column) == batch.num_rows else column.take(pa.array(np.arange(len(column))))
            values = codes.cast(_decoded_type(field.type))
        piece = piece.set_column(index, field.with_type(values.type), values)
    return piece


def _too_long(row: pa.RecordBatch, sizes: dict[str, int], code: str) -> RejectedBatch:
    largest = max(sizes, key=lambda name: sizes[name])
    detail = (
        f"the row has {sum(sizes.values())} bytes when its dictionaries are decoded, {sizes[largest]} of them in "
        f"column {largest!r}; the payload is the row without such columns"
    )
    return row_letters(row.drop_columns(list(sizes)), {0: [Reason(code, detail)]}, "read")


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
                decoded = decode_dictionaries(rows.select([*names, ORIGIN]), sys.maxsize, "")
                yield from (found for found in decoded if isinstance(found, pa.RecordBatch))


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
