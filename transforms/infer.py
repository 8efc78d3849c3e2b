"""Infers a schema: what all rows have in common.

Each batch is summarised, summaries are merged (in any order and grouping), and the last one becomes a schema:

- **Type.** A source that has types decides: its texts are BYTES, whatever they look like. Texts of CSV and of text
  files follow `penstock.io.columns.grammar`, so inference and reading agree. Numbers get the kind that holds every
  value: INT, else FLOAT, else BYTES. Dates, times, timestamps and durations are INT in the unit of their type; with
  several units, or mixed with anything else, they are BYTES.
- **Whole numbers** are INT, however they are spelled, within int64. Where each one is spelled with a point or an
  exponent, or is of a floating type, and float32 holds all of them exactly, they are FLOAT.
- **Digits.** Integers beyond 2^53 among fractions make BYTES, as do integers beyond int64 and finite numbers beyond
  float32. A FLOAT is rounded to float32, since tf.Example has no other. Where most numbers are whole and beyond 2^24,
  they may be ids, and are never rounded: if INT cannot hold the column and FLOAT would change them, it is BYTES. All
  other losses are told (`summary_notes`): how many values, how many distinct ones fall together, and an example.
- **Presence.** `min_fraction: 1 min_count: 1` if every row has a value; `min_count: 1` if some have; nothing for a
  column that some batches lack altogether, since any demand would reject the files without it.
- **Values.** `value_count` from the fewest to the most values in a row, 1 to 1 for scalars.
- **Domains.** `bool_domain` if all values were Arrow bools. `string_domain` for texts that are all UTF-8, with at most
  100 distinct ones of 8 KiB in all, each occurring twice on average.
- **Comments** (`annotation`) say what a reader of the schema should know: why a column of numbers is BYTES or INT, what
  FLOAT loses, that there was no value to infer the type from, that there are NaNs (which validation rejects until the
  schema allows them).

A column without any value gets the type that its source declares, or BYTES.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import TakesBatches, check_global_window, feature_names, is_untyped, notes_of
from penstock.io.columns.explode import explode_hint
from penstock.io.columns.flatten import flatten_batch
from penstock.io.columns.float32 import ROUNDED, TELLS, lost_digits
from penstock.io.columns.grammar import text_numbers
from penstock.io.columns.lists import list_column
from penstock.io.columns.numbers import NumberCounts, count_doubles, count_ints, count_texts
from penstock.io.columns.values import decimal_text, is_readable, is_text, item_type
from penstock.io.errors import ConfigError
from penstock.io.kernel.shared.numbers import Text
from penstock.io.reasons import LEFT_OUT, Note, merge_notes
from penstock.io.schema import Kind

MAX_DOMAIN_VALUES = 100
MAX_DOMAIN_BYTES = 8 << 10

# With fewer repetitions, the values may well be names or identifiers, and new ones must be expected.
_MIN_REPETITION = 2

_FIRST_VALUES = 500

_NONE = NumberCounts()

_NUMBER_KINDS = {"bool": Kind.INT, "int": Kind.INT, "float": Kind.FLOAT, "decimal": Kind.FLOAT}


@dataclasses.dataclass(frozen=True)
class ColumnSummary:
    """Summarises one column. `ColumnSummary()`, of no rows, changes nothing when it is merged.

    Attributes:
      rows: the number of rows in the batches that have the column.
      present: how many of them have a value (an empty list is one).
      types: the declared types: `text`, `bool`, `int`, `float`, `decimal`, or the type of a date, time or duration.
      numbers: the numbers among the values; a bool and a time are ints.
      others: how many values only BYTES can hold.
      min_values: the fewest values in a row that has any; None without rows.
      max_values: the most values in a row; None without rows.
      texts: the distinct texts; None when there are too many.
    """

    rows: int = 0
    present: int = 0
    types: frozenset[str] = frozenset()
    numbers: NumberCounts = _NONE
    others: int = 0
    min_values: int | None = None
    max_values: int | None = None
    texts: frozenset[bytes] | None = frozenset()

    def merge(self, other: "ColumnSummary") -> "ColumnSummary":
        """Returns the summary of the rows of both; commutative and associative."""
        texts = None if self.texts is None or other.texts is None else self.texts | other.texts
        return ColumnSummary(
            rows=self.rows + other.rows,
            present=self.present + other.present,
            types=self.types | other.types,
            numbers=self.numbers.merge(other.numbers),
            others=self.others + other.others,
            min_values=_some(min, self.min_values, other.min_values),
            max_values=_some(max, self.max_values, other.max_values),
            texts=texts if texts is None or _is_small(texts) else None,
        )


@dataclasses.dataclass(frozen=True)
class Summary:
    """Summarises some rows, in about 10 KiB a column, or 40 KiB where FLOAT loses digits.

    `Summary()`, of no rows, changes nothing when it is merged.

    Attributes:
      rows: how many there are.
      columns: of any of the rows, by name.
      notes: of the readers of the rows (`penstock.io.batches.with_notes`).
    """

    rows: int = 0
    columns: Mapping[str, ColumnSummary] = dataclasses.field(default_factory=dict)
    notes: tuple[Note, ...] = ()

    def merge(self, other: "Summary") -> "Summary":
        """Returns the summary of the rows of both; commutative and associative."""
        columns = dict(self.columns)
        for name, column in other.columns.items():
            columns[name] = columns[name].merge(column) if name in columns else column
        notes = merge_notes((*self.notes, *other.notes)) if self.notes or other.notes else ()
        return Summary(self.rows + other.rows, columns, notes)


def summarize_batch(batch: pa.RecordBatch) -> Summary:
    """Summarises rows as a reader without a schema yields them.

    The fields of a struct column are summarised under their dotted names.

    Raises:
      ConfigError: when no tf.Example can hold the type of a column.
      InputError: when two columns have the same name after structs are flattened.
    """
    flat = flatten_batch(batch)
    columns = {
        name: summarize_column(name, flat.column(name), is_untyped(flat.schema.field(name)))
        for name in feature_names(flat)
    }
    return Summary(batch.num_rows, columns, merge_notes(notes_of(batch)))


def summary_schema(summary: Summary) -> schema_pb2.Schema:
    """Makes the schema that all summarised rows meet, except for NaN and infinity; features are sorted by name.

    A comment of the schema says which members readers have left out.
    """
    schema = schema_pb2.Schema()
    left_out = {note.subject: note for note in summary.notes if note.code == LEFT_OUT}
    for name in sorted(summary.columns):
        column = summary.columns[name]
        if name in left_out and not column.numbers.total + column.others:
            continue  # in the other rows the list is empty
        schema.feature.append(_feature(name, column, summary.rows))
    for note in left_out.values():
        schema.annotation.comment.append(f"{note.subject!r}, in {note.count:,} rows: {note.detail}")
    return schema


def summary_notes(summary: Summary) -> tuple[Note, ...]:
    """Lists what the schema of `summary_schema` does to values, and what readers have left out."""
    notes = [
        Note(ROUNDED, name, column.numbers.losing, _loss(column.numbers))
        for name, column in sorted(summary.columns.items())
        if _loses(column)
    ]
    if summary.rows and not summary.columns and not summary.notes:
        notes.append(Note(LEFT_OUT, "{}", summary.rows, "the row has no members"))
    return merge_notes([*summary.notes, *notes])


class SummarizeRowsFn(beam.CombineFn):
    """Combines batches into the summary of their rows."""

    def create_accumulator(self) -> Summary:
        """Starts with the summary of no rows."""
        return Summary()

    def add_input(self, accumulator: Summary, batch: pa.RecordBatch) -> Summary:
        """Adds the rows of one batch."""
        return accumulator.merge(summarize_batch(batch))

    def merge_accumulators(self, accumulators: Iterable[Summary]) -> Summary:
        """Merges summaries."""
        return functools.reduce(Summary.merge, accumulators, Summary())

    def extract_output(self, accumulator: Summary) -> Summary:
        """Returns the summary."""
        return accumulator


class InferSchema(TakesBatches, beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[schema_pb2.Schema]]):
    """Infers one schema from all rows.

    The module's docstring says how each feature of the schema is inferred.

    Input: `pyarrow.RecordBatch` as `ReadRecords` yields them without features; their columns may differ. Output: one
    `schema_pb2.Schema`, without features when there are no batches.
    """

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[schema_pb2.Schema]:
        """Summarises, and makes the schema; refuses windows (ConfigError)."""
        check_global_window(batches, "InferSchema")
        schema = beam.Map(summary_schema).with_output_types(schema_pb2.Schema)
        return (
            batches
            | "Summarize" >> beam.CombineGlobally(SummarizeRowsFn()).with_output_types(Summary)
            | "Infer" >> schema
        )


def summarize_column(name: str, column: pa.Array, untyped: bool) -> ColumnSummary:
    """Summarises one column; `untyped` says that its texts are of a source that has no types.

    Raises:
      ConfigError: when no tf.Example can hold the type of the column.
    """
    item = item_type(column.type)
    if not is_readable(item):
        raise ConfigError(
            f"column {name!r} has type {column.type}, which a tf.Example cannot hold; pass a schema that names the "
            f"columns to read, or convert the column{explode_hint(name, column.type)}"
        )
    lists = list_column(column)
    lengths = np.ones(1, np.int64) if lists.lengths is None else lists.lengths[lists.present]
    values = lists.values.drop_null() if lists.values.null_count else lists.values
    present = int(lists.present.sum())
    numbers, others = _count_values(values, untyped)
    return ColumnSummary(
        rows=len(column),
        present=present,
        types=_declared(values.type),
        numbers=numbers,
        others=others,
        min_values=int(lengths.min()) if present else None,
        max_values=int(lengths.max()) if present else None,
        texts=_distinct(values) if is_text(values.type) else frozenset(),
    )


def _declared(item: pa.DataType) -> frozenset[str]:
    if types.is_null(item):
        return frozenset()
    if types.is_timestamp(item):
        # All zones count from the same instant. Without a zone, times count from midnight on a local clock.
        return frozenset({f"timestamp[{item.unit}{', UTC' if item.tz else ''}]"})
    for name, matches in (
        ("text", is_text),
        ("bool", types.is_boolean),
        ("int", types.is_integer),
        ("float", types.is_floating),
        ("decimal", types.is_decimal),
    ):
        if matches(item):
            return frozenset({name})
    return frozenset({str(item)})


def _count_values(values: pa.Array, untyped: bool) -> tuple[NumberCounts, int]:
    """Counts the numbers, and what only BYTES holds; `values` has no nulls."""
    if is_text(values.type) and not untyped:
        return NumberCounts(), len(values)
    if is_text(values.type) or types.is_decimal(values.type):
        found = text_numbers(values if is_text(values.type) else decimal_text(values))
        return count_texts(found), found.others
    if types.is_floating(values.type):
        return count_doubles(values.cast(pa.float64()).to_numpy())
    if types.is_uint64(values.type):
        beyond = pc.greater(values, pa.scalar((1 << 63) - 1, pa.uint64()))
        return count_ints(values.filter(pc.invert(beyond)).cast(pa.int64()).to_numpy()), beyond.true_count
    if types.is_integer(values.type):
        return count_ints(values.cast(pa.int64()).to_numpy()), 0
    return NumberCounts(ints=len(values)), 0


def _distinct(text: Text) -> frozenset[bytes] | None:
    # If there are too many, the first values mostly show it.
    for part in (text[:_FIRST_VALUES], text):
        found = part.unique()
        if len(found) > MAX_DOMAIN_VALUES or (pc.sum(pc.binary_length(found)).as_py() or 0) > MAX_DOMAIN_BYTES:
            return None
    return frozenset(found.cast(pa.binary()).to_pylist())


def _is_small(texts: frozenset[bytes]) -> bool:
    return len(texts) <= MAX_DOMAIN_VALUES and sum(map(len, texts)) <= MAX_DOMAIN_BYTES


def _feature(name: str, column: ColumnSummary, rows: int) -> schema_pb2.Feature:
    kind, comments = column_kind(column)
    feature = schema_pb2.Feature(name=name, type=schema_pb2.FeatureType.Value(kind.value))
    if column.present == rows and rows:
        feature.presence.min_fraction = 1
    if column.present and column.rows == rows:
        feature.presence.min_count = 1
    if column.min_values is not None and column.max_values is not None:
        feature.value_count.min = column.min_values
        if column.max_values:
            feature.value_count.max = column.max_values
    if kind is Kind.INT and column.types == {"bool"}:
        feature.bool_domain.SetInParent()
    if kind is Kind.BYTES and column.types == {"text"} and (domain := _domain_values(column)):
        feature.string_domain.value.extend(domain)
    if column.numbers.specials and kind is Kind.FLOAT:
        comments.append(
            f"{column.numbers.specials:,} values are NaN or infinite; they are rejected unless float_domain has "
            "disallow_nan: false or disallow_inf: false"
        )
    if comments:
        feature.annotation.comment.extend(comments)
    return feature


def column_kind(column: ColumnSummary) -> tuple[Kind, list[str]]:
    """Chooses the kind that holds all values, and explains the choice where it may surprise."""
    numbers, others, declared = column.numbers, column.others, sorted(column.types)
    temporal = [name for name in declared if name != "text" and name not in _NUMBER_KINDS]
    if temporal and len(declared) > 1:
        return Kind.BYTES, [f"the column has several types: {', '.join(declared)}"]
    if temporal:
        return Kind.INT, [f"in the unit of {temporal[0]}"]
    if not numbers.total + others:
        return _kind_of_none(column)
    if others:
        mixed = f"{others:,} of {numbers.total + others:,} values are not numbers that a tf.Example can hold"
        return Kind.BYTES, [mixed] if numbers.total > others else []
    return _kind_of_numbers(numbers, column.types)


def _kind_of_numbers(numbers: NumberCounts, declared: frozenset[str]) -> tuple[Kind, list[str]]:
    if not numbers.fractions + numbers.beyond:
        return _kind_of_wholes(numbers, declared)
    if numbers.wide:
        return Kind.BYTES, [f"{numbers.wide:,} integers are beyond 2^53 and would lose digits among the floats"]
    if numbers.are_ids:
        return Kind.BYTES, [
            f"{numbers.large:,} of {numbers.total:,} numbers are whole and beyond 2^24, as ids are; FLOAT would change "
            f"{numbers.large_losing:,} of them, and INT cannot hold the others"
        ]
    return Kind.FLOAT, [f"{numbers.losing:,} values lose digits: {_loss(numbers)}"] if numbers.losing else []


def _kind_of_wholes(numbers: NumberCounts, declared: frozenset[str]) -> tuple[Kind, list[str]]:
    """Whole numbers within int64: FLOAT where they all look like it, and it is exact."""
    looks_float = numbers.wholes > 0 and (not numbers.ints or bool(declared & {"float", "decimal"}))
    if not looks_float:
        return Kind.INT, []
    inexact = numbers.inexact + numbers.wide
    if not inexact:
        return Kind.FLOAT, []
    return Kind.INT, ["all numbers are whole, and float32, the FLOAT of tf.Example, does not hold all of them exactly"]


def _loses(column: ColumnSummary) -> bool:
    return column.numbers.losing > 0 and column_kind(column)[0] is Kind.FLOAT


def _loss(numbers: NumberCounts) -> str:
    """Says which distinct values fall together as float32, and what can be done."""
    example = numbers.images.example or (numbers.least_losing,)
    distinct, images = numbers.distinct, numbers.images
    about = "" if distinct.is_exact else "about "
    fallen = ""
    if images.example:
        fallen = f"; {about}{distinct.count:,} distinct values become {about}{images.count:,}"
    return f"{lost_digits(*example)}{fallen}; {TELLS}"


def _kind_of_none(column: ColumnSummary) -> tuple[Kind, list[str]]:
    kinds = {_NUMBER_KINDS.get(name, Kind.BYTES) for name in column.types}
    comment = f"no value in {column.rows:,} rows"
    if kinds and Kind.BYTES not in kinds:
        return Kind.FLOAT if Kind.FLOAT in kinds else Kind.INT, [comment]
    return Kind.BYTES, [f"{comment}: the type is not known"]


def _domain_values(column: ColumnSummary) -> list[str]:
    """Returns the texts of a string domain, in order; none where there should be no domain."""
    values = column.numbers.total + column.others
    if column.texts is None or values < _MIN_REPETITION * len(column.texts):
        return []
    try:
        return sorted(text.decode() for text in column.texts)
    except UnicodeDecodeError:
        return []


def _some(choose: Callable[[list[int]], int], first: int | None, second: int | None) -> int | None:
    known = [count for count in (first, second) if count is not None]
    return choose(known) if known else None
