"""Input tensors: how columns become the tensors that a `preprocessing_fn` takes, as TFXIO makes them of a schema.

=======================  =================================================================================
in the schema            the tensor
=======================  =================================================================================
`dense_tensor`           dense, [batch, *shape]; a row without values gets `default_value`, if there is one
`varlen_sparse_tensor`   a `SparseTensor` [batch, n] of the values of each row, from the left
`sparse_tensor`          a `SparseTensor` [batch, *dense_shape]: columns of indices say where each value is
`ragged_tensor`          a `RaggedTensor`: the values of a row, cut by `row_length` columns and uniform lengths
=======================  =================================================================================

These stand in the default group (`""`) of `tensor_representation_group`. A column that no tensor there is made of is
one by itself: a `sparse_feature` by its name, a feature with a `shape` dense, and any other one of variable length,
which is ragged under `represent_variable_length_as_ragged`. Indices of a `SparseTensor` are put in order within their
row, as `tf.io.parse_example` does, unless the schema says that they are.

What TFXIO looks at in a batch as a whole is checked for each row: that a value has each of its indices, and an index is
within the shape, and that row lengths add up.
"""

import abc
import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError
from penstock.io.kernel.shared.offsets import starts_of
from penstock.io.schema import Kind, named_features, schema_features
from penstock.transforms.features.arrays import GraphColumn, Ints

Parts: TypeAlias = Mapping[str, GraphColumn]
Faults: TypeAlias = dict[int, str]

KINDS = {schema_pb2.INT: Kind.INT, schema_pb2.FLOAT: Kind.FLOAT, schema_pb2.BYTES: Kind.BYTES}
_DEFAULTS = {Kind.INT: "int_value", Kind.FLOAT: "float_value", Kind.BYTES: "bytes_value"}
_GROUP = ""


@dataclasses.dataclass(frozen=True)
class InputTensor(abc.ABC):
    """A tensor that is made of columns.

    Attributes:
      name: the name that the `preprocessing_fn` finds it by.
      kind: the kind of its values.
      values: the column of its values.
    """

    name: str
    kind: Kind
    values: str

    @property
    def columns(self) -> Mapping[str, Kind]:
        """The columns that it is made of, with their kinds."""
        return {self.values: self.kind}

    @abc.abstractmethod
    def spec(self, tf: Any) -> Any:
        """Returns its `tf.TypeSpec`."""

    def faults(self, parts: Parts) -> Faults:
        """Returns the rows that cannot be part of the tensor, each with a sentence."""
        return {}

    def arranged(self, parts: Parts) -> dict[str, GraphColumn]:
        """Returns its columns as TFXIO must find them, without faulty rows."""
        return {name: parts[name] for name in self.columns}

    @abc.abstractmethod
    def components(self, parts: Parts, rows: int) -> list[npt.NDArray[Any]]:
        """Returns the plain tensors that it consists of, in TensorFlow's order, of columns without faulty rows."""

    @abc.abstractmethod
    def blank(self, tf: Any, rows: Any) -> Any:
        """Makes a tensor on which nothing depends, in a graph."""

    def _dtype(self, tf: Any) -> Any:
        return {Kind.INT: tf.int64, Kind.FLOAT: tf.float32, Kind.BYTES: tf.string}[self.kind]

    def _zero(self, tf: Any) -> Any:
        return tf.constant(b"" if self.kind is Kind.BYTES else 0, self._dtype(tf))


