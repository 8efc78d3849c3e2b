"""Validation: checks each row against the schema and the rules, and keeps all reasons.

These parts of a schema are checked for each row, in this order for each feature:

=====================  ==================================================================================
reason                 when
=====================  ==================================================================================
`schema.type`          a column whose Arrow type is not of the feature's kind
`schema.presence`      null where `presence { min_fraction: 1 }` demands a value in every row
`schema.value_count`   fewer or more values than `value_count` or `shape` allow
`schema.null_in_list`  a null inside a list, which a tf.Example cannot hold
`schema.nan`           a NaN in a FLOAT feature, unless `float_domain { disallow_nan: false }` is written out
`schema.infinity`      an infinity in a FLOAT feature, unless `float_domain { disallow_inf: false }` is written out
`schema.domain`        a value outside the int, float, string or bool domain, inline or by name
`label.missing`        no value in the label column
`rule.<name>`          a rule that is false or NULL (`penstock.transforms.checks.rules`)
=====================  ==================================================================================

TFDV lets NaN and infinities pass where `disallow_nan` and `disallow_inf` are unset. Here they must be allowed
explicitly, since one of them makes a whole model NaN. Float bounds are compared as float32, which is what the schema
and a tf.Example hold. A scalar counts as one value; an empty list is present and has none.

Some constraints describe the whole dataset, and no single row can break them: `min_fraction` below 1, `min_count`,
`distribution_constraints` with `min_domain_mass` below 1 (the domain of that feature is then not checked),
`unique_constraints`, comparators. They are for statistics; `penstock.transforms.checks.unique` checks unique keys. A
field of a struct must be present in every row only if all the structs around it must. Constraints that are not checked
are logged once, when the pipeline is built.
"""

import collections
import dataclasses
import decimal
import functools
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import TakesBatches, drop_rows
from penstock.io.beam.row_counters import RowCounters
from penstock.io.columns.lists import ListColumn, list_column
from penstock.io.columns.values import column_of, has_kind, is_list, shown
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import row_letters
from penstock.io.reasons import Reason
from penstock.io.schema import Feature, Kind, feature_domain, find_feature, named_features, schema_features
from penstock.transforms.checks.rules import CompiledRules, Findings, Rule, compile_rules

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

_NO_ROWS: npt.NDArray[np.int64] = np.zeros(0, np.int64)

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
    """The checks of a schema, in its order, that every row must meet, and the label that it must have.

    `ignored` names the constraints that are not checked for each row.
    """

    columns: tuple[ColumnCheck, ...]
    label: str | None = None
    ignored: tuple[str, ...] = ()


def record_checks(schema: schema_pb2.Schema, label: str | None = None) -> RecordChecks:
    """Returns the checks that a schema asks for.

    Raises:
      ConfigError: for an invalid schema, or a label that is not one of its features.
    """
    features = schema_features(schema)
    if label is not None:
        find_feature(label, features, "label")
    messages = named_features(schema)
    required = _row_required(schema.feature)
    ignored: list[str] = []
    columns = tuple(
        _column_check(schema, feature, messages[feature.name], feature.name in required, ignored)
        for feature in features
    )
    return RecordChecks(columns, label, tuple(ignored))


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
    schema: schema_pb2.Schema, feature: Feature, message: schema_pb2.Feature, required: bool, ignored: list[str]
) -> ColumnCheck:
    low, high = _value_counts(message)
    check = ColumnCheck(feature, required, low, high)
    if message.HasField("unique_constraints"):
        ignored.append(f"{feature.name}: unique_constraints")
    if 0 < message.presence.min_fraction < 1:
        ignored.append(f"{feature.name}: min_fraction {message.presence.min_fraction:g}")
    if message.distribution_constraints.min_domain_mass < 1:
        ignored.append(f"{feature.name}: its domain, since min_domain_mass is below 1")
        return check
    changes = _domain_limits(feature.kind, feature_domain(schema, message))
    kind = message.WhichOneof("domain_info")
    if changes is None and kind is not None:
        ignored.append(f"{feature.name}: {kind} of a feature of type {feature.kind.value}")
    return dataclasses.replace(check, **changes or {})


def _value_counts(message: schema_pb2.Feature) -> tuple[int, int | None]:
    match message.WhichOneof("shape_type"):
        case "shape":
            size = math.prod(dim.size for dim in message.shape.dim)
            return size, size
        case "value_count":
            return message.value_count.min, message.value_count.max or None
        case "value_counts" if message.value_counts.value_count:
            count = message.value_counts.value_count[0]
            return count.min, count.max or None
        case _:
            return 0, None


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
    """Returns every reason to reject a row, by row index; a row without a reason is good.

    Columns are int64, float64, string or binary, or lists of those; a column that is absent is all null. Work is
    vectorised; only rejected rows cost Python time.
    """
    reasons: dict[int, list[Reason]] = collections.defaultdict(list)
    for check in checks.columns:
        column = column_of(batch, check.feature.name)
        for row, reason in _check_column(pa.nulls(batch.num_rows) if column is None else column, check):
            reasons[row].append(reason)
    if checks.label is not None:
        for row in _without_value(batch, checks.label):
            reasons[row].append(Reason("label.missing", f"the label {checks.label} has no value"))
    found = rules.check(batch) if rules is not None else Findings({}, {})
    for row, broken in found.reasons.items():
        reasons[row].extend(broken)
    return Findings(dict(reasons), found.warnings)


