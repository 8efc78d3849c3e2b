"""Encodes RecordBatches as the bytes of TFRecord files of tf.SequenceExample; the kernel makes the records.

Each row has the features of its context, as those of a tf.Example (`encode.py`), and its feature lists (`steps.py`).
Both parts are always there, and both are in name order, so that the encoding is as canonical as that of a tf.Example::

    record = 0A len(context) context | 12 len(lists) lists
    entry  = 0A len(entry) | 0A len(name) name | 12 len(steps) steps,    in `lists`
    steps  = 0A len(feature) feature for each step

Steps become columns of serialized Features first, all steps of all rows at once.
"""

import dataclasses
from collections.abc import Collection, Sequence
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.batches import drop_rows
from penstock.io.columns.lists import Flags, kernel_columns, list_column, without_views
from penstock.io.columns.values import is_list, item_type
from penstock.io.errors import ConfigError
from penstock.io.examples.encode import (
    EncodedExamples,
    FaultyRowsError,
    allocate_bytes,
    encode_columns,
    faults_of,
    unique_names,
)
from penstock.io.examples.steps import step_lengths_name
from penstock.io.kernel import examples
from penstock.io.kernel.shared.offsets import Ints, list_lengths, starts_of
from penstock.io.kernel.shared.pieces import sums_per_row
from penstock.io.reasons import Reason


def try_encode_sequences(
    batch: pa.RecordBatch, lists: Collection[str], kernel: ModuleType | None = None
) -> tuple[EncodedExamples, dict[int, list[Reason]]]:
    """Encodes the rows that have a faithful form as framed tf.SequenceExamples, in order; tells why others have none.

    Args:
      batch: the rows.
      lists: the columns that are feature lists; all others are features of the context. A step has one value, but where
        a row has a value in `NAME$step_lengths`, which is then no column of its own.
      kernel: the kernel's module `examples`, or its twin; None for the one in use.

    Returns:
      The encoded rows, and for each row that was left out, its index and reasons: those of `try_encode_examples`, and
      `write.step_lengths` for lengths that are not those of the row's values.

    Raises:
      ConfigError: for a column of a type without a tf.Example form, two columns of one name, or lengths that are no
        integers.
    """
    kernel = kernel or examples
    columns = _Columns.of(unique_names(batch), lists)
    batch = without_views(batch)
    faults = _step_faults(batch, columns)
    try:
        if not faults:
            return _encode(batch, columns, kernel), {}
    except FaultyRowsError:
        pass
    for row, reasons in faults_of(batch, columns.names).items():
        faults.setdefault(row, []).extend(reasons)
    return _encode(drop_rows(batch, faults), columns, kernel), faults


@dataclasses.dataclass(frozen=True)
class _Columns:
    """The columns of a batch by what becomes of them, each in name order.

    Attributes:
      context: the features of the context.
      lists: the feature lists.
      lengths: those of the lists that have a column of the lengths of their steps.
    """

    context: Sequence[str]
    lists: Sequence[str]
    lengths: Collection[str]

    @classmethod
    def of(cls, names: Sequence[str], lists: Collection[str]) -> "_Columns":
        stands_for = {step_lengths_name(name): name for name in names if name in lists}
        own = [name for name in names if name not in stands_for]
        return cls(
            [name for name in own if name not in lists],
            [name for name in own if name in lists],
            {stands_for[name] for name in names if name in stands_for} & {*own},
        )

    @property
    def names(self) -> list[str]:
        return [*self.context, *self.lists]


def _encode(batch: pa.RecordBatch, columns: _Columns, kernel: ModuleType) -> EncodedExamples:
    context = kernel_columns(batch, columns.context)
    lists = [_feature_list(batch, name, name in columns.lengths, kernel) for name in columns.lists]
    if not columns.names:
        return encode_columns(context, allocate_bytes, kernel, context=0)
    both = pa.RecordBatch.from_arrays([*context.columns, *lists], columns.names)
    return encode_columns(both, allocate_bytes, kernel, context=len(columns.context))


