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

from penstock.io.columns.explode import explode_lists, row_bytes
from penstock.io.columns.grammar import MAX_EXACT_INT
from penstock.io.formats.json.rows import MAX_EXPLODED_BYTES, FlatRow, Number, Path, Scalar, Value
from penstock.io.kernel.shared.offsets import Ints, list_lengths, starts_of
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


@dataclasses.dataclass(frozen=True)
class ArrowRows:
    """The rows of some lines.

    Attributes:
      columns: by name.
      lines: int64, the index of the line of each row, ascending.
      left_out: in how many rows a member is left out, by name.
    """

    columns: dict[str, pa.Array]
    lines: Ints
    left_out: dict[str, int]


class ArrowReader:
    """Parses lines with Arrow, with types from the schema and from the rows seen so far.

    With `explode`, each item of the lists of that name becomes a row.
    """

    def __init__(self, features: Sequence[Feature] | None, explode: str | None = None):
        self._features = None if features is None else {feature.name: feature for feature in features}
        self._explode = [] if explode is None else spellings(explode)
        self._seen: dict[Path, _Seen] = {}
        self._left_out: set[Path] = set()
        self._schema: pa.Schema | None = None
        self._paths: list[Path] = []
        self._is_stale = True

    def observe(self, rows: Iterable[FlatRow]) -> None:
        """Learns from rows that were read one by one; takes effect with the next `prepare`."""
        for row in rows:
            self._left_out.update(row.left_out)
            for path, value in row.values.items():
                # Under a schema, each spelling of a name has the same type.
                key = path if self._features is None else (".".join(path),)
                self._seen.setdefault(key, _Seen()).add(value)
        self._is_stale = True

    def prepare(self) -> bool:
        """Fixes the types for the next calls of `parse`; returns False when there are none that Arrow could use."""
        if self._is_stale:
            leaves = self._inferred_leaves() if self._features is None else self._wanted_leaves()
            tree = _tree(leaves)
            self._schema = None if tree is None else pa.schema(_fields(tree, self._explode))
            self._paths = list(leaves or ())
            self._is_stale = False
        return self._schema is not None

    def parse(self, data: bytes, rows: int) -> ArrowRows | None:
        """Parses `rows` lines; returns None when Arrow cannot parse them exactly."""
        if self._schema is None:
            return None
        try:
            table = arrow_json.read_json(
                pa.BufferReader(data),
                # One block: Arrow rejects a row that spans more than two blocks.
                arrow_json.ReadOptions(use_threads=False, block_size=len(data) + 1),
                arrow_json.ParseOptions(
                    explicit_schema=self._schema, unexpected_field_behavior=self._unexpected_members()
                ),
            )
            return self._rows(table) if table.num_rows == rows else None
        except (pa.ArrowInvalid, UnicodeDecodeError, _Misfit):  # Arrow's messages may cut a text within a character
            return None

    def _unexpected_members(self) -> str:
        if self._features is not None:
            return "ignore"
        # Arrow skips no member by name, but it infers the types of those that are left out.
        return "infer" if self._left_out else "error"

    def _rows(self, table: pa.Table) -> ArrowRows:
        left_out = self._count_left_out(table) if self._left_out else {}
        items = _Items(table, [path for path in self._explode if path in _leaf_types(self._schema or ())])
        return ArrowRows(self._columns(items), items.rows, left_out)

    def _count_left_out(self, table: pa.Table) -> dict[str, int]:
        """Counts the rows with members that are left out.

        Raises:
          _Misfit: when the table has other unexpected members.
        """
        found, expected = _leaf_types(table.schema), _leaf_types(self._schema or ())
        counts: dict[str, int] = {}
        for path, arrow_type in found.items():
            if path in expected and arrow_type == expected[path]:
                continue
            if path not in self._left_out or path in expected:
                raise _Misfit
            # Arrow 25 makes lists with a wrong end where the first item, of a type that it does not know yet, is null.
            table.column(path[0]).validate(full=True)
            name = ".".join(path)
            counts[name] = counts.get(name, 0) + _count_nested(_at_path(table, path))
        return counts

    def _columns(self, items: "_Items") -> dict[str, pa.Array]:
        if self._features is None:
            names: dict[str, list[Path]] = {}
            for path in self._paths:
                names.setdefault(".".join(path), []).append(path)
            return {name: _exact_any(_coalesced(items, paths)) for name, paths in names.items()}
        return {name: _fitted(_coalesced(items, spellings(name)), feature) for name, feature in self._features.items()}

    def _wanted_leaves(self) -> dict[Path, pa.DataType] | None:
        leaves = {}
        for name, feature in (self._features or {}).items():
            if name.count(".") > _MAX_DOTS:
                return None
            seen = self._seen.get((name,), _Seen(has_list=feature.multivalued is True))
            for path in spellings(name):
                leaves[path] = _listed(_wanted_type(feature.kind, seen.scalars), seen)
        # Without the list in the schema, nothing would tell how many items it has.
        return leaves if not self._explode or any(_is_below(leaf, self._explode) for leaf in leaves) else None

    def _inferred_leaves(self) -> dict[Path, pa.DataType]:
        inner = {path[:length] for path in self._seen for length in range(1, len(path))}
        return {
            path: _listed(_inferred_type(seen.scalars), seen)
            for path, seen in self._seen.items()
            if seen.scalars or (seen.has_list and path not in self._left_out) or path not in inner | self._left_out
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


def _fields(tree: Tree, lists: Sequence[Path], prefix: Path = ()) -> list[pa.Field]:
    """Makes the fields of a tree; those at the paths in `lists` become lists of what they are."""
    fields = []
    for key, node in tree.items():
        path = (*prefix, key)
        arrow_type = pa.struct(_fields(node, lists, path)) if isinstance(node, dict) else node
        fields.append(pa.field(key, pa.list_(arrow_type) if path in lists else arrow_type))
    return fields


def _leaf_types(fields: Iterable[pa.Field], prefix: Path = ()) -> dict[Path, pa.DataType]:
    """Returns the types of fields that are no structs, by path."""
    types: dict[Path, pa.DataType] = {}
    for field in fields:
        path = (*prefix, field.name)
        types |= _leaf_types(field.type, path) if pa.types.is_struct(field.type) else {path: field.type}
    return types


def _is_below(path: Path, above: Iterable[Path]) -> bool:
    return any(path[: len(upper)] == upper for upper in above)


def _count_nested(lists: pa.Array) -> int:
    """Counts the lists that hold an object or a list.

    Raises:
      _Misfit: for a column of scalars, or of lists of scalars.
    """
    if pa.types.is_null(lists.type):
        return 0
    if not pa.types.is_list(lists.type):
        raise _Misfit
    items = lists.flatten()
    if not (pa.types.is_struct(items.type) or pa.types.is_list(items.type) or pa.types.is_null(items.type)):
        raise _Misfit
    owners = pc.list_parent_indices(lists)
    return len(owners.filter(items.is_valid()).unique())


class _Items:
    """The rows of a table after the lists at some paths, spellings of one name, were exploded.

    Raises:
      _Misfit: when several of them have values, or the repeated values take too many bytes.
    """

    def __init__(self, table: pa.Table, lists: Sequence[Path]):
        self._table = table
        self._items: dict[Path, pa.Array] = {}
        self.rows: Ints = np.arange(table.num_rows)
        columns = {path: _at_path(table, path) for path in lists}
        filled = [path for path, column in columns.items() if column.null_count < len(column)]
        if len(filled) > 1:
            raise _Misfit
        for path in filled:
            self.rows, self._items[path] = explode_lists(columns[path])
            self._check_size(lists)
        for path in columns.keys() - set(filled):
            self._items[path] = pa.nulls(len(self.rows), columns[path].type.value_type)
        self._is_exploded = bool(filled)

    def _check_size(self, lists: Sequence[Path]) -> None:
        others = [_at_path(self._table, path) for path in _leaf_types(self._table.schema) if path not in lists]
        if not others or len(self.rows) == self._table.num_rows:
            return
        sizes = row_bytes(pa.RecordBatch.from_arrays(others, names=[""] * len(others)))
        if sizes[self.rows].sum() > MAX_EXPLODED_BYTES:
            raise _Misfit

    def column(self, path: Path) -> pa.Array:
        """Returns the values at a path, one for each row."""
        for upper, items in self._items.items():
            if path[: len(upper)] == upper:
                return _inside(items, path[len(upper) :])
        column = _at_path(self._table, path)
        return column.take(pa.array(self.rows)) if self._is_exploded else column


def _coalesced(items: _Items, paths: Sequence[Path]) -> pa.Array:
    """Returns the one column with values among all spellings of a name.

    Raises:
      _Misfit: when several spellings have values.
    """
    arrays = [items.column(path) for path in paths]
    filled = [array for array in arrays if array.null_count < len(array)]
    if len(filled) > 1:
        raise _Misfit
    return filled[0] if filled else arrays[0]


def _at_path(table: pa.Table, path: Path) -> pa.Array:
    return _inside(table.column(path[0]).combine_chunks(), path[1:])


def _inside(array: pa.Array, path: Path) -> pa.Array:
    for key in path:
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
