"""What all four readers of YAML refuse alike: features, rolling features, rules, and the flags of a job."""

import dataclasses
import re

import pytest
import yaml

from penstock.io.errors import ConfigError
from penstock.io.files import yaml_files
from penstock.io.files.yaml_files import Location, pairs, parse_yaml, read_local_text, value_of
from penstock.transforms.checks.file import load_rules
from penstock.transforms.features.functions import load_features
from penstock.transforms.rolling.transform import load_rolling
from pipelines._options.prepare import PrepareOptions


def load_config(path):
    return PrepareOptions.parse(["--config", path])


@dataclasses.dataclass(frozen=True)
class Reader:
    """How a file is read, a good one, and one with a value of any shape in line 2."""

    load: object
    good: str
    around: str


READERS = {
    "features": Reader(load_features, "features:\n  n: {input: a}\n", "features:\n  n: %s\n"),
    "rolling": Reader(
        load_rolling,
        "rolling:\n  key: a\n  features: {n: {op: count, window: 1m}}\n",
        "rolling:\n  key: %s\n  features: {n: {op: count, window: 1m}}\n",
    ),
    "rules": Reader(load_rules, "rules:\n- name: a\n  sql: x > 0\n", "rules:\n- name: %s\n  sql: x > 0\n"),
    "config": Reader(load_config, "input: a.csv\noutput: out\n", "output: out\ninput: %s\n"),
}

BOMB = "[&a [x, x], &b [*a, *a], &c [*b, *b], &d [*c, *c], &e [*d, *d], &f [*e, *e], &g [*f, *f], &h [*g, *g]]"

# What stands in the file, and what is said of it; `$` is where a value may stand.
FAULTS = {
    "deep_list": ("$" + "[" * 3000, "line 2: lists and mappings are more than 50 levels deep"),
    "deep_mapping": ("$" + "{a: " * 3000, "line 2: lists and mappings are more than 50 levels deep"),
    "deep_block": ("$\n" + "".join(f"{' ' * (n + 9)}-\n" for n in range(100)), "more than 50 levels deep"),
    "bomb": ("$" + BOMB, "line 2: holds more than 200 values, with those that aliases stand for"),
    "deep_by_aliases": (
        "$[&a " + "[" * 30 + "x" + "]" * 30 + ", " + "[" * 30 + "*a" + "]" * 30 + "]",
        "line 2: lists and mappings are more than 50 levels deep",
    ),
    "alias_in_itself": ("$&a [*a]", "line 2: the alias \\*a stands inside of what it names"),
    "merge_of_itself": ("$&a {<<: *a}", "line 2: the alias \\*a stands inside of what it names"),
    "alias_of_nothing": ("$*a", "line 2, column \\d+: is not valid YAML: found undefined alias"),
    "twice": ("$\n    {a: 1, a: 2}", "line 3: 'a' appears twice"),
    "twice_in_a_list": ("$[{a: 1}, {b: 1, 'b': 2}]", "line 2: 'b' appears twice"),
    "list_as_name": ("$? [a]\n : b", "line \\d: a name must be a text, got a list|is not valid YAML"),
    "list_as_inner_name": ("${[a]: b}", "line 2: a name must be a text, got a list"),
    "tag": ("$!python/object:os.system [x]", "line 2: the tag !python/object:os.system is not known; leave it out"),
    "tag_of_text": ("$!mine x", "line 2: 'x' cannot be used: could not determine a constructor .*put it in quotes"),
    "set": ("$!!set {a, b}", "line 2: the tag !!set is not known"),
    "no_day": ("$2024-13-45", "line 2: '2024-13-45' cannot be used: month must be in 1..12.*; put it in quotes"),
    "no_number": ("$!!int x", "line 2: 'x' cannot be used: .*put it in quotes"),
    "sign": ("$=", "line 2: '=' cannot be used: could not determine a constructor"),
    "tab": ("$\n\t- a", r"line 3, column 1: is not valid YAML: found character '\\t' .*; indent with spaces"),
    "open": ("$[", "line \\d, column \\d+: is not valid YAML"),
    "open_quote": ("$'a", "is not valid YAML: found unexpected end of stream"),
    "two_documents": ("a: 1\n---\nb: 2\n", "line 2, column 1: is not valid YAML: .*; a file holds one document"),
    "control_character": ('$"\x07"', r"line 2: the character '\\x07' cannot be used"),
    "lone_surrogate": ('$"\\ud83d"', r"line 2: '\\ud83d' has a lone surrogate, which is no text"),
    "lone_surrogate_in_a_name": ('${"a\\ude00": 1}', "line 2: .* has a lone surrogate"),
    "empty": ("", "line 1: (is empty; give a mapping|has no entry)"),
    "comment": ("# nothing\n", "line 1: (is empty; give a mapping|has no entry)"),
    "null": ("~\n", "line 1: must be a mapping of names, got None"),
    "list": ("\n- a\n", "line 2: must be a mapping of names, got a list"),
    "text": ("features", "line 1: must be a mapping of names, got 'features'"),
    "number_as_name": ("7: a", "line 1: a name must be a text, got 7; put it in quotes"),
    "word_as_name": ("\n\nyes: a", "line 3: a name must be a text, got True; put it in quotes"),
    "unknown_name": ("seeed: a", "line 1: unknown (key|name) '?seeed'?"),
    "latin1": (b"# a\n# \xe9\n", "line 2: is not UTF-8 .*; save the file as UTF-8"),
    "utf16": ("a: 1".encode("utf-16"), "line 1: is not UTF-8"),
    "too_large": (b"#" * 1025, "is larger than 0 MiB, which no file of settings is"),
}


