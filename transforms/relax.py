"""Relaxes a schema to what rows hold: each demand that some row breaks is widened until all rows meet it, and no more.

====================  =====================================================================================
what rows break       what becomes of the schema
====================  =====================================================================================
type                  the type that inference gives the column (of tf.Examples, the one that they hold), and no domain
presence              no value is demanded; of a feature that has none, or no column in some files, not even one
value_count           from the fewest to the most values; a `shape` becomes a `value_count`
nan, infinity         `disallow_nan: false`, `disallow_inf: false`
domain of numbers     the bounds are those of the rows
domain of texts       the texts are added, in the domain that the schema names; above 1,000 there is none any more
bool_domain           there is none any more
parts                 the sparse or weighted feature is removed; its columns stay
====================  =====================================================================================

A null inside a list has no place in a tf.Example, whatever the schema says: such rows are counted, and remain rejected.
"""

import dataclasses
import difflib
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import TakesBatches, check_different_names, check_global_window, is_untyped
from penstock.io.columns.conform import conform_batch
from penstock.io.columns.flatten import flatten_batch
from penstock.io.columns.lists import list_column
from penstock.io.columns.values import has_kind, item_type, kind_of
from penstock.io.reasons import Reason
from penstock.io.schema import Feature, Kind, feature_domain, schema_features
from penstock.transforms.checks.environment import in_environment
from penstock.transforms.checks.faults import Fault, Rows
from penstock.transforms.checks.groups import value_counts
from penstock.transforms.checks.validate import ColumnCheck, RecordChecks, record_checks, schema_faults
from penstock.transforms.infer import ColumnSummary, column_kind, summarize_column

# Up to so many texts are added to a domain.
MAX_NEW_TEXTS = 1000

# Reasons against a value that is not of the feature's type.
_OF_TYPE = ("schema.type", "schema.int_overflow", "schema.float_overflow")


@dataclasses.dataclass(frozen=True)
class Broken:
    """How many rows break a demand, and a sentence about one of them."""

    rows: int
    example: str

    def merge(self, other: "Broken") -> "Broken":
        """Counts the rows of both."""
        return Broken(self.rows + other.rows, min(self.example, other.example))


