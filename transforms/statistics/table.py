"""Statistics of one table: all of its columns, and pairs of them."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types
from tensorflow_metadata.proto.v0 import statistics_pb2

from penstock.io.batches import feature_names, row_origin
from penstock.io.columns.flatten import flatten_batch
from penstock.io.columns.lists import list_column
from penstock.io.errors import InputError
from penstock.io.kernel import hashing
from penstock.transforms.statistics.feature import FeatureStatistics
from penstock.transforms.statistics.options import StatisticsOptions
from penstock.transforms.statistics.packing import pack, unpack
from penstock.transforms.statistics.proto import dataset_proto
from penstock.transforms.statistics.relations.information import JointCounts, number_codes
from penstock.transforms.statistics.relations.pairs import NumericPairs, PresentTogether
from penstock.transforms.statistics.sketches.sums import ExactSum
from penstock.transforms.statistics.values import FLOAT, INT, STRING, ColumnValues, column_values

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.uint64]

# Of the state; other versions are refused.
_VERSION = 1


class TableStatistics:
    """Statistics of rows: update them with batches, merge them, and read them as TFDV's proto.

    What comes out follows from the rows alone, to the last bit: not from their order, the batches, or the tree of
    merges.

    Attributes:
      options: what is computed.
      rows: how many rows there are.
      weight: the sum of their weights; 0 without weights.
      features: statistics by column.
      present: which columns are present together.
      numeric: how columns of numbers vary together.
      joints: by column, how its values occur with those of the label.
    """

    __slots__ = ("features", "joints", "numeric", "options", "present", "rows", "weight")

    def __init__(self, options: StatisticsOptions | None = None) -> None:
        """Makes the statistics of no rows."""
        self.options = options or StatisticsOptions()
        self.rows = 0
        self.weight = ExactSum()
        self.features: dict[str, FeatureStatistics] = {}
        self.present = PresentTogether(self.options.pair_columns)
        self.numeric = NumericPairs(self.options.pair_columns)
        self.joints: dict[str, JointCounts] = {}

    def update(self, batch: pa.RecordBatch) -> None:
        """Adds the rows of a batch; reserved columns are no features, and structs become columns with dotted names.

        Raises:
          ConfigError: for a column of a type that nothing can be told of.
          InputError: when a row has no weight, or two columns have the same name after structs are flattened.
        """
        flat = flatten_batch(batch)
        columns = {name: column_values(name, flat.column(name)) for name in feature_names(flat)}
        weights = None if self.options.weight is None else _weights(flat, self.options.weight)
        self.rows += flat.num_rows
        if weights is not None:
            self.weight.add(weights)
        for name, column in columns.items():
            if name not in self.features:
                self.features[name] = FeatureStatistics(name, self.options)
            self.features[name].update(column, weights)
        if self.options.pair_columns:
            self._update_pairs(columns)
        if self.options.label is not None and flat.num_rows:
            self._update_joints(columns, self.options.label)

    def _update_pairs(self, columns: dict[str, ColumnValues]) -> None:
        self.present.add({name: column.rows.present for name, column in columns.items()})
        first = sorted(name for name, column in columns.items() if _has_numbers(column))[: self.options.pair_columns]
        self.numeric.add({name: _single_numbers(columns[name]) for name in first})

    def _update_joints(self, columns: dict[str, ColumnValues], label: str) -> None:
        if label not in columns:
            return
        labels, labelled = _codes(columns[label])
        for name, column in columns.items():
            if name != label:
                codes, single = _codes(column)
                joint = self.joints.setdefault(name, JointCounts())
                joint.add(codes[labelled], single[labelled], labels[labelled])

    def merge(self, other: Self) -> None:
        """Adds the rows of another, which stays as it is.

        Raises:
          ConfigError: when both have other options.
        """
        self.rows += other.rows
        self.weight.merge(other.weight)
        if not other.features:  # it may come from a file, which then holds no options
            return
        if not self.features:
            self.options = other.options
            self.present = PresentTogether(self.options.pair_columns)
            self.numeric = NumericPairs(self.options.pair_columns)
        self.options.check_equal(other.options)
        self.present.merge(other.present)
        self.numeric.merge(other.numeric)
        for name, feature in other.features.items():
            if name not in self.features:
                self.features[name] = FeatureStatistics(name, self.options)
            self.features[name].merge(feature)
        for name, joint in other.joints.items():
            self.joints.setdefault(name, JointCounts()).merge(joint)

    def to_bytes(self, complete: bool = False) -> bytes:
        """Returns the state: equal rows give equal bytes.

        Args:
          complete: with what depends on the order of rows but changes no result, for work that goes on elsewhere
            (`FrequentSketch`).
        """
        features = {name: feature.to_state(complete) for name, feature in self.features.items()}
        return pack({**self._own_state(), "features": features, "joints": self._joint_states()})

    def _own_state(self) -> dict[str, Any]:
        """Returns what belongs to no single column."""
        return {
            "version": _VERSION,
            "options": self.options.to_state(),
            "rows": self.rows,
            "weight": self.weight.scaled,
            "present": self.present.to_state(),
            "numeric": self.numeric.to_state(),
        }

    def _joint_states(self) -> dict[str, Any]:
        return {name: joint.to_state() for name, joint in self.joints.items()}

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Returns the statistics of `to_bytes`.

        Raises:
          InputError: for other bytes.
        """
        return cls._from_state(unpack(data))

    @classmethod
    def _from_state(cls, state: Any) -> Self:
        if not isinstance(state, dict) or state.get("version") != _VERSION:
            raise InputError(
                "the state of statistics was written by another version of Penstock; compute the statistics anew"
            )
        table = cls(StatisticsOptions.from_state(state["options"]))
        table.rows = state["rows"]
        table.weight = ExactSum(state["weight"])
        table.present = PresentTogether.from_state(table.options.pair_columns, state["present"])
        table.numeric = NumericPairs.from_state(table.options.pair_columns, state["numeric"])
        table.features = {
            name: FeatureStatistics.from_state(name, table.options, feature)
            for name, feature in state["features"].items()
        }
        table.joints = {name: JointCounts.from_state(joint) for name, joint in state["joints"].items()}
        return table

    def __eq__(self, other: object) -> bool:
        """Whether both have the same state."""
        return isinstance(other, TableStatistics) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_bytes, (self.to_bytes(complete=True),)

    def to_proto(self, name: str, state: bool = True) -> statistics_pb2.DatasetFeatureStatistics:
        """Returns the statistics as TFDV has them, and what it lacks as custom statistics; features sorted by name.

        Args:
          name: of the dataset.
          state: whether each feature also gets what `from_proto` needs, so that the statistics can be merged.
        """
        proto = dataset_proto(self, name)
        if state:
            self._attach_state(proto)
        return proto

    def _attach_state(self, proto: statistics_pb2.DatasetFeatureStatistics) -> None:
        """Attaches to each feature its own state, and to the first one also that of the table."""
        own: dict[str, Any] | None = {**self._own_state(), "count": len(self.features)}
        for message in proto.features:
            name = message.path.step[0]
            joint = self.joints[name].to_state() if name in self.joints else None
            state = {"feature": self.features[name].to_state(), "joint": joint, "table": own}
            attach_state(message, pack(state))
            own = None

    @classmethod
    def from_proto(cls, proto: statistics_pb2.DatasetFeatureStatistics) -> Self:
        """Returns the statistics of which `to_proto` made this, with their state.

        Raises:
          InputError: when a feature has no state, as in a file that TFDV has made, or features have been taken out.
        """
        if not proto.features:
            table = cls()
            table.rows = proto.num_examples
            return table
        states = {message.path.step[0]: unpack(state_of(message)) for message in proto.features}
        tables = [state["table"] for state in states.values() if state["table"] is not None]
        if len(tables) != 1 or tables[0]["count"] != len(states):
            raise InputError(
                f"dataset {proto.name!r} has {len(states)} features, not those that were written: features have been "
                "taken out or added, so that it cannot be merged; merge the file as it was written"
            )
        features = {name: state["feature"] for name, state in states.items()}
        joints = {name: state["joint"] for name, state in states.items() if state["joint"] is not None}
        return cls._from_state({**tables[0], "features": features, "joints": joints})


