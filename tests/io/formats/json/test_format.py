"""JSON Lines: against a reference that reads each line by itself, and against itself in other blocks."""

import gzip
import json
import math
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from depth import on_shared_path
from helpers import payloads_in
from hypothesis import assume, example, given
from hypothesis import strategies as st

from penstock.io.batches import feature_names
from penstock.io.columns.conform import conform_batch
from penstock.io.columns.grammar import cast_text
from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile, stat_file
from penstock.io.formats.json.arrow import ArrowReader, spellings
from penstock.io.formats.json.document import is_document
from penstock.io.formats.json.format import JsonlFormat
from penstock.io.formats.json.rows import parse_object
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature, Kind


def write(path: Path, data: bytes, name: str = "t.jsonl") -> InputFile:
    file = path / name
    file.write_bytes(data)
    return stat_file(str(file))


def parse(file: InputFile, features: list[Feature] | None, **options):
    reader = JsonlFormat(**options)
    assert reader.columns(file) is None
    for part in reader.plan(file):
        yield from reader.read(file, part, features)


def is_lines(data: bytes) -> bool:
    return not is_document(data.removeprefix(b"\xef\xbb\xbf"))


def filled_lines(data: bytes) -> int:
    return sum(bool(line.strip(b" \t\r")) for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"))


def read(file: InputFile, features: list[Feature] | None, **options):
    """({position: {name: value}}, {position: reason code}, {position: payload}); nulls left out, numbers cast."""
    rows, rejects, payloads = {}, {}, {}
    kinds = {feature.name: feature.kind for feature in features or ()}
    for parsed in parse(file, features, **options):
        positions = parsed.batch.column(ORIGIN).field("position").to_pylist()
        assert positions == sorted(positions)
        columns = {name: normal(parsed.batch.column(name), kinds.get(name)) for name in feature_names(parsed.batch)}
        if features is not None and parsed.batch.num_columns > 1:
            assert list(columns) == list(kinds)
        originals = payloads_in(parsed)
        for index, position in enumerate(positions):
            assert position not in rows
            rows[position] = {name: column[index] for name, column in columns.items() if column[index] is not None}
            payloads[position] = originals[index]
        for letter in parsed.rejected:
            assert letter.position not in rejects
            rejects[letter.position] = letter.reasons[0].code
    assert not rows.keys() & rejects.keys()
    return rows, rejects, payloads


def normal(column: pa.Array, kind: Kind | None) -> list:
    """Python values by which equal data compares equal: texts of number columns are cast, a list of one is its item."""
    values = column.to_pylist()
    return [
        None if value is None else [normal_scalar(item, kind) for item in value]
        if isinstance(value, list) and len(value) != 1
        else normal_scalar(value[0] if isinstance(value, list) else value, kind)
        for value in values
    ]  # fmt: skip


def normal_scalar(value, kind: Kind | None):
    if isinstance(value, str) and kind in (Kind.INT, Kind.FLOAT):
        cast, bad = cast_text(pa.array([value]), kind)
        value = ("no number", value) if bad[0] else cast[0].as_py()
    if isinstance(value, float):
        return ("float", math.copysign(1, value), "nan" if math.isnan(value) else value)
    return (type(value).__name__, value)


FEATURES = [
    Feature("i", Kind.INT),
    Feature("f", Kind.FLOAT),
    Feature("s", Kind.BYTES),
    Feature("o.x", Kind.INT),
    Feature("o.p.q", Kind.BYTES),
    Feature("many", Kind.INT, multivalued=True),
    Feature("one", Kind.FLOAT, multivalued=False),
    Feature("flag", Kind.INT, boolean=True),
]

# The reference: standard json, one line at a time, rules as the docs say them.


class Pairs(list):
    pass


class Bad(Exception):
    pass


class Num(str):
    pass


def constant(text):
    raise ValueError(text)


def reference_row(line: bytes, features: list[Feature]) -> tuple[dict, set[str]]:
    """The values of a line, and the codes of all its faults."""
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return {}, {"jsonl.encoding"}
    try:
        row = json.loads(text, object_pairs_hook=Pairs, parse_int=Num, parse_float=Num, parse_constant=constant)
    except ValueError:
        return {}, {"jsonl.parse"}
    if not isinstance(row, Pairs):
        return {}, {"jsonl.not_object"}
    found, faults = {}, set()
    for feature in features:
        values = [value for value in reference_values(row, feature.name, faults) if value is not None]
        if len(values) > 1:
            faults.add("jsonl.duplicate_key")
        for value in values:
            try:
                found[feature.name] = reference_value(value, feature)
            except Bad as error:
                faults.add(error.args[0])
    return found, faults


def reference_values(row: Pairs, name: str, faults: set[str]):
    """What the name finds, with its dots as parts of keys or as borders between objects."""
    for length in [index for index, char in enumerate(name) if char == "."] + [len(name)]:
        key, rest = name[:length], name[length + 1 :]
        members = [value for member, value in row if member == key]
        if len(members) > 1:
            faults.add("jsonl.duplicate_key")
        for value in members:
            if not rest:
                yield value
            elif isinstance(value, Pairs):
                yield from reference_values(value, rest, faults)
            elif value is not None:
                faults.add("jsonl.type")


def reference_value(value, feature: Feature):
    if isinstance(value, Pairs):
        raise Bad("jsonl.type")
    items = value if isinstance(value, list) else [value]
    if any(isinstance(item, list) for item in items):
        raise Bad("jsonl.type")
    if feature.multivalued is False and (len(items) != 1 or items[0] is None):
        raise Bad("jsonl.type")
    found = [normal_scalar(None, None) if item is None else reference_scalar(item, feature.kind) for item in items]
    return found[0] if len(found) == 1 else found


def reference_scalar(value, kind: Kind):
    if type(value) is str and any("\ud800" <= char <= "\udfff" for char in value):
        raise Bad("jsonl.encoding")
    if kind is Kind.BYTES:
        value = json.dumps(value) if isinstance(value, bool) else "0" if value == "-0" and type(value) is Num else value
    elif kind is Kind.FLOAT and type(value) is not str:
        value = float(value)
        if math.isinf(value):
            raise Bad("jsonl.type")
    elif isinstance(value, bool):
        value = int(value)
    elif isinstance(value, Num):
        as_float = float(value)
        if set(value) <= set("-0123456789"):
            value = int(value) if -(2**63) <= int(value) < 2**63 else str(value)
        elif as_float.is_integer() and abs(as_float) < 2**53:
            value = int(as_float)
    return normal_scalar(str(value) if isinstance(value, str) else value, kind)


def reference(data: bytes, features: list[Feature]):
    """({position: values}, {position: codes of all faults})."""
    rows, rejects, position = {}, {}, 3 if data.startswith(b"\xef\xbb\xbf") else 0
    for line in data[position:].split(b"\n"):
        if line.strip(b" \t\r"):
            found, faults = reference_row(line, features)
            if max(line.count(b"["), line.count(b"{")) > 200:
                faults = {"jsonl.parse"}  # the only such lines here are those nested too deeply
            if faults:
                rejects[position] = faults
            else:
                rows[position] = found
        position += len(line) + 1
    return rows, rejects


ordinary = {
    "i": ["1", "-7", "12", "null"],
    "f": ["1", "2.5", "-1e3", "0.1"],
    "s": ['"x"', '"2013-01-01"', '"ü"', '""'],
    "o": ['{"x":1}', '{"x":2,"p":{"q":"y"}}', "{}", "null"],
    "many": ["[1,2]", "[]", "[3]", "null"],
    "one": ["1.5", "2"],
    "flag": ["true", "false"],
    "other": ["1", '{"a":[{"b":1}]}', '"z"'],
}
ODD = ["1.0", "1.5", "-0", "-0.0", "1e2", "1e400", "-1e400", "1e-400", "9223372036854775807", "9223372036854775808"]
ODD += ["9007199254740993", "9007199254740993.0", "123456789012345678901234567890", '"12"', '"007"', '"NaN"', '"abc"']
ODD += ["true", "null", "[1]", "[]", "[null]", "[1,null]", '[1,"2",true]', "[1.5]", '["a"]', "[[1]]", '[{"x":1}]']
ODD += ['{"x":1}', '{"x":"5"}']
ODD += ['{"p":{"q":3}}', '{"p":5}', '{"p.q":"v"}', '{"x":null,"x":1}', "{}", "NaN", "-Infinity"]
ODD += [
    r'"\ud800"',
    r'"\udc00"',
    r'"\ud83d\ude00"',
    r'"\u0000"',
    '"\t"',
    "01",
    "+1",
    "nul",
    "",
    "1}{",
    "}",
    "{",
    '"Inf"',
]
ODD += ["Inf", '"a\\"}"', "[[[[[]]]]]", "5 ", "1,", "12345678901234567890.5", "4.9e-324", r'"\ud83d"', "[true,false]"]

keys = st.sampled_from([*ordinary, "o.x", "o.p.q", "p.q", "o.p", "\\u0069"])
odd_members = st.tuples(keys, st.sampled_from(ODD))
ordinary_members = st.sampled_from([(key, value) for key, values in ordinary.items() for value in values])
odd_objects = st.lists(st.one_of(ordinary_members, odd_members), max_size=4)
fine_objects = st.lists(ordinary_members, max_size=8, unique_by=lambda member: member[0])


def spelled(members: list[tuple[str, str]]) -> bytes:
    return ("{" + ",".join(f'"{key}":{value}' for key, value in members) + "}").encode()


JUNK = [
    b"",
    b"  ",
    b"\r",
    b"null",
    b"1",
    b"[]",
    b'"x"',
    b"{}{}",
    b"{}null{}",
    b'{"i":',
    b"1}",
    b"\xff",
    b'{"s":"\xff"}',
]
JUNK += [
    b"\0",
    b"{}\0",
    b" {} ",
    b"\t{}\r",
    b"         {}",
    b"{} x",
    b"\xef\xbb\xbf{}",
    b'{"i":1}{"i":2}',
    b'{"many":[1',
    b"]}",
]
JUNK += [
    b'{"o":' * 300 + b"1" + b"}" * 300,
    b'{"i":3,"other":' + b"[" * 250 + b"]" * 250 + b"}",
    b"{]",
    b'{"i":1}\r{"i":2}',
]

lines = st.one_of(fine_objects.map(spelled), fine_objects.map(spelled), odd_objects.map(spelled), st.sampled_from(JUNK))
files = st.builds(lambda found, end: end.join(found), st.lists(lines, max_size=40), st.sampled_from([b"\n", b"\r\n"]))
blocks = st.sampled_from([1, 16, 100, 1000, 1 << 20])
part_sizes = st.sampled_from([1, 7, 64, 500, 1 << 20])


@on_shared_path(600)
@given(data=files, part_bytes=part_sizes, block_bytes=blocks)
@example(b'{"i":1}\n' * 70 + b'{"i":1}{"i":2}\n{"i":\n3}\n' + b'{"i":4}\n' * 20, 1 << 20, 1 << 20)
@example(b'{"s":1}\n' * 70 + b'{"s":-0}\n{"s":"x"}\n', 1 << 20, 1 << 20)
@example(b"null\n", 1 << 20, 1 << 20)
def test_any_lines_in_any_blocks_give_the_reference(tmp_path, data, part_bytes, block_bytes):
    assume(is_lines(data))
    rows, rejects, payloads = read(write(tmp_path, data), FEATURES, part_bytes=part_bytes, block_bytes=block_bytes)
    expected_rows, expected_rejects = reference(data, FEATURES)
    assert rows == expected_rows
    assert rejects.keys() == expected_rejects.keys()
    assert all(code in expected_rejects[position] for position, code in rejects.items())
    assert len(rows) + len(rejects) == filled_lines(data)
    for position, payload in payloads.items():
        assert data[position:].split(b"\n")[0].rstrip(b"\r") == payload.rstrip(b"\r")


@pytest.mark.parametrize("seed", range(6))
def test_large_blocks_with_rare_oddities_equal_the_reference(tmp_path, seed):
    rng = random.Random(seed)
    lines = []
    for _ in range(3000):
        members = [(key, rng.choice(values)) for key, values in ordinary.items() if rng.random() < 0.8]
        if rng.random() < 0.01:
            members = [(key, rng.choice(ODD) if rng.random() < 0.3 else value) for key, value in members]
        lines.append(
            spelled(members) if rng.random() < 0.997 else rng.choice([junk for junk in JUNK if len(junk) < 200])
        )
    data = b"\n".join(lines)
    rows, rejects = reference(data, FEATURES)
    for options in [{}, {"block_bytes": 10_000, "part_bytes": 50_000}]:
        found_rows, found_rejects, _ = read(write(tmp_path, data), FEATURES, **options)
        assert {p: code for p, code in found_rejects.items() if code not in rejects[p]} == {}
        assert found_rejects.keys() == rejects.keys()
        assert {p: row for p, row in found_rows.items() if row != rows[p]} == {}
        assert len(found_rows) == len(rows)


def conformed(file: InputFile, **options):
    """({position: typed values}, {position: codes}) as `ReadRecords` has them, rejects of both steps together."""
    rows, rejects = {}, {}
    for parsed in parse(file, FEATURES, **options):
        batch, reasons = conform_batch(parsed.batch, FEATURES)
        for index, row in enumerate(batch.to_pylist()):
            position = row.pop(ORIGIN)["position"]
            if index in reasons:
                rejects[position] = [reason.code for reason in reasons[index]]
            else:
                # A list of one and its value are encoded the same; absent columns are null.
                row = {
                    name: value[0] if isinstance(value, list) and len(value) == 1 else value
                    for name, value in row.items()
                    if value is not None
                }
                rows[position] = repr(sorted(row.items()))
        rejects.update((letter.position, [letter.reasons[0].code]) for letter in parsed.rejected)
    return rows, rejects


@on_shared_path(300)
@given(data=files, part_bytes=part_sizes, block_bytes=blocks)
def test_typed_rows_do_not_depend_on_blocks(tmp_path, data, part_bytes, block_bytes):
    assume(is_lines(data))
    file = write(tmp_path, data)
    assert conformed(file, part_bytes=part_bytes, block_bytes=block_bytes) == conformed(file)


def inferred(file: InputFile, **options):
    """(text of each value by position and name, rejects); a number is a number however its column is typed."""
    rows, rejects = {}, {}
    for parsed in parse(file, None, **options):
        for row in parsed.batch.to_pylist():
            position = row.pop(ORIGIN)["position"]
            rows[position] = {name: loose(value) for name, value in row.items() if value is not None}
        for letter in parsed.rejected:
            rejects[letter.position] = letter.reasons[0].code
    return rows, rejects


def loose(value):
    """By value, not type: 1, 1.0, "1" and true are one, since a column of mixed types is text."""
    if isinstance(value, list):
        return loose(value[0]) if len(value) == 1 else [loose(item) for item in value]
    if value in ("true", "false"):
        value = value == "true"
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    return "nan" if math.isnan(number) else number


@on_shared_path(400)
@given(data=files, part_bytes=part_sizes, block_bytes=blocks)
def test_inference_sees_the_same_values_in_any_blocks(tmp_path, data, part_bytes, block_bytes):
    assume(is_lines(data))
    file = write(tmp_path, data)
    rows, rejects = inferred(file, part_bytes=part_bytes, block_bytes=block_bytes)
    assert (rows, rejects) == inferred(file)
    assert len(rows) + len(rejects) == filled_lines(data)


def column(tmp_path: Path, texts: list[str], feature: Feature | None = None, repeat: int = 1) -> pa.Array:
    """The column `x` of lines that hold these spellings."""
    data = "".join(f'{{"x":{text}}}\n' for text in texts * repeat).encode()
    (parsed,) = parse(write(tmp_path, data), None if feature is None else [feature])
    assert not parsed.rejected
    return parsed.batch.column("x")


@pytest.mark.parametrize("repeat", [1, 100], ids=["few", "many"])
@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1", "2", "null"], pa.array([1, 2, None])),
        (["true", "false"], pa.array([True, False])),
        (["1", "2.5"], pa.array([1, 2.5])),
        (["9223372036854775807"], pa.array([2**63 - 1])),
        (["9223372036854775808", "1"], pa.array(["9223372036854775808", "1"])),
        (["9007199254740993", "0.5"], pa.array(["9007199254740993", "0.5"])),
        (["1", '"a"', "true"], pa.array(["1", "a", "true"])),
        (["1", "true"], pa.array([1, 1])),
        (["0.5", "true"], pa.array([0.5, 1.0])),
        (["5.0", "9007199254740993.0"], pa.array([5, 9007199254740993])),
        (["1e20", "9007199254740994.0"], pa.array([1e20, 9007199254740994.0])),
        (["0.5", "9007199254740993.0"], pa.array(["0.5", "9007199254740993.0"])),
        (['"2013-01-01"', '"2013-01-01T00:00:00Z"'], pa.array(["2013-01-01", "2013-01-01T00:00:00Z"])),
        (["[1]", "[]", "null", "2"], pa.array([[1], [], None, [2]])),
        (["[1,null]"], pa.array([[1, None]])),
        (["null"], pa.nulls(1)),
    ],
    ids=[
        "int",
        "bool",
        "float",
        "int64",
        "uint64",
        "wide",
        "mixed",
        "bool_int",
        "bool_float",
        "wide_fraction_spelled",
        "exact_doubles",
        "wide_fraction_spelled_among_fractions",
        "time_texts",
        "list",
        "hole",
        "null",
    ],
)
def test_inference_types_lose_nothing(tmp_path, texts, expected, repeat):
    found = column(tmp_path, texts, repeat=repeat)
    assert found.type == expected.type
    assert found.to_pylist() == expected.to_pylist() * repeat


