import math

import pyarrow as pa
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError
from penstock.io.reasons import Note
from penstock.transforms.checks.severity import REASONS, SchemaSeverity
from penstock.transforms.checks.validate import record_checks, validate_batch

SCHEMA = text_format.Parse(
    """
    feature { name: "company" type: BYTES presence { min_fraction: 1 } string_domain { value: "a" } }
    feature { name: "fare" type: FLOAT presence { min_fraction: 1 } float_domain { min: 0 max: 9 } }
    feature { name: "u" type: STRUCT struct_domain {
        feature { name: "id" type: INT value_count { min: 1 max: 1 } } } }
    sparse_feature { name: "sp" index_feature { name: "i" } value_feature { name: "fare" } }
    feature { name: "i" type: INT }
    """,
    schema_pb2.Schema(),
)

BATCH = pa.record_batch(
    {
        "company": ["b", None, "a", "c", "a"],
        "fare": [1.0, 99.0, math.nan, math.inf, None],
        "u.id": [[1], [1, 2], [], [3], None],
        "i": [1, 2, 3, 4, None],
    }
)


def found(mode="enforce", warn=()):
    """Reason codes by row, and what only warns by subject and code, with rows."""
    findings = validate_batch(BATCH, record_checks(SCHEMA, severity=SchemaSeverity(mode, warn)))
    reasons = {row: [reason.code.removeprefix("schema.") for reason in why] for row, why in findings.reasons.items()}
    return reasons, {f"{fault.subject}.{fault.code[7:]}": fault.rows.tolist() for fault in findings.warned}


REJECTED = {
    0: ["domain"],
    1: ["presence", "domain", "value_count"],
    2: ["nan", "value_count"],
    3: ["domain", "infinity"],
    4: ["presence"],
}


def test_enforce_rejects():
    assert found() == (REJECTED, {})


def test_warn_rejects_none_of_what_can_be_encoded():
    assert found("warn") == (
        {},
        {
            "company.presence": [1],
            "company.domain": [0, 3],
            "fare.presence": [4],
            "fare.domain": [1],
            "fare.nan": [2],
            "fare.infinity": [3],
            "u.id.value_count": [1, 2],
        },
    )


def test_off_looks_for_nothing_else():
    assert found("off") == ({}, {})


@pytest.mark.parametrize("mode", ["warn", "off"])
def test_what_cannot_be_encoded_rejects_in_any_mode(mode):
    checks = record_checks(SCHEMA, "company", SchemaSeverity(mode))
    batch = pa.record_batch({"company": ["x", None], "fare": ["x", None], "i": [[1], [None]]})
    reasons = validate_batch(batch, checks).reasons
    assert {row: [reason.code for reason in why] for row, why in reasons.items()} == {
        0: ["schema.type"],
        1: ["schema.null_in_list", "label.missing"],
    }


@pytest.mark.parametrize(
    ("warn", "warned"),
    [
        (("company.presence",), {"company.presence": [1]}),
        (("company",), {"company.presence": [1], "company.domain": [0, 3]}),
        (("*.domain", "fare.nan"), {"company.domain": [0, 3], "fare.domain": [1], "fare.nan": [2]}),
        (("u.id.value_count",), {"u.id.value_count": [1, 2]}),
        (("u.value_count", "sp.parts", "sp"), {}),
    ],
)
def test_single_features_and_reasons_warn(warn, warned):
    reasons, told = found("enforce", warn)
    assert told == warned
    codes = [(row, code) for row, why in REJECTED.items() for code in why]
    left = [(row, code) for row, why in reasons.items() for code in why]
    assert len(left) + sum(map(len, warned.values())) == len(codes)


def test_a_warning_has_its_first_row_for_example():
    findings = validate_batch(BATCH, record_checks(SCHEMA, severity=SchemaSeverity(warn=("company.domain",))))
    (fault,) = findings.warned
    assert fault.note() == Note("schema.domain", "company", 2, "company is 'b', not in string_domain (a)")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            "compny.presence",
            r"'compny' is not a feature of the schema; did you mean 'company'\? write FEATURE, FEATURE.R",
        ),
        (
            "company.presense",
            r"'presense' is no reason of the schema; did you mean 'presence'\? the reasons are presence",
        ),
        (
            "company.type",
            "type cannot only warn, since no record holds such a value; the reasons that can are presence",
        ),
        ("*.int_overflow", "int_overflow cannot only warn"),
        ("fares", r"'fares' is not a feature of the schema; did you mean 'fare'\?"),
        ("presence", r"'presence' is not a feature of the schema; write FEATURE, FEATURE.REASON or \*.REASON"),
        ("", "'' is not a feature of the schema"),
    ],
)
def test_what_the_schema_does_not_have_is_refused(item, message):
    with pytest.raises(ConfigError, match=f"schema_warn '{item.replace('*', '.')}': {message}"):
        record_checks(SCHEMA, severity=SchemaSeverity(warn=(item,)))


@pytest.mark.parametrize(
    ("mode", "warn", "message"),
    [
        ("loud", (), "schema_mode must be one of enforce, warn, off, got 'loud'"),
        ("warn", ("fare",), "schema_mode warn lets all of the schema warn: leave schema_warn out"),
        ("off", ("fare",), "schema_mode off checks nothing: leave schema_warn out"),
    ],
)
def test_modes_that_do_not_fit_are_refused(mode, warn, message):
    with pytest.raises(ConfigError, match=message):
        SchemaSeverity(mode, warn)


def test_reasons_are_those_of_validation():
    from penstock.transforms.checks import validate

    assert [reason for reason in REASONS if f"`schema.{reason}`" not in validate.__doc__] == []


def test_the_severity_of_a_run_is_in_its_manifest():
    assert SchemaSeverity.of_options({"schema_mode": "warn", "schema_warn": []}) == SchemaSeverity("warn")
    assert SchemaSeverity.of_options({"schema_warn": ["a.nan"]}) == SchemaSeverity(warn=("a.nan",))
    assert SchemaSeverity.of_options({}) == SchemaSeverity()
