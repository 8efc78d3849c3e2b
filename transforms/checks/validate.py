"""Validation: checks each row against the schema and the rules, and keeps all reasons.

These parts of a schema are checked for each row, in this order for each feature:

=====================  ==================================================================================
reason                 when
=====================  ==================================================================================
`schema.type`          a column whose Arrow type is not of the feature's kind
`schema.presence`      null where `presence { min_fraction: 1 }` demands a value in every row, or `group_presence`
                       wherever the struct is; no value of a sparse feature that must be in every row
`schema.value_count`   fewer or more values than `value_count` or `shape` allow; a struct is one value
`schema.null_in_list`  a null inside a list, which a tf.Example cannot hold
`schema.nan`           a NaN in a FLOAT feature, unless `float_domain { disallow_nan: false }` is written out
`schema.infinity`      an infinity in a FLOAT feature, unless `float_domain { disallow_inf: false }` is written out
`schema.domain`        a value outside the int, float, string or bool domain, inline or by name
`schema.parts`         the parts of a sparse or weighted feature do not fit together: they have different numbers of
                       values, an index is outside `dense_shape`, or the indices do not ascend where `is_sorted`
`label.missing`        no value in the label column
`rule.<name>`          a rule that is false or NULL (`penstock.transforms.checks.rules`)
=====================  ==================================================================================

TFDV lets NaN and infinities pass where `disallow_nan` and `disallow_inf` are unset. Here they must be allowed
explicitly, since one of them makes a whole model NaN. Float bounds are compared as float32, which is what the schema
and a tf.Example hold. A scalar counts as one value; an empty list is present and has none.

A struct is in a row if one of its fields has a value. A field of a struct must be present in every row if all the
structs around it must; where they need not, it must be present wherever the struct is.

What only warns (`penstock.transforms.checks.severity`) leaves the row as it is, with a note (`_notes`), which is
counted where the row is written. So does a value that the environment does not expect
(`penstock.transforms.checks.environment`, `schema.environment`); that value is left out.

Some constraints describe the whole dataset, and no single row can break them: `min_fraction` below 1, `min_count`,
`distribution_constraints` with `min_domain_mass` below 1 (the domain of that feature is then not checked),
`unique_constraints`, comparators, `dataset_constraints`. They are for statistics; `penstock.transforms.checks.unique`
checks unique keys. `penstock.transforms.checks.unchecked` lists those of a schema, which is logged once, when the
pipeline is built.
"""

import collections
import dataclasses
import decimal
import functools
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import TakesBatches, check_different_names, drop_rows
from penstock.io.beam.row_counters import RowCounters
from penstock.io.columns.event_times import LetterTimes
from penstock.io.columns.lists import ListColumn, list_column
from penstock.io.columns.row_notes import with_row_notes
from penstock.io.columns.values import column_of, has_kind, is_list, shown
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import row_letters
from penstock.io.reasons import Note, Reason
from penstock.io.schema import Feature, Kind, feature_domain, find_feature, named_features, schema_features
from penstock.transforms.checks.environment import UNEXPECTED, in_environment, unexpected_features
from penstock.transforms.checks.faults import Fault, Findings, Rows
from penstock.transforms.checks.groups import StructCheck, ViewCheck, struct_checks, value_counts, view_checks
from penstock.transforms.checks.rules import CompiledRules, Rule, compile_rules
from penstock.transforms.checks.severity import SchemaSeverity
from penstock.transforms.checks.unchecked import unchecked_constraints, unchecked_text

_LOGGER = logging.getLogger(__name__)

_STAGE = "validate"

# The number of values of a string domain that a message lists.
_MAX_LISTED = 10

# The types that a read under a schema yields; columns of other types are checked value by value.
_PLAIN_TYPES: dict[Kind, dict[int, Any]] = {
    Kind.INT: {pa.int64().id: np.int64},
    Kind.FLOAT: {pa.float64().id: np.float64, pa.float32().id: np.float32},
    Kind.BYTES: {pa.string().id: None, pa.binary().id: None},
}

_NO_ROWS: Rows = np.zeros(0, np.int64)

_ENFORCE = SchemaSeverity()