@pytest.mark.parametrize("repeat", [1, 100], ids=["few", "many"])
@pytest.mark.parametrize(
    ("feature", "texts", "expected"),
    [
        (Feature("x", Kind.INT), ["1", "true", "2.0", "null"], pa.array([1, 1, 2, None])),
        (Feature("x", Kind.INT), ["1", "9223372036854775808"], pa.array(["1", "9223372036854775808"])),
        (Feature("x", Kind.INT), ["1", "1.5"], pa.array(["1", "1.5"])),
        (Feature("x", Kind.INT), ['"12"', '"x"', "null"], pa.array(["12", "x", None])),
        (Feature("x", Kind.FLOAT), ['["1.5"]', "[]"], pa.array([["1.5"], []])),
        (Feature("x", Kind.INT), ['"007"', "7"], pa.array(["007", "7"])),
        (Feature("x", Kind.INT), ["9007199254740993.0", "1e18"], pa.array([9007199254740993, 10**18])),
        (Feature("x", Kind.INT), ["1", "9223372036854775808.0"], pa.array(["1", "9223372036854775808.0"])),
        (Feature("x", Kind.FLOAT), ["1", "0.1", "true"], pa.array([1.0, 0.1, 1.0])),
        (Feature("x", Kind.FLOAT), ["1", '"NaN"'], pa.array(["1.0", "NaN"])),
        (Feature("x", Kind.BYTES), ["1", "1.50", "true", '"a"'], pa.array(["1", "1.50", "true", "a"])),
        (Feature("x", Kind.BYTES), ["5", "-0"], pa.array(["5", "0"])),
        (Feature("x", Kind.BYTES), ['{"base64":"/w=="}', '"a"'], pa.array([b"\xff", b"a"])),
        (Feature("x", Kind.INT, multivalued=True), ["1", "null", "[]", "[2,3]"], pa.array([[1], None, [], [2, 3]])),
        (Feature("x", Kind.INT, multivalued=True), ["1", "null", "4"], pa.array([[1], None, [4]])),
        (Feature("x", Kind.INT, multivalued=False), ["[1]", "null", "[4]"], pa.array([1, None, 4])),
        (Feature("x", Kind.BYTES, multivalued=True), ["null"], pa.array([None], pa.list_(pa.string()))),
    ],
    ids=str,
)
def test_schema_types(tmp_path, feature, texts, expected, repeat):
    found = column(tmp_path, texts, feature, repeat)
    assert found.type == expected.type
    assert found.to_pylist() == expected.to_pylist() * repeat


