"""Uniqueness: of rows with equal keys, the first stays and the others are rejected.

The file of rules names one or several keys, each by its columns and optionally by a name::

    unique: [user_id, day]                         # one key; its name is user_id_day

    unique: [[user_id, day], [ticket]]             # two of them

    unique: {one_a_day: [user_id, day], ticket: [ticket]}

A row that repeats a key is rejected as `unique.<name>`, and its detail says where the first row is. Keys are checked
one after the other: rows that one key rejects are not seen by the next.

- **Which is first**: the first in source order, by the URI of the file and then by the position in it, however the rows
  are spread over workers. Among rows without an origin, the one with the least hash.
- **Null**: as in SQL, null is not equal to null. A row with a null in its key repeats nothing and always stays.
- **Equal**: values are compared, not hashes. Floats are compared as they were read, before a tf.Example narrows them;
  -0.0 equals 0.0, and NaN equals NaN. Lists are equal item by item, and a value equals a list of one. A list with a
  null inside repeats nothing.
- **Windows**: in a dataset with fixed windows, a key is unique within each window, and may recur in the next.
  Sliding windows, where a row lies in several, are refused.
- **Streams** need windows. There the first row to arrive stays, since no row waits for others. So which of the rows
  stays may differ from bounded input, but not how many, nor their keys. The state has one small record for each key
  of a window, until the window accepts no more rows. A row that comes even later is not compared: the sink rejects it
  as `late`.
- **Memory**: rows are cut by bucket of their key (`penstock.io.beam.spill`), and the keys of a bucket are sorted on
  disk (`penstock.io.sort`): neither many rows nor many rows of one key need to fit in memory.
"""

import dataclasses
import datetime
import functools
import itertools
import struct
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.coders import BytesCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindows, TimestampedValue
from apache_beam.utils import shared
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from penstock.io.batches import RecordBatchCoder, drop_rows, in_global_window, split_batch
from penstock.io.beam import progress
from penstock.io.beam.durations import ZERO, AnyDuration, as_duration, micros
from penstock.io.beam.row_counters import RowCounters
from penstock.io.beam.spill import (
    BatchCollector,
    Buckets,
    GroupByBucket,
    KeyByBucket,
    Keyed,
    Piece,
    SpilledBatch,
    SpillFile,
    earliest_time,
    read_pieces,
)
from penstock.io.beam.windows import Windows
from penstock.io.columns.hashing import canonical_rows, hash_rows, salted
from penstock.io.columns.lists import list_column
from penstock.io.columns.values import column_of, shown
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import row_letters
from penstock.io.errors import ConfigError, DataError
from penstock.io.kernel.shared.offsets import Ints, starts_of
from penstock.io.kernel.shared.pieces import Bytes, put_fixed, put_slices
from penstock.io.reasons import Reason
from penstock.io.reserved import EVENT_TIME, ORIGIN
from penstock.io.schema import Feature, find_feature
from penstock.io.sort.merge import merge_batches
from penstock.io.sort.records import EncodedRecords, Keys, records_batch
from penstock.io.sort.runs import MAX_RUN_BYTES
from penstock.transforms.checks.file import UniqueKey

_NAMESPACE = "RejectDuplicates"
_STAGE = "validate"

_KEY_SEED = salted(0, "unique key")
_ROW_SEED = salted(0, "unique row")

# Groups of keys. On a stream, each has its own state; of bounded input, one at a time is sorted.
_STREAM_BUCKETS = 64
_BOUNDED_BUCKETS = 256

# Spreads windows over the hashes: 2^64 divided by the golden ratio, an odd number.
_WINDOW_FACTOR = np.uint64(0x9E3779B97F4A7C15)