@pytest.fixture(params=READERS)
def reader(request):
    return READERS[request.param]


def load(reader, tmp_path, content):
    path = tmp_path / "file.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return reader.load(str(path))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_with_file_and_line(reader, tmp_path, monkeypatch, fault):
    content, message = FAULTS[fault]
    if fault == "bomb":
        monkeypatch.setattr(yaml_files, "_MAX_VALUES", 200)
    if fault == "too_large":
        monkeypatch.setattr(yaml_files, "_MAX_BYTES", 1024)
    if isinstance(content, str) and content.startswith("$"):
        content = reader.around % content[1:]
    with pytest.raises(ConfigError) as error:
        load(reader, tmp_path, content)
    assert re.search(r"^--\w+ \S+file.yaml(, |: ).*", str(error.value))
    assert re.search(message, str(error.value)), str(error.value)
    assert len(str(error.value)) < 400


def test_what_is_good_is_read(reader, tmp_path):
    assert load(reader, tmp_path, reader.good) is not None


def test_a_byte_order_mark_is_skipped(reader, tmp_path):
    assert load(reader, tmp_path, reader.good.encode("utf-8-sig")) == load(reader, tmp_path, reader.good)


def test_lines_may_end_as_on_windows(reader, tmp_path):
    assert load(reader, tmp_path, reader.good.replace("\n", "\r\n")) == load(reader, tmp_path, reader.good)


def test_a_file_that_is_not_there_is_named(reader, tmp_path):
    with pytest.raises(ConfigError, match=r"^--\w+ \S+none.yaml: cannot be read: .*No such file"):
        reader.load(str(tmp_path / "none.yaml"))


def read(text):
    return value_of(parse_yaml(text, "a.yaml"))


DOCUMENTS = {
    "values": "{a: [1, 1.5, x, true, ~, 2024-01-31], b: {c: {}, d: []}}",
    "aliases": "a: &a [1, 2]\nb: *a\nc: [*a, *a]",
    "merge": "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}",
    "merge_of_several": "a: &a {x: 1}\nb: &b {x: 2, z: 3}\nc:\n  <<: [*a, *b]\n  w: 4",
    "names_that_look_alike": "{1: a, '1': b, 1.0: c, yes: d, 'yes': e}",
}


@pytest.mark.parametrize("text", DOCUMENTS.values(), ids=DOCUMENTS)
def test_documents_mean_what_they_mean_to_pyyaml(text):
    assert read(text) == yaml.safe_load(text)


def test_as_many_levels_and_values_as_are_allowed_are_read(monkeypatch):
    assert read("[" * 49 + "x" + "]" * 49) == yaml.safe_load("[" * 49 + "x" + "]" * 49)
    with pytest.raises(ConfigError, match="more than 50 levels deep"):
        read("[" * 50 + "x" + "]" * 50)
    monkeypatch.setattr(yaml_files, "_MAX_VALUES", 8)
    assert read("[&a [x, x], *a, y]") == [["x", "x"], ["x", "x"], "y"]
    with pytest.raises(ConfigError, match="more than 8 values"):
        read("[&a [x, x], *a, y, y]")


def test_escapes_of_json_are_one_character():
    (key, value), *_ = pairs(parse_yaml('{"\\ud83d\\ude00": "a\\ud83d\\ude00"}', "a.yaml"), Location("a.yaml"))
    assert (key.text, value_of(value)) == ("\U0001f600", "a\U0001f600")


def test_keys_know_their_lines():
    node = parse_yaml("a: 1\nb:\n  c: 2\n", "f")
    (_, _), (key, inner) = pairs(node, Location("f"))
    ((inner_key, _),) = pairs(inner, key.where.inside("b"))
    assert (str(key.where), str(inner_key.where)) == ("f, line 2", "f, line 3: b")


def test_a_file_as_large_as_is_allowed_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(yaml_files, "_MAX_BYTES", 4)
    (tmp_path / "a.yaml").write_text("a: 1")
    assert read_local_text(str(tmp_path / "a.yaml"), "a") == "a: 1"