# Bounds are int64 or float32, and neither compares exactly with all column types.
_BOUND_TYPES = {pa.uint64(): pa.decimal128(20), pa.float64(): pa.float32(), pa.float16(): pa.float32()}


@dataclasses.dataclass(frozen=True)
class ColumnCheck:
    """What every row must meet in one column.

    Attributes:
      feature: the feature of the column.
      required: whether each row must have a value.
      min_values: the fewest values in a row that has any.
      max_values: the most; None for any number.
      low: the least value; None for no bound.
      high: the greatest value; None for no bound.
      allowed: the only allowed values of a BYTES feature; None for any.
      domain: the name of the domain in messages.
      allow_nan: whether NaN is allowed.
      allow_infinity: whether infinities are allowed.
    """

    feature: Feature
    required: bool = False
    min_values: int = 0
    max_values: int | None = None
    low: float | None = None
    high: float | None = None
    allowed: tuple[bytes, ...] | None = None
    domain: str = ""
    allow_nan: bool = False
    allow_infinity: bool = False

    @functools.cached_property
    def takes_one_value(self) -> bool:
        """Whether a row may have exactly one value."""
        return self.min_values <= 1 and self.max_values != 0

    @functools.cached_property
    def domain_values(self) -> pa.Array:
        """The values of `allowed`, as binary."""
        return pa.array(self.allowed or (), pa.binary())


@dataclasses.dataclass(frozen=True)
class RecordChecks:
    """The checks of a schema, in its order, that every row must meet.

    Attributes:
      columns: of the features.
      structs: of the structs.
      views: of sparse and weighted features.
      label: the feature in which every row must have a value.
      warnings: what rejects no row, as (feature, reason code).
      unchecked: the constraints that no single row can break (`penstock.transforms.checks.unchecked`).
    """

    columns: tuple[ColumnCheck, ...]
    structs: tuple[StructCheck, ...] = ()
    views: tuple[ViewCheck, ...] = ()
    label: str | None = None
    warnings: frozenset[tuple[str, str]] = frozenset()
    unchecked: tuple[Note, ...] = ()

    def passing(self) -> tuple[ColumnCheck, ...]:
        """Returns the columns as those of rows that pass are: what only warns is allowed there."""
        return tuple(
            dataclasses.replace(
                check,
                allow_nan=check.allow_nan or (check.feature.name, "schema.nan") in self.warnings,
                allow_infinity=check.allow_infinity or (check.feature.name, "schema.infinity") in self.warnings,
            )
            for check in self.columns
        )


def record_checks(
    schema: schema_pb2.Schema, label: str | None = None, severity: SchemaSeverity = _ENFORCE
) -> RecordChecks:
    """Returns the checks that a schema asks for.

    Raises:
      ConfigError: for an invalid schema, a label that is not one of its features, or a severity that does not fit it.
    """
    features = schema_features(schema)
    if label is not None:
        find_feature(label, features, "label")
    warnings = severity.warnings(schema)
    if severity.mode == "off":
        free = (ColumnCheck(feature, allow_nan=True, allow_infinity=True) for feature in features)
        return RecordChecks(tuple(free), label=label)
    messages = named_features(schema)
    required = _row_required(schema.feature)
    columns = tuple(
        _column_check(schema, feature, messages[feature.name], feature.name in required) for feature in features
    )
    return RecordChecks(
        columns, struct_checks(schema, required), view_checks(schema), label, warnings, unchecked_constraints(schema)
    )


def _row_required(messages: Sequence[schema_pb2.Feature], prefix: str = "", parents: bool = True) -> set[str]:
    """Returns the dotted names of the features, structs included, that every row must have."""
    names: set[str] = set()
    for message in messages:
        required = parents and (message.presence.min_fraction >= 1 or message.group_presence.required)
        if required:
            names.add(prefix + message.name)
        names |= _row_required(message.struct_domain.feature, f"{prefix}{message.name}.", required)
    return names


def _column_check(
    schema: schema_pb2.Schema, feature: Feature, message: schema_pb2.Feature, required: bool
) -> ColumnCheck:
    low, high = value_counts(message)
    check = ColumnCheck(feature, required, low, high)
    if message.distribution_constraints.min_domain_mass < 1:
        return check
    return dataclasses.replace(check, **_domain_limits(feature.kind, feature_domain(schema, message)) or {})