def _feature_list(batch: pa.RecordBatch, name: str, has_lengths: bool, kernel: ModuleType) -> pa.Array:
    """Returns large_list<large_binary>, the steps of each row as serialized Features."""
    column = kernel_columns(batch, [name]).column(0)
    present = pc.is_valid(column)
    items = column.flatten() if is_list(column.type) else column.drop_null()
    if items.null_count:
        raise FaultyRowsError
    steps = _counts(column)
    if has_lengths:
        lengths, steps = _all_lengths(_step_lengths(batch, name), steps)
        items = pa.LargeListArray.from_arrays(pa.array(starts_of(lengths)), items)
    return pa.LargeListArray.from_arrays(pa.array(starts_of(steps)), _features(items, kernel), mask=pc.invert(present))


def _counts(column: pa.Array) -> Ints:
    """Returns int64[n], the number of values of each row."""
    if is_list(column.type):
        return list_lengths(column)
    return column.is_valid().to_numpy(zero_copy_only=False).astype(np.int64)


def _features(items: pa.Array, kernel: ModuleType) -> pa.Array:
    """Returns large_binary, each item as a serialized Feature."""
    features = kernel.Features(pa.RecordBatch.from_arrays([items], ["step"]))
    offsets = np.empty(len(items) + 1, np.int64)
    if not features.measure(offsets):
        raise FaultyRowsError
    data = allocate_bytes(int(offsets[-1]))
    features.write(data)
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(items), [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    )


@dataclasses.dataclass(frozen=True)
class _StepLengths:
    """A column of the lengths of steps.

    Attributes:
      present: bool[n], whether the row says them.
      counts: int64[n], the number of steps of each row; 0 where it does not.
      values: int64[m], the lengths.
      has_nulls: bool[n], whether one of them is null.
    """

    present: Flags
    counts: Ints
    values: Ints
    has_nulls: Flags


def _step_lengths(batch: pa.RecordBatch, name: str) -> _StepLengths:
    lengths_name = step_lengths_name(name)
    column = batch.column(lengths_name)
    item = item_type(column.type)
    if not (pa.types.is_integer(item) or pa.types.is_null(item)):
        raise ConfigError(
            f"column {lengths_name!r} has type {column.type}; it must hold integers, the number of values of each step "
            f"of {name!r}"
        )
    lists = list_column(column)
    has_nulls = np.zeros(len(column), bool)
    has_nulls[lists.rows_with_null_values()] = True
    values = lists.values if lists.lengths is not None else lists.values.drop_null()
    numbers = pc.fill_null(values.cast(pa.int64(), safe=False), -1).to_numpy(zero_copy_only=False)
    return _StepLengths(lists.present, lists.counts, numbers, has_nulls)


def _all_lengths(said: _StepLengths, counts: Ints) -> tuple[Ints, Ints]:
    """Returns the lengths of all steps, one for each value where the row says none, and how many steps each row has."""
    steps = np.where(said.present, said.counts, counts)
    lengths = np.ones(int(steps.sum()), np.int64)
    lengths[np.repeat(said.present, steps)] = said.values
    return lengths, steps


def _step_faults(batch: pa.RecordBatch, columns: _Columns) -> dict[int, list[Reason]]:
    faults: dict[int, list[Reason]] = {}
    for name in sorted(columns.lengths):
        said = _step_lengths(batch, name)
        lists = list_column(batch.column(name))
        sums = sums_per_row(said.values, said.counts)
        beyond = (said.values < 0) | (said.values > np.repeat(lists.counts, said.counts))
        wrong = (
            (sums != lists.counts)
            | (sums_per_row(beyond.astype(np.int64), said.counts) > 0)
            | said.has_nulls
            | ~lists.present
        )
        for row in np.flatnonzero(wrong & said.present).tolist():
            detail = (
                f"column {step_lengths_name(name)!r} must have the number of values of each step of {name!r}, which "
                f"has {lists.counts[row] if lists.present[row] else 'no'} values, got lengths with the sum {sums[row]}"
            )
            faults.setdefault(row, []).append(Reason("write.step_lengths", detail))
    return faults