@pytest.mark.parametrize(
    ("line", "code", "detail"),
    [
        (b"{", "jsonl.parse", "not JSON: Expecting"),
        (b'{"x":NaN}', "jsonl.parse", "NaN is not a JSON number; write null"),
        (b'{"y":-Infinity}', "jsonl.parse", "-Infinity is not a JSON number"),
        (b"[1]", "jsonl.not_object", "not a JSON object but a list"),
        (b"null", "jsonl.not_object", "not a JSON object but null"),
        (b'{"x":"\xff"}', "jsonl.encoding", "not UTF-8"),
        (rb'{"x":"\ud800"}', "jsonl.encoding", "'x' holds a lone surrogate"),
        (b'{"x":1,"x":2}', "jsonl.duplicate_key", "'x' appears more than once"),
        (b'{"o.y":1,"o":{"y":2}}', "jsonl.duplicate_key", "'o.y' has a value both nested and under its dotted name"),
        (b'{"x":{"a":1}}', "jsonl.type", "'x' is an object, but the schema has a value"),
        (b'{"o":3}', "jsonl.type", "'o' is a number, but the schema has an object"),
        (b'{"x":[[1]]}', "jsonl.type", "'x' is a list that holds a list"),
        (b'{"x":[1,2]}', "jsonl.type", "'x' is a list of 2, but the schema has exactly one value"),
        (b'{"o":{"y":1e999}}', "jsonl.type", "'o.y' holds a number that overflows a double"),
        (b'{"z":' + b"[" * 201 + b"]" * 201 + b"}", "jsonl.parse", "nested over 200 levels deep"),
    ],
    ids=lambda value: None,
)
def test_rejects_name_the_fault_and_keep_the_rest(tmp_path, line, code, detail):
    features = [Feature("x", Kind.BYTES, multivalued=False), Feature("o.y", Kind.FLOAT)]
    good = b'{"x":"a"}\n' * 50
    parsed = list(parse(write(tmp_path, good + line + b"\n" + good), features))
    (letter,) = (letter for found in parsed for letter in found.rejected)
    assert (letter.position, letter.reasons[0].code, letter.stage) == (500, code, "read")
    assert detail in letter.reasons[0].detail
    assert sum(found.batch.num_rows for found in parsed) == 100


