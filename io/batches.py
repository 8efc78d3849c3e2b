"""The element of every pipeline: a `pyarrow.RecordBatch`, its reserved columns (`penstock.io.reserved`), its coder.

What is no batch is refused in words: the error names the adapter that makes batches of it.
"""

import dataclasses
import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam import coders
from apache_beam.transforms.window import GlobalWindow, GlobalWindows
from apache_beam.typehints import typehints
from apache_beam.typehints.decorators import TypeCheckError
from apache_beam.typehints.schemas import named_fields_from_element_type
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from penstock.io.errors import ConfigError, InputError
from penstock.io.reasons import Note, merge_notes
from penstock.io.reserved import ORIGIN, RESERVED, SOURCE

# Smaller batches pay Python's share of each step more often, with the other threads waiting for the interpreter.
MAX_BATCH_ROWS = 65536
MAX_BATCH_BYTES = 8 << 20

# A row with more bytes, as it is read, becomes a dead letter or is refused: a few kilobytes of a file may stand for it.
MAX_ROW_BYTES = 256 << 20

# Metadata of an Arrow schema.
_NOTES = b"penstock.notes"

# Metadata of an Arrow field.
_UNTYPED = {b"penstock.untyped": b"1"}

# `_shuffle_key` in source order: files below 2^20, positions below 2^44 (16 TiB).
_POSITION_BITS = 44

ORIGIN_TYPE = pa.struct([("uri", pa.dictionary(pa.int32(), pa.string())), ("position", pa.int64())])


def feature_names(batch: pa.RecordBatch) -> list[str]:
    """Returns the names of the data columns in the batch's order, without the reserved ones.

    Raises:
      ConfigError: as `check_different_names`.
    """
    check_different_names(batch)
    return [name for name in batch.schema.names if name not in RESERVED]


def check_different_names(batch: pa.RecordBatch) -> None:
    """Refuses two columns of one name, which a program may have made; no reader and no adapter gives any.

    Raises:
      ConfigError: names the column.
    """
    names = batch.schema.names
    if len(set(names)) < len(names):
        twice = next(name for at, name in enumerate(names) if name in names[:at])
        raise ConfigError(f"a pyarrow.RecordBatch has more than one column named {twice!r}; rename or drop one")


def check_column_names(names: list[str], uri: str) -> None:
    """Refuses column names that no transform could address.

    Raises:
      InputError: for a name that is empty, appears twice or is reserved.
    """
    seen: set[str] = set()
    for index, name in enumerate(names):
        if not name:
            raise InputError(f"{uri}: column {index + 1} has no name; name it")
        if name in RESERVED:
            raise InputError(f"{uri}: column name {name!r} is reserved by Penstock; rename the column")
        if name in seen:
            raise InputError(f"{uri}: column name {name!r} appears more than once; rename one")
        seen.add(name)


def origin_array(uri: str, positions: np.ndarray) -> pa.StructArray:
    """Makes the `_origin` column of rows of one source; positions are int64, in the unit of the format."""
    codes = pa.array(np.zeros(len(positions), np.int32))
    uris = pa.DictionaryArray.from_arrays(codes, pa.array([uri], pa.string()), safe=False)
    return pa.StructArray.from_arrays([uris, pa.array(positions, pa.int64())], fields=list(ORIGIN_TYPE))


def row_origin(batch: pa.RecordBatch, row: int) -> str:
    """Describes where a row came from, as `URI at POSITION`; empty if its source does not say."""
    if ORIGIN not in batch.schema.names:
        return ""
    origin = batch.column(ORIGIN)[row].as_py()
    return f"{origin['uri']} at {origin['position']}" if isinstance(origin, dict) else ""


def set_column(batch: pa.RecordBatch, name: str, values: pa.Array) -> pa.RecordBatch:
    """Replaces the column `name` of a batch, or appends it."""
    index = batch.schema.get_field_index(name)
    if index < 0:
        return batch.append_column(name, values)
    return batch.set_column(index, name, values)


def data_bytes(batch: pa.RecordBatch) -> int:
    """Returns the bytes of a batch without `_source`: a batch is as large with it as without."""
    index = batch.schema.get_field_index(SOURCE)
    return int(batch.nbytes) if index < 0 else int(batch.remove_column(index).nbytes)


def with_notes(batch: pa.RecordBatch, notes: Iterable[Note]) -> pa.RecordBatch:
    """Attaches notes to a batch, such as which members the reader left out.

    They lie in the metadata of its Arrow schema. Inference collects them (`penstock.transforms.infer`), and the sink.
    """
    notes = tuple(notes)
    if not notes:
        return batch
    text = json.dumps([dataclasses.asdict(note) for note in notes])
    return batch.replace_schema_metadata({**(batch.schema.metadata or {}), _NOTES: text.encode()})


