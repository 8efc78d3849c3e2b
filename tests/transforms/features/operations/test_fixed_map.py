import pickle
from pathlib import Path

import pytest

from penstock.io.errors import ConfigError
from penstock.io.schema import Feature, Kind
from penstock.transforms.features.functions import FeatureFile, parse_features

COLUMNS = [Feature("n", Kind.INT, multivalued=False), Feature("text", Kind.BYTES, multivalued=False)]


def features(path: Path, column: str = "text", more: str = "") -> FeatureFile:
    return parse_features(f"features:\n  y: {{input: {column}, ops: [{{lookup: {{file: '{path}'{more}}}}}]}}", "f.yaml")


def write(folder: Path, text: str, name: str = "map.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_of_texts(tmp_path) -> None:
    path = write(tmp_path, 'key,value\na,1\n"b\nc","x, ""y"""\n,empty\n')
    table = features(path).entries[0].steps[0].arguments["table"]
    assert (table.keys, table.values) == ((b"a", b"b\nc", b""), (b"1", b'x, "y"', b"empty"))
    assert table.lines == (2, 3, 5)


def test_csv_of_numbers(tmp_path) -> None:
    path = write(tmp_path, "key,value\n7,9223372036854775807\n-1,0\n")
    table = features(path, "n", ", to: int").entries[0].steps[0].arguments["table"]
    assert (table.keys_of(Kind.INT), table.values) == ([7, -1], (2**63 - 1, 0))
    floats = features(path, "n", ", to: float").entries[0].steps[0].arguments["table"]
    assert floats.values == (2.0**63, 0.0)


def test_json(tmp_path) -> None:
    path = write(tmp_path, '{"a": 1, "ü": 2.5}', "map.json")
    bound = features(path).bind(COLUMNS)
    assert bound.outputs[0].steps[0].kind is Kind.FLOAT
    assert pickle.loads(pickle.dumps(bound)) == bound


CSV = {
    "empty": ("", "map.csv, line 1: the header must be key,value, got None"),
    "header": ("name,value\na,1\n", r"line 1: the header must be key,value, got \['name', 'value'\]"),
    "no_keys": ("key,value\n", "map.csv: holds no keys"),
    "fields": ("key,value\na,1\nb\n", "map.csv, line 3: needs a key and a value, got 1 fields"),
    "blank": ("key,value\na,1\n\nb,2\n", "map.csv, line 3: needs a key and a value, got 0 fields"),
    "twice": ('key,value\n"a",1\nb,"2\n3"\na,4\n', "map.csv, line 5: the key 'a' is that of line 2"),
    "quotes": ('key,value\na,"1\n', "map.csv, line 2: is not CSV: unexpected end of data"),
}


@pytest.mark.parametrize(("text", "message"), CSV.values(), ids=CSV.keys())
def test_mistakes_in_csv_are_named_with_file_and_line(tmp_path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)^f.yaml, line 2: feature 'y': lookup: file .*{message}"):
        features(write(tmp_path, text))


VALUES = {
    "int": ("1.5", "int", "line 3: the value must be a whole number, got '1.5'"),
    "beyond": ("9223372036854775808", "int", "line 3: the value must be a whole number"),
    "float": ("x", "float", "line 3: the value must be a number, got 'x'"),
}


@pytest.mark.parametrize(("value", "to", "message"), VALUES.values(), ids=VALUES.keys())
def test_values_of_csv_that_are_no_numbers(tmp_path, value: str, to: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"map.csv, {message}"):
        features(write(tmp_path, f"key,value\na,1\nb,{value}\n"), more=f", to: {to}")


JSON = {
    "no_json": ('{\n"a": 1,\n}', "map.json, line [23]: is not JSON"),
    "list": ("[1]", r"map.json: must be one object of keys and values, got \[1\]"),
    "empty": ("{}", "map.json: holds no keys"),
    "twice": ('{"a": 1, "a": 2}', "map.json: the key 'a' appears twice"),
    "null": ('{"a": null}', "map.json: the value of 'a' must be a number or a text, got None"),
    "bool": ('{"a": true}', "map.json: the value of 'a' must be a number or a text, got True"),
    "beyond": ('{"a": 9223372036854775808}', "map.json: the value of 'a' is beyond int64"),
    "kinds": ('{"a": 1, "b": "2"}', "map.json: the values must be of one kind"),
}


@pytest.mark.parametrize(("text", "message"), JSON.values(), ids=JSON.keys())
def test_mistakes_in_json_are_named(tmp_path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)^f.yaml, line 2: feature 'y': lookup: file .*{message}"):
        features(write(tmp_path, text, "map.json"))


def test_json_takes_no_type(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"map\.json: to is for CSV, whose values have no types"):
        features(write(tmp_path, '{"a": 1}', "map.json"), more=", to: int")


def test_a_file_that_is_not_there(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"lookup: file .*none\.csv: cannot be read: .*header key,value"):
        features(tmp_path / "none.csv")


def test_keys_that_the_input_cannot_have(tmp_path) -> None:
    path = write(tmp_path, "key,value\n1,a\n007,b\n")
    with pytest.raises(ConfigError, match=r"map.csv, line 3: the key must be a whole number, .* INT, got '007'"):
        features(path, "n").bind(COLUMNS)


def test_a_default_of_another_kind(tmp_path) -> None:
    path = write(tmp_path, "key,value\na,b\n")
    with pytest.raises(ConfigError, match=r"default must be one of the texts, as the values of file .*map.csv are"):
        features(path, more=", default: 1").bind(COLUMNS)