@dataclasses.dataclass(frozen=True)
class DenseInput(InputTensor):
    """A dense tensor; `default` is for all values of a row that has none."""

    shape: tuple[int, ...] = ()
    default: int | float | bytes | None = None

    def spec(self, tf: Any) -> Any:
        """Returns [batch, *shape]."""
        return tf.TensorSpec([None, *self.shape], self._dtype(tf))

    def faults(self, parts: Parts) -> Faults:
        """Returns the rows with another number of values."""
        column, length = parts[self.values], math.prod(self.shape)
        return {
            row: f"{self.name!r} has {column.count(row)} values, the features need {length}"
            for row in column.rows_without(length).tolist()
            if column.count(row) or self.default is None
        }

    def components(self, parts: Parts, rows: int) -> list[npt.NDArray[Any]]:
        """Returns the one array."""
        column = parts[self.values]
        if self.default is not None:
            column = column.filled(self.default, math.prod(self.shape))
        return [column.values.reshape(rows, *self.shape)]

    def blank(self, tf: Any, rows: Any) -> Any:
        """Makes zeros."""
        return tf.fill(tf.stack([rows, *self.shape]), self._zero(tf))


@dataclasses.dataclass(frozen=True)
class ListInput(InputTensor):
    """A `SparseTensor` of the values of each row, from the left."""

    def spec(self, tf: Any) -> Any:
        """Returns [batch, n]."""
        return tf.SparseTensorSpec([None, None], self._dtype(tf))

    def components(self, parts: Parts, rows: int) -> list[npt.NDArray[Any]]:
        """Returns indices, values and shape."""
        column = parts[self.values]
        # The width is at least 1, or `tf.sparse.to_dense(x)[:, 0]` would fail when all rows of a batch are empty.
        width = 1 if column.counts is None else column.counts.max(initial=1)
        return [column.indices, column.values, np.array([rows, width], np.int64)]

    def blank(self, tf: Any, rows: Any) -> Any:
        """Makes a tensor without values."""
        return tf.SparseTensor(tf.zeros([0, 2], tf.int64), tf.fill([0], self._zero(tf)), tf.stack([rows, 1]))


@dataclasses.dataclass(frozen=True)
class SparseInput(InputTensor):
    """A `SparseTensor` whose indices are columns, one for each dimension; a dimension may be unknown (-1)."""

    indices: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    is_sorted: bool = False

    @property
    def columns(self) -> Mapping[str, Kind]:
        """The columns of indices, from the outside, and that of values."""
        return {**dict.fromkeys(self.indices, Kind.INT), self.values: self.kind}

    def spec(self, tf: Any) -> Any:
        """Returns [batch, *shape]."""
        return tf.SparseTensorSpec([None, *(None if size < 0 else size for size in self.shape)], self._dtype(tf))

    def faults(self, parts: Parts) -> Faults:
        """Returns the rows in which a value lacks an index, or has one that is outside of the shape."""
        values, faults = parts[self.values], {}
        for name, size in zip(self.indices, self.shape, strict=True):
            column = parts[name]
            for row in np.flatnonzero(values.lengths != column.lengths).tolist():
                text = f"the sparse feature {self.name!r} has {values.count(row)} values in {self.values!r}"
                faults[row] = f"{text} and {column.count(row)} indices in {name!r}"
            outside = (column.values < 0) | (column.values >= (size if size >= 0 else np.iinfo(np.int64).max))
            for row, index in zip(column.owners[outside].tolist(), column.values[outside].tolist(), strict=True):
                text = f"of the sparse feature {self.name!r} is {index}, its dimension is {size}"
                faults.setdefault(row, f"an index in {name!r} {text}" if size >= 0 else f"{index} in {name!r} is < 0")
        return faults

    def arranged(self, parts: Parts) -> dict[str, GraphColumn]:
        """Returns its columns in the order of the indices."""
        order = self._order(parts)
        return {name: parts[name] if order is None else parts[name].reordered(order) for name in self.columns}

    def components(self, parts: Parts, rows: int) -> list[npt.NDArray[Any]]:
        """Returns indices, values and shape."""
        parts = self.arranged(parts)
        values = parts[self.values]
        indices = np.stack([values.owners, *(parts[name].values for name in self.indices)], axis=1)
        return [indices, values.values, np.array([rows, *self.shape], np.int64)]

    def blank(self, tf: Any, rows: Any) -> Any:
        """Makes a tensor without values."""
        indices = tf.zeros([0, len(self.shape) + 1], tf.int64)
        return tf.SparseTensor(indices, tf.fill([0], self._zero(tf)), tf.stack([rows, *self.shape]))

    def _order(self, parts: Parts) -> Ints | None:
        """Returns how to put values in order within their rows; None if they are."""
        if self.is_sorted:
            return None
        return order_of(np.stack([parts[self.values].owners, *(parts[name].values for name in self.indices)], axis=1))


