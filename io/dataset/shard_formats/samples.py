"""Rows as samples of WebDataset, and back; without Beam, for those who only read.

A sample is `KEY.json`, an object with the values of all columns but bytes, and for each column of bytes a member
`KEY.COLUMN`: a column `jpg` is the member `KEY.jpg`, which WebDataset decodes as a picture. A missing value is `null`,
or no member. Where a column has lists of bytes, each item is a member with a number before the last part of its name,
`KEY.view.0.jpg` of a column `view.jpg`, and in the object lie the extensions of these members in place of the bytes.

The first member of a shard, `__columns__`, has the names and types of
the columns; WebDataset leaves out members of such names.
"""

import dataclasses
import functools
import itertools
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from penstock.io.columns.of_numpy import indices_of
from penstock.io.dataset.shard_formats import tar
from penstock.io.dataset.shard_formats.json_texts import (
    json_objects,
    json_texts,
    lengths_of,
    object_arrays,
    parsed_objects,
    quoted,
    typed,
)
from penstock.io.dataset.shard_formats.rows import bytes_array
from penstock.io.errors import DataError, InputError
from penstock.io.kernel.shared.offsets import Ints, list_lengths, starts_of
from penstock.io.kernel.shared.pieces import Bytes, slices

_HEAD = b"__columns__"

# Types by their names in `__columns__`.
TYPES = {
    str(one): one
    for one in (
        *(pa.bool_(), pa.string(), pa.binary(), pa.float16(), pa.float32(), pa.float64()),
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
    )
}


def sample_head(columns: pa.Schema) -> bytes:
    """Returns the member with which a shard begins."""
    found = [[field.name, _type_name(field.type)] for field in columns]
    return tar.head_member(_HEAD, (json.dumps(found, ensure_ascii=False) + "\n").encode())


def read_head(reader: tar.TarReader, uri: str) -> "SampleCodec":
    """Reads the names and types of the columns, with which a shard begins.

    Raises:
      InputError: if it does not, or for a type that shards do not have.
    """
    data = reader.head(_HEAD)
    try:
        columns = pa.schema([(name, _type_of(text)) for name, text in json.loads(data)])
        return SampleCodec(columns)
    except (ValueError, KeyError, TypeError, RecursionError, pa.ArrowException) as error:
        raise InputError(f"{uri}: {_HEAD.decode()} does not hold the columns of a dataset: {error!r}") from error


def _type_name(arrow_type: pa.DataType) -> str:
    return f"[{_type_name(arrow_type.value_type)}]" if types.is_list(arrow_type) else str(arrow_type)


def _type_of(name: str) -> pa.DataType:
    return pa.list_(_type_of(name[1:-1])) if name.startswith("[") and name.endswith("]") else TYPES[name]


def leaf_type(arrow_type: pa.DataType) -> pa.DataType:
    """Returns the type of the values in the innermost lists; the type itself of what is no list."""
    return leaf_type(arrow_type.value_type) if types.is_list(arrow_type) else arrow_type


def _numbered_names(name: str, numbers: Ints) -> pa.Array:
    """Returns string, the extensions of the items of a list of bytes."""
    start, dot, end = name.rpartition(".")
    digits = pa.array(numbers).cast(pa.string())
    return pc.binary_join_element_wise(f"{start or end}.", digits, f".{end}" if dot else "", "")


@dataclasses.dataclass(frozen=True)
class _Members:
    """Some members of rows: of which rows, ascending, their extensions, and large_binary, their data."""

    rows: Ints
    extensions: Sequence[bytes]
    which: Ints
    contents: pa.Array


