"""The fast path of JSON Lines: Arrow's parser with explicit types; its result is used only if it is exact.

Observed behaviour of Arrow (25):

- without an explicit type it turns texts into timestamps, and integers beyond int64 into doubles;
- an explicit type that does not fit fails the whole block, as does a wanted member that appears twice;
- it accepts `NaN`, `Inf` and `Infinity` as numbers, any number of objects on a line, and an object on many lines;
- it crashes the process on a block that begins with a bare `null`.

So callers pass only lines that begin with `{`, end with `}` and have no such constants. Each line break is then between
two objects, and if there are as many rows as lines, each line is one object.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from penstock.io.columns.grammar import MAX_EXACT_INT
from penstock.io.formats.json.rows import Number, Path, Scalar, Value
from penstock.io.kernel.shared.offsets import list_lengths, starts_of
from penstock.io.reserved import RESERVED
from penstock.io.schema import Feature, Kind

# A name with n dots can be spelled in 2^n ways; names with more dots than this are read row by row.
_MAX_DOTS = 6

Tree = dict[str, "Tree | pa.DataType"]


class _Misfit(Exception):
    """Arrow's result would not be exact."""


@dataclasses.dataclass
class _Seen:
    """The types that the values of a column have had so far."""

    has_list: bool = False
    scalars: set[type] = dataclasses.field(default_factory=set)

    def add(self, value: Value) -> None:
        if isinstance(value, list):
            self.has_list = True
            self.scalars.update(map(_scalar_type, value))
        else:
            self.scalars.add(_scalar_type(value))
        self.scalars.discard(type(None))


def _scalar_type(value: Scalar) -> type:
    if isinstance(value, Number):
        return int if value.is_int else float
    return type(value)


class ArrowReader:
    """Parses lines with Arrow, with types from the schema and from the rows seen so far."""

    def __init__(self, features: Sequence[Feature] | None):
        self._features = None if features is None else {feature.name: feature for feature in features}
        self._seen: dict[Path, _Seen] = {}
        self._schema: pa.Schema | None = None
        self._is_stale = True

    def observe(self, rows: Iterable[Mapping[Path, Value]]) -> None:
        """Learns from rows that were read one by one; takes effect with the next `prepare`."""
        for row in rows:
            for path, value in row.items():
                # Under a schema, each spelling of a name has the same type.
                key = path if self._features is None else (".".join(path),)
                self._seen.setdefault(key, _Seen()).add(value)
        self._is_stale = True

    def prepare(self) -> bool:
        """Fixes the types for the next calls of `parse`; returns False when there are none that Arrow could use."""
        if self._is_stale:
            tree = _tree(self._inferred_leaves() if self._features is None else self._wanted_leaves())
            self._schema = None if tree is None else pa.schema(_fields(tree))
            self._is_stale = False
        return self._schema is not None

    def parse(self, data: bytes, rows: int) -> dict[str, pa.Array] | None:
        """Parses `rows` lines into columns by name; returns None when Arrow cannot parse them exactly."""
        if self._schema is None:
            return None
        try:
            table = arrow_json.read_json(
                pa.BufferReader(data),
                # One block: Arrow rejects a row that spans more than two blocks.
                arrow_json.ReadOptions(use_threads=False, block_size=len(data) + 1),
                arrow_json.ParseOptions(
                    explicit_schema=self._schema,
                    unexpected_field_behavior="error" if self._features is None else "ignore",
                ),
            )
            if table.num_rows != rows:
                return None
            return self._columns(table)
        except (pa.ArrowInvalid, UnicodeDecodeError, _Misfit):  # Arrow's messages may cut a text within a character
            return None

    def _columns(self, table: pa.Table) -> dict[str, pa.Array]:
        if self._features is None:
            names: dict[str, list[Path]] = {}
            for path in _leaf_paths(self._schema or ()):
                names.setdefault(".".join(path), []).append(path)
            usable = {name: paths for name, paths in names.items() if name and name not in RESERVED}
            return {name: _exact_any(_coalesced(table, paths)) for name, paths in usable.items()}
        return {name: _fitted(_coalesced(table, spellings(name)), feature) for name, feature in self._features.items()}

    def _wanted_leaves(self) -> dict[Path, pa.DataType] | None:
        leaves = {}
        for name, feature in (self._features or {}).items():
            if name.count(".") > _MAX_DOTS:
                return None
            seen = self._seen.get((name,), _Seen(has_list=feature.multivalued is True))
            for path in spellings(name):
                leaves[path] = _listed(_wanted_type(feature.kind, seen.scalars), seen)
        return leaves

    def _inferred_leaves(self) -> dict[Path, pa.DataType]:
        inner = {path[:length] for path in self._seen for length in range(1, len(path))}
        return {
            path: _listed(_inferred_type(seen.scalars), seen)
            for path, seen in self._seen.items()
            if seen.scalars or seen.has_list or path not in inner
        }


def spellings(name: str) -> list[Path]:
    """Lists all paths that a dotted name may stand for.

    >>> spellings("a.b")
    [('a.b',), ('a', 'b')]
    """
    paths: list[Path] = [(name,)]
    for index, char in enumerate(name):
        if char == ".":
            paths.extend((name[:index], *rest) for rest in spellings(name[index + 1 :]))
    return paths


