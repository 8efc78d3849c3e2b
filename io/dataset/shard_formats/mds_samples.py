"""Rows as samples of MDS, MosaicML's format, and back; files of them and their index. Without Beam, for readers.

A sample holds the values of one row, and says of each column that has no fixed size how many bytes it has. All numbers
are little-endian::

    file    = uint32 samples | uint32[samples + 1] where each sample starts, and the end | config | the samples
    config  = JSON: names, encodings and sizes of the columns
    sample  = uint32 sizes of the columns without a fixed one | values of all columns
    ndarray = uint8, 4 and 0, 1 or 2 | the number of items, uint8, uint16 or uint32 | the items

Source: MDSWriter and NDArray of mosaicml-streaming, version 2 of the format.

MDS has no missing values. So each column that may have some is followed by `NAME$present`, uint8: 0 where the value of
`NAME` is missing, and a zero or empty.
"""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from penstock.io.dataset.shard_formats.json_texts import json_texts, lengths_of, text_array, typed
from penstock.io.dataset.shard_formats.rows import bytes_array, fixed_values, list_array
from penstock.io.errors import ConfigError, DataError, InputError
from penstock.io.kernel.shared.offsets import Ints, list_lengths, starts_of
from penstock.io.kernel.shared.pieces import Bytes, Pieces, content_of, slices

PRESENT = "$present"
INDEX = "index.json"

_NUMBER = 4
_MAX_BYTES = 2**32 - 1
_PIECE_BYTES = 4 << 20
_ONE_AXIS = 1 << 2
_VERSION = 2