def test_unnamed_members_are_ignored_whatever_they_hold(tmp_path):
    data = rb'{"x":1,"y":"\ud800","y":[[{}]],"z":1e999,"":3,"_origin":4}' + b"\n{}\n"
    rows, rejects, _ = read(write(tmp_path, data), [Feature("x", Kind.INT)])
    assert not rejects
    assert list(rows.values()) == [{"x": ("int", 1)}, {}]


@pytest.mark.parametrize("name", ["", "_split", "_origin", "_source"])
@pytest.mark.parametrize("value", ["1", "null", "[]"])
@pytest.mark.parametrize("repeat", [1, 100], ids=["few", "many"])
def test_without_a_schema_members_that_cannot_be_columns_are_refused(tmp_path, name, value, repeat):
    file = write(tmp_path, b'{"b":4}\n' * repeat + f'{{"{name}":{value},"b":4}}\n'.encode() * repeat)
    fault = "empty" if not name else "reserved by Penstock"
    with pytest.raises(
        InputError, match=rf"t.jsonl: the object at byte \d+ has a member '{name}', a name that is {fault}"
    ):
        read(file, None)
    rows, rejects, _ = read(file, [Feature("b", Kind.INT)])
    assert len(rows) == 2 * repeat
    assert not rejects


def test_the_message_of_a_refused_member_has_the_byte_of_its_first_object(tmp_path):
    with pytest.raises(InputError, match="the object at byte 8 has a member '_split'"):
        read(write(tmp_path, b'{"b":4}\n{"_split":"x"}\n'), None)