# The part of a record of `_sort_records` after the URI.
_TAIL = struct.Struct(">QQQ")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a row is in its source: URI, and `position` in the unit of the format; "" and -1 if unknown."""

    uri: str
    position: int

    def __str__(self) -> str:
        return f"the row of {self.uri} at {self.position}" if self.uri else "another row"


def check_unique(keys: Sequence[UniqueKey], features: Sequence[Feature], windows: Windows | None = None) -> None:
    """Checks keys against the columns of a schema, and the windows of the dataset.

    Raises:
      ConfigError: for an unknown column, two keys of the same name, or sliding windows.
    """
    seen: set[str] = set()
    for key in keys:
        if key.name in seen:
            raise ConfigError(f"{key.place}: the name is used twice; names tell rejected rows apart")
        seen.add(key.name)
        for column in key.columns:
            find_feature(column, features, f"{key.place}: column")
        if windows is not None and not windows.is_fixed:
            raise _sliding(key, windows)


def _sliding(key: UniqueKey, windows: Windows) -> ConfigError:
    return ConfigError(
        f"{key.place}: a key is unique in a fixed window, and of sliding windows ({windows}) a row lies in several; "
        "use --window fixed:SIZE, or leave `unique` out"
    )


@dataclasses.dataclass(frozen=True)
class _Keyed:
    """The rows of a batch that have a key.

    Attributes:
      rows: int64[n], the indices of these rows in the batch.
      hashes: uint64[n], the hashes of their keys.
      data: uint8, the bytes of the keys, one after the other.
      starts: int64[n + 1], where in `data` each key begins, and the end.
    """

    rows: Ints
    hashes: Keys
    data: Bytes
    starts: Ints


def _keyed_rows(batch: pa.RecordBatch, key: UniqueKey, windows: Windows | None) -> _Keyed:
    columns = [column_of(batch, name) for name in key.columns]
    rows = _rows_with_key(batch.num_rows, columns)
    values = [_exact(column.take(pa.array(rows))) for column in columns if column is not None and len(rows)]
    keyed = pa.RecordBatch.from_arrays(values, key.columns[: len(values)])
    hashes = hash_rows(keyed, keyed.schema.names, _KEY_SEED)
    data, starts = canonical_rows(keyed, keyed.schema.names)
    if windows is not None:
        window = window_starts(batch, windows)[rows]
        hashes = hashes ^ (window.view(np.uint64) * _WINDOW_FACTOR)
        data, starts = _with_prefix(data, starts, window)
    return _Keyed(rows, hashes, data, starts)


def _rows_with_key(rows: int, columns: Sequence[pa.Array | None]) -> Ints:
    """Returns the rows with a value in each column and no null inside a list; the others repeat nothing."""
    complete = np.ones(rows, bool)
    for column in columns:
        if column is None:
            return np.zeros(0, np.int64)
        lists = list_column(column)
        complete &= lists.present
        complete[lists.rows_with_null_values()] = False
    return np.flatnonzero(complete)


def _exact(column: pa.Array) -> pa.Array:
    """Returns floats as int64 with the same bits, since hashes and keys of rows would see floats as float32.

    All zeros become one, as do all NaNs. Other columns stay as they are. The column has no nulls.
    """
    lists = list_column(column)
    if not pa.types.is_floating(lists.values.type):
        return column
    values = lists.values.cast(pa.float64()).to_numpy(zero_copy_only=False) + 0.0  # -0.0 + 0.0 is 0.0
    values[np.isnan(values)] = np.nan
    bits = pa.array(values.view(np.int64))
    return bits if lists.lengths is None else pa.LargeListArray.from_arrays(pa.array(starts_of(lists.lengths)), bits)


def window_starts(batch: pa.RecordBatch, windows: Windows) -> Ints:
    """Returns int64: where the window of each row begins, in microseconds since 1970.

    Raises:
      DataError: when a row has no event time.
    """
    times = column_of(batch, EVENT_TIME)
    if times is None or times.null_count:
        raise DataError(f"a key that is unique in windows needs {EVENT_TIME} in every row; put AssignEventTime before")
    time = times.cast(pa.int64()).to_numpy()
    return time - time % micros(windows.size)


def _with_prefix(data: Bytes, starts: Ints, prefix: Ints) -> tuple[Bytes, Ints]:
    """Puts eight bytes (`prefix`) before the bytes of each row."""
    lengths = np.diff(starts)
    longer = starts_of(lengths + 8)
    out = np.empty(longer[-1], np.uint8)
    put_fixed(out, longer[:-1], prefix)
    put_slices(out, longer[:-1] + 8, data, starts[:-1], lengths)
    return out, longer


def places_of(batch: pa.RecordBatch) -> tuple[pa.Array, Ints]:
    """Returns the URI (dictionary-encoded) and the int64 position of each row; "" and -1 without an origin."""
    if ORIGIN not in batch.schema.names:
        uris = pa.DictionaryArray.from_arrays(pa.array(np.zeros(batch.num_rows, np.int32)), pa.array([""]))
        return uris, np.full(batch.num_rows, -1, np.int64)
    origin = batch.column(ORIGIN)
    return origin.field("uri"), origin.field("position").to_numpy(zero_copy_only=False)


def _sort_records(batch: pa.RecordBatch, key: UniqueKey, windows: Windows | None, ordinal: int) -> pa.RecordBatch:
    """Makes a record (`penstock.io.sort`) for each row with a key. Records sort by key, and then in source order.

    All numbers are big-endian, so bytes sort as numbers do::

        length of the key u32 | key | URI | 0 | position u64, from -2^63 | hash of the row u64 | ordinal u64

    `ordinal` is that of the batch's first row, among the rows of a bucket.
    """
    keyed = _keyed_rows(batch, key, windows)
    rows, lengths = keyed.rows, np.diff(keyed.starts)
    uris, positions = places_of(batch)
    names = uris.dictionary.cast(pa.binary())
    codes = uris.indices.to_numpy(zero_copy_only=False)[rows]
    uri_data = np.frombuffer(b"".join(names.to_pylist()), np.uint8)
    uri_starts = starts_of(pc.binary_length(names).to_numpy(zero_copy_only=False).astype(np.int64))
    uri_lengths = np.diff(uri_starts)[codes]
    offsets = starts_of(4 + lengths + uri_lengths + 1 + _TAIL.size)
    data = np.zeros(offsets[-1], np.uint8)
    at = offsets[:-1]
    put_fixed(data, at, lengths.astype(">u4"))
    put_slices(data, at + 4, keyed.data, keyed.starts[:-1], lengths)
    put_slices(data, at + 4 + lengths, uri_data, uri_starts[codes], uri_lengths)
    tail = np.empty((len(rows), 3), ">u8")
    # XOR of the top bit makes int64 sort as unsigned.
    tail[:, 0] = positions[rows].view(np.uint64) ^ np.uint64(1 << 63)
    tail[:, 1] = hash_rows(batch, None, _ROW_SEED)[rows]
    tail[:, 2] = rows + ordinal
    put_fixed(data, offsets[1:] - _TAIL.size, tail)
    return records_batch(np.zeros(len(rows), np.uint16), keyed.hashes, data, offsets, None)


@dataclasses.dataclass(frozen=True)
class _Row:
    """A parsed record of `_sort_records`."""

    key: bytes
    place: Place
    ordinal: int

    @classmethod
    def of(cls, record: bytes) -> "_Row":
        end = 4 + int.from_bytes(record[:4])
        position, _, ordinal = _TAIL.unpack(record[-_TAIL.size :])
        return cls(record[4:end], Place(record[end : -_TAIL.size - 1].decode(), position - (1 << 63)), ordinal)


def _repeated(records: Iterable[EncodedRecords]) -> Iterator[tuple[int, Place]]:
    """Yields the ordinal of each row that repeats another, and the place of the first; `records` are sorted."""
    first: _Row | None = None
    last_hash = -1
    for part in records:
        # Only rows with equal hashes are parsed in Python.
        hashes = part.keys
        repeats = np.concatenate([[int(hashes[0]) == last_hash], hashes[1:] == hashes[:-1]])
        # A row with the same hash as the next one may be the first of its key.
        heads = np.append(repeats[1:], True)
        for index in np.flatnonzero(repeats | heads).tolist():
            row = _Row.of(part.data[part.offsets[index] : part.offsets[index + 1]].tobytes())
            if repeats[index] and first is not None and row.key == first.key:
                yield row.ordinal, first.place
            else:
                first = row
        last_hash = int(hashes[-1])


# Maps a row index to the place of the first row with the same key.
Repeated: TypeAlias = Mapping[int, Place]


def find_duplicates(
    pieces: Sequence[SpilledBatch], key: UniqueKey, windows: Windows | None = None, run_bytes: int = MAX_RUN_BYTES
) -> Iterator[tuple[pa.RecordBatch, Repeated]]:
    """Yields all rows, in batches, with those that repeat another.

    Memory holds a batch and about `run_bytes`, whatever the number of rows, or of rows with one key.

    Args:
      pieces: the rows, in any order; all rows of a key must be among them.
      key: the key that must be unique.
      windows: the windows in which it must be; None for all rows together.
      run_bytes: the number of bytes that are sorted at once.

    Raises:
      DataError: when a row has no event time, and there are windows.
    """
    with tempfile.TemporaryDirectory(prefix="penstock-") as directory:
        ordered = merge_batches(_all_records(pieces, key, windows), directory, run_bytes=run_bytes)
        verdicts = merge_batches(_verdicts(_repeated(ordered.pieces()), run_bytes), directory, run_bytes=run_bytes)
        start = 0
        for batch in read_pieces(pieces):
            found = verdicts.pieces(start, start + batch.num_rows)
            yield batch, {ordinal - start: place for part in found for ordinal, place in _places(part)}
            start += batch.num_rows


def _all_records(pieces: Iterable[SpilledBatch], key: UniqueKey, windows: Windows | None) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in read_pieces(pieces):
        yield _sort_records(batch, key, windows, start)
        start += batch.num_rows


# The size of a verdict besides its URI, roughly: Python's objects for it.
_VERDICT_BYTES = 400


def _verdicts(repeated: Iterator[tuple[int, Place]], run_bytes: int) -> Iterator[pa.RecordBatch]:
    """Yields records whose keys are ordinals, and whose bytes are the place of the first: position i64, URI."""
    while some := list(itertools.islice(repeated, max(1, run_bytes // _VERDICT_BYTES))):
        texts = [place.position.to_bytes(8, signed=True) + place.uri.encode() for _, place in some]
        offsets = starts_of(np.array([*map(len, texts)], np.int64))
        keys = np.array([ordinal for ordinal, _ in some], np.uint64)
        data = np.frombuffer(b"".join(texts), np.uint8)
        yield records_batch(np.zeros(len(keys), np.uint16), keys, data, offsets, None)


def _places(verdicts: EncodedRecords) -> Iterator[tuple[int, Place]]:
    for ordinal, (start, end) in zip(
        verdicts.keys.tolist(), itertools.pairwise(verdicts.offsets.tolist()), strict=True
    ):
        record = verdicts.data[start:end].tobytes()
        yield ordinal, Place(record[8:].decode(), int.from_bytes(record[:8], signed=True))


def duplicate_reasons(batch: pa.RecordBatch, repeated: Repeated, key: UniqueKey) -> dict[int, list[Reason]]:
    """Returns why rows are rejected, with their key and the place of its first row."""
    if not repeated:
        return {}
    rows = sorted(repeated)
    values = batch.select(list(key.columns)).take(pa.array(rows, pa.int64())).to_pylist()
    return {
        row: [Reason(key.code, f"{_shown(fields)}, as in {repeated[row]}, which stays")]
        for row, fields in zip(rows, values, strict=True)
    }


def _shown(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} is {shown(value)}" for name, value in fields.items())


class RejectDuplicates(RejectingTransform):
    """Rejects rows whose key another row has.

    The module's docstring says which of them stays. The input is batches in the global window. Of bounded input, rows
    come out in no order, in other batches. Counters: `in-rows`, `out-rows`, `bad-rows`.
    """

    def __init__(
        self,
        key: UniqueKey,
        windows: Windows | None = None,
        lateness: AnyDuration = ZERO,
        spill: str | None = None,
        buckets: int | None = None,
        run_bytes: int = MAX_RUN_BYTES,
    ):
        """Checks the configuration.

        Args:
          key: the key that must be unique.
          windows: fixed windows of event time (`_event_time`) within which it must be unique; a stream needs them.
          lateness: how far behind the watermark a row of a stream may be and still be compared; a timedelta, or text
            such as `30s`.
          spill: a folder that all workers share, for bounded input; the files stay there. None leaves the rows to the
            runner's own shuffle, which local runners hold in memory.
          buckets: the number of groups of keys; on a stream it must not change when the job is updated.
          run_bytes: bytes of keys that a worker sorts at once.

        Raises:
          ConfigError: for sliding windows, or a lateness that is not a duration.
        """
        super().__init__()
        if windows is not None and not windows.is_fixed:
            raise _sliding(key, windows)
        self._key = key
        self._windows = windows
        self._lateness = as_duration(lateness, "lateness")
        self._spill = spill
        self._buckets = buckets
        self._run_bytes = run_bytes

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Groups rows by bucket, then compares those with the same key."""
        if not isinstance(batches.windowing.windowfn, GlobalWindows):
            raise ConfigError("RejectDuplicates takes batches in the global window; give it the windows as an argument")
        reject_repeated = self._at_once if batches.is_bounded else self._on_stream
        good, rejected = split_rejected(reject_repeated(batches))
        self._reject(rejected)
        return good

    def _at_once(self, batches: beam.PCollection[pa.RecordBatch]) -> Any:
        buckets_of = functools.partial(
            _buckets, key=self._key, windows=self._windows, buckets=self._buckets or _BOUNDED_BUCKETS
        )
        compare = beam.ParDo(_CompareBucketFn(self._key, self._windows, self._run_bytes))
        compare = compare.with_output_types(pa.RecordBatch).with_outputs(REJECTED, main="out")
        return (
            batches
            | "ByBucket" >> GroupByBucket(buckets_of, _NAMESPACE, self._spill, "compared")
            | "Compare" >> compare
        )

    def _on_stream(self, batches: beam.PCollection[pa.RecordBatch]) -> Any:
        if self._windows is None:
            raise ConfigError(
                f"{self._key.place}: in a stream a key can be unique in a window, not in all that is still to come; "
                "pass --window fixed:SIZE (RejectDuplicates(windows=...)), or leave `unique` out"
            )
        buckets_of = functools.partial(
            _window_buckets, key=self._key, windows=self._windows, buckets=self._buckets or _STREAM_BUCKETS
        )
        compare = beam.ParDo(
            _CompareStreamFn(self._key, self._windows, self._lateness, self._buckets or _STREAM_BUCKETS)
        )
        compare = compare.with_output_types(pa.RecordBatch).with_outputs(REJECTED, main="out")
        return batches | "KeyByBucket" >> KeyByBucket(buckets_of, _NAMESPACE) | "Compare" >> compare