def notes_of(batch: pa.RecordBatch) -> tuple[Note, ...]:
    """Returns the notes that `with_notes` has attached."""
    text = (batch.schema.metadata or {}).get(_NOTES)
    return tuple(Note(**fields) for fields in json.loads(text)) if text else ()


def without_notes(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Takes off the notes that `with_notes` has attached."""
    return batch.replace_schema_metadata(_other_metadata(batch.schema)) if batch.schema.metadata else batch


def _other_metadata(schema: pa.Schema) -> dict[bytes, bytes]:
    return {key: value for key, value in (schema.metadata or {}).items() if key != _NOTES}


def as_untyped(batch: pa.RecordBatch, names: Collection[str]) -> pa.RecordBatch:
    """Marks the columns of these names: texts of a source that has no types.

    Inference looks into such texts for numbers. Texts of a source that has types are texts.
    """
    fields = [field.with_metadata(_UNTYPED) if field.name in names else field for field in batch.schema]
    return pa.RecordBatch.from_arrays(batch.columns, schema=pa.schema(fields, batch.schema.metadata))


def is_untyped(field: pa.Field) -> bool:
    """Whether `as_untyped` has marked a column."""
    return (field.metadata or {}).keys() >= _UNTYPED.keys()


def drop_rows(batch: pa.RecordBatch, rows: Iterable[int]) -> pa.RecordBatch:
    """Drops the rows of these indices."""
    keep = np.ones(batch.num_rows, bool)
    keep[list(rows)] = False
    mask = pa.array(keep)
    # Arrow filters columns one by one in half the time, but for a batch without any it needs the batch.
    columns = [column.filter(mask) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema) if columns else batch.filter(mask)


def split_batch(
    batch: pa.RecordBatch, max_rows: int = MAX_BATCH_ROWS, max_bytes: int = MAX_BATCH_BYTES
) -> Iterator[pa.RecordBatch]:
    """Cuts a batch into slices of at most `max_rows` rows and about `max_bytes` bytes, in order and without a copy.

    `_source` does not count. A single row may be larger. Notes stay with the first slice.
    """
    rest = batch
    for start, stop in slice_rows(batch.num_rows, data_bytes(batch), max_rows, max_bytes):
        if start and rest is batch:
            rest = without_notes(batch)
        yield rest.slice(start, stop - start)


def join_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Joins small batches of one schema, in order, as long as the result keeps to the limits."""
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        if waiting and (rows + batch.num_rows > MAX_BATCH_ROWS or size + batch.nbytes > MAX_BATCH_BYTES):
            yield _concat(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
    if waiting:
        yield _concat(waiting)


def _concat(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Joins batches and their notes; one alone is not copied, since it may be large."""
    if len(batches) == 1:
        return batches[0]
    # Arrow compares schemas without their metadata, and keeps that of the first.
    notes = [note for batch in batches for note in notes_of(batch)]
    joined = pa.concat_batches(batches)
    return with_notes(joined, merge_notes(notes)) if notes else joined


def concat_alike(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """As few batches as there are schemas, each with the notes of all."""
    groups: dict[pa.Schema, list[pa.RecordBatch]] = {}
    for batch in batches:
        groups.setdefault(batch.schema.with_metadata(_other_metadata(batch.schema)), []).append(batch)
    for group in groups.values():
        yield _concat(group)


def slice_rows(
    rows: int, size: int, max_rows: int = MAX_BATCH_ROWS, max_bytes: int = MAX_BATCH_BYTES
) -> Iterator[tuple[int, int]]:
    """Yields (start, stop) of slices of about one length.

    A slice has at most `max_rows` rows, and about `max_bytes` of the `size` bytes that all rows have; up to an eighth
    more does not make another slice.

    >>> list(slice_rows(10, 0, max_rows=4))
    [(0, 4), (4, 8), (8, 10)]
    """
    if not rows:
        return
    pieces = max(-(-rows // max_rows), -(-size // (max_bytes + max_bytes // 8)), 1)
    step = -(-rows // pieces)
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def source_order(file_index: int, batch: pa.RecordBatch) -> pa.Array:
    """Returns uint64 keys that sort rows by file, and then by their position in it."""
    positions = batch.column(ORIGIN).field("position").to_numpy(zero_copy_only=False).astype(np.uint64)
    return pa.array(positions | np.uint64(file_index << _POSITION_BITS))


def in_global_window(value: Any, timestamp: Timestamp | None = None) -> WindowedValue:
    """Wraps what a DoFn emits from `finish_bundle`.

    Over unbounded data, `timestamp` is the least one of what the value stands for: a later one would let the watermark
    pass the element.
    """
    return WindowedValue(value, GlobalWindow().max_timestamp() if timestamp is None else timestamp, (GlobalWindow(),))


class TakesBatches:
    """Mixin of PTransforms that take a `PCollection[pyarrow.RecordBatch]`; it stands before the PTransform."""

    def type_check_inputs(self, pvalueish: Any) -> None:
        """Checks the type of elements when the pipeline is built.

        Raises:
          TypeCheckError: for another type; the message names the transform that makes batches of it.
        """
        element_type = getattr(pvalueish, "element_type", typehints.Any)
        if not typehints.is_consistent_with(element_type, pa.RecordBatch):
            raise TypeCheckError(_refusal(type(self).__name__, _type_name(element_type), adapter_for(element_type)))
        super().type_check_inputs(pvalueish)  # type: ignore[misc]


def only_batches(elements: beam.PCollection[Any], transform: str) -> beam.PCollection[pa.RecordBatch]:
    """Returns the elements; where Beam does not know their type, adds a step that fails for what is no batch.

    Args:
      elements: as they came in.
      transform: the name of the transform that takes them, for the message.
    """
    if elements.element_type is pa.RecordBatch:
        return elements
    return elements | "OnlyBatches" >> beam.Map(_check_batch, transform).with_output_types(pa.RecordBatch)


def check_global_window(batches: beam.PCollection[Any], transform: str) -> None:
    """Refuses windows, for a transform that looks at all rows together.

    Raises:
      ConfigError: names the windows, and says what to do.
    """
    windows = batches.windowing.windowfn
    if not isinstance(windows, GlobalWindows):
        raise ConfigError(
            f"{transform} takes batches in the global window, got {type(windows).__name__}; put it before WindowInto"
        )


def _check_batch(element: Any, transform: str) -> pa.RecordBatch:
    if not isinstance(element, pa.RecordBatch):
        raise ConfigError(_refusal(transform, type(element).__name__, adapter_for(type(element))))
    return element


def _refusal(transform: str, found: str, adapter: str | None) -> str:
    remedy = f"put {adapter}() before it" if adapter else "an adapter such as FromDicts() makes batches of rows"
    return f"{transform} takes pyarrow.RecordBatch, got {found}: {remedy}"


def _type_name(element_type: Any) -> str:
    """Writes a type as Beam does for generic ones, and else by its name."""
    return element_type.__name__ if isinstance(element_type, type) else str(element_type)


def adapter_for(element_type: Any) -> str | None:
    """Returns the name of the transform that makes batches of elements of a type; None if there is none.

    >>> adapter_for(dict), adapter_for(bytes), adapter_for(int)
    ('FromDicts', 'FromMessages', None)
    """
    if isinstance(element_type, typehints.DictConstraint) or _is_subclass(element_type, dict):
        return "FromDicts"
    if _is_subclass(element_type, bytes):
        return "FromMessages"
    if _is_subclass(element_type, pa.Table) or getattr(element_type, "__name__", "") == "DataFrame":
        return "FromTables"
    return "FromRows" if is_row_type(element_type) else None


def is_row_type(element_type: Any) -> bool:
    """Whether elements of a type are rows that Beam knows the fields of, or any rows."""
    if _is_subclass(element_type, beam.Row):
        return True
    try:
        named_fields_from_element_type(element_type)
    except (TypeError, ValueError, AttributeError):
        return False
    return True


def _is_subclass(element_type: Any, parent: type) -> bool:
    return isinstance(element_type, type) and issubclass(element_type, parent)


class RecordBatchCoder(coders.Coder):
    """Encodes each batch as an Arrow IPC stream.

    Schema, nulls and dictionaries are included. It is the stream format, since the file format refuses the dictionary
    inside `_origin`. The coder is not deterministic: equal batches may differ in the padding of their buffers, so a
    batch cannot be a key.
    """

    def encode(self, value: pa.RecordBatch) -> bytes:
        """Arrow IPC stream bytes of the batch."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, value.schema) as writer:
            writer.write_batch(value)
        return sink.getvalue().to_pybytes()

    def decode(self, encoded: bytes) -> pa.RecordBatch:
        """The batch of an Arrow IPC stream."""
        with pa.ipc.open_stream(encoded) as reader:
            return reader.read_next_batch()

    def estimate_size(self, value: pa.RecordBatch) -> int:
        """Bytes of its buffers; Beam's default would encode the batch to see."""
        return int(value.nbytes)

    def is_deterministic(self) -> bool:
        """False: see the class."""
        return False

    def to_type_hint(self) -> type:
        """The element type."""
        return pa.RecordBatch


coders.registry.register_coder(pa.RecordBatch, RecordBatchCoder)
