"""Values outside of the domain that the schema gives them.

What counts is the type of the statistics, as in TFDV: texts may be held against an `int_domain`, which says that they
are integers. Bounds are compared as float32, the type that a schema has them in.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from penstock.transforms.anomalies.context import FeatureContext
from penstock.transforms.anomalies.edits import STRING_DOMAIN, Edit
from penstock.transforms.anomalies.findings import Finding, Reason
from penstock.transforms.anomalies.measures.histograms import finest_histogram, share_beyond
from penstock.transforms.anomalies.measures.views import FeatureView, Stats
from penstock.transforms.anomalies.specification import named_domain

_INTEGER = re.compile(r"\s*[+-]?[0-9]+\s*")
_INT64 = range(-(2**63), 2**63)
_MAX_EXAMPLES = 5

# Domains that say what no statistics here tell, with the fields that ask for some.
_UNMEASURED = {
    "natural_language_domain": ("coverage", "token_constraints", "sequence_length_constraints"),
    "image_domain": ("minimum_supported_image_fraction", "max_image_byte_size"),
}


def faults_of_domain(feature: FeatureContext) -> Iterator[Finding]:
    """Yields what lies outside of the domain of a feature."""
    message, view = feature.message, feature.view
    kind = message.WhichOneof("domain_info")
    if view.type == Stats.BYTES and kind not in (None, "natural_language_domain", "image_domain", "url_domain"):
        edit = feature.edit(kind or "")
        reason, seen = Reason.Value("DOMAIN_INVALID_FOR_TYPE"), "BYTES, whose values are not looked at"
        yield feature.finding("schema.domain", reason, "No domain for bytes", f"values for a {kind}", seen, [edit])
        return
    check = _CHECKS.get(kind or "")
    if check is not None:
        yield from check(feature)


def _by_name(feature: FeatureContext) -> Iterator[Finding]:
    message = feature.message
    domain = named_domain(feature.context.schema, message.domain, message.type)
    if isinstance(domain, schema_pb2.StringDomain):
        yield from _strings(feature, domain)
    elif isinstance(domain, schema_pb2.IntDomain):
        yield from _integers(feature, domain, "domain")
    elif isinstance(domain, schema_pb2.FloatDomain):
        yield from _floats(feature, domain, "domain")


def _strings(feature: FeatureContext, domain: schema_pb2.StringDomain) -> Iterator[Finding]:
    view, message = feature.view, feature.message
    by_name = message.WhichOneof("domain_info") == "domain"
    if view.proto.string_stats.invalid_utf8_count:
        rows = view.proto.string_stats.invalid_utf8_count
        edit = Edit(STRING_DOMAIN, (domain.name,), "") if by_name else feature.edit("string_domain")
        reason = Reason.Value("ENUM_TYPE_INVALID_UTF8")
        yield feature.finding(
            "schema.domain", reason, "Not UTF-8", "texts in UTF-8", f"{rows:,} that are not", [edit], rows
        )
        return
    allowed = set(domain.value)
    strange = {value: count for value, count in view.values.items() if value not in allowed}
    mass, total = sum(strange.values()), view.total_values
    allowance = _allowance(message)
    if not strange or (allowance and mass <= allowance * total):
        return
    added = tuple(sorted(strange))
    edit = (
        Edit(STRING_DOMAIN, (domain.name,), "value", added) if by_name else feature.edit("string_domain.value", added)
    )
    share = f"{1 - allowance:.4%} of the values" if allowance else "only values"
    yield feature.finding(
        "schema.domain", Reason.Value("ENUM_TYPE_UNEXPECTED_STRING_VALUES"), "Unknown values",
        f"{share} of the domain of {len(allowed):,}",
        f"{_others(strange)}, {mass / total if total else 1:.2%} of all values",
        [edit], mass * view.present / total if total else mass, _frequent(strange),
    )  # fmt: skip


def _others(values: Mapping[str, float]) -> str:
    return f"{len(values):,} {'other' if len(values) == 1 else 'others'}"


def _allowance(message: schema_pb2.Feature) -> float:
    """Returns which part of the values may lie outside of the domain."""
    constraints = message.distribution_constraints
    return 1.0 - constraints.min_domain_mass if constraints.HasField("min_domain_mass") else 0.0


def _frequent(values: Mapping[str, float]) -> str:
    first = sorted(values, key=lambda value: (-values[value], value))[:_MAX_EXAMPLES]
    return ", ".join(repr(value) for value in first)


def _integers(feature: FeatureContext, domain: schema_pb2.IntDomain, field: str = "int_domain") -> Iterator[Finding]:
    view = feature.view
    if view.type in (Stats.FLOAT, Stats.STRUCT):
        return
    wrong = next((text for text in view.values if not _is_int64(text)), None)
    if wrong is not None:
        if view.type == Stats.INT and not (domain.HasField("min") or domain.HasField("max")):
            return
        reason = "INT_TYPE_NOT_INT_STRING" if view.schema_type == schema_pb2.BYTES else "DOMAIN_INVALID_FOR_TYPE"
        yield _not_a_number(feature, reason, "integers of 64 bits", view.values, _is_int64, field)
        return
    if view.values:
        numbers = [int(text) for text in view.values]
        yield from _bounds(feature, domain, min(numbers), max(numbers), field)
    elif view.is_numeric:
        numbers = view.proto.num_stats
        yield from _bounds(feature, domain, int(numbers.min), int(numbers.max), field)


def _is_int64(text: str) -> bool:
    return _INTEGER.fullmatch(text) is not None and int(text) in _INT64


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text


def _not_a_number(
    feature: FeatureContext,
    reason: str,
    expected: str,
    values: Mapping[str, float],
    is_one: Callable[[str], bool],
    field: str,
) -> Finding:
    wrong = {text: count for text, count in values.items() if not is_one(text)}
    mass, total = sum(wrong.values()), feature.view.total_values
    rows = mass * feature.view.present / total if total else mass
    return feature.finding(
        "schema.domain", Reason.Value(reason), "Not numbers", f"texts that are {expected}",
        f"{len(wrong):,} that {'is not one' if len(wrong) == 1 else 'are not'}",
        [feature.edit(field)], rows, _frequent(wrong),
    )  # fmt: skip


def _bounds(
    feature: FeatureContext,
    domain: schema_pb2.IntDomain | schema_pb2.FloatDomain,
    least: float,
    most: float,
    field: str,
) -> Iterator[Finding]:
    """Yields values below the least or above the greatest."""
    is_float = isinstance(domain, schema_pb2.FloatDomain)
    low, high = (
        ("FLOAT_TYPE_SMALL_FLOAT", "FLOAT_TYPE_BIG_FLOAT") if is_float else ("INT_TYPE_SMALL_INT", "INT_TYPE_BIG_INT")
    )
    if domain.HasField("min") and least < domain.min:
        edit = _bound_edit(feature, domain, field, "min", least)
        rows = _rows_beyond(feature.view, domain.min, -1)
        seen = f"the least is {least:.9g}"
        yield feature.finding(
            "schema.domain", Reason.Value(low), "Too small", f"{domain.min:.9g} or more", seen, [edit], rows
        )
    if domain.HasField("max") and most > domain.max:
        edit = _bound_edit(feature, domain, field, "max", most)
        rows = _rows_beyond(feature.view, domain.max, 1)
        seen = f"the greatest is {most:.9g}"
        yield feature.finding(
            "schema.domain", Reason.Value(high), "Too large", f"{domain.max:.9g} or less", seen, [edit], rows
        )


def _bound_edit(feature: FeatureContext, domain: object, field: str, side: str, value: float) -> Edit:
    """Returns the edit of a bound; of a domain that others may use by its name, one of the feature alone."""
    if field == "domain":
        return feature.edit("domain")
    return feature.edit(f"{field}.{side}", value if math.isfinite(value) else None)


def _rows_beyond(view: FeatureView, bound: float, side: int) -> float | None:
    """Estimates the rows with values beyond a bound; at least one."""
    histogram = finest_histogram(view)
    return None if histogram is None else max(1.0, share_beyond(histogram, bound, side) * view.present)


def _floats(feature: FeatureContext, domain: schema_pb2.FloatDomain, field: str = "float_domain") -> Iterator[Finding]:
    view = feature.view
    if domain.disallow_nan and (nans := count_nan(view)):
        yield _special(feature, "FLOAT_TYPE_HAS_NAN", "nan", "NaN", nans, field)
    if view.type == Stats.FLOAT:
        least, most = float_range(view)
    elif view.schema_type == schema_pb2.BYTES and view.values:
        if not all(map(_is_number, view.values)):
            reason = "FLOAT_TYPE_STRING_NOT_FLOAT"
            yield _not_a_number(feature, reason, "numbers", view.values, _is_number, field)
            return
        numbers = [float(text) for text in view.values if not math.isnan(float(text))]
        least, most = min(numbers, default=0.0), max(numbers, default=0.0)
    else:
        return
    with np.errstate(over="ignore"):
        yield from _bounds(feature, domain, float(np.float32(least)), float(np.float32(most)), field)
    if domain.disallow_inf and (math.isinf(least) or math.isinf(most)):
        yield _special(feature, "FLOAT_TYPE_HAS_INF", "inf", "infinite values", count_infinite(view), field)


def _special(feature: FeatureContext, reason: str, name: str, told: str, rows: float, field: str) -> Finding:
    edit = feature.edit("domain") if field == "domain" else feature.edit(f"{field}.disallow_{name}", False)
    code = "schema.nan" if name == "nan" else "schema.infinity"
    seen = f"{rows:,.0f}" if rows else "some"
    return feature.finding(code, Reason.Value(reason), f"Has {told}", f"no {told}", seen, [edit], rows or None)


def count_nan(view: FeatureView) -> float:
    """Counts NaN: that of `num_nan` or of a histogram, or of texts."""
    if "num_nan" in view.custom:
        return view.custom["num_nan"].num
    if view.type == Stats.FLOAT:
        return max((histogram.num_nan for histogram in view.proto.num_stats.histograms), default=0)
    return sum(count for text, count in view.values.items() if text.strip().lower().lstrip("+-") == "nan")


def count_infinite(view: FeatureView) -> float:
    """Counts infinities, where statistics say how many there are."""
    names = ("num_positive_infinity", "num_negative_infinity")
    return sum(view.custom[name].num for name in names if name in view.custom)


def float_range(view: FeatureView) -> tuple[float, float]:
    """Returns the least and the greatest number, infinities among them."""
    numbers, custom = view.proto.num_stats, view.custom
    least, most = numbers.min, numbers.max
    if "num_negative_infinity" in custom and custom["num_negative_infinity"].num:
        least = -math.inf
    if "num_positive_infinity" in custom and custom["num_positive_infinity"].num:
        most = math.inf
    return least, most


def _booleans(feature: FeatureContext) -> Iterator[Finding]:
    view = feature.view
    if view.type == Stats.STRING:
        yield from _boolean_texts(feature)
    elif view.is_numeric:
        yield from _boolean_numbers(feature)


def _boolean_texts(feature: FeatureContext) -> Iterator[Finding]:
    domain = feature.message.bool_domain
    allowed = [getattr(domain, name) for name in ("true_value", "false_value") if domain.HasField(name)]
    strange = {value: count for value, count in feature.view.values.items() if value not in allowed}
    if strange:
        mass, total = sum(strange.values()), feature.view.total_values
        yield feature.finding(
            "schema.domain", Reason.Value("BOOL_TYPE_UNEXPECTED_STRING"), "Not boolean",
            f"only {' or '.join(map(repr, allowed)) or 'values that bool_domain names: it names none'}",
            _others(strange), [feature.edit("bool_domain")],
            mass * feature.view.present / total if total else mass, _frequent(strange),
        )  # fmt: skip


def _boolean_numbers(feature: FeatureContext) -> Iterator[Finding]:
    view, (least, most) = feature.view, float_range(feature.view)
    is_float = view.type == Stats.FLOAT
    strange = next(_not_boolean(view, least, most), None)
    if strange is None:
        return
    of_int = "BOOL_TYPE_SMALL_INT" if least < 0 else "BOOL_TYPE_BIG_INT"
    reason = "BOOL_TYPE_UNEXPECTED_FLOAT" if is_float else of_int
    edits = [feature.edit("bool_domain")]
    yield feature.finding("schema.domain", Reason.Value(reason), "Not boolean", "only 0 and 1", strange, edits)


def _not_boolean(view: FeatureView, least: float, most: float) -> Iterator[str]:
    """Yields what shows that some numbers are neither 0 nor 1."""
    if view.type == Stats.INT:
        if least < 0 or most > 1:
            yield f"{least if least < 0 else most:g}"
        return
    for number in (least, most):
        if number not in (0.0, 1.0):
            yield f"{number:g}"
    if count_nan(view):
        yield "NaN"
    for low, high in _between(view):
        yield f"values from {low:g} to {high:g}"


def _between(view: FeatureView) -> Iterable[tuple[float, float]]:
    """Yields filled buckets of quantiles that lie between 0 and 1."""
    quantiles = statistics_pb2.Histogram.QUANTILES
    histograms = [histogram for histogram in view.proto.num_stats.histograms if histogram.type == quantiles]
    if "distribution" in view.custom:
        histograms.append(view.custom["distribution"].histogram)
    for histogram in histograms:
        for bucket in histogram.buckets:
            if bucket.sample_count > 0 and bucket.low_value > 0 and bucket.high_value < 1:
                yield bucket.low_value, bucket.high_value


def _unmeasured(feature: FeatureContext) -> Iterator[Finding]:
    """Refuses what asks for statistics of images or of tokens."""
    kind = feature.message.WhichOneof("domain_info") or ""
    domain = getattr(feature.message, kind)
    asked = [field.name for field, _ in domain.ListFields() if field.name in _UNMEASURED[kind]]
    if asked:
        yield feature.finding(
            "schema.unchecked", Reason.Value("STATS_NOT_AVAILABLE"), "Not checked",
            f"statistics for {kind}.{asked[0]}", "none: Penstock measures neither images nor tokens",
            [feature.edit(f"{kind}.{name}") for name in asked],
        )  # fmt: skip


_CHECKS: Mapping[str, Callable[[FeatureContext], Iterator[Finding]]] = {
    "domain": _by_name,
    "string_domain": lambda feature: _strings(feature, feature.message.string_domain),
    "int_domain": lambda feature: _integers(feature, feature.message.int_domain),
    "float_domain": lambda feature: _floats(feature, feature.message.float_domain),
    "bool_domain": _booleans,
    "natural_language_domain": _unmeasured,
    "image_domain": _unmeasured,
}