def _buckets(batch: pa.RecordBatch, key: UniqueKey, windows: Windows | None, buckets: int) -> Buckets:
    """Returns int64: the bucket of each row's key; rows without a key are spread evenly."""
    hashes = hash_rows(batch, None, _ROW_SEED)
    keyed = _keyed_rows(batch, key, windows)
    hashes[keyed.rows] = keyed.hashes
    return (hashes % np.uint64(buckets)).astype(np.int64)


def _window_buckets(batch: pa.RecordBatch, key: UniqueKey, windows: Windows, buckets: int) -> Buckets:
    """Returns int64: a number for each row that identifies the window and the bucket in it."""
    return window_starts(batch, windows) // micros(windows.size) * buckets + _buckets(batch, key, windows, buckets)


class _RejectRepeatedFn(beam.DoFn):
    """Separates good rows from those that repeat others."""

    def __init__(self, key: UniqueKey, windows: Windows | None):
        self._key = key
        self._windows = windows
        self._counters = RowCounters(_NAMESPACE)

    def _reject_repeated(self, batch: pa.RecordBatch, repeated: Repeated) -> Iterator[Any]:
        self._counters.add(out_rows=batch.num_rows - len(repeated), bad_rows=len(repeated))
        if repeated:
            yield from reject(row_letters(batch, duplicate_reasons(batch, repeated, self._key), _STAGE))