def test_names_that_are_empty_in_part_are_columns(tmp_path):
    rows, rejects, _ = read(write(tmp_path, b'{"a":{"":3},"":{"x":4,"":5},"_split":{"y":6},"b":7}\n' * 100), None)
    assert not rejects
    assert rows[0] == {
        name: ("int", value) for name, value in zip(["a.", ".x", ".", "_split.y", "b"], range(3, 8), strict=True)
    }


@pytest.mark.parametrize("features", [None, [Feature("x", Kind.INT), Feature("o.y", Kind.INT)]], ids=["all", "schema"])
@pytest.mark.parametrize(
    "line",
    [rb'{"x":1,"\ud800":2}', rb'{"o":{"\udc00":2}}', rb'{"x":1,"a\udfff":null}', rb'{"o":{"\ud800":{"y":1}}}'],
    ids=["high", "low", "null", "object"],
)
@pytest.mark.parametrize("repeat", [1, 100], ids=["few", "many"])
def test_a_name_with_a_lone_surrogate_rejects_its_row(tmp_path, features, line, repeat):
    data = b'{"x":1}\n' * repeat + line + b"\n" + b'{"x":2}\n' * repeat
    rows, rejects, _ = read(write(tmp_path, data), features)
    assert rejects == {8 * repeat: "jsonl.encoding"}
    assert len(rows) == 2 * repeat


