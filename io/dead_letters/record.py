"""Dead letters: what is known about rejected rows, one by one and as columns."""

import collections
import dataclasses
import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam import coders

from penstock.io.batches import RecordBatchCoder, feature_names
from penstock.io.columns.lists import without_views
from penstock.io.columns.values import plain
from penstock.io.dead_letters.payloads import json_text
from penstock.io.dead_letters.source import PayloadEncoding, keep_source, payload_text, payloads_of
from penstock.io.reasons import Reason, codes_of
from penstock.io.reserved import ATTEMPT, EVENT_TIME, ORIGIN, SOURCE

_JSON = json.JSONEncoder(ensure_ascii=False)

REASON_TYPE = pa.struct([("code", pa.string()), ("detail", pa.string())])

# The columns of a `RejectedBatch`: the fields of a `DeadLetter`.
LETTERS = pa.schema(
    [
        ("reasons", pa.list_(REASON_TYPE)),
        ("stage", pa.string()),
        ("uri", pa.string()),
        ("position", pa.int64()),
        ("payload", pa.string()),
        ("payload_encoding", pa.string()),
        ("attempt", pa.int64()),
        ("event_time", pa.string()),
        ("payload_columns", pa.string()),
    ]
)

# What an Arrow IPC stream begins with.
_STREAM = b"\xff\xff\xff\xff"

# The same columns as Python lists, by name. A value has the type of the `DeadLetter` field.
Lists = Mapping[str, list[Any]]


