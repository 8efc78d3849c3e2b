"""Statistics by dataset: of all rows, or of each split, and of slices of them."""

from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types
from tensorflow_metadata.proto.v0 import statistics_pb2

from penstock.io.batches import feature_names
from penstock.io.columns.flatten import flatten_batch
from penstock.io.columns.lists import list_column
from penstock.io.columns.values import as_text, is_readable, is_text
from penstock.io.errors import ConfigError, InputError
from penstock.io.reserved import ORIGIN, SPLIT
from penstock.transforms.statistics.files import read_list, write_list
from penstock.transforms.statistics.options import StatisticsOptions
from penstock.transforms.statistics.packing import pack, unpack
from penstock.transforms.statistics.table import TableStatistics

# TFDV's name of the dataset of all rows.
ALL_EXAMPLES = "All Examples"


class Statistics:
    """Statistics by dataset, as TFDV's proto and as files.

    Batches with `_split` go to the dataset of their split, others to `All Examples`. With `slice_by`, the rows that
    have VALUE in COLUMN also go to `COLUMN_VALUE`, as in TFDV; of a split, to `SPLIT/COLUMN_VALUE`. A row whose
    column is a list is in the slice of each of its values; one without a value is in none.

    Attributes:
      options: what is computed.
      tables: the statistics by name of the dataset.
    """

    __slots__ = ("options", "tables")

    def __init__(self, options: StatisticsOptions | None = None) -> None:
        """Makes the statistics of no rows."""
        self.options = options or StatisticsOptions()
        self.tables: dict[str, TableStatistics] = {}

    def update(self, batch: pa.RecordBatch) -> None:
        """Adds the rows of a batch.

        Raises:
          ConfigError: for a column of a type that nothing can be told of, or that rows cannot be sliced by.
          InputError: when a row has no weight, there are more than `max_slices` slices, or two columns have the same
            name after structs are flattened.
        """
        columns = [*feature_names(batch), *({ORIGIN} & set(batch.schema.names))]
        for split, rows in _splits(batch):
            flat = flatten_batch(rows.select(columns))
            self._table(split or ALL_EXAMPLES).update(flat)
            for column in self.options.slice_by:
                self._update_slices(flat, column, f"{split}/" if split else "")

    def _update_slices(self, batch: pa.RecordBatch, column: str, prefix: str) -> None:
        for value, rows in _slices(batch, column):
            self._table(f"{prefix}{column}_{value}").update(batch.take(pa.array(rows)))
        self._check_slices()

    def _table(self, name: str) -> TableStatistics:
        return self.tables.setdefault(name, TableStatistics(self.options))

    def _check_slices(self) -> None:
        if len(self.tables) > self.options.max_slices and self.options.slice_by:
            raise InputError(
                f"slice_by {', '.join(self.options.slice_by)} makes more than {self.options.max_slices:,} slices; "
                "slice by columns of fewer values, or raise max_slices"
            )

    def merge(self, other: Self) -> None:
        """Adds the rows of another, which stays as it is; commutative and associative, to the last bit.

        Raises:
          ConfigError: when both have other options.
          InputError: when there are more than `max_slices` slices.
        """
        for name, table in other.tables.items():
            self._table(name).merge(table)
        self._check_slices()

    def to_bytes(self, complete: bool = False) -> bytes:
        """Returns the state: equal rows give equal bytes; `complete` as in `TableStatistics.to_bytes`."""
        tables = {name: table.to_bytes(complete) for name, table in self.tables.items()}
        return pack({"options": self.options.to_state(), "tables": tables})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Returns the statistics of `to_bytes`.

        Raises:
          InputError: for other bytes.
        """
        state = unpack(data)
        statistics = cls(StatisticsOptions.from_state(state["options"]))
        statistics.tables = {name: TableStatistics.from_bytes(table) for name, table in state["tables"].items()}
        return statistics

    def __eq__(self, other: object) -> bool:
        """Whether both have the same state."""
        return isinstance(other, Statistics) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_bytes, (self.to_bytes(complete=True),)

    def to_proto(self, state: bool = True) -> statistics_pb2.DatasetFeatureStatisticsList:
        """Returns TFDV's proto, datasets sorted by name, `All Examples` first; of no rows, that alone.

        Args:
          state: whether it also holds what `from_proto` needs, so that the statistics can be merged.
        """
        proto = statistics_pb2.DatasetFeatureStatisticsList()
        for name in sorted(self.tables, key=lambda name: (name != ALL_EXAMPLES, name)):
            proto.datasets.append(self.tables[name].to_proto(name, state))
        if not self.tables:
            proto.datasets.add(name=ALL_EXAMPLES)
        return proto

    @classmethod
    def from_proto(cls, proto: statistics_pb2.DatasetFeatureStatisticsList) -> Self:
        """Returns the statistics of which `to_proto` made this, with their state.

        Raises:
          InputError: when it has no state, as in a file that TFDV has made, or features have been taken out.
        """
        tables = {dataset.name: TableStatistics.from_proto(dataset) for dataset in proto.datasets}
        statistics = cls(next((table.options for table in tables.values() if table.features), None))
        statistics.tables = {name: table for name, table in tables.items() if table.rows or table.features}
        return statistics

    def write(self, path: str, state: bool = True) -> None:
        """Writes the `.pb` and, beside it, the `.json` (`write_list`)."""
        write_list(self.to_proto(state), path)

    @classmethod
    def read(cls, path: str) -> Self:
        """Reads a `.pb` that `write` has written.

        Raises:
          InputError: when there is no such file, it holds something else, or has no state. The message has the path.
        """
        proto = read_list(path)
        try:
            return cls.from_proto(proto)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def merge_statistics(paths: Sequence[str]) -> Statistics:
    """Reads files of statistics and merges them.

    The result is that of all rows together, as if computed at once.

    Raises:
      ConfigError: when there are no files, their options differ, or some have no column that the others have. The
        message has the path.
      InputError: when a file cannot be read, or has no state.
    """
    if not paths:
        raise ConfigError("no files of statistics to merge; name at least one .pb")
    merged = Statistics.read(paths[0])
    columns = [_columns(merged)]
    for path in paths[1:]:
        found = Statistics.read(path)
        columns.append(_columns(found))
        try:
            merged.merge(found)
        except ConfigError as error:
            raise ConfigError(f"{path}, beside {paths[0]}: {error}") from error
    _check_related(paths, columns)
    return merged


def _columns(statistics: Statistics) -> set[str]:
    return {name for table in statistics.tables.values() for name in table.features}


def _check_related(paths: Sequence[str], columns: Sequence[set[str]]) -> None:
    """Refuses files that fall apart into some of which none has a column of the others; those of no rows have none."""
    groups: list[tuple[str, set[str]]] = []
    for path, names in zip(paths, columns, strict=True):
        related = [group for group in groups if group[1] & names]
        others = [group for group in groups if not group[1] & names]
        if names:
            first = related[0][0] if related else path
            groups = [*others, (first, names.union(*(group[1] for group in related)))]
    if len(groups) > 1:
        (one, its), (other, theirs) = sorted(groups, key=lambda group: paths.index(group[0]))[:2]
        raise ConfigError(
            f"{other}, beside {one}: they have no column in common: {_some(theirs)}, beside {_some(its)}; merge "
            "statistics of parts of one dataset"
        )


def _some(names: set[str], limit: int = 5) -> str:
    return ", ".join([*sorted(names)[:limit], *(["..."] if len(names) > limit else [])])


def _splits(batch: pa.RecordBatch) -> Iterator[tuple[str | None, pa.RecordBatch]]:
    """Yields the rows of each split; None for a batch without splits."""
    if SPLIT not in batch.schema.names:
        yield None, batch
        return
    splits = batch.column(SPLIT)
    names = splits.unique().to_pylist()
    for name in names:
        yield name, batch if len(names) == 1 else batch.filter(pc.equal(splits.cast(pa.string()), name))


def _slices(batch: pa.RecordBatch, column: str) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """Yields each value of a column as text, and the rows that have it, ascending."""
    if column not in batch.schema.names:
        return
    lists = list_column(batch.column(column))
    _check_sliceable(column, lists.values.type)
    encoded = lists.values.dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    # Of several equal values in a row, one counts.
    pairs = np.unique(np.stack([codes, lists.owners]), axis=1)
    pairs = pairs[:, pairs[0] >= 0]
    starts = np.searchsorted(pairs[0], np.arange(len(encoded.dictionary) + 1))
    for index, value in enumerate(_names(encoded.dictionary)):
        yield value, pairs[1][starts[index] : starts[index + 1]]


def _check_sliceable(column: str, item: pa.DataType) -> None:
    if types.is_floating(item) or types.is_decimal(item) or not is_readable(item):
        raise ConfigError(f"slice_by {column!r}: the column has type {item}; slice by columns of texts or integers")


def _names(values: pa.Array) -> list[str]:
    """Returns the texts of values; bytes that are not UTF-8 become escapes."""
    if types.is_boolean(values.type):
        return [str(int(value)) for value in values.to_pylist()]
    texts = values if is_text(values.type) else as_text(values)
    return [_decoded(value) for value in texts.to_pylist()]


def _decoded(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="backslashreplace")
