"""Rules that statistics suggest: those that are expected, and all of them on the rows that the statistics are of."""

import math
import random
import uuid

import numpy as np
import pyarrow as pa
import pytest
from arrow_batches import batches
from hypothesis import example, given
from tensorflow_metadata.proto.v0 import schema_pb2
from tfdv_golden import golden_statistics

from penstock.io.columns.conform import conform_batch
from penstock.io.errors import ConfigError
from penstock.io.schema import schema_features
from penstock.transforms.checks.file import parse_checks
from penstock.transforms.checks.rules import compile_rules
from penstock.transforms.checks.unique.keys import keyed_rows
from penstock.transforms.statistics.compute import compute_statistics
from penstock.transforms.statistics.schema.infer import infer_schema
from penstock.transforms.statistics.schema.rules import suggest_rules

ROWS = 200
RANDOM = random.Random(1)

TABLE = {
    "id": [str(uuid.UUID(int=RANDOM.getrandbits(128))) for _ in range(ROWS)],
    "number": list(range(ROWS)),
    "fare": [2.5 + i % 40 for i in range(ROWS)],
    "heavy": [float(2 ** (i % 30)) for i in range(ROWS)],
    "delay": [i % 60 - 20 for i in range(ROWS)],
    "outlier": [*(i % 10 for i in range(ROWS - 1)), 10**9],
    "paid": [i % 2 for i in range(ROWS)],
    "kind": [("cash", "card", "it's")[i % 3] for i in range(ROWS)],
    "day": [f"2024-02-{1 + i % 28:02}" for i in range(ROWS)],
    "mail": [f"u{i}@example.org" for i in range(ROWS)],
    "note": [("short", "a longer note", f"note {i}")[i % 3] for i in range(ROWS)],
    "constant": ["same"] * ROWS,
    "level": [5.0] * ROWS,
    "street": [None if i % 5 == 0 else f"street {i}" for i in range(ROWS)],
    "city": [None if i % 5 == 0 else f"city {i % 60}" for i in range(ROWS)],
    "floor": [None if i % 5 == 0 or i % 7 == 0 else i for i in range(ROWS)],
    "rare": [None if i == 3 else i for i in range(ROWS)],
    "odd": [math.nan if i == 3 else i / 7 for i in range(ROWS)],
    "tags": [["a", "b"][: i % 3] for i in range(ROWS)],
    "points": [[i, -i] if i % 4 else None for i in range(ROWS)],
    "Group By": [i % 17 for i in range(ROWS)],
    "order": [i % 19 for i in range(ROWS)],
}


@pytest.fixture(scope="module")
def statistics():
    return compute_statistics([pa.record_batch(TABLE)]).to_proto(state=False)


@pytest.fixture(scope="module")
def suggested(statistics):
    return suggest_rules(statistics)


def broken_rows(batch, schema, checks):
    """How many rows break each rule, by name; those that only warn too."""
    features = schema_features(schema)
    rows, reasons = conform_batch(batch, features)
    assert reasons == {}
    found = compile_rules(checks.rules, features).check(rows)
    counts = {fault.code: len(fault.rows) for fault in found.warned}
    for row in found.reasons.values():
        for reason in row:
            counts[reason.code] = counts.get(reason.code, 0) + 1
    return {code.removeprefix("rule."): count for code, count in counts.items()}


def test_the_file_is_read_and_the_data_meets_it_but_for_what_is_told(statistics, suggested):
    checks = parse_checks(suggested.to_yaml())
    assert [rule.name for rule in checks.rules] == [one.rule.name for one in suggested.rules]
    assert [(rule.sql, rule.severity) for rule in checks.rules] == [
        (one.rule.sql, one.rule.severity) for one in suggested.rules
    ]
    assert [key.columns for key in checks.unique] == [one.key.columns for one in suggested.keys if one.certain]
    broken = broken_rows(pa.record_batch(TABLE), infer_schema(statistics), checks)
    for one in suggested.rules:
        told, found = one.breaking, broken.pop(one.rule.name, 0)
        assert found == told if one.exact else found <= told, one
        assert one.rule.severity == "warn" or told == 0
    assert broken == {}