def _wanted_type(kind: Kind, seen: set[type]) -> pa.DataType:
    if seen == {str}:  # also for numbers that are spelled as text
        return pa.string()
    if kind is Kind.FLOAT:
        return pa.float64()
    if seen == {bool}:
        return pa.bool_()
    if kind is Kind.INT:
        return pa.float64() if float in seen else pa.int64()
    return pa.int64() if seen == {int} else pa.string()


def _inferred_type(seen: set[type]) -> pa.DataType:
    if not seen:
        return pa.null()
    if seen == {bool}:
        return pa.bool_()
    if seen == {int}:
        return pa.int64()
    return pa.float64() if seen <= {int, float} else pa.string()


def _listed(item: pa.DataType, seen: _Seen) -> pa.DataType:
    return pa.list_(item) if seen.has_list else item


def _tree(leaves: Mapping[Path, pa.DataType] | None) -> Tree | None:
    """Nests leaves into objects; returns None when a path is both a leaf and an object."""
    if leaves is None:
        return None
    tree: Tree = {}
    for path, leaf in leaves.items():
        node: Tree | pa.DataType = tree
        for key in path[:-1]:
            if not isinstance(node, dict):
                return None
            node = node.setdefault(key, {})
        if not isinstance(node, dict) or path[-1] in node:
            return None
        node[path[-1]] = leaf
    return tree


def _fields(tree: Tree) -> list[pa.Field]:
    return [pa.field(key, pa.struct(_fields(node)) if isinstance(node, dict) else node) for key, node in tree.items()]


def _leaf_paths(fields: Iterable[pa.Field]) -> list[Path]:
    paths: list[Path] = []
    for field in fields:
        if pa.types.is_struct(field.type):
            paths.extend((field.name, *path) for path in _leaf_paths(field.type))
        else:
            paths.append((field.name,))
    return paths


def _coalesced(table: pa.Table, paths: Sequence[Path]) -> pa.Array:
    """Returns the one column with values among all spellings of a name.

    Raises:
      _Misfit: when several spellings have values.
    """
    arrays = [_at_path(table, path) for path in paths]
    filled = [array for array in arrays if array.null_count < len(array)]
    if len(filled) > 1:
        raise _Misfit
    return filled[0] if filled else arrays[0]


def _at_path(table: pa.Table, path: Path) -> pa.Array:
    array = table.column(path[0]).combine_chunks()
    for key in path[1:]:
        array = pc.struct_field(array, array.type.get_field_index(key))
    return array


def _exact_any(array: pa.Array) -> pa.Array:
    """Checks a column while the schema is being inferred.

    Raises:
      _Misfit: when doubles may stand for integers that a double does not hold exactly.
    """
    items = _items(array)
    if pa.types.is_float64(items.type):
        _check(pc.less(pc.abs(items), float(MAX_EXACT_INT)))
    return array


def _fitted(array: pa.Array, feature: Feature) -> pa.Array:
    """Converts a column to the one that `build_column` would make.

    Raises:
      _Misfit: when `build_column` would make another column.
    """
    if not pa.types.is_string(_items(array).type):
        convert = {Kind.INT: _to_int, Kind.FLOAT: _finite, Kind.BYTES: _to_text}[feature.kind]
        array = _map_items(array, convert)
    return _fit_valency(array, feature)


def _to_int(items: pa.Array) -> pa.Array:
    if pa.types.is_float64(items.type):
        _check(pc.and_(pc.less(pc.abs(items), float(MAX_EXACT_INT)), pc.equal(pc.trunc(items), items)))
    return items.cast(pa.int64())


def _finite(items: pa.Array) -> pa.Array:
    _check(pc.is_finite(items))
    return items


def _to_text(items: pa.Array) -> pa.Array:
    return items.cast(pa.string())


def _fit_valency(array: pa.Array, feature: Feature) -> pa.Array:
    is_list = pa.types.is_list(array.type)
    if feature.multivalued and not is_list:
        # Each valid row is a list of one; a null row has no value, so its offsets do not move.
        offsets = starts_of(array.is_valid().to_numpy(zero_copy_only=False))
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), array.drop_null(), mask=array.is_null())
    if feature.multivalued is False and is_list:
        _check(pc.equal(pc.list_value_length(array), 1))
        if array.values.null_count:
            raise _Misfit
        # Lists of one become scalars: a valid row takes the value at its rank among the valid rows.
        rows = np.cumsum(array.is_valid().to_numpy(zero_copy_only=False)) - 1
        return array.flatten().take(pa.array(rows, mask=array.is_null().to_numpy(zero_copy_only=False)))
    return array


def _check(holds: pa.BooleanArray) -> None:
    """Raises `_Misfit` unless all values are true or null."""
    if not pc.all(holds, min_count=0).as_py():
        raise _Misfit


def _items(array: pa.Array) -> pa.Array:
    return array.flatten() if pa.types.is_list(array.type) else array


def _map_items(array: pa.Array, convert: Callable[[pa.Array], pa.Array]) -> pa.Array:
    if not pa.types.is_list(array.type):
        return convert(array)
    items = convert(array.flatten())
    offsets = pa.array(starts_of(list_lengths(array)), pa.int32())
    return pa.ListArray.from_arrays(offsets, items, mask=array.is_null())