@dataclasses.dataclass(frozen=True)
class DeadLetter:
    """One rejected row, with at least one reason.

    `payload_columns` is JSON. For CSV, whose lines do not name their columns, it is a list of the names. For rows of a
    source that has types, it is a note of the columns' types (`penstock.io.dead_letters.column_types`).
    """

    reasons: tuple[Reason, ...]
    stage: str
    uri: str
    position: int
    payload: str
    payload_encoding: PayloadEncoding
    attempt: int = 1
    event_time: str | None = None
    payload_columns: str | None = None

    def to_json(self, run_id: str = "") -> str:
        """Returns the JSON object, without a line break."""
        first, *others = self.reasons
        columns = {} if self.payload_columns is None else {"payload_columns": self.payload_columns}
        return _JSON.encode(
            {
                "reason": first.code,
                "detail": first.detail,
                "also": [{"reason": other.code, "detail": other.detail} for other in others],
                "stage": self.stage,
                "uri": self.uri,
                "position": self.position,
                "payload": self.payload,
                "payload_encoding": self.payload_encoding,
                **columns,
                "attempt": self.attempt,
                "event_time": self.event_time,
                "run_id": run_id,
            }
        )

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Parses the dead letter of one line; drops `run_id`."""
        fields = json.loads(line)
        first = Reason(fields["reason"], fields["detail"])
        others = (Reason(other["reason"], other["detail"]) for other in fields["also"])
        return cls(
            reasons=(first, *others),
            stage=fields["stage"],
            uri=fields["uri"],
            position=fields["position"],
            payload=fields["payload"],
            payload_encoding=fields["payload_encoding"],
            attempt=fields["attempt"],
            event_time=fields["event_time"],
            payload_columns=fields.get("payload_columns"),
        )


class DeadLetterCoder(coders.Coder):
    """Encodes dead letters as JSON between stages."""

    def encode(self, value: DeadLetter) -> bytes:
        """Returns UTF-8 JSON; lone surrogates cannot occur, since payloads are decoded strictly."""
        return value.to_json().encode()

    def decode(self, encoded: bytes) -> DeadLetter:
        """Inverts `encode`."""
        return DeadLetter.from_json(encoded)

    def is_deterministic(self) -> bool:
        """True: the fields are always written in the same order."""
        return True

    def to_type_hint(self) -> type:
        """The element type."""
        return DeadLetter


coders.registry.register_coder(DeadLetter, DeadLetterCoder)


def raw_letter(
    reasons: Iterable[Reason], stage: str, uri: str, position: int, payload: bytes, columns: str | None = None
) -> DeadLetter:
    """Makes a dead letter whose payload is the original bytes: as text if they are UTF-8, else as base64."""
    text, encoding = payload_text(payload)
    return DeadLetter(tuple(reasons), stage, uri, position, text, encoding, payload_columns=columns)


class RejectedBatch:
    """Dead letters as columns: the element that rejecting transforms pass to error handlers.

    Iterating over it yields `DeadLetter`s. Columns are several times as fast. They are Arrow columns or Python lists,
    as they were made, and are converted only on request: between fused steps nothing needs Arrow.

    Attributes:
      rows: the rows themselves, one for each letter, as far as they became columns: for statistics. None where they
        did not, such as lines that are no records.
    """

    def __init__(self, letters: pa.RecordBatch, rows: pa.RecordBatch | None = None):
        """Takes the columns of `LETTERS`; `reasons` has at least one reason per row."""
        self._letters: pa.RecordBatch | None = letters
        self._lists: Lists | None = None
        self.rows = rows

    @classmethod
    def of(cls, letters: Iterable[DeadLetter]) -> Self:
        """Makes columns from single dead letters."""
        rows = list(letters)
        return cls.of_lists({name: [getattr(letter, name) for letter in rows] for name in LETTERS.names})

    @classmethod
    def of_lists(cls, lists: Lists, rows: pa.RecordBatch | None = None) -> Self:
        """Takes the fields of `DeadLetter` by name, each as a list with one value per letter."""
        batch = cls.__new__(cls)
        batch._letters, batch._lists, batch.rows = None, lists, rows
        return batch

    @property
    def letters(self) -> pa.RecordBatch:
        """The columns of `LETTERS`."""
        if self._letters is None:
            self._letters = _as_arrow(self.lists)
        return self._letters

    @property
    def lists(self) -> Lists:
        """The fields of `DeadLetter` by name, each as a list with one value per letter."""
        if self._lists is None:
            self._lists = _as_lists(self.letters)
        return self._lists

    def __len__(self) -> int:
        """Returns the number of rejected rows."""
        return int(self._letters.num_rows) if self._letters is not None else len(self.lists["position"])

    def __iter__(self) -> Iterator[DeadLetter]:
        """Yields the letters one by one."""
        return itertools.starmap(DeadLetter, zip(*(self.lists[name] for name in LETTERS.names), strict=True))

    def dated(self, times: pa.Array) -> "RejectedBatch":
        """Returns the letters with these event times: timestamp[us, UTC], null where one is not known."""
        return RejectedBatch.of_lists({**self.lists, "event_time": _iso_times(times)}, self.rows)

    def filter(self, mask: pa.BooleanArray) -> "RejectedBatch":
        """Returns the letters where the mask is true."""
        return RejectedBatch(self.letters.filter(mask), None if self.rows is None else self.rows.filter(mask))

    @property
    def nbytes(self) -> int:
        """The bytes of the Arrow buffers, or for Python lists, the characters of the payloads."""
        return int(self._letters.nbytes) if self._letters is not None else sum(map(len, self.lists["payload"]))

    def reason_counts(self) -> collections.Counter[str]:
        """Counts the rows with each code: a row counts for each of its codes, once for each."""
        counts: collections.Counter[str] = collections.Counter()
        for reasons, rows in self._rows_by_reasons():
            counts.update(dict.fromkeys(codes_of(reasons), rows))
        return counts

    def _rows_by_reasons(self) -> Iterator[tuple[Sequence[Reason], int]]:
        """Yields the objects that are the reasons of rows, and how many rows share each (`row_letters`)."""
        lists = self.lists["reasons"]
        objects = dict(zip(map(id, lists), lists, strict=True))
        for key, rows in collections.Counter(map(id, lists)).items():
            yield objects[key], rows

    def stage_counts(self) -> collections.Counter[str]:
        """Counts rows by the stage that rejected them."""
        return collections.Counter(self.lists["stage"])

    def json_lines(self, run_id: str = "") -> list[str]:
        """Returns what `DeadLetter.to_json` returns for each row, in a fraction of the time."""
        run = json_text(run_id)
        shared, shared_columns = functools.cache(json_text), functools.cache(_json_columns)
        why = {id(reasons): _json_reasons(reasons) for reasons, _ in self._rows_by_reasons()}
        return [
            f'{{{why[id(reasons)]}, "stage": {shared(stage)}, "uri": {shared(uri)}, '
            f'"position": {position}, "payload": {json_text(payload)}, "payload_encoding": "{encoding}", '
            f'{shared_columns(columns)}"attempt": {attempt}, '
            f'"event_time": {"null" if time is None else json_text(time)}, "run_id": {run}}}'
            for reasons, stage, uri, position, payload, encoding, attempt, time, columns in zip(
                *(self.lists[name] for name in LETTERS.names), strict=True
            )
        ]


def _json_columns(columns: str | None) -> str:
    return "" if columns is None else f'"payload_columns": {json_text(columns)}, '


def _json_reasons(reasons: Sequence[Reason]) -> str:
    """Returns `"reason": ..., "detail": ..., "also": [...]`."""
    first, *others = (f'"reason": {json_text(reason.code)}, "detail": {json_text(reason.detail)}' for reason in reasons)
    return f'{first}, "also": [{", ".join(f"{{{other}}}" for other in others)}]'


def _as_arrow(lists: Lists) -> pa.RecordBatch:
    rows: list[Sequence[Reason]] = lists["reasons"]
    texts = [[getattr(reason, name) for reasons in rows for reason in reasons] for name in ("code", "detail")]
    structs = pa.StructArray.from_arrays([pa.array(text, pa.string()) for text in texts], fields=list(REASON_TYPE))
    reasons = pa.ListArray.from_arrays(pa.array(np.cumsum([0, *map(len, rows)]), pa.int32()), structs)
    others = [pa.array(lists[field.name], field.type) for field in list(LETTERS)[1:]]
    return pa.RecordBatch.from_arrays([reasons, *others], schema=LETTERS)


def _as_lists(letters: pa.RecordBatch) -> Lists:
    lists = letters.to_pydict()
    return lists | {"reasons": [tuple(Reason(**reason) for reason in reasons) for reasons in lists["reasons"]]}


class RejectedBatchCoder(coders.Coder):
    """Encodes rejected batches as Arrow between stages.

    An Arrow IPC stream begins with four bytes of ones. With rows, two streams follow the size of the first.
    """

    def encode(self, value: RejectedBatch) -> bytes:
        """Returns an Arrow IPC stream of letters; with rows, its size in 8 bytes, that stream, and one of the rows."""
        letters = RecordBatchCoder().encode(value.letters)
        if value.rows is None:
            return letters
        return b"".join((len(letters).to_bytes(8, "little"), letters, RecordBatchCoder().encode(value.rows)))

    def decode(self, encoded: bytes) -> RejectedBatch:
        """Inverts `encode`."""
        if encoded.startswith(_STREAM):
            return RejectedBatch(RecordBatchCoder().decode(encoded))
        end = 8 + int.from_bytes(encoded[:8], "little")
        return RejectedBatch(*(RecordBatchCoder().decode(part) for part in (encoded[8:end], encoded[end:])))

    def is_deterministic(self) -> bool:
        """False: see `RecordBatchCoder`."""
        return False

    def estimate_size(self, value: RejectedBatch) -> int:
        """Estimates the size in bytes; Beam's default would encode the batch to measure it."""
        return value.nbytes

    def to_type_hint(self) -> type:
        """The element type."""
        return RejectedBatch