@example(pa.record_batch({"0": pa.array([0.0] * 12 + [1, 1, 2, math.inf, math.inf])}))
@given(batches(with_faults=False))
def test_all_rows_meet_the_rules_of_their_statistics(batch):
    proto = compute_statistics([batch]).to_proto(state=False)
    suggested = suggest_rules(proto, min_rows=1, min_support=0.5)
    if suggested.rules or suggested.checks.unique:
        checks = parse_checks(suggested.to_yaml())
        broken = broken_rows(batch, infer_schema(proto), checks)
        assert {name: count for name, count in broken.items()} == {
            one.rule.name: broken.get(one.rule.name) for one in suggested.rules if one.rule.name in broken
        }
        for one in suggested.rules:
            found = broken.get(one.rule.name, 0)
            assert found == one.breaking if one.exact else found <= one.breaking, one
    rows, _ = conform_batch(batch, schema_features(infer_schema(proto)))
    for one in suggested.keys:
        if one.certain:
            hashes = keyed_rows(rows, one.key, None).hashes
            assert len(np.unique(hashes)) == len(hashes)


@pytest.mark.parametrize(
    ("name", "sql"),
    [
        ("id_present", "id IS NOT NULL"),
        ("number_not_negative", "number >= 0"),
        ("fare_not_negative", "fare >= 0"),
        ("fare_range", "fare <= 62.0"),
        ("delay_range", "delay BETWEEN -60 AND 70"),
        ("outlier_range", "outlier <= 22"),
        ("paid_domain", "paid IN (0, 1)"),
        ("kind_domain", "kind IN ('card', 'cash', 'it''s')"),
        ("day_length", 'length("day") = 10'),
        ("mail_length", "length(mail) BETWEEN 1 AND 32"),
        ("note_length", "length(note) BETWEEN 1 AND 26"),
        ("constant_constant", "constant = 'same'"),
        ("level_constant", '"level" = 5.0'),
        ("city_missing_with", "(city IS NULL) = (street IS NULL)"),
        ("city_implies", 'city IS NOT NULL OR ("floor" IS NULL)'),
        ("rare_present", "rare IS NOT NULL"),
        ("rare_not_negative", "rare IS NULL OR rare >= 0"),
        ("odd_range", "isnan(odd) OR odd <= 43.0"),
        ("tags_domain", "list_filter(tags, lambda item: NOT (item IN ('a', 'b'))) = []"),
        ("Group_By_not_negative", '"Group By" >= 0'),
        ("order_not_negative", '"order" >= 0'),
    ],
)
def test_rules(suggested, name, sql):
    found = {one.rule.name: one.rule.sql.replace('"', "") for one in suggested.rules}
    assert found[name] == sql.replace('"', "")


@pytest.mark.parametrize(("name", "pattern"), [("id_uuid", "uuid"), ("day_date", "date"), ("mail_email", "email")])
def test_patterns(suggested, name, pattern):
    rule = next(one for one in suggested.rules if one.rule.name == name)
    assert rule.support == 1
    assert "regexp_full_match(" in rule.rule.sql
    assert len(rule.examples) == 3


@pytest.mark.parametrize("name", ["outlier_range", "rare_present"])
def test_what_few_rows_break_only_warns(suggested, name):
    rule = next(one for one in suggested.rules if one.rule.name == name)
    assert rule.rule.severity == "warn"
    assert 0.99 <= rule.support < 1
    assert 1 <= rule.breaking <= 2


def test_what_many_rows_break_is_no_rule(statistics):
    names = {one.rule.name for one in suggest_rules(statistics, min_support=1).rules}
    assert not names & {"outlier_range", "rare_present"}
    assert "fare_range" in names


def test_names_that_sql_knows_are_quoted(suggested):
    found = {one.rule.name: one.rule.sql for one in suggested.rules}
    assert found["order_present"] == '"order" IS NOT NULL'
    assert found["Group_By_present"] == '"Group By" IS NOT NULL'


def test_keys(suggested):
    # Rows without a value repeat nothing.
    assert {one.key.name for one in suggested.keys if one.certain} == {
        "id", "mail", "number", "rare", "street", "floor"
    }  # fmt: skip


