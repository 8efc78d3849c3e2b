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

from penstock.io.dataset.shard_formats import tar
from penstock.io.dataset.shard_formats.json_texts import json_objects, json_texts, parsed_objects, quoted, typed
from penstock.io.errors import DataError, InputError
from penstock.io.kernel.shared.offsets import Ints, list_lengths, starts_of
from penstock.io.kernel.shared.pieces import Bytes

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
        texts = samples.texts()
        starts = starts_of(samples.counts).tolist()
        try:
            values = parsed_objects([texts[start] for start in starts[:-1]])
        except ValueError as error:
            row = samples.first + int(str(error))
            raise InputError(
                f"{uri}: row {row}: {row:0{tar.KEY_DIGITS}}.json does not hold an object of JSON"
            ) from error
        members = [
            dict(zip(samples.extensions[start + 1 : end], texts[start + 1 : end], strict=True))
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
            found = []
            for row, one in enumerate(values):
                found.append(one.pop(field.name))
                if types.is_binary(leaf_type(field.type)):
                    found[-1] = _replaced(found[-1], members[row])
        except (KeyError, TypeError, AttributeError) as error:
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
    headers = tar.headers_of(extensions, names, pc.binary_length(contents).to_numpy(zero_copy_only=False))
    data, starts = tar.members(headers, contents)
    offsets = starts[np.searchsorted(owners, np.arange(rows + 1))]
    if rows and (size := int(np.diff(offsets).max())) > tar.MAX_RECORD_BYTES:
        raise DataError(f"a row must have at most {tar.MAX_RECORD_BYTES} bytes, got one of {size}")
    return data, offsets


def _replaced(value: Any, members: dict[bytes, bytes]) -> Any:
    """Replaces the extensions in lists by the bytes of these members, which are taken out."""
    if isinstance(value, list):
        return [_replaced(item, members) for item in value]
    return None if value is None else members.pop(value.encode())