def order_of(indices: Ints) -> Ints | None:
    """Returns how to put rows of numbers in order, stably; None if they are.

    >>> order_of(np.array([[0, 7], [0, 3], [1, 0]])).tolist()
    [1, 0, 2]
    """
    steps = np.diff(indices, axis=0)
    first = steps[np.arange(len(steps)), (steps != 0).argmax(axis=1)]
    return None if (first >= 0).all() else np.lexsort(indices.T[::-1])


@dataclasses.dataclass(frozen=True)
class RaggedInput(InputTensor):
    """A `RaggedTensor`; the dimensions behind that of the row are columns of lengths, or uniform, from the outside."""

    partitions: tuple[str | int, ...] = ()
    splits_32: bool = False

    @property
    def columns(self) -> Mapping[str, Kind]:
        """The column of values, and those of lengths."""
        lengths = [partition for partition in self.partitions if isinstance(partition, str)]
        return {self.values: self.kind, **dict.fromkeys(lengths, Kind.INT)}

    @property
    def _uniform(self) -> tuple[int, ...]:
        """The uniform lengths of the innermost dimensions, which are dense."""
        inner = itertools.takewhile(lambda partition: isinstance(partition, int), reversed(self.partitions))
        return tuple(int(length) for length in inner)[::-1]

    @property
    def _ragged(self) -> tuple[str | int, ...]:
        return self.partitions[: len(self.partitions) - len(self._uniform)]

    def spec(self, tf: Any) -> Any:
        """Returns [batch, n, ...]."""
        rank = 1 + len(self._ragged)
        splits = tf.int32 if self.splits_32 else tf.int64
        return tf.RaggedTensorSpec([None] * (rank + 1) + list(self._uniform), self._dtype(tf), rank, splits)

    def faults(self, parts: Parts) -> Faults:
        """Returns the rows whose values the lengths do not divide up."""
        faults: Faults = {}
        counts = parts[self.values].lengths
        for partition in reversed(self.partitions):
            if isinstance(partition, int):
                bad = counts % partition != 0
                text = f"{self.name!r} has {{}} values, which is no multiple of {partition}"
                told, counts = counts, counts // partition
            else:
                lengths = parts[partition]
                bad = (counts != lengths.sums) | lengths.any_below(0)
                text = f"{self.name!r} has {{}} values, to which the lengths in {partition!r} do not add up"
                told, counts = counts, lengths.lengths
            for row in np.flatnonzero(bad).tolist():
                faults.setdefault(row, text.format(told[row]))
        return faults

    def components(self, parts: Parts, rows: int) -> list[npt.NDArray[Any]]:
        """Returns the flat values, and the splits from the outside."""
        column, uniform = parts[self.values], self._uniform
        inner = list(self._splits(parts, len(column.values) // math.prod(uniform)))
        values = column.values.reshape(-1, *uniform) if uniform else column.values
        dtype = np.int32 if self.splits_32 else np.int64
        return [values, *(splits.astype(dtype, copy=False) for splits in reversed(inner))]

    def _splits(self, parts: Parts, total: int) -> Iterator[Ints]:
        """Yields the splits of each ragged dimension, from the inside, for this number of units of values."""
        counts = parts[self.values].lengths // math.prod(self._uniform)
        for partition in reversed(self._ragged):
            if isinstance(partition, int):
                yield np.arange(0, total + 1, partition)
                counts, total = counts // partition, total // partition
            else:
                yield starts_of(parts[partition].values)
                counts, total = parts[partition].lengths, len(parts[partition].values)
        yield starts_of(counts)

    def blank(self, tf: Any, rows: Any) -> Any:
        """Makes a tensor of empty rows."""
        dtype = tf.int32 if self.splits_32 else tf.int64
        empty = tf.fill([0, *self._uniform], self._zero(tf))
        for _ in self._ragged:
            empty = tf.RaggedTensor.from_row_splits(empty, tf.zeros([1], dtype))
        return tf.RaggedTensor.from_row_splits(empty, tf.zeros([rows + 1], dtype))


def flat_schema(schema: schema_pb2.Schema) -> schema_pb2.Schema:
    """Returns the features that are read, by dotted names, and what says of which tensors they are part.

    It holds nothing that only validation needs.

    Raises:
      ConfigError: for an invalid schema.
    """
    schema_features(schema)
    flat = schema_pb2.Schema()
    if schema.represent_variable_length_as_ragged:
        flat.represent_variable_length_as_ragged = True
    flat.sparse_feature.extend(schema.sparse_feature)
    indices = {index.name for view in schema.sparse_feature for index in view.index_feature}
    for name, message in named_features(schema).items():
        feature = flat.feature.add(name=name, type=message.type)
        if message.HasField("shape"):
            feature.shape.CopyFrom(message.shape)
            feature.presence.CopyFrom(message.presence)
        if name in indices and message.HasField("int_domain"):
            feature.int_domain.CopyFrom(message.int_domain)
    if _GROUP in schema.tensor_representation_group:
        for name, given in schema.tensor_representation_group[_GROUP].tensor_representation.items():
            flat.tensor_representation_group[_GROUP].tensor_representation[name].CopyFrom(_flat(given))
    return flat


def _flat(given: schema_pb2.TensorRepresentation) -> schema_pb2.TensorRepresentation:
    """Returns a representation whose columns have dotted names: a path of one step."""
    flat = schema_pb2.TensorRepresentation()
    flat.CopyFrom(given)
    *structs, name = given.ragged_tensor.feature_path.step or ("",)
    if structs:
        prefix = "".join(f"{struct}." for struct in structs)
        flat.ragged_tensor.feature_path.step[:] = [prefix + name]
        for partition in flat.ragged_tensor.partition:
            if partition.HasField("row_length"):
                partition.row_length = prefix + partition.row_length
    return flat


def input_tensors(flat: schema_pb2.Schema) -> tuple[InputTensor, ...]:
    """Returns the tensors of a schema without structs (`flat_schema`), in name order.

    Raises:
      ConfigError: for a representation that TFXIO does not take, or whose columns the schema does not have.
    """
    from tfx_bsl.tfxio import tensor_representation_util

    try:
        given = tensor_representation_util.InferTensorRepresentationsFromMixedSchema(flat)
    except ValueError as error:
        raise ConfigError(f"schema: cannot be given to a preprocessing function: {error}") from error
    kinds = {feature.name: KINDS[feature.type] for feature in flat.feature}
    return tuple(_input(name, message, kinds) for name, message in sorted(given.items()))


def tensors_schema(flat: schema_pb2.Schema, tensors: Sequence[InputTensor]) -> schema_pb2.Schema:
    """Returns a part of a schema without structs: what makes up these tensors."""
    names = {tensor.name for tensor in tensors}
    columns = {column for tensor in tensors for column in tensor.columns}
    part = schema_pb2.Schema(feature=[feature for feature in flat.feature if feature.name in columns])
    part.sparse_feature.extend(view for view in flat.sparse_feature if view.name in names)
    if flat.represent_variable_length_as_ragged:
        part.represent_variable_length_as_ragged = True
    if _GROUP in flat.tensor_representation_group:
        for name, message in flat.tensor_representation_group[_GROUP].tensor_representation.items():
            if name in names:
                part.tensor_representation_group[_GROUP].tensor_representation[name].CopyFrom(message)
    return part


def _input(name: str, message: schema_pb2.TensorRepresentation, kinds: Mapping[str, Kind]) -> InputTensor:
    where = f"schema: tensor_representation {name!r}"
    match message.WhichOneof("kind"):
        case "dense_tensor":
            tensor: InputTensor = _dense_input(name, message.dense_tensor, kinds, where)
        case "varlen_sparse_tensor":
            column = message.varlen_sparse_tensor.column_name
            tensor = ListInput(name, _kind_of(column, kinds, where), column)
        case "sparse_tensor":
            tensor = _sparse_input(name, message.sparse_tensor, kinds, where)
        case "ragged_tensor":
            tensor = _ragged_input(name, message.ragged_tensor, kinds, where)
        case kind:
            raise ConfigError(f"{where}: must be dense, varlen_sparse, sparse or ragged, got {kind}")
    for column, kind in tensor.columns.items():
        if _kind_of(column, kinds, where) is not kind:
            raise ConfigError(
                f"{where}: {column!r} holds indices or lengths; it must be INT, got {kinds[column].value}"
            )
    return tensor


def _kind_of(column: str, kinds: Mapping[str, Kind], where: str) -> Kind:
    if column not in kinds:
        raise ConfigError(
            f"{where}: is made of {column!r}, which is not among the features that are read; declare it as a feature "
            "of its own, with its type"
        )
    return kinds[column]


def _dense_input(
    name: str, message: schema_pb2.TensorRepresentation.DenseTensor, kinds: Mapping[str, Kind], where: str
) -> DenseInput:
    kind = _kind_of(message.column_name, kinds, where)
    shape = tuple(dim.size for dim in message.shape.dim)
    if any(size < 0 for size in shape):
        raise ConfigError(f"{where}: each dimension of a dense tensor must have a size, got {list(shape)}")
    given = message.default_value.WhichOneof("kind")
    if given == "uint_value" and kind is Kind.INT:
        return DenseInput(name, kind, message.column_name, shape, message.default_value.uint_value)
    if given not in (None, _DEFAULTS[kind]):
        raise ConfigError(f"{where}: default_value of {kind.value} must be {_DEFAULTS[kind]}, got {given}")
    default = getattr(message.default_value, given) if given else None
    return DenseInput(name, kind, message.column_name, shape, default)


def _sparse_input(
    name: str, message: schema_pb2.TensorRepresentation.SparseTensor, kinds: Mapping[str, Kind], where: str
) -> SparseInput:
    shape, indices = tuple(dim.size for dim in message.dense_shape.dim), tuple(message.index_column_names)
    if len(shape) != len(indices) or not indices:
        raise ConfigError(
            f"{where}: needs an index column for each dimension of dense_shape, got {len(indices)} columns and "
            f"{len(shape)} dimensions"
        )
    kind = _kind_of(message.value_column_name, kinds, where)
    return SparseInput(name, kind, message.value_column_name, indices, shape, message.already_sorted)


def _ragged_input(
    name: str, message: schema_pb2.TensorRepresentation.RaggedTensor, kinds: Mapping[str, Kind], where: str
) -> RaggedInput:
    values = ".".join(message.feature_path.step)
    partitions: list[str | int] = []
    for part in message.partition:
        partitions.append(part.row_length if part.HasField("row_length") else part.uniform_row_length)
        if partitions[-1] in ("", 0) or (isinstance(partitions[-1], int) and partitions[-1] < 0):
            raise ConfigError(f"{where}: a partition must have a row_length, or a uniform_row_length above 0")
    splits_32 = message.row_partition_dtype == schema_pb2.TensorRepresentation.RowPartitionDType.INT32
    return RaggedInput(name, _kind_of(values, kinds, where), values, tuple(partitions), splits_32)