class _CompareBucketFn(_RejectRepeatedFn):
    """Compares all rows of a bucket of bounded input."""

    def __init__(self, key: UniqueKey, windows: Windows | None, run_bytes: int):
        super().__init__(key, windows)
        self._run_bytes = run_bytes

    def process(self, item: tuple[int, Iterable[Piece]]) -> Iterator[Any]:
        with tempfile.TemporaryDirectory(prefix="penstock-") as directory:
            pieces = _on_disk(item[1], directory)
            for batch, repeated in find_duplicates(pieces, self._key, self._windows, self._run_bytes):
                yield from self._reject_repeated(batch, repeated)
                progress.add(compared=batch.num_rows)
                yield from split_batch(drop_rows(batch, repeated) if repeated else batch)


def _on_disk(pieces: Iterable[Piece], directory: str) -> list[SpilledBatch]:
    """Returns the pieces of a bucket as files, since they are read twice; those from the runner are written to one."""
    with SpillFile(directory) as file:
        return [piece if isinstance(piece, SpilledBatch) else file.add(piece) for piece in pieces]


# What the state of a stream holds for each key: the key, and the place of its first row.
_SEEN = pa.schema([("hash", pa.uint64()), ("key", pa.large_binary()), ("uri", pa.string()), ("position", pa.int64())])