@dataclasses.dataclass(frozen=True)
class Seen:
    """What rows hold of one feature. `Seen()`, of no rows, changes nothing when it is merged.

    Attributes:
      summary: of its column, as it is read without a schema.
      low, high: the least and the greatest number, if there is a domain of numbers; None without numbers.
      texts: those outside of a domain of texts; None when there are too many, or one is not UTF-8.
      kinds: of the values as they are stored, where a value of another kind is not read.
    """

    summary: ColumnSummary = dataclasses.field(default_factory=ColumnSummary)
    low: float | None = None
    high: float | None = None
    texts: frozenset[str] | None = frozenset()
    kinds: frozenset[Kind] = frozenset()

    def merge(self, other: "Seen") -> "Seen":
        """Returns what the rows of both hold; commutative and associative."""
        texts = None if self.texts is None or other.texts is None else self.texts | other.texts
        return Seen(
            self.summary.merge(other.summary),
            min((x for x in (self.low, other.low) if x is not None), default=None),
            max((x for x in (self.high, other.high) if x is not None), default=None),
            None if texts is None or len(texts) > MAX_NEW_TEXTS else texts,
            self.kinds | other.kinds,
        )


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What rows say against a schema. `Evidence()`, of no rows, changes nothing when it is merged.

    Attributes:
      rows: how many there are.
      seen: by feature.
      broken: by feature, struct or view, and reason code.
    """

    rows: int = 0
    seen: Mapping[str, Seen] = dataclasses.field(default_factory=dict)
    broken: Mapping[tuple[str, str], Broken] = dataclasses.field(default_factory=dict)

    def merge(self, other: "Evidence") -> "Evidence":
        """Returns what the rows of both say; commutative and associative."""
        return Evidence(
            self.rows + other.rows,
            _merged(self.seen, other.seen, Seen.merge),
            _merged(self.broken, other.broken, Broken.merge),
        )


def _merged(some: Mapping[Any, Any], others: Mapping[Any, Any], merge: Any) -> dict[Any, Any]:
    merged = dict(some)
    for key, value in others.items():
        merged[key] = merge(merged[key], value) if key in merged else value
    return merged


@dataclasses.dataclass(frozen=True)
class Change:
    """One demand that rows break.

    Attributes:
      subject: the feature, struct or view.
      code: of the reason, such as `schema.presence`.
      rows: how many break it.
      example: a sentence about one of them.
      change: what becomes of the schema.
    """

    subject: str
    code: str
    rows: int
    example: str
    change: str


def gather_evidence(
    batch: pa.RecordBatch, features: Iterable[Feature], checks: RecordChecks, exact_kinds: bool = False
) -> Evidence:
    """Returns what rows, as a reader without a schema yields them, say against a schema.

    Args:
      batch: the rows.
      features: of the schema.
      checks: of the schema.
      exact_kinds: whether a value of another kind than its feature is not read, as in tf.Examples.

    Raises:
      ConfigError: for a column that has no form as the type of its feature, in any row.
    """
    flat, found = flatten_batch(batch), _Found()
    limits = {check.feature.name: check for check in checks.columns}
    for feature in features:
        typed, reasons = conform_batch(flat, [feature])
        found.take_unfit(feature, reasons)
        if feature.name in flat.schema.names:
            found.take(typed.column(feature.name), limits[feature.name], flat, exact_kinds)
        else:
            found.take_absent(feature, batch.num_rows)
    rows = pa.RecordBatch.from_arrays([*found.columns.values(), pa.nulls(batch.num_rows)], [*found.columns, ""])
    for fault in schema_faults(rows, checks):
        _add_fault(found.broken, fault, found.unfit.get(fault.subject))
    return Evidence(batch.num_rows, found.seen, found.broken)


@dataclasses.dataclass
class _Found:
    """What is found in a batch, feature by feature.

    Attributes:
      seen: of each feature.
      broken: by feature and reason.
      columns: those that are there, typed as the schema says.
      unfit: the rows of each feature whose value is of another type.
    """

    seen: dict[str, Seen] = dataclasses.field(default_factory=dict)
    broken: dict[tuple[str, str], Broken] = dataclasses.field(default_factory=dict)
    columns: dict[str, pa.Array] = dataclasses.field(default_factory=dict)
    unfit: dict[str, Rows] = dataclasses.field(default_factory=dict)

    def take_unfit(self, feature: Feature, reasons: Mapping[int, Iterable[Reason]]) -> None:
        """Takes the rows whose value has no form as the type of the feature."""
        for reason in itertools.chain.from_iterable(reasons.values()):
            _add(self.broken, (feature.name, reason.code), Broken(1, reason.detail))
        self.unfit[feature.name] = np.fromiter(reasons, np.int64, len(reasons))

    def take_absent(self, feature: Feature, rows: int) -> None:
        """Takes that there is no column; what must be in each row is counted with the faults of the schema."""
        self.seen[feature.name] = Seen()
        if feature.required and not feature.complete:
            why = f"{feature.name} has no column in the input, the schema demands one"
            _add(self.broken, (feature.name, "schema.presence"), Broken(rows, why))

    def take(self, typed: pa.Array, check: ColumnCheck, flat: pa.RecordBatch, exact_kinds: bool) -> None:
        """Takes a column, as it is typed and as it was read."""
        feature = check.feature
        column, field = flat.column(feature.name), flat.schema.field(feature.name)
        self.columns[feature.name] = typed
        found = _seen(typed, check, summarize_column(feature.name, column, is_untyped(field)))
        has_kind_of_its_own = exact_kinds and not is_untyped(field)  # a folder's has none
        stored = kind_of(item_type(column.type)) if has_kind_of_its_own else None
        if stored is not None:
            found = dataclasses.replace(found, kinds=frozenset({stored}))
            if stored is not feature.kind:
                self.unfit[feature.name] = _add_other_kind(self.broken, feature, column, stored)
        self.seen[feature.name] = found


def _add_other_kind(broken: dict[tuple[str, str], Broken], feature: Feature, column: pa.Array, stored: Kind) -> Rows:
    """Adds the rows that have a value, all of another kind, and returns them."""
    rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    for code in _OF_TYPE:
        broken.pop((feature.name, code), None)
    if len(rows):
        why = f"{feature.name} holds {stored.value} values, the schema says {feature.kind.value}"
        _add(broken, (feature.name, "schema.type"), Broken(len(rows), why))
    return rows


def _add(broken: dict[tuple[str, str], Broken], key: tuple[str, str], found: Broken) -> None:
    broken[key] = broken[key].merge(found) if key in broken else found


def _add_fault(broken: dict[tuple[str, str], Broken], fault: Fault, unfit: Rows | None) -> None:
    """Adds a fault; a value that is of another type is no missing value."""
    kept = np.arange(len(fault.rows)) if unfit is None else np.flatnonzero(~np.isin(fault.rows, unfit))
    if len(kept):
        _add(broken, (fault.subject, fault.code), Broken(len(kept), fault.why(int(kept[0]))))


def _seen(column: pa.Array, check: ColumnCheck, summary: ColumnSummary) -> Seen:
    if pa.types.is_null(column.type) or not has_kind(column.type, check.feature.kind):
        return Seen(summary)
    values = list_column(column).values.drop_null()
    if check.allowed is not None:
        values = values.cast(pa.binary()).unique()
        return Seen(summary, texts=_texts(values.filter(pc.invert(pc.is_in(values, check.domain_values)))))
    if check.low is None and check.high is None:
        return Seen(summary)
    if check.feature.kind is Kind.FLOAT:
        values = values.filter(pc.invert(pc.is_nan(values)))
    least = pc.min_max(values).as_py()
    return Seen(summary, least["min"], least["max"])


def _texts(values: pa.Array) -> frozenset[str] | None:
    if len(values) > MAX_NEW_TEXTS:
        return None
    try:
        return frozenset(value.decode() for value in values.to_pylist())
    except UnicodeDecodeError:
        return None


class GatherEvidence(TakesBatches, beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[Evidence]]):
    """Gathers what all rows say against a schema.

    Input: `pyarrow.RecordBatch` as `ReadRecords` yields them without features. Output: one `Evidence`, of no rows where
    there are no batches.
    """

    def __init__(self, schema: schema_pb2.Schema, environment: str | None = None, exact_kinds: bool = False):
        """Checks the schema.

        Args:
          schema: the schema.
          environment: where the rows come from; None expects all features.
          exact_kinds: whether a value of another kind than its feature is not read, as in tf.Examples.

        Raises:
          ConfigError: for an invalid schema, or an environment that it does not name.
        """
        super().__init__()
        seen = in_environment(schema, environment)
        self._fn = _GatherEvidenceFn(schema_features(seen), record_checks(seen), exact_kinds)

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[Evidence]:
        """One step; refuses windows (ConfigError)."""
        check_global_window(batches, "GatherEvidence")
        return batches | "Gather" >> beam.CombineGlobally(self._fn).with_output_types(Evidence)


class _GatherEvidenceFn(beam.CombineFn):
    def __init__(self, features: tuple[Feature, ...], checks: RecordChecks, exact_kinds: bool):
        self._features = features
        self._checks = checks
        self._exact_kinds = exact_kinds

    def create_accumulator(self) -> Evidence:
        return Evidence()

    def add_input(self, accumulator: Evidence, batch: pa.RecordBatch) -> Evidence:
        check_different_names(batch)
        return accumulator.merge(gather_evidence(batch, self._features, self._checks, self._exact_kinds))

    def merge_accumulators(self, accumulators: Iterable[Evidence]) -> Evidence:
        return functools.reduce(Evidence.merge, accumulators, Evidence())

    def extract_output(self, accumulator: Evidence) -> Evidence:
        return accumulator


def relax_schema(schema: schema_pb2.Schema, evidence: Evidence) -> tuple[schema_pb2.Schema, tuple[Change, ...]]:
    """Relaxes a schema until all of these rows meet it.

    Returns:
      The schema, and what rows break of the given one, in its order. What no schema accepts is among that, and changes
      nothing.
    """
    relaxed = schema_pb2.Schema()
    relaxed.CopyFrom(schema)
    changes = []
    for name, message in _messages(relaxed.feature):
        codes = sorted(code for subject, code in evidence.broken if subject == name)
        seen = evidence.seen.get(name, Seen())
        retyped = _retype(message, seen) if any(code in _OF_TYPE for code in codes) else None
        for code in codes:
            text = _relax(relaxed, message, code, seen, retyped, evidence.rows)
            changes.append(_change(evidence, name, code, text))
    for views in (relaxed.sparse_feature, relaxed.weighted_feature):
        changes += _relax_views(views, evidence)
    return relaxed, tuple(changes)


def _change(evidence: Evidence, subject: str, code: str, text: str) -> Change:
    found = evidence.broken[subject, code]
    return Change(subject, code, found.rows, found.example, text)


def _messages(features: Any, prefix: str = "") -> Iterator[tuple[str, schema_pb2.Feature]]:
    for message in features:
        yield prefix + message.name, message
        yield from _messages(message.struct_domain.feature, f"{prefix}{message.name}.")


def _relax(
    schema: schema_pb2.Schema, message: schema_pb2.Feature, code: str, seen: Seen, retyped: str | None, rows: int
) -> str:
    """Relaxes one demand of a feature, and says how.

    Args:
      schema: which the feature belongs to.
      message: the feature.
      code: of the demand.
      seen: what the rows hold.
      retyped: what became of the type of the feature; None if nothing did.
      rows: how many there are.
    """
    if retyped is not None and code in (*_OF_TYPE, "schema.domain"):
        return retyped
    match code:
        case "schema.presence":
            return _relax_presence(message, seen, rows)
        case "schema.value_count":
            return _widen_count(message, seen)
        case "schema.nan" | "schema.infinity":
            return _allow(schema, message, "nan" if code == "schema.nan" else "inf", seen)
        case "schema.domain":
            return _widen_domain(schema, message, seen)
        case _:
            return "nothing: no record holds a null inside a list; these rows remain rejected"


def _retype(message: schema_pb2.Feature, seen: Seen) -> str:
    """Gives a feature the type that inference gives its column; BYTES where that is the one that it has.

    Where only values of its own kind are read, it gets the kind that is stored.
    """
    old = schema_pb2.FeatureType.Name(message.type)
    kind = next(iter(seen.kinds)) if len(seen.kinds) == 1 else column_kind(seen.summary)[0]
    new = kind.value if kind.value != old else Kind.BYTES.value
    message.type = schema_pb2.FeatureType.Value(new)
    _clear_domain(message)
    if new == Kind.FLOAT.value and seen.summary.numbers.specials:
        message.float_domain.disallow_nan = False
        message.float_domain.disallow_inf = False
    return f"type {old} -> {new}, without a domain"


def _clear_domain(message: schema_pb2.Feature) -> None:
    kind = message.WhichOneof("domain_info")
    if kind is not None:
        message.ClearField(kind)


def _relax_presence(message: schema_pb2.Feature, seen: Seen, rows: int) -> str:
    """Demands no value; nor a column, if some files have none."""
    message.ClearField("group_presence")
    message.presence.ClearField("min_fraction")
    if not seen.summary.present or seen.summary.rows < rows:
        message.presence.ClearField("min_count")
    if not message.presence.ListFields():
        message.ClearField("presence")
    return "no row must have a value"


def _widen_count(message: schema_pb2.Feature, seen: Seen) -> str:
    low, high = value_counts(message)
    summary = seen.summary
    least, most = (1, 1) if summary.min_values is None else (summary.min_values, summary.max_values or 0)
    low, high = min(low, least), None if high is None else max(high, most)
    message.value_count.min = low
    message.value_count.max = high or 0
    return f"{low} to {high} values" if high else f"at least {low} values"


def _allow(schema: schema_pb2.Schema, message: schema_pb2.Feature, special: str, seen: Seen) -> str:
    """Allows NaN or infinity; a domain of the schema is copied, since others may use it.

    An infinity that is allowed must lie within the bounds too.
    """
    domain = feature_domain(schema, message)
    if message.WhichOneof("domain_info") == "domain" and isinstance(domain, schema_pb2.FloatDomain):
        message.float_domain.CopyFrom(domain)
        message.float_domain.ClearField("name")
    setattr(message.float_domain, f"disallow_{special}", False)
    if special == "inf":
        _widen_bounds(message.float_domain, seen)
    return f"disallow_{special}: false"


def _widen_domain(schema: schema_pb2.Schema, message: schema_pb2.Feature, seen: Seen) -> str:
    domain = feature_domain(schema, message)
    if isinstance(domain, schema_pb2.StringDomain) and seen.texts is not None:
        new = sorted(seen.texts - set(domain.value))
        domain.value.extend(new)
        return f"{len(new):,} more texts in the domain"
    if isinstance(domain, schema_pb2.IntDomain | schema_pb2.FloatDomain):
        return _widen_bounds(domain, seen)
    _clear_domain(message)
    return "no domain"


def _widen_bounds(domain: Any, seen: Seen) -> str:
    told = []
    if domain.HasField("min") and seen.low is not None and seen.low < domain.min:
        told.append(f"min {domain.min:g} -> {seen.low:g}")
        domain.min = seen.low
    if domain.HasField("max") and seen.high is not None and seen.high > domain.max:
        told.append(f"max {domain.max:g} -> {seen.high:g}")
        domain.max = seen.high
    return ", ".join(told) or "nothing"


def _relax_views(views: Any, evidence: Evidence) -> Iterator[Change]:
    for view in list(views):
        codes = sorted(code for subject, code in evidence.broken if subject == view.name)
        is_removed = "schema.parts" in codes
        for code in codes:
            text = "the feature is removed; its parts stay" if is_removed else "no row must have a value"
            yield _change(evidence, view.name, code, text)
        if is_removed:
            views.remove(view)
        elif codes:
            view.presence.ClearField("min_fraction")


_NAMED_PARTS = ("feature", "sparse_feature", "weighted_feature", "string_domain", "int_domain", "float_domain")


def schema_difference(old: schema_pb2.Schema, new: schema_pb2.Schema) -> tuple[str, ...]:
    """Returns what differs in text format: the name of each part that changed, and its lines with - and +."""
    lines = []
    for field in _NAMED_PARTS:
        texts = {part.name: _lines(part) for part in getattr(new, field)}
        for part in getattr(old, field):
            before, after = _lines(part), texts.get(part.name, [])
            if before != after:
                lines += [f"{field} {part.name}", *(line for line in difflib.ndiff(before, after) if line[0] in "-+")]
    return tuple(lines)


def _lines(part: Any) -> list[str]:
    return text_format.MessageToString(part, as_utf8=True).splitlines()