def test_a_key_that_is_only_estimated_is_a_comment():
    proto = compute_statistics([pa.record_batch({"x": range(20_000)})]).to_proto(state=False)
    suggested = suggest_rules(proto)
    assert [one.certain for one in suggested.keys] == [False]
    assert parse_checks(suggested.to_yaml()).unique == ()
    assert "#   # about " in suggested.to_yaml()
    assert "#   x: [x]" in suggested.to_yaml()


def test_a_column_that_repeats_is_no_key():
    proto = compute_statistics([pa.record_batch({"x": [*range(19_000), *range(1000)]})]).to_proto(state=False)
    assert suggest_rules(proto).keys == ()


def test_few_rows_prove_nothing():
    proto = compute_statistics([pa.record_batch({"x": range(19)})]).to_proto(state=False)
    assert suggest_rules(proto).rules == ()
    assert suggest_rules(proto, min_rows=19).rules


def test_the_schema_says_what_columns_are(statistics):
    schema = schema_pb2.Schema()
    schema.feature.add(name="number", type=schema_pb2.FLOAT).value_count.min = 0
    schema.feature.add(name="fare", type=schema_pb2.BYTES)
    suggested = suggest_rules(statistics, schema)
    assert [one.rule.sql for one in suggested.rules] == [
        "fare IS NOT NULL",
        "number IS NOT NULL",
        "list_filter(number, lambda item: NOT (item >= 0)) = []",
        "list_filter(number, lambda item: NOT (item <= 300.0)) = []",
    ]
    compile_rules([one.rule for one in suggested.rules], schema_features(schema))


@pytest.mark.parametrize(
    "name",
    ["a'b", 'a"b', "a\nb", "a: b", "# a", "日本", " a", "\u2028", "x" * 300, "item", "SELECT", "Fare", "{a}", "a{0}"],
)
def test_any_name_and_text_survives_the_file(name):
    texts = [name, f"{name}2"] * 20
    proto = compute_statistics(
        [pa.record_batch({name: texts, f"{name}n": range(40), f"{name}m": [1.5, math.nan, 2, 7] * 10})]
    ).to_proto(state=False)
    suggested = suggest_rules(proto)
    checks = parse_checks(suggested.to_yaml())
    assert [rule.sql for rule in checks.rules] == [one.rule.sql for one in suggested.rules]
    assert [key.columns for key in checks.unique] == [(f"{name}n",)]
    batch = pa.record_batch({name: [*texts, "other"]})
    assert broken_rows(batch, infer_schema(proto), checks)[f"{checks.rules[0].name[:-8]}_domain"] == 1


@pytest.mark.parametrize("name", ["Null", "yes", "off", "null"])
def test_the_name_of_a_key_stays_a_text(name):
    proto = compute_statistics([pa.record_batch({name: range(40)})]).to_proto(state=False)
    checks = parse_checks(suggest_rules(proto).to_yaml())
    assert [(key.name, key.columns) for key in checks.unique] == [(name, (name,))]


@pytest.mark.parametrize("name", ["flights", "penguins"])
def test_rules_of_tfdvs_statistics(name):
    proto = golden_statistics(name)
    suggested = suggest_rules(proto)
    checks = parse_checks(suggested.to_yaml())
    compile_rules(checks.rules, schema_features(infer_schema(proto)))
    sql = {one.rule.name: one.rule.sql for one in suggested.rules}
    if name == "penguins":
        assert sql["sex_domain"] == "sex IS NULL OR sex IN ('female', 'male')"
        assert sql["year_range"] == "year BETWEEN 2004 AND 2011"
    else:
        assert sql["origin_domain"] == "origin IN ('EWR', 'JFK', 'LGA')"
        assert sql["dest_length"] == "length(dest) = 3"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_support": 0}, "min_support must be above 0 and at most 1, got 0"),
        ({"min_support": 1.1}, "min_support must be above 0 and at most 1, got 1.1"),
        ({"max_domain": 0}, "max_domain must be at least 1, got 0"),
        ({"min_rows": 0}, "min_rows must be at least 1, got 0"),
    ],
)
def test_wrong_options_are_refused(statistics, options, message):
    with pytest.raises(ConfigError, match=message):
        suggest_rules(statistics, **options)