def test_a_surrogate_pair_in_a_name_is_a_character(tmp_path):
    rows, rejects, _ = read(write(tmp_path, rb'{"\ud83d\ude00":1}' + b"\n"), None)
    assert not rejects
    assert rows == {0: {"\U0001f600": ("int", 1)}}


def test_a_name_that_is_a_value_and_an_object_is_read_both_ways(tmp_path):
    features = [Feature("a", Kind.INT), Feature("a.b", Kind.INT)]
    rows, rejects, _ = read(write(tmp_path, b'{"a":1}\n{"a":{"b":2}}\n' * 50), features)
    assert not rejects
    assert list(rows.values()) == [{"a": ("int", 1)}, {"a.b": ("int", 2)}] * 50


def test_all_spellings_of_a_deep_name_are_read(tmp_path):
    lines = b'{"a.b.c":1}\n{"a":{"b.c":2}}\n{"a.b":{"c":3}}\n{"a":{"b":{"c":4}}}\n'
    rows, _, _ = read(write(tmp_path, lines * 50), [Feature("a.b.c", Kind.INT)])
    assert [row["a.b.c"] for row in rows.values()] == [("int", i) for i in (1, 2, 3, 4)] * 50
    assert sorted(spellings("a.b.c")) == [("a", "b", "c"), ("a", "b.c"), ("a.b", "c"), ("a.b.c",)]