class SampleCodec:
    """Encodes rows as samples, and decodes them.

    Attributes:
      columns: names and types, plain types, of which bytes are columns with names that can be extensions.
    """

    def __init__(self, columns: pa.Schema):
        self.columns = columns
        self._is_plain = len(set(columns.names)) == len(columns)
        # What the objects hold; extensions in place of bytes.
        self._in_objects = pa.schema(
            [(field.name, _with_texts(field.type)) for field in columns if not types.is_binary(field.type)]
        )

    def encode(self, rows: pa.RecordBatch) -> tuple[Bytes, Ints]:
        """Encodes rows; returns uint8, the records, and int64[n + 1], where each starts, and the end.

        Raises:
          DataError: for a row of more than a GiB.
        """
        names, texts, found = [], [], []
        for field, column in zip(self.columns, rows.columns, strict=True):
            if types.is_binary(field.type):
                found.append(_single_members(field.name, column))
                continue
            names.append(field.name)
            if types.is_binary(leaf_type(field.type)):
                members, extensions = _list_members(field.name, column)
                found.append(members)
                texts.append(json_texts(column, functools.partial(_instead, quoted(extensions))))
            else:
                texts.append(json_texts(column))
        documents = json_objects(names, texts, rows.num_rows).cast(pa.large_binary())
        every: Ints = np.arange(rows.num_rows)
        return _records([_Members(every, (b"json",), np.zeros_like(every), documents), *found], rows.num_rows)

    def decode(self, samples: tar.Samples, uri: str) -> pa.RecordBatch:
        """Decodes samples.

        Raises:
          InputError: for a member that is damaged, missing or too many.
        """
        found = self._decode_columns(samples)
        return self._decode_rows(samples, uri) if found is None else found

    def _decode_columns(self, samples: tar.Samples) -> pa.RecordBatch | None:
        """Decodes samples as `encode` made them; None where only a look at each row tells what they are."""
        firsts = starts_of(samples.counts)[:-1]
        starts, ends = samples.starts[firsts], samples.starts[firsts] + samples.sizes[firsts]
        arrays = object_arrays(self._in_objects, samples.content, starts, ends) if self._is_plain else None
        if arrays is None:
            return None
        found = dict(zip(self._in_objects.names, arrays, strict=True))
        members = _OtherMembers(samples)
        for field in self.columns:
            if types.is_binary(field.type):
                found[field.name] = members.single(field.name)
            elif types.is_binary(leaf_type(field.type)):
                found[field.name] = members.named(found[field.name])
        if not members.are_taken():
            return None
        return pa.RecordBatch.from_arrays([found[name] for name in self.columns.names], schema=self.columns)

    def _decode_rows(self, samples: tar.Samples, uri: str) -> pa.RecordBatch:
        texts = samples.texts()
        extensions = [samples.extensions[index] for index in samples.which.tolist()]
        starts = starts_of(samples.counts).tolist()
        try:
            values = parsed_objects([texts[start] for start in starts[:-1]])
        except ValueError as error:
            row = samples.first + int(str(error))
            raise InputError(
                f"{uri}: row {row}: {row:0{tar.KEY_DIGITS}}.json does not hold an object of JSON"
            ) from error
        members = [
            dict(zip(extensions[start + 1 : end], texts[start + 1 : end], strict=True))
            for start, end in itertools.pairwise(starts)
        ]
        arrays = [self._column(field, values, members, samples.first, uri) for field in self.columns]
        if any(members) or any(values):
            row = next(row for row, (one, other) in enumerate(zip(values, members, strict=True)) if one or other)
            name = next(iter({**values[row], **{key.decode(errors="replace"): 0 for key in members[row]}}))
            raise InputError(f"{uri}: row {samples.first + row}: has {name!r}, which is no column of the shard")
        return pa.RecordBatch.from_arrays(arrays, schema=self.columns)

    def _column(
        self, field: pa.Field, values: list[dict[str, Any]], members: list[dict[bytes, bytes]], first: int, uri: str
    ) -> pa.Array:
        """Takes a column out of the values and members of rows."""
        row = 0
        try:
            if types.is_binary(field.type):
                name = field.name.encode()
                return typed([one.pop(name, None) for one in members], field.type)
            found, has_members = [], types.is_binary(leaf_type(field.type))
            for row, one in enumerate(values):
                found.append(one.pop(field.name))
                if has_members:
                    found[-1] = _replaced(found[-1], members[row])
        except (KeyError, TypeError, AttributeError, UnicodeEncodeError) as error:
            raise InputError(
                f"{uri}: row {first + row}: column {field.name!r} is missing, or is not what its type {field.type} "
                f"becomes: {error!r}"
            ) from error
        try:
            return typed(found, field.type)
        except (OverflowError, TypeError, UnicodeEncodeError) as error:
            raise InputError(
                f"{uri}: rows {first} to {first + len(values) - 1}: column {field.name!r} has a value that is not of "
                f"the type {field.type}: {error}"
            ) from error


def _with_texts(arrow_type: pa.DataType) -> pa.DataType:
    """Returns the type with texts in place of bytes."""
    if types.is_list(arrow_type):
        return pa.list_(_with_texts(arrow_type.value_type))
    return pa.string() if types.is_binary(arrow_type) else arrow_type