_STATE = "state"


def attach_state(message: statistics_pb2.FeatureNameStatistics, data: bytes) -> None:
    """Adds bytes as the custom statistic `state`."""
    from google.protobuf import wrappers_pb2

    message.custom_stats.add(name=_STATE).any.Pack(wrappers_pb2.BytesValue(value=data), deterministic=True)


def state_of(message: statistics_pb2.FeatureNameStatistics) -> bytes:
    """Returns the bytes of `attach_state`.

    Raises:
      InputError: when there are none.
    """
    from google.protobuf import wrappers_pb2

    for custom in message.custom_stats:
        value = wrappers_pb2.BytesValue()
        if custom.name == _STATE and custom.any.Unpack(value):
            return value.value
    raise InputError(
        f"feature {'.'.join(message.path.step) or message.name!r} has no state, so its statistics cannot be merged: "
        "means and quantiles alone do not tell those of all rows. TFDV writes none; compute them with Penstock"
    )


def _weights(batch: pa.RecordBatch, name: str) -> Floats:
    """Returns float64[n], the weight of each row.

    Raises:
      InputError: when the batch has no such column, or a row has no weight.
    """
    if name not in batch.schema.names:
        raise InputError(f"there is no column {name!r} of weights; the columns are {', '.join(feature_names(batch))}")
    values = list_column(batch.column(name)).single_values()
    if not (types.is_integer(values.type) or types.is_floating(values.type) or types.is_boolean(values.type)):
        raise InputError(f"column {name!r} of weights has type {values.type}; weights must be numbers")
    weights = pc.fill_null(values.cast(pa.float64(), safe=False), np.nan).to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        row = int(bad[0])
        origin = row_origin(batch, row) or f"row {row} of a batch"
        raise InputError(
            f"column {name!r} of weights holds {batch.column(name)[row].as_py()!r} ({origin}); each row must have one "
            "weight, finite and not negative: correct it, or drop the row before"
        )
    return weights