def _domain_limits(kind: Kind, domain: Any) -> dict[str, Any] | None:
    """Returns what a domain changes in a `ColumnCheck`; None if it cannot be checked for that kind."""
    match kind, domain:
        case Kind.INT, schema_pb2.IntDomain():
            return {**_bounds(domain), "domain": "int_domain"}
        case Kind.INT, schema_pb2.BoolDomain():
            return {"low": 0, "high": 1, "domain": "bool_domain"}
        case Kind.FLOAT, schema_pb2.FloatDomain():
            return {
                **_bounds(domain),
                "domain": "float_domain",
                "allow_nan": domain.HasField("disallow_nan") and not domain.disallow_nan,
                "allow_infinity": domain.HasField("disallow_inf") and not domain.disallow_inf,
            }
        case Kind.BYTES, schema_pb2.StringDomain():
            name = f" {domain.name}" if domain.name else ""
            return {"allowed": tuple(value.encode() for value in domain.value), "domain": f"string_domain{name}"}
        case Kind.BYTES, schema_pb2.BoolDomain() if domain.true_value and domain.false_value:
            return {"allowed": (domain.true_value.encode(), domain.false_value.encode()), "domain": "bool_domain"}
        case _:
            return None


def _bounds(domain: schema_pb2.IntDomain | schema_pb2.FloatDomain) -> dict[str, float | None]:
    return {
        "low": domain.min if domain.HasField("min") else None,
        "high": domain.max if domain.HasField("max") else None,
    }


def inherit_specials(message: schema_pb2.Feature, columns: Iterable[ColumnCheck]) -> None:
    """Allows NaN and infinity in a computed FLOAT feature where a column that it is computed from may have them.

    Infinities make NaNs, as in the difference of two.
    """
    columns = tuple(columns)
    infinite = any(check.allow_infinity for check in columns)
    if message.type != schema_pb2.FLOAT or message.WhichOneof("domain_info") not in (None, "float_domain"):
        return
    if infinite or any(check.allow_nan for check in columns):
        message.float_domain.disallow_nan = False
    if infinite:
        message.float_domain.disallow_inf = False


def validate_batch(batch: pa.RecordBatch, checks: RecordChecks, rules: CompiledRules | None = None) -> Findings:
    """Returns every reason to reject a row, by row index, and what only warns; a row without a reason is good.

    Columns are int64, float64, string or binary, or lists of those; a column that is absent is all null. Work is
    vectorised; only rejected rows cost Python time.
    """
    check_different_names(batch)
    reasons: dict[int, list[Reason]] = collections.defaultdict(list)
    warned: list[Fault] = []
    for fault in schema_faults(batch, checks):
        if (fault.subject, fault.code) in checks.warnings:
            warned.append(fault)
            continue
        known: dict[str, Reason] = {}  # rows with the same reason share it
        for index, row in enumerate(fault.rows.tolist()):
            why = fault.why(index)
            if why not in known:
                known[why] = Reason(fault.code, why)
            reasons[row].append(known[why])
    found = rules.check(batch) if rules is not None else Findings({})
    for row, broken in found.reasons.items():
        reasons[row].extend(broken)
    return Findings(dict(reasons), (*warned, *found.warned))


def schema_faults(batch: pa.RecordBatch, checks: RecordChecks) -> Iterator[Fault]:
    """Yields what breaks the schema, whether it rejects rows or only warns, and at last the label's."""
    for check in checks.columns:
        column = column_of(batch, check.feature.name)
        yield from _check_column(pa.nulls(batch.num_rows) if column is None else column, check)
    for struct in checks.structs:
        yield from struct.faults(batch)
    for view in checks.views:
        yield from view.faults(batch)
    if checks.label is not None and len(rows := _without_value(batch, checks.label)):
        yield Fault("label.missing", checks.label, rows, lambda _: f"the label {checks.label} has no value")


def _without_value(batch: pa.RecordBatch, name: str) -> Rows:
    column = column_of(batch, name)
    if column is None:
        return np.arange(batch.num_rows)
    if not column.null_count and not is_list(column.type):
        return _NO_ROWS
    return np.flatnonzero(list_column(column).counts == 0)


