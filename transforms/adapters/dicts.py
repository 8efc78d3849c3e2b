"""Dicts to batches and back: `FromDicts`, `ToDicts`."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import TakesBatches, adapter_for
from penstock.io.dead_letters.handler import RejectingTransform
from penstock.io.dead_letters.payloads import row_payload
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch
from penstock.io.errors import DataError
from penstock.io.reserved import EVENT_TIME
from penstock.io.schema import feature_map, schema_features
from penstock.transforms.adapters.bundles import ConvertedRows, ConvertsElements, batch_elements, good_rows
from penstock.transforms.adapters.python_columns import Faults, Target, columns_of_rows, rows_of_columns

# What a number or an empty value takes, about.
_VALUE_BYTES = 8


@dataclasses.dataclass(eq=False)
class FromDicts(RejectingTransform):
    """Makes batches of dicts.

    Takes a `PCollection` of dicts, one for each row, and gives `pyarrow.RecordBatch`es of at most 65,536 rows and about
    8 MiB, of rows of one bundle and window. Nested dicts become dotted names, lists multi-valued features. The
    timestamps of elements become `_event_time`, unless they have none. Rows have no `_origin`.

    With a schema, columns are as `ReadRecords(features=...)` gives them, and members that it does not name are ignored.
    Without one, columns have the types of the values (`penstock.transforms.adapters.python_columns`), and all values
    of a column must have one type.

    A dict is rejected for a name that no column can have (`read.name`), a value of a type that no column can hold
    (`read.type`), a list of lists or of dicts (`read.nested_list`), an integer beyond int64 (`read.int_overflow`), a
    text with a lone surrogate (`read.encoding`), or a value that its feature cannot hold (`schema.*`).

    Attributes:
      schema: the features to read; None for all members.

    Raises:
      ConfigError: for an invalid schema; behind sliding windows.
      DataError: on the workers, for values of several types in a column without a schema, or an element that is no
        dict.
    """

    schema: schema_pb2.Schema | None = None

    def __post_init__(self) -> None:
        super().__init__()
        self._targets = schema_targets(self.schema)

    def expand(self, dicts: beam.PCollection[Any]) -> beam.PCollection[pa.RecordBatch]:
        """Gathers the dicts of a bundle."""
        batches, rejected = batch_elements(self, dicts, ConvertsDicts(self._targets))
        self._reject(rejected)
        return batches


def schema_targets(schema: schema_pb2.Schema | None) -> Mapping[str, Target] | None:
    """Returns the columns that a schema demands; None without one.

    Raises:
      ConfigError: for an invalid schema.
    """
    return None if schema is None else dict(feature_map(schema_features(schema)))


@dataclasses.dataclass(frozen=True)
class ConvertsDicts(ConvertsElements):
    """Converts dicts.

    Attributes:
      targets: the columns to make; None for all members.
    """

    targets: Mapping[str, Target] | None

    def convert(self, elements: Sequence[Any], times: pa.Array) -> ConvertedRows:
        """See `ConvertsElements`."""
        return convert_rows([_members(element) for element in elements], self.targets, times)

    def size(self, element: Any) -> int:
        """See `ConvertsElements`."""
        return value_size(element)


def _members(element: Any) -> Mapping[Any, Any]:
    if isinstance(element, Mapping):
        return element
    adapter = adapter_for(type(element))
    remedy = f"put {adapter}() in its place" if adapter not in (None, "FromDicts") else "make a dict of it before"
    raise DataError(f"FromDicts takes dicts, got {type(element).__name__}: {remedy}")


def convert_rows(
    rows: Sequence[Mapping[Any, Any]], targets: Mapping[str, Target] | None, times: pa.Array
) -> ConvertedRows:
    """Converts rows of names and values.

    Raises:
      DataError: without targets, for a column with values of several types.
    """
    made = columns_of_rows(rows, targets)
    return good_rows(made.batch, sorted(made.faults), _letters(rows, made.faults, times))


def _letters(rows: Sequence[Mapping[Any, Any]], faults: Faults, times: pa.Array) -> RejectedBatch:
    indices = sorted(faults)
    texts = pc.strftime(times.take(pa.array(indices, pa.int64())), format="%Y-%m-%dT%H:%M:%SZ").to_pylist()
    return RejectedBatch.of(
        DeadLetter(tuple(faults[row]), "read", "", -1, _payload(rows[row]), "json", event_time=text)
        for row, text in zip(indices, texts, strict=True)
    )


def _payload(row: Mapping[Any, Any]) -> str:
    """Writes any row as JSON: what JSON cannot spell, as Python spells it."""
    spelled = {name if isinstance(name, str) else repr(name): value for name, value in row.items()}
    try:
        text = row_payload(spelled)
    except (TypeError, ValueError, RecursionError):
        text = row_payload({name: value if isinstance(value, str) else repr(value) for name, value in spelled.items()})
    return text.encode("utf-8", "backslashreplace").decode()


def value_size(value: Any) -> int:
    """Estimates the bytes of a value of a row, or of the row.

    >>> value_size({"a": "text", "b": [1, 2]})
    20
    """
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(value_size, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(value_size, value))
    return int(getattr(value, "nbytes", _VALUE_BYTES))


class ToDicts(TakesBatches, beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[dict[str, Any]]]):
    """Makes a dict of each row, of Python's own values.

    A null is None, and every row has all names of its batch, without the reserved ones. Dotted names stay as they are.
    Rows with an `_event_time` have it as their timestamp.

    Raises:
      DataError: on the workers, for a time finer than microseconds, or outside the years that Python has.
    """

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[dict[str, Any]]:
        """Adds one step."""
        return batches | "ToDicts" >> beam.ParDo(_ToDictsFn()).with_output_types(dict[str, Any])


class _ToDictsFn(beam.DoFn):
    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        yield from with_event_times(rows_of_columns(batch), batch)


def with_event_times(rows: Sequence[Any], batch: pa.RecordBatch) -> Iterator[Any]:
    """Yields the rows of a batch, with its event times as their timestamps if it has any."""
    if EVENT_TIME not in batch.schema.names:
        yield from rows
        return
    times = batch.column(EVENT_TIME).cast(pa.int64()).to_pylist()
    for row, micros in zip(rows, times, strict=True):
        yield row if micros is None else TimestampedValue(row, Timestamp(micros=micros))