class _OtherMembers:
    """The members of samples behind their objects, at most 2 GiB; columns take them, each once."""

    def __init__(self, samples: tar.Samples):
        is_other = np.ones(len(samples.starts), bool)
        is_other[starts_of(samples.counts)[:-1]] = False
        self._extensions = samples.extensions
        self._rows: Ints = np.arange(len(samples))
        keys = self._keys_of(np.repeat(self._rows, samples.counts)[is_other], samples.which[is_other])
        # The last one is of no member, so that a search never ends behind them.
        self._order = np.append(np.argsort(keys), len(keys))
        self._keys = np.append(keys, np.iinfo(np.int64).max)[self._order]
        self._taken: Ints = np.zeros(len(keys) + 1, np.int64)
        self._are_found = bool((np.diff(self._keys) > 0).all())
        starts = samples.starts[is_other]
        # Of the slices between these bounds, every other one is a member.
        bounds = np.stack([starts, starts + samples.sizes[is_other]], axis=1).reshape(-1)
        self._slices = slices(samples.content, bounds if len(bounds) else np.zeros(1, np.int64))

    def _keys_of(self, rows: Ints, which: Ints | int) -> Ints:
        """Returns what tells members apart; no member has the index behind the last extension."""
        return rows * (len(self._extensions) + 1) + which

    def single(self, name: str) -> pa.Array:
        """Takes a column of bytes; null where a row has none."""
        found = [index for index, extension in enumerate(self._extensions) if extension == name.encode()]
        return self._take(self._keys_of(self._rows, found[0] if found else len(self._extensions)))

    def named(self, lists: pa.Array) -> pa.Array:
        """Takes what lists have the extensions of; null where they have null."""
        levels, rows = [], self._rows
        while types.is_list(lists.type):
            levels.append((len(lists), lists.buffers()[:2]))
            rows = np.repeat(rows, lengths_of(lists))
            lists = lists.values
        found = self._take(self._keys_of(rows, self._indices(lists)))
        self._are_found &= found.null_count == lists.null_count
        for length, buffers in reversed(levels):
            found = pa.Array.from_buffers(pa.list_(found.type), length, buffers, children=[found])
        return found

    def _indices(self, texts: pa.Array) -> Ints:
        """Returns the indices of texts among the extensions, of a null the one behind the last."""
        lengths = np.array([*map(len, self._extensions), 0])
        valid = np.arange(len(lengths)) < len(self._extensions)
        known = bytes_array(pa.binary(), np.frombuffer(b"".join(self._extensions), np.uint8), lengths, valid)
        found = pc.index_in(texts.cast(pa.binary()), known)
        self._are_found &= not found.null_count
        return np.frombuffer(found.buffers()[1], np.int32)[: len(found)].astype(np.int64)

    def _take(self, wanted: Ints) -> pa.Array:
        places = np.searchsorted(self._keys, wanted)
        is_found = self._keys[places] == wanted
        places = self._order[places]
        self._taken += np.bincount(places[is_found], minlength=len(self._taken))
        is_found &= self._taken[places] == 1
        return self._slices.take(indices_of(2 * places, ~is_found)).cast(pa.binary())

    def are_taken(self) -> bool:
        """Whether each was taken once, and all that lists have the extensions of were there."""
        return self._are_found and bool((self._taken[:-1] == 1).all())


def _instead(texts: pa.Array, _: pa.Array) -> pa.Array:
    return texts


def _single_members(name: str, column: pa.Array) -> _Members:
    rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    contents = column.drop_null().cast(pa.large_binary())
    return _Members(rows, (name.encode(),), np.zeros_like(rows), contents)


def _list_members(name: str, column: pa.Array) -> tuple[_Members, pa.Array]:
    """Returns the members of a column of lists of bytes, and string, the extension of each item, null for a null."""
    bounds: Ints = np.arange(len(column) + 1)
    while types.is_list(column.type):
        bounds = starts_of(list_lengths(column))[bounds]
        column = column.flatten()
    counts = np.diff(bounds)
    numbers = np.arange(len(column)) - np.repeat(bounds[:-1], counts)
    extensions = _numbered_names(name, numbers)
    valid = column.is_valid()
    kept = np.flatnonzero(valid.to_numpy(zero_copy_only=False))
    rows = np.repeat(np.arange(len(counts)), counts)[kept]
    different = _numbered_names(name, np.arange(int(counts.max(initial=0)))).to_pylist()
    contents = column.drop_null().cast(pa.large_binary())
    members = _Members(rows, [text.encode() for text in different], numbers[kept], contents)
    return members, pc.if_else(valid, extensions, pa.scalar(None, pa.string()))


def _records(found: Sequence[_Members], rows: int) -> tuple[Bytes, Ints]:
    """Puts the members of each row behind each other, in the order of `found`."""
    extensions: list[bytes] = []
    which: list[Ints] = []
    for one in found:
        which.append(one.which + len(extensions))
        extensions += one.extensions
    contents = pa.chunked_array([one.contents for one in found]).combine_chunks()
    owners, names = np.concatenate([one.rows for one in found]), np.concatenate(which)
    if len(found) > 1:
        order = np.argsort(owners, kind="stable")
        owners, names, contents = owners[order], names[order], contents.take(pa.array(order))
    sizes = pc.binary_length(contents).to_numpy(zero_copy_only=False)
    offsets = starts_of(tar.padded(sizes))[np.searchsorted(owners, np.arange(rows + 1))]
    if rows and (size := int(np.diff(offsets).max())) > tar.MAX_RECORD_BYTES:
        raise DataError(f"a row must have at most {tar.MAX_RECORD_BYTES} bytes, got one of {size}")
    return tar.members(tar.headers_of(extensions, names, sizes), contents), offsets


def _replaced(value: Any, members: dict[bytes, bytes]) -> Any:
    """Replaces the extensions in lists by the bytes of these members, which are taken out."""
    if isinstance(value, list):
        return [_replaced(item, members) for item in value]
    return None if value is None else members.pop(value.encode())