def _has_numbers(column: ColumnValues) -> bool:
    return any(part.kind in (INT, FLOAT) for part in column.parts)


def _single_numbers(column: ColumnValues) -> tuple[Floats, Flags]:
    """Returns float64[n], and bool[n]: which rows have exactly one value, a finite number; the others are 0."""
    numbers, single = np.zeros(len(column.rows)), np.zeros(len(column.rows), bool)
    for part in column.parts:
        if part.kind in (INT, FLOAT):
            rows, alone = column.single(part)
            found = part.array.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
            found = found[alone] if len(rows) < len(found) else found
            good = np.isfinite(found)
            if not good.all():
                rows, found = rows[good], found[good]
            if len(rows) == len(numbers):
                return found, np.ones(len(numbers), bool)
            numbers[rows], single[rows] = found, True
    return numbers, single


def _codes(column: ColumnValues) -> tuple[Codes, Flags]:
    """Returns uint64[n], codes for `JointCounts`, and bool[n]: which rows have exactly one value."""
    codes, single = np.zeros(len(column.rows), np.uint64), np.zeros(len(column.rows), bool)
    for part in column.parts:
        if part.kind in (INT, FLOAT, STRING):
            rows, alone = column.single(part)
            found = _text_codes(part.array) if part.kind == STRING else _number_codes(part.array)
            codes[rows], single[rows] = found[alone], True
    return codes, single


def _number_codes(array: pa.Array) -> Codes:
    return number_codes(array.to_numpy(zero_copy_only=False).astype(np.float64))


def _text_codes(array: pa.Array) -> Codes:
    return hashing.hash_rows(pa.record_batch([array], ["value"]), 0, False)