# More parts than these are joined, since each part is searched for every batch.
_MAX_PARTS = 8


class SeenKeys:
    """The keys of one bucket of a window that have arrived, each with the place of its first row."""

    def __init__(self) -> None:
        self._parts: list[tuple[Keys, pa.RecordBatch]] = []

    def __len__(self) -> int:
        """Returns the number of keys."""
        return sum(len(hashes) for hashes, _ in self._parts)

    def add(self, seen: pa.RecordBatch) -> None:
        """Adds rows of `_SEEN`."""
        if not seen.num_rows:
            return
        if len(self._parts) >= _MAX_PARTS:
            seen = pa.concat_batches([*(part for _, part in self._parts), seen])
            self._parts = []
        seen = seen.take(pc.sort_indices(seen.column("hash")))
        self._parts.append((seen.column("hash").to_numpy(), seen))

    def may_have(self, hashes: Keys) -> npt.NDArray[np.bool_]:
        """Returns which of the hashes belong to keys that have arrived."""
        found = np.zeros(len(hashes), bool)
        for known, _ in self._parts:
            index = np.minimum(known.searchsorted(hashes), len(known) - 1)
            found |= known[index] == hashes
        return found

    def find(self, hash_: int, key: bytes) -> Place | None:
        """Returns the place of a key's first row; None when no row with it has arrived."""
        for known, part in self._parts:
            first, last = (int(known.searchsorted(np.uint64(hash_), side)) for side in ("left", "right"))
            for row in range(first, last):
                if part.column("key")[row].as_py() == key:
                    return Place(part.column("uri")[row].as_py(), part.column("position")[row].as_py())
        return None