def test_ordinary_data_takes_the_fast_path(tmp_path, monkeypatch):
    calls = []
    parse_with_arrow = ArrowReader.parse

    def spy(self, data, rows):
        columns = parse_with_arrow(self, data, rows)
        calls.append((rows, columns is not None))
        return columns

    monkeypatch.setattr(ArrowReader, "parse", spy)
    line = b' {"text":"12","i":1,"f":2,"s":"x","many":[1,2],"one":[2.5],"flag":true,"o":{"x":1},"z":"Information"} \r\n'
    file = write(tmp_path, line * 3000)
    for features in ([*FEATURES, Feature("text", Kind.FLOAT)], None):
        list(parse(file, features))
    assert calls == [(3000, True)] * 2


def test_one_odd_row_sends_few_rows_the_slow_way(tmp_path, monkeypatch):
    slow = []
    monkeypatch.setattr(
        "penstock.io.formats.json.format.parse_object", lambda line: slow.append(line) or parse_object(line)
    )
    data = b'{"i":1}\n' * 2000 + b'{"i":"2"}\n' + b'{"i":3}\n' * 2000
    rows, _, _ = read(write(tmp_path, data), [Feature("i", Kind.INT)])
    assert [row["i"][1] for row in rows.values()] == [1] * 2000 + [2] + [3] * 2000
    assert len(slow) <= 64 + 2 * 16