def _check_column(column: pa.Array, check: ColumnCheck) -> Iterator[Fault]:
    name = check.feature.name
    if check.required and column.null_count:
        why = f"{name} is null, the schema demands a value in every row"
        yield Fault("schema.presence", name, _true(column.is_null()), lambda _: why)
    if column.type.id in _PLAIN_TYPES[check.feature.kind] and check.takes_one_value:
        suspects = _suspects(column, check)
        if len(suspects):
            yield from _check_items(check, column.take(pa.array(suspects)), suspects)
        return
    if pa.types.is_null(column.type):
        return
    if not has_kind(column.type, check.feature.kind):
        wrong = f"{name} is of type {column.type}, the schema says {check.feature.kind.value}"
        if len(rows := _true(column.is_valid())):
            yield Fault("schema.type", name, rows, lambda _: wrong)
        return
    lists = list_column(column)
    yield from _check_counts(check, column, lists)
    yield from _check_nulls(check, lists)
    yield from _check_items(check, lists.values, lists.owners)


def _suspects(column: pa.Array, check: ColumnCheck) -> npt.NDArray[np.int64]:
    """Returns the rows of a plain column that may have a bad value; no others do.

    The column as a whole is tested first; for good data, that is all.
    """
    if check.feature.kind is Kind.BYTES:
        if check.allowed is None:
            return _NO_ROWS
        inside = _inside(column, check)
        if inside.true_count == len(column) - column.null_count:
            return _NO_ROWS
        return np.flatnonzero(_flags(column.is_valid()) & ~_flags(inside))
    is_float = check.feature.kind is Kind.FLOAT
    low, high = check.low, check.high
    if not len(column) or not (is_float or low is not None or high is not None):
        return _NO_ROWS
    # Slots of nulls are compared as well, and dropped below.
    dtype = _PLAIN_TYPES[check.feature.kind][column.type.id]
    numbers = np.frombuffer(column.buffers()[1], dtype, len(column) + column.offset)[column.offset :]
    least, most = numbers.min(), numbers.max()
    # A NaN makes both of these NaN, which are within no bounds.
    finite = not is_float or (math.isfinite(least) and math.isfinite(most))
    if finite and (low is None or least >= low) and (high is None or most <= high):
        return _NO_ROWS
    # A float beyond a bound may still equal it as float32, but no float within a bound is beyond it as float32.
    bad = ~np.isfinite(numbers) if is_float else np.zeros(len(numbers), bool)
    if low is not None:
        bad |= numbers < low
    if high is not None:
        bad |= numbers > high
    if column.null_count:
        bad &= _flags(column.is_valid())
    return np.flatnonzero(bad)


def _inside(items: pa.Array, check: ColumnCheck) -> pa.Array:
    return pc.is_in(items.cast(pa.binary()), value_set=check.domain_values, skip_nulls=True)


def _check_counts(check: ColumnCheck, column: pa.Array, lists: ListColumn) -> Iterator[Fault]:
    high = check.max_values
    if check.takes_one_value and not is_list(column.type):
        return
    bad = lists.counts < check.min_values
    if high is not None:
        bad |= lists.counts > high
    span = f"at least {check.min_values}" if high is None else f"{check.min_values} to {high}"
    rows = np.flatnonzero(bad & lists.present)
    if len(rows):
        counts, name = lists.counts[rows], check.feature.name
        yield Fault(
            "schema.value_count",
            name,
            rows,
            lambda index: f"{name} has {counts[index]} values, the schema allows {span}",
        )


def _check_nulls(check: ColumnCheck, lists: ListColumn) -> Iterator[Fault]:
    name, rows = check.feature.name, lists.rows_with_null_values()
    if len(rows):
        yield Fault("schema.null_in_list", name, rows, lambda _: f"{name} is null, and a list cannot hold a null")