def compare_with(
    seen: SeenKeys, batch: pa.RecordBatch, key: UniqueKey, windows: Windows | None = None
) -> tuple[Repeated, pa.RecordBatch]:
    """Returns the rows that repeat an earlier row, here or in `seen`; and the new keys, for `SeenKeys.add`."""
    keyed = _keyed_rows(batch, key, windows)
    uris, positions = places_of(batch)
    _, inverse, counts = np.unique(keyed.hashes, return_inverse=True, return_counts=True)
    repeated: dict[int, Place] = {}
    new = np.ones(len(keyed.rows), bool)
    here: dict[bytes, Place] = {}
    # Only rows whose hash is known, or repeats in this batch, can repeat a key: compare just their keys.
    for index in np.flatnonzero(seen.may_have(keyed.hashes) | (counts[inverse] > 1)).tolist():
        row, value = int(keyed.rows[index]), keyed.data[keyed.starts[index] : keyed.starts[index + 1]].tobytes()
        place = here.get(value) or seen.find(int(keyed.hashes[index]), value)
        if place is None:
            here[value] = Place(uris[row].as_py(), int(positions[row]))
        else:
            repeated[row], new[index] = place, False
    return repeated, _seen_rows(keyed, np.flatnonzero(new), uris, positions)


def _seen_rows(keyed: _Keyed, indices: Ints, uris: pa.Array, positions: Ints) -> pa.RecordBatch:
    rows, data, offsets = keyed.rows[indices], pa.py_buffer(keyed.data), pa.py_buffer(keyed.starts)
    keys = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(keyed.rows), [None, offsets, data])
    texts = uris.take(pa.array(rows)).cast(pa.string())
    columns = [pa.array(keyed.hashes[indices]), keys.take(pa.array(indices)), texts, pa.array(positions[rows])]
    return pa.RecordBatch.from_arrays(columns, schema=_SEEN)


