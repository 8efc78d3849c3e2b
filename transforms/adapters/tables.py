"""Tables to batches: `FromTables`."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import check_column_names, drop_rows, join_batches, set_column, split_batch
from penstock.io.beam.row_counters import RowCounters
from penstock.io.columns.conform import conform_batch
from penstock.io.columns.flatten import flatten_batch
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import row_letters
from penstock.io.errors import DataError
from penstock.io.reserved import EVENT_TIME
from penstock.io.schema import Feature, schema_features
from penstock.transforms.adapters.bundles import event_times_of

_SOURCE = "a table"


@dataclasses.dataclass(eq=False)
class FromTables(RejectingTransform):
    """Makes batches of tables: `pyarrow.Table`, `pyarrow.RecordBatch`, or `pandas.DataFrame`.

    Gives batches of at most 65,536 rows and about 8 MiB, without a copy where that can be. Struct columns become
    dotted names. The timestamp of an element becomes the `_event_time` of its rows, unless it has none. Of a DataFrame,
    NaN, NaT and None are nulls, as they are to pandas, and an index that has a name is a column.

    With a schema, columns are as `ReadRecords(features=...)` gives them, columns that it does not name are ignored, and
    a row with a value that its feature cannot hold is rejected (`schema.*`). Without one, columns keep their types.

    Attributes:
      schema: the features to read; None for all columns.

    Raises:
      ConfigError: for an invalid schema; on the workers, for a column of a type that its feature cannot hold.
      InputError: on the workers, for a name that no column can have.
      DataError: on the workers, for an element that is no table, or a DataFrame with a column that Arrow cannot hold or
        an index that would be lost.
    """

    schema: schema_pb2.Schema | None = None

    def __post_init__(self) -> None:
        super().__init__()
        self._features = None if self.schema is None else schema_features(self.schema)

    def expand(self, tables: beam.PCollection[Any]) -> beam.PCollection[pa.RecordBatch]:
        """Adds one step."""
        cut = beam.ParDo(_FromTablesFn(self._features)).with_output_types(pa.RecordBatch)
        batches, rejected = split_rejected(tables | "Cut" >> cut.with_outputs(REJECTED, main="out"))
        self._reject(rejected)
        return batches


class _FromTablesFn(beam.DoFn):
    def __init__(self, features: Sequence[Feature] | None):
        self._features = features
        self._counters = RowCounters("FromTables")

    def process(self, element: Any, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[Any]:
        time = event_times_of(np.array([timestamp.micros]))
        for rows in table_batches(element):
            if not time.null_count:
                rows = set_column(rows, EVENT_TIME, pa.repeat(time[0], rows.num_rows))
            batch, faults = (rows, {}) if self._features is None else conform_batch(rows, self._features)
            self._counters.add(in_rows=rows.num_rows, bad_rows=len(faults))
            if faults:
                yield from reject(row_letters(rows, faults, "read"))
                batch = drop_rows(batch, faults)
            yield from split_batch(batch)


def table_batches(table: Any) -> Iterator[pa.RecordBatch]:
    """Yields a table in batches that keep to the limits, with struct columns flattened.

    Raises:
      InputError: for a column with an empty or reserved name, or two columns of one name.
      DataError: see `FromTables`.
    """
    if isinstance(table, pa.RecordBatch):
        batches = [table]
    elif isinstance(table, pa.Table):
        batches = table.to_batches()
    else:
        batches = _of_frame(table).to_batches()
    for batch in join_batches(batches):
        check_column_names(batch.schema.names, _SOURCE)
        for piece in split_batch(batch):
            yield flatten_batch(piece, _SOURCE)


def _of_frame(frame: Any) -> pa.Table:
    """Makes a table of a DataFrame; pandas is imported by whoever has made it."""
    if type(frame).__name__ != "DataFrame" or not hasattr(frame, "index"):
        raise DataError(
            f"FromTables takes pyarrow.Table, pyarrow.RecordBatch or pandas.DataFrame, got {type(frame).__name__}"
        )
    if not all(frame.index.names) and type(frame.index).__name__ != "RangeIndex":
        raise DataError(
            "the index of a DataFrame has no name, and would be lost: give it one (rename_axis), so that it becomes a "
            "column, or drop it (reset_index(drop=True))"
        )
    strange = [name for name in frame.columns if not isinstance(name, str)]
    if strange:
        raise DataError(f"a column of a DataFrame must be named by a text, got {strange[0]!r}: rename it")
    try:
        return pa.Table.from_pandas(frame).replace_schema_metadata()
    except (pa.ArrowException, ValueError) as error:
        raise DataError(
            f"a DataFrame has a column that Arrow cannot hold: {'; '.join(map(str, error.args))}"
        ) from error
