"""Files of rolling features: what is read, and how their faults are told."""

import datetime

import pytest
from rolling_rows import FEATURES

from penstock.io.errors import ConfigError
from penstock.io.schema import Feature, Kind
from penstock.transforms.rolling.file import parse_rolling
from penstock.transforms.rolling.rows import bind_rolling
from penstock.transforms.rolling.transform import load_rolling


def spec(features, top="key: card, window: 10m"):
    return f"rolling: {{{top}, features: {features}}}"


def test_a_file_is_read(tmp_path):
    path = tmp_path / "rolling.yaml"
    path.write_text(spec("{n: {op: count}, total: {op: sum, column: amount, window: 1h}, late: {op: late}}"))
    found = load_rolling(str(path))
    assert found.key == ("card",)
    assert [(feature.name, feature.op, feature.column, feature.window) for feature in found.features] == [
        ("n", "count", None, datetime.timedelta(minutes=10)),
        ("total", "sum", "amount", datetime.timedelta(hours=1)),
        ("late", "late", None, datetime.timedelta(0)),
    ]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"--rolling .*none.yaml: cannot be read: .*; give a YAML file"):
        load_rolling(str(tmp_path / "none.yaml"))


FAULTS = {
    "not_yaml": ("rolling: {", "is not valid YAML"),
    "empty": ("", "has no entry 'rolling', a mapping of key and features"),
    "other_top": ("features: {}", "line 1: unknown key 'features'"),
    "no_key": ("rolling: {features: {n: {op: count}}}", "rolling needs 'key'"),
    "no_features": ("rolling: {key: a}", "rolling needs 'features'"),
    "empty_features": (spec("{}"), "features must name at least one feature"),
    "empty_key": (spec("{n: {op: count}}", "key: []"), "key must be a column or a list of columns, got \\[\\]"),
    "number_key": (spec("{n: {op: count}}", "key: 7"), "key must be a column or a list of columns, got 7"),
    "key_twice": (spec("{n: {op: count}}", "key: [a, a]"), "key names a column twice"),
    "unknown_key": (spec("{n: {op: count}}", "key: a, windows: 1s"), "unknown key 'windows'; did you mean 'window'"),
    "no_window": (spec("{n: {op: count}}", "key: a"), "feature 'n': needs a window, such as 10m"),
    "bad_window": (spec("{n: {op: count, window: soon}}"), "window: a duration must be a whole number with ms"),
    "zero_window": (spec("{n: {op: count, window: 0s}}"), "window must be a duration above 0, such as 10m or 1h"),
    "number_window": (spec("{n: {op: count, window: 10}}"), "window must be a duration above 0, .* got 10"),
    "late_window": (spec("{n: {op: late, window: 1m}}"), "late does not look back; leave the window out"),
    "no_op": (spec("{n: {window: 1m}}"), "feature 'n': needs an op: count, sum, mean"),
    "unknown_op": (spec("{n: {op: summ, column: a}}"), "unknown operation 'summ'; did you mean 'sum'"),
    "list_op": (spec("{n: {op: [sum]}}"), "op must be a name, got \\['sum'\\]"),
    "no_column": (spec("{n: {op: sum}}"), "sum needs a column, got None"),
    "column_of_count": (spec("{n: {op: count, column: a}}"), "count takes no column; it is about rows"),
    "reserved": (spec("{_origin: {op: count}}"), "the name is reserved by Penstock"),
    "twice": (
        "rolling:\n  key: a\n  window: 1m\n  features:\n    n: {op: count}\n    n: {op: count}",
        "line 6: 'n' appears",
    ),
    "argument": (spec("{n: {op: count, by: a}}"), "unknown key 'by'"),
}


@pytest.mark.parametrize(("text", "message"), FAULTS.values(), ids=FAULTS)
def test_faults_are_told_with_their_place(text, message):
    with pytest.raises(ConfigError, match=message) as error:
        parse_rolling(text, "--rolling r.yaml")
    assert str(error.value).startswith("--rolling r.yaml")


UNFIT = {
    "no_such_key": (
        spec("{n: {op: count}}", "key: crd, window: 1m"),
        "line 1: rolling: key 'crd' is not a feature .* 'card'",
    ),
    "float_key": (spec("{n: {op: count}}", "key: amount, window: 1m"), "key 'amount' is FLOAT; a key is INT or BYTES"),
    "list_key": (spec("{n: {op: count}}", "key: tags, window: 1m"), "key 'tags' is multivalued; a row has one key"),
    "no_such_column": (spec("{n: {op: sum, column: amout}}"), "feature 'n' 'amout' is not a feature .* 'amount'"),
    "text_sum": (spec("{n: {op: sum, column: merchant}}"), "sum takes INT or FLOAT, and 'merchant' is BYTES"),
    "list_column": (spec("{n: {op: distinct, column: tags}}"), "'tags' is multivalued; distinct takes one value a row"),
    "collision": (spec("{amount: {op: count}}"), "feature 'amount': the schema has a column of this name"),
}


@pytest.mark.parametrize(("text", "message"), UNFIT.values(), ids=UNFIT)
def test_what_does_not_fit_the_schema(text, message):
    features = (*FEATURES, Feature("tags", Kind.BYTES, multivalued=True))
    with pytest.raises(ConfigError, match=message):
        bind_rolling(parse_rolling(text, "--rolling r.yaml"), features)