def _check_items(check: ColumnCheck, items: pa.Array, owners: Rows) -> Iterator[Fault]:
    """Yields the faults of values; `owners` holds the row of each value, ascending."""
    name = check.feature.name
    for code, mask, why in _item_masks(check, items):
        bad = _true(mask)
        if len(bad):
            rows, first = np.unique(owners[bad], return_index=True)
            yield Fault(code, name, rows, _why_not(name, items, bad[first], why))


def _why_not(name: str, items: pa.Array, indices: Rows, why: str) -> Callable[[int], str]:
    """Returns what says why values are bad; `indices` are theirs."""
    return lambda index: f"{name} is {shown(items[int(indices[index])].as_py())}, {why}"


def _item_masks(check: ColumnCheck, items: pa.Array) -> Iterator[tuple[str, pa.Array, str]]:
    """Yields (reason, mask over the items, explanation) for the checks that any item may fail."""
    if check.feature.kind is Kind.FLOAT:
        yield from _float_masks(check, items)
    elif check.allowed is not None:
        yield "schema.domain", pc.and_not(pc.is_valid(items), _inside(items, check)), _choices(check)
    elif check.feature.kind is Kind.INT:
        yield from _bound_masks(check, items.cast(pa.uint8()) if pa.types.is_boolean(items.type) else items)


def _float_masks(check: ColumnCheck, items: pa.Array) -> Iterator[tuple[str, pa.Array, str]]:
    if not check.allow_nan:
        yield "schema.nan", pc.is_nan(items), "allow it with float_domain { disallow_nan: false }"
    infinite = pc.is_inf(items)
    if not check.allow_infinity:
        yield "schema.infinity", infinite, "allow it with float_domain { disallow_inf: false }"
    if check.low is None and check.high is None:
        return
    for code, mask, why in _bound_masks(check, items):
        yield code, mask if check.allow_infinity else pc.and_not(mask, infinite), why


def _bound_masks(check: ColumnCheck, items: pa.Array) -> Iterator[tuple[str, pa.Array, str]]:
    items = items.cast(_BOUND_TYPES.get(items.type, items.type))
    if check.low is not None:
        why = f"below {_number(check.low)}, the least value of {check.domain}"
        yield "schema.domain", pc.less(items, _scalar(check.low, items.type)), why
    if check.high is not None:
        why = f"above {_number(check.high)}, the greatest value of {check.domain}"
        yield "schema.domain", pc.greater(items, _scalar(check.high, items.type)), why


def _number(bound: float) -> str:
    # A float bound is a float32; `repr` would show it with the digits of a float64.
    return f"{bound:.7g}" if isinstance(bound, float) else str(bound)


def _scalar(bound: float, arrow_type: pa.DataType) -> pa.Scalar:
    return pa.scalar(decimal.Decimal(bound) if pa.types.is_decimal(arrow_type) else bound, arrow_type)


def _choices(check: ColumnCheck) -> str:
    values = check.allowed or ()
    listed = ", ".join(value.decode() for value in values[:_MAX_LISTED])
    more = f", and {len(values) - _MAX_LISTED} more" if len(values) > _MAX_LISTED else ""
    return f"not in {check.domain} ({listed}{more})"


def _true(mask: pa.Array) -> Rows:
    """Returns the indices where a mask is true; a null is not."""
    return np.flatnonzero(_flags(pc.fill_null(mask, False) if mask.null_count else mask))


def _flags(mask: pa.Array) -> npt.NDArray[np.bool_]:
    return mask.to_numpy(zero_copy_only=False)