_NUMBERS: Mapping[str, pa.DataType] = {
    **{f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": getattr(pa, f"float{bits}")() for bits in (16, 32, 64)},
}
_NAMES = {found: name for name, found in _NUMBERS.items()}
_TEXTS = {"str": pa.string(), "bytes": pa.binary()}
_ARRAY = "ndarray:"
_JSON = "json"


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of samples: its encoding, its type in Arrow, and whether values may be missing."""

    name: str
    encoding: str
    type: pa.DataType
    nullable: bool

    @property
    def size(self) -> int | None:
        """Bytes of a value; None if they differ."""
        return _NUMBERS[self.encoding].bit_width // 8 if self.encoding in _NUMBERS else None

    @property
    def is_array(self) -> bool:
        """Whether values are lists of numbers."""
        return self.encoding.startswith(_ARRAY)

    def stored(self) -> Iterator[tuple[str, str, int | None]]:
        """Yields name, encoding and size of the columns that it becomes."""
        yield self.name, self.encoding, self.size
        if self.nullable:
            yield f"{self.name}{PRESENT}", "uint8", 1


def columns_of(fields: Iterable[pa.Field]) -> list[Column]:
    """Returns how columns are stored.

    Raises:
      ConfigError: for a type that MDS has no encoding for, or a name that stands for something else.
    """
    found = [Column(field.name, _encoding(field), field.type, field.nullable) for field in fields]
    names = {column.name for column in found}
    for name in names:
        if name.endswith(PRESENT) and name.removesuffix(PRESENT) in names:
            raise ConfigError(
                f"column {name!r} has a name that MDS shards give to what says where values are: rename it"
            )
    return found


def _encoding(field: pa.Field) -> str:
    """The encoding of a column; booleans are uint8."""
    kind = field.type
    if types.is_list(kind):
        if types.is_string(kind.value_type):
            return _JSON
        if kind.value_type in _NAMES:
            return f"{_ARRAY}{_NAMES[kind.value_type]}"
    elif types.is_boolean(kind):
        return "uint8"
    elif kind in _NAMES:
        return _NAMES[kind]
    elif types.is_string(kind) or types.is_binary(kind):
        return "str" if types.is_string(kind) else "bytes"
    raise ConfigError(
        f"column {field.name!r} has type {kind}; a column of MDS shards must hold integers, floats, booleans, strings "
        "or bytes, or lists of integers, floats or strings: cast it, or write Parquet or WebDataset"
    )


def config(columns: Sequence[Column]) -> dict[str, Any]:
    """Returns what a file and its index say of the columns."""
    names, encodings, sizes = zip(*(one for column in columns for one in column.stored()), strict=True)
    return {
        "column_encodings": list(encodings),
        "column_names": list(names),
        "column_sizes": list(sizes),
        "compression": None,
        "format": "mds",
        "hashes": [],
        "size_limit": None,
        "version": _VERSION,
    }


def config_text(columns: Sequence[Column]) -> bytes:
    """Returns the config as a file has it."""
    return json.dumps(config(columns), sort_keys=True).encode()


def file_head(lengths: Ints, text: bytes) -> bytes:
    """Returns what precedes the samples of these lengths.

    Raises:
      DataError: when the file would have more bytes than MDS can count.
    """
    start = _NUMBER * (len(lengths) + 2) + len(text)
    offsets = starts_of(lengths) + start
    if offsets[-1] > _MAX_BYTES:
        raise DataError(f"an MDS shard must have less than 4 GiB, got {offsets[-1]:,} bytes: write more shards")
    return np.uint32(len(lengths)).tobytes() + offsets.astype("<u4").tobytes() + text


def index_text(columns: Sequence[Column], shards: Iterable[Mapping[str, Any]], compression: str) -> bytes:
    """Returns the index of a split: what `StreamingDataset` reads first. Shards without samples are not in it.

    Args:
      columns: of the shards.
      shards: of each its `name`, its `records`, the `bytes` of the file and those of its `content`, uncompressed.
      compression: `none` or `zstd`.
    """
    entries = []
    for shard in shards:
        if not shard["records"]:
            continue
        raw = _NUMBER * (shard["records"] + 2) + shard["content"]
        plain = {"basename": shard["name"].removesuffix(".zstd"), "bytes": raw, "hashes": {}}
        packed = {"basename": shard["name"], "bytes": shard["bytes"], "hashes": {}}
        is_packed = compression != "none"
        entries.append(
            {
                **config(columns),
                "compression": compression if is_packed else None,
                "raw_data": plain,
                "samples": shard["records"],
                "zip_data": packed if is_packed else None,
            }
        )
    return (json.dumps({"shards": entries, "version": _VERSION}, sort_keys=True) + "\n").encode()


def indexed(text: bytes) -> list[tuple[str, int, int]]:
    """Returns of each shard in an index the name of its file, the number of samples, and the bytes as stored.

    Raises:
      ValueError: for a text that is no index.
    """
    try:
        shards = json.loads(text)["shards"]
        files = [shard["zip_data"] or shard["raw_data"] for shard in shards]
        return [(file["basename"], shard["samples"], file["bytes"]) for shard, file in zip(shards, files, strict=True)]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"not an index: {error!r}") from error


class MdsCodec:
    """Encodes rows as samples, and decodes them."""

    def __init__(self, columns: Sequence[Column]):
        self.columns = tuple(columns)
        self.schema = pa.schema([(column.name, column.type) for column in columns])
        self._variable = sum(column.size is None for column in columns)

    def encode(self, rows: pa.RecordBatch) -> tuple[Bytes, Ints]:
        """Encodes rows of the schema; returns uint8, the samples, and int64[n + 1], where each starts, and the end."""
        sizes: npt.NDArray[np.uint32] = np.zeros((rows.num_rows, self._variable), "<u4")
        parts: list[pa.Array] = []
        variable = 0
        for column, values in zip(self.columns, rows.columns, strict=True):
            pieces = list(_encoded(column, values))
            if column.size is None:
                for piece in pieces:
                    sizes[:, variable] += pc.binary_length(piece).to_numpy(zero_copy_only=False).astype(np.uint32)
                variable += 1
            parts += pieces
            if column.nullable:
                flags = pc.is_valid(values).to_numpy(zero_copy_only=False).astype(np.uint8)
                parts.append(slices(flags, np.arange(rows.num_rows + 1)))
        head = slices(sizes.view(np.uint8).reshape(-1), np.arange(rows.num_rows + 1) * _NUMBER * self._variable)
        return content_of(pc.binary_join_element_wise(head, *parts, pa.scalar(b"", pa.large_binary())))

    def decode(self, data: Bytes, offsets: Ints) -> pa.RecordBatch:
        """Decodes samples.

        Raises:
          ValueError: for bytes that are no samples of these columns.
        """
        rows = len(offsets) - 1
        if not rows:
            return pa.RecordBatch.from_pylist([], schema=self.schema)
        fixed = sum(column.size or 0 for column in self.columns) + sum(column.nullable for column in self.columns)
        head = _NUMBER * self._variable
        if int(np.diff(offsets).min()) < head + fixed:
            raise ValueError("a sample is too short")
        pieces = Pieces(data, offsets[:-1])
        sizes = pieces.take(np.full(rows, head)).view("<u4").reshape(rows, self._variable).astype(np.int64)
        if (np.diff(offsets) != head + fixed + sizes.sum(axis=1)).any():
            raise ValueError("the sizes of columns are not those of their sample")
        arrays, variable = [], iter(sizes.T)
        for column in self.columns:
            made = _taken(column, pieces, np.full(rows, column.size) if column.size else next(variable))
            valid = pieces.take(np.ones(rows, np.int64)).astype(bool) if column.nullable else np.ones(rows, bool)
            arrays.append(made(valid))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _encoded(column: Column, values: pa.Array) -> Iterator[pa.Array]:
    """Yields large_binary, the pieces of the values of a column; of nothing for what is missing."""
    rows = len(values)
    if column.size is not None:
        yield slices(fixed_values(values, column.size).reshape(-1), np.arange(rows + 1) * column.size)
    elif column.encoding == _JSON:
        texts = json_texts(pc.fill_null(values, pa.scalar([], values.type)) if values.null_count else values)
        yield texts.cast(pa.large_binary())
    elif column.is_array:
        counts, items = list_lengths(values), values.flatten()
        width = items.type.bit_width // 8
        code = (counts > 0xFF).astype(np.uint8) + (counts > 0xFFFF)
        heads = np.zeros((rows, 1 + _NUMBER), np.uint8)
        heads[:, 0] = _ONE_AXIS | code
        heads[:, 1:] = counts.astype("<u4").view(np.uint8).reshape(rows, _NUMBER)
        lengths = 1 + (1 << code.astype(np.int64))
        yield slices(heads[np.arange(1 + _NUMBER) < lengths[:, None]], starts_of(lengths))
        yield slices(fixed_values(items, width).reshape(-1), starts_of(counts) * width)
    else:
        empty = pa.scalar("" if column.encoding == "str" else b"", values.type)
        yield (pc.fill_null(values, empty) if values.null_count else values).cast(pa.large_binary())


def _taken(column: Column, pieces: Pieces, sizes: Ints) -> Callable[[npt.NDArray[np.bool_]], pa.Array]:
    """Takes the values of a column, of so many bytes each; returns what makes an array, given which are there.

    Raises:
      ValueError: for bytes that are no values of the column.
    """
    if column.size is not None:
        data = pieces.take(sizes)
        return lambda valid: _numbers(data, column.type, valid)
    if not column.is_array:
        data = pieces.take(sizes)
        if column.encoding == _JSON:
            return lambda valid: _parsed(data, sizes, valid, column.type)
        return lambda valid: bytes_array(column.type, data, sizes, valid)
    code = pieces.take(np.ones(len(sizes), np.int64))
    widths = 1 << (code & 3).astype(np.int64)
    if (code >> 2 != 1).any() or (widths > _NUMBER).any():
        raise ValueError(f"column {column.name!r} has an array of other than one axis")
    digits = np.zeros((len(sizes), _NUMBER), np.uint8)
    digits[np.arange(_NUMBER) < widths[:, None]] = pieces.take(widths)
    counts = digits.view("<u4")[:, 0].astype(np.int64)
    item = column.type.value_type
    if (1 + widths + counts * (item.bit_width // 8) != sizes).any():
        raise ValueError(f"column {column.name!r} has an array of another size than its shape says")
    data = pieces.take(counts * (item.bit_width // 8))
    items = _numbers(data, item, np.ones(int(counts.sum()), bool))
    return lambda valid: list_array(items, counts, valid)


def _numbers(data: Bytes, kind: pa.DataType, valid: npt.NDArray[np.bool_]) -> pa.Array:
    stored = pa.uint8() if types.is_boolean(kind) else kind
    mask = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    array = pa.Array.from_buffers(stored, len(valid), [mask, pa.py_buffer(np.ascontiguousarray(data))])
    return array.cast(kind) if stored != kind else array


def _parsed(data: Bytes, sizes: Ints, valid: npt.NDArray[np.bool_], kind: pa.DataType) -> pa.Array:
    """Lists of strings, from their JSON; that of what is missing is not looked at, and `[]` where Penstock wrote it."""
    ends = starts_of(sizes)
    found = text_array(kind, data, ends[:-1], ends[1:])
    if found is not None and not found.null_count and (sizes[~valid] == len("[]")).all():
        return list_array(found.values, lengths_of(found), valid)
    texts = bytes_array(pa.binary(), data, sizes, valid)
    try:
        return typed([None if text is None else json.loads(text) for text in texts.to_pylist()], kind)
    except (TypeError, RecursionError, UnicodeEncodeError, pa.ArrowException) as error:
        raise ValueError(f"not a list of strings: {error}") from error


@dataclasses.dataclass(frozen=True)
class Samples:
    """Neighbouring samples that were read: their bytes, where each starts, and the number of the first in its file."""

    content: Bytes
    offsets: Ints
    first: int


class MdsReader:
    """Reads a file of samples from its beginning, and checks that its offsets are those of its samples.

    Attributes:
      codec: of its columns.
      samples: how many it says that it has.

    Raises:
      InputError: for a file that is no MDS, or has columns of encodings that Penstock does not write.
    """

    def __init__(self, stream: Any, uri: str):
        self._stream, self._uri = stream, uri
        self.samples = int(np.frombuffer(self._read(_NUMBER), "<u4")[0])
        self._offsets = np.frombuffer(self._read(_NUMBER * (self.samples + 1)), "<u4").astype(np.int64)
        size = int(self._offsets[0]) - _NUMBER * (self.samples + 2)
        if size < 0 or (np.diff(self._offsets) < 0).any():
            raise InputError(f"{uri}: not an MDS file, or it is damaged: its offsets do not ascend")
        text = self._read(size)
        try:
            self.codec = MdsCodec(_columns(json.loads(text)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
            raise InputError(f"{uri}: not an MDS file of a dataset, or it is damaged: {error!r}") from error

    def pieces(self) -> Iterator[Samples]:
        """Yields all samples, in pieces of about 4 MiB.

        Raises:
          InputError: for a file that is cut off, or goes on behind its samples.
        """
        first = 0
        while first < self.samples:
            end = int(self._offsets.searchsorted(self._offsets[first] + _PIECE_BYTES))
            end = min(max(end, first + 1), self.samples)
            offsets = self._offsets[first : end + 1] - self._offsets[first]
            yield Samples(np.frombuffer(self._read(int(offsets[-1])), np.uint8), offsets, first)
            first = end
        if self._stream.read(1):
            raise InputError(f"{self._uri}: damaged: it goes on behind its last sample")

    def decode(self, samples: Samples) -> pa.RecordBatch:
        """Decodes samples.

        Raises:
          InputError: for samples that are damaged.
        """
        try:
            return self.codec.decode(samples.content, samples.offsets)
        except ValueError as error:
            last = samples.first + len(samples.offsets) - 2
            raise InputError(f"{self._uri}: damaged: rows {samples.first} to {last}: {error}") from error

    def _read(self, size: int) -> bytes:
        parts, missing = [], size
        while missing:
            part = self._stream.read(min(missing, _PIECE_BYTES))
            if not part:
                raise InputError(f"{self._uri}: cut off: {missing} bytes are missing")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


def _columns(found: Mapping[str, Any]) -> list[Column]:
    """The columns that a config describes; of booleans it says uint8."""
    names, encodings = found["column_names"], found["column_encodings"]
    present = {name for name in names if name.endswith(PRESENT) and name.removesuffix(PRESENT) in names}
    columns = [
        Column(name, encoding, _type(encoding), f"{name}{PRESENT}" in present)
        for name, encoding in zip(names, encodings, strict=True)
        if name not in present
    ]
    if config(columns)["column_names"] != names:
        raise ValueError("columns are not in the order of Penstock's")
    return columns


def _type(encoding: str) -> pa.DataType:
    if encoding == _JSON:
        return pa.list_(pa.string())
    if encoding.startswith(_ARRAY):
        return pa.list_(_NUMBERS[encoding.removeprefix(_ARRAY)])
    return _TEXTS[encoding] if encoding in _TEXTS else _NUMBERS[encoding]