def _without_value(batch: pa.RecordBatch, name: str) -> list[int]:
    column = column_of(batch, name)
    if column is None:
        return list(range(batch.num_rows))
    if not column.null_count and not is_list(column.type):
        return []
    return np.flatnonzero(list_column(column).counts == 0).tolist()


def _check_column(column: pa.Array, check: ColumnCheck) -> Iterator[tuple[int, Reason]]:
    name = check.feature.name
    if check.required and column.null_count:
        for row in _true(column.is_null()):
            yield row, Reason("schema.presence", f"{name} is null, the schema demands a value in every row")
    if column.type.id in _PLAIN_TYPES[check.feature.kind] and check.takes_one_value:
        suspects = _suspects(column, check)
        if len(suspects):
            yield from _check_items(check, column.take(pa.array(suspects)), suspects)
        return
    if pa.types.is_null(column.type):
        return
    if not has_kind(column.type, check.feature.kind):
        why = f"{name} is of type {column.type}, the schema says {check.feature.kind.value}"
        for row in _true(column.is_valid()):
            yield row, Reason("schema.type", why)
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


def _check_counts(check: ColumnCheck, column: pa.Array, lists: ListColumn) -> Iterator[tuple[int, Reason]]:
    high = check.max_values
    if check.takes_one_value and not is_list(column.type):
        return
    bad = lists.counts < check.min_values
    if high is not None:
        bad |= lists.counts > high
    span = f"at least {check.min_values}" if high is None else f"{check.min_values} to {high}"
    for row in np.flatnonzero(bad & lists.present).tolist():
        why = f"{check.feature.name} has {lists.counts[row]} values, the schema allows {span}"
        yield row, Reason("schema.value_count", why)


def _check_nulls(check: ColumnCheck, lists: ListColumn) -> Iterator[tuple[int, Reason]]:
    for row in lists.rows_with_null_values().tolist():
        yield row, Reason("schema.null_in_list", f"{check.feature.name} is null, and a list cannot hold a null")


def _check_items(check: ColumnCheck, items: pa.Array, owners: npt.NDArray[np.int64]) -> Iterator[tuple[int, Reason]]:
    """Yields the faults of values; `owners` holds the row of each value."""
    for code, mask, why in _item_masks(check, items):
        told: set[int] = set()
        for index in _true(mask):
            row = int(owners[index])
            if row not in told:
                told.add(row)
                yield row, Reason(code, f"{check.feature.name} is {shown(items[index].as_py())}, {why}")


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


def _true(mask: pa.Array) -> list[int]:
    """Returns the indices where a mask is true; a null is not."""
    return np.flatnonzero(_flags(pc.fill_null(mask, False) if mask.null_count else mask)).tolist()


def _flags(mask: pa.Array) -> npt.NDArray[np.bool_]:
    return mask.to_numpy(zero_copy_only=False)


class ValidateRecords(TakesBatches, RejectingTransform):
    """Rejects the rows that break the schema or a rule.

    The module's docstring lists what is checked. Good rows pass unchanged, with all columns, in batches of the same
    order. Counters: `in-batches`, `in-rows`, `out-rows`, `bad-rows`, and `warn-<rule>` for the rows that break a rule
    of severity warn.
    """

    def __init__(self, schema: schema_pb2.Schema, rules: Sequence[Rule] = (), label: str | None = None):
        """Checks the configuration.

        Args:
          schema: the schema.
          rules: as `load_rules` gives them.
          label: a feature in which every row must have a value. (Not the name of the step, as in other transforms.)

        Raises:
          ConfigError: for an invalid schema, rule or label.
        """
        super().__init__()
        self._checks = record_checks(schema, label)
        self._rules = compile_rules(rules, schema_features(schema))

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Adds one step, which checks each row independently."""
        if self._checks.ignored:
            _LOGGER.warning("not checked for each row: %s", "; ".join(self._checks.ignored))
        validate = beam.ParDo(_ValidateRecordsFn(self._checks, self._rules)).with_output_types(pa.RecordBatch)
        good, rejected = split_rejected(batches | "Validate" >> validate.with_outputs(REJECTED, main="out"))
        self._reject(rejected)
        return good


class _ValidateRecordsFn(beam.DoFn):
    def __init__(self, checks: RecordChecks, rules: CompiledRules):
        self._checks = checks
        self._rules = rules
        self._counters = RowCounters("ValidateRecords")

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        findings = validate_batch(batch, self._checks, self._rules)
        bad = len(findings.reasons)
        self._counters.add(in_batches=1, in_rows=batch.num_rows, out_rows=batch.num_rows - bad, bad_rows=bad)
        self._counters.add_named({f"warn-{name}": rows for name, rows in findings.warnings.items()})
        if not findings.reasons:
            yield batch
            return
        yield from reject(row_letters(batch, findings.reasons, _STAGE))
        if len(findings.reasons) < batch.num_rows:
            yield drop_rows(batch, findings.reasons)