def test_files_without_rows(tmp_path):
    for data in (b"", b"\n \t\r\n", b"\xef\xbb\xbf"):
        assert read(write(tmp_path, data), FEATURES) == ({}, {}, {})
        assert read(write(tmp_path, data), None) == ({}, {}, {})


def test_byte_order_mark_and_gzip(tmp_path):
    data = b'\xef\xbb\xbf{"x":1}\n{"x":2}'
    for file in (write(tmp_path, data), write(tmp_path, gzip.compress(data), "t.jsonl.gz")):
        rows, rejects, payloads = read(file, [Feature("x", Kind.INT)])
        assert not rejects
        assert rows == {3: {"x": ("int", 1)}, 11: {"x": ("int", 2)}}
        assert payloads[11] == b'{"x":2}'


def test_truncated_gzip_is_refused(tmp_path):
    noise = np.random.default_rng(1).integers(0, 10**9, 20_000)
    packed = gzip.compress(b"".join(b'{"x":%d}\n' % number for number in noise))
    with pytest.raises(InputError, match="truncated or corrupt"):
        read(write(tmp_path, packed[:-5000], "t.jsonl.gz"), None)


def test_utf16_is_refused(tmp_path):
    with pytest.raises(InputError, match="UTF-16"):
        read(write(tmp_path, '{"x":1}'.encode("utf-16")), None)


@pytest.mark.parametrize("block_bytes", [16, 1 << 20])
def test_lines_over_the_limit_are_dead_letters(tmp_path, block_bytes):
    data = b'{"x":1}\n{"x":"' + b"y" * 100 + b'"}\n{"x":2}\n'
    rows, rejects, _ = read(write(tmp_path, data), [Feature("x", Kind.INT)], max_line_bytes=50, block_bytes=block_bytes)
    assert rejects == {8: "jsonl.too_long"}
    assert [row["x"][1] for row in rows.values()] == [1, 2]


def test_a_huge_text_is_good_data(tmp_path):
    data = b'{"x":"a"}\n{"x":"' + b"y" * 50_000_000 + b'"}\n{"x":"b"}\n'
    lengths = [
        len(text.as_py())
        for parsed in parse(write(tmp_path, data), [Feature("x", Kind.BYTES)])
        for text in parsed.batch.column("x")
    ]
    assert lengths == [1, 50_000_000, 1]