coders.registry.register_coder(RejectedBatch, RejectedBatchCoder)


def row_letters(
    batch: pa.RecordBatch,
    reasons: Mapping[int, Iterable[Reason]],
    stage: str,
    typed: pa.RecordBatch | None = None,
) -> RejectedBatch:
    """Makes dead letters of the rows of `batch` that `reasons` names (row index -> its reasons), in row order.

    Args:
      batch: the rows; uri and position come from `_origin` ("" and -1 without it), the payload from `_source` (without
        it, the data columns as JSON), the time from `_event_time`, the attempt from `_attempt` (1 without it).
      reasons: row index -> reasons, at least one per row.
      stage: name of the step that rejects: read, validate, split, transform, write.
      typed: the rows under their schema, if `batch` has them as they were read; they become `RejectedBatch.rows`.
    """
    rows = sorted(reasons)
    typed = batch if typed is None else typed
    wanted = [name for name in (ORIGIN, EVENT_TIME, ATTEMPT) if name in batch.schema.names]
    taken = keep_source(batch).select([*wanted, SOURCE]).take(pa.array(rows, pa.int64()))
    payloads = payloads_of(taken.column(SOURCE))
    uris, positions = _places(taken, len(rows))
    return RejectedBatch.of_lists(
        {
            "reasons": _shared(reasons[row] for row in rows),
            "stage": [stage] * len(rows),
            "uri": uris,
            "position": positions,
            "payload": payloads.texts,
            "payload_encoding": payloads.encodings,
            "attempt": taken.column(ATTEMPT).to_pylist() if ATTEMPT in wanted else [1] * len(rows),
            "event_time": _iso_times(taken.column(EVENT_TIME)) if EVENT_TIME in wanted else [None] * len(rows),
            "payload_columns": payloads.columns,
        },
        _taken(typed.select(feature_names(typed)), rows),
    )


def _shared(reasons: Iterable[Iterable[Reason]]) -> list[tuple[Reason, ...]]:
    """Returns the reasons of each row; rows whose reasons are the same objects share one tuple."""
    known: dict[int | tuple[int, ...], tuple[Reason, ...]] = {}
    rows = []
    for own in map(tuple, reasons):
        key = id(own[0]) if len(own) == 1 else tuple(map(id, own))
        rows.append(known.setdefault(key, own))
    return rows


def _taken(batch: pa.RecordBatch, rows: Sequence[int]) -> pa.RecordBatch | None:
    """Returns some rows of a batch; None if it has no columns."""
    return without_views(batch).take(pa.array(rows, pa.int64())) if batch.num_columns else None  # no `take` for views


def _places(batch: pa.RecordBatch, rows: int) -> tuple[list[str], list[int]]:
    """Returns uri and position of each row."""
    if ORIGIN not in batch.schema.names:
        return [""] * rows, [-1] * rows
    origin = batch.column(ORIGIN)
    return plain(origin.field("uri")).to_pylist(), origin.field("position").to_pylist()


def _iso_times(times: pa.Array) -> list[str | None]:
    return pc.strftime(times, format="%Y-%m-%dT%H:%M:%SZ").to_pylist()