class ValidateRecords(TakesBatches, RejectingTransform):
    """Rejects the rows that break the schema or a rule.

    The module's docstring lists what is checked. Good rows pass unchanged, with all columns, in batches of the same
    order; where something may warn, they have a column of notes too, for `WriteDataset` to count. Columns that the
    environment does not expect are left out. Counters: `in-batches`, `in-rows`, `out-rows`, `bad-rows`, and
    `warn-<rule>` or `warn-<reason>` for the rows that break what only warns.
    """

    def __init__(
        self,
        schema: schema_pb2.Schema,
        rules: Sequence[Rule] = (),
        label: str | None = None,
        environment: str | None = None,
        severity: SchemaSeverity = _ENFORCE,
    ):
        """Checks the configuration.

        Args:
          schema: the schema.
          rules: as `load_rules` gives them.
          label: a feature in which every row must have a value. (Not the name of the step, as in other transforms.)
          environment: where the rows come from, such as SERVING; None expects all features.
          severity: what becomes of rows that break the schema.

        Raises:
          ConfigError: for an invalid schema, rule or label, an environment that the schema does not name, or a
            severity that does not fit it.
        """
        super().__init__()
        seen = in_environment(schema, environment)
        self._checks = record_checks(seen, label, severity)
        self._rules = compile_rules(rules, schema_features(seen))
        unexpected = unexpected_features(schema, seen)
        self._unexpected = UnexpectedColumns(environment or "", tuple(feature.name for feature in unexpected))
        self._is_told = False
        self._times: LetterTimes | None = None

    def told(self) -> Self:
        """Leaves out the log line about what is not checked: who calls this has told it."""
        self._is_told = True
        return self

    def dating(self, times: LetterTimes | None) -> Self:
        """Gives rejected rows their event times, if rows get these only behind this step."""
        self._times = times
        return self

    @property
    def unchecked(self) -> tuple[Note, ...]:
        """The constraints of the schema that are not checked, since no single row can break them."""
        return self._checks.unchecked

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Adds one step, which checks each row independently."""
        if self.unchecked and not self._is_told:
            _LOGGER.warning("%s", unchecked_text(self.unchecked))
        fn = _ValidateRecordsFn(self._checks, self._rules, self._unexpected, self._times)
        validate = beam.ParDo(fn).with_output_types(pa.RecordBatch)
        good, rejected = split_rejected(batches | "Validate" >> validate.with_outputs(REJECTED, main="out"))
        self._reject(rejected)
        return good


@dataclasses.dataclass(frozen=True)
class UnexpectedColumns:
    """The columns that an environment does not expect; rows may have them all the same."""

    environment: str
    names: tuple[str, ...] = ()

    def faults(self, batch: pa.RecordBatch) -> Iterator[Fault]:
        """Yields the rows that have a value in one of the columns."""
        why = (
            f"has a value, which the schema does not expect in the environment {self.environment}; it is left out "
            "(without an environment it is not)"
        )
        for name in self.names:
            rows = np.arange(batch.num_rows)
            column = column_of(batch, name)
            if column is not None and len(rows := np.flatnonzero(_flags(column.is_valid()))):
                yield Fault(UNEXPECTED, name, rows, lambda _: why)

    def left_out(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Returns the batch without the columns."""
        return batch.drop_columns([name for name in self.names if name in batch.schema.names])


class _ValidateRecordsFn(beam.DoFn):
    def __init__(
        self, checks: RecordChecks, rules: CompiledRules, unexpected: UnexpectedColumns, times: LetterTimes | None
    ):
        self._times = times
        self._checks = checks
        self._rules = rules
        self._unexpected = unexpected
        self._counters = RowCounters("ValidateRecords")
        # All batches have the column of notes, or none has: they may be joined.
        rules_warn = any(rule.rule.severity == "warn" for rule in rules.rules)
        self._may_warn = bool(checks.warnings or unexpected.names or rules_warn)

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        findings = validate_batch(batch, self._checks, self._rules)
        bad = len(findings.reasons)
        self._counters.add(in_batches=1, in_rows=batch.num_rows, out_rows=batch.num_rows - bad, bad_rows=bad)
        good = batch
        if self._may_warn:
            warned = (*findings.warned, *self._unexpected.faults(batch))
            self._counters.add_named(_warn_counts(warned))
            good = self._unexpected.left_out(with_row_notes(batch, [(fault.note(), fault.rows) for fault in warned]))
        if not findings.reasons:
            yield good
            return
        letters = row_letters(batch, findings.reasons, _STAGE)
        yield from reject(letters.dated(self._times.read(batch, findings.reasons)) if self._times else letters)
        if len(findings.reasons) < batch.num_rows:
            yield drop_rows(good, findings.reasons)


def _warn_counts(warned: Iterable[Fault]) -> Mapping[str, int]:
    counts: collections.Counter[str] = collections.Counter()
    for fault in warned:
        counts[f"warn-{fault.code.removeprefix('rule.')}"] += len(fault.rows)
    return counts