class _Known(dict[int, tuple[bytes, SeenKeys]]):
    """The state that a process has in memory: for each of its keys, the keys seen and the mark they were written at."""


# At most this many keys are kept in memory besides the state.
_MAX_KNOWN = 4 << 20

_CLOSE = TimerSpec("close", TimeDomain.WATERMARK)
_MARK: Any = beam.DoFn.StateParam(ReadModifyWriteStateSpec("mark", BytesCoder()))
_SEEN_STATE: Any = beam.DoFn.StateParam(BagStateSpec("seen", RecordBatchCoder()))
_TIMER: Any = beam.DoFn.TimerParam(_CLOSE)
_KEY: Any = beam.DoFn.KeyParam


class _CompareStreamFn(_RejectRepeatedFn):
    """Compares rows of a stream with the keys of their window that have arrived."""

    def __init__(self, key: UniqueKey, windows: Windows, lateness: datetime.timedelta, buckets: int):
        super().__init__(key, windows)
        self._size = micros(windows.size)
        self._lateness = micros(lateness)
        self._buckets = buckets
        self._shared = shared.Shared()

    def setup(self) -> None:
        self._known: _Known = self._shared.acquire(_Known)

    def start_bundle(self) -> None:
        self._collector = BatchCollector()
        self._earliest = MAX_TIMESTAMP

    def process(
        self,
        item: Keyed,
        timestamp: Any = beam.DoFn.TimestampParam,
        mark: Any = _MARK,
        state: Any = _SEEN_STATE,
        timer: Any = _TIMER,
    ) -> Iterator[Any]:
        number, batch = item
        seen = self._seen(number, mark, state)
        repeated, new = compare_with(seen, batch, self._key, self._windows)
        if new.num_rows:
            self._remember(number, seen, new, mark, state)
            # The sink learns of the watermark a little later than this step: wait one window more.
            timer.set(Timestamp(micros=(number // self._buckets + 2) * self._size + self._lateness))
        yield from self._reject_repeated(batch, repeated)
        self._earliest = min(self._earliest, timestamp)
        self._collector.add(drop_rows(batch, repeated) if repeated else batch)
        if self._collector.is_full:
            for good, time in self._flush():
                yield TimestampedValue(good, time)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for good, time in self._flush():
            yield in_global_window(good, time)

    def _flush(self) -> Iterator[tuple[pa.RecordBatch, Timestamp]]:
        for whole in self._collector.take():
            for batch in split_batch(whole):
                yield batch, earliest_time(batch, self._earliest)

    def _seen(self, number: int, mark: Any, state: Any) -> SeenKeys:
        """Returns what the state holds, from memory if that still matches the state."""
        known = self._known.get(number)
        if known is not None and known[0] == mark.read():
            return known[1]
        seen = SeenKeys()
        for batch in state.read():
            seen.add(batch)
        return seen

    def _remember(self, number: int, seen: SeenKeys, new: pa.RecordBatch, mark: Any, state: Any) -> None:
        written = uuid.uuid4().bytes
        state.add(new)
        mark.write(written)
        seen.add(new)
        self._known.pop(number, None)
        self._known[number] = written, seen
        while len(self._known) > 1 and sum(len(keys) for _, keys in list(self._known.values())) > _MAX_KNOWN:
            self._known.pop(next(iter(self._known)), None)

    @on_timer(_CLOSE)
    def close(self, number: int = _KEY, mark: Any = _MARK, state: Any = _SEEN_STATE) -> None:
        """Drops the keys of a window that accepts no more rows."""
        self._known.pop(number, None)
        mark.clear()
        state.clear()
