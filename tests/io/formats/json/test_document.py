"""Arrays of objects, and objects on several lines: held against Python's own parser."""

import gzip
import json
from pathlib import Path

import pytest
from depth import on_shared_path
from helpers import payloads_in
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile, stat_file
from penstock.io.formats.base import Part
from penstock.io.formats.json.document import is_document
from penstock.io.formats.json.format import JsonlFormat
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature, Kind


def write(path: Path, data: bytes | str, name: str = "t.json") -> InputFile:
    file = path / name
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return stat_file(str(file))


def read(file: InputFile, features=None, **options):
    """({position: row}, {position: (code, payload)}); nulls left out."""
    rows, rejects = {}, {}
    reader = JsonlFormat(**options)
    for part in reader.plan(file):
        for parsed in reader.read(file, part, features):
            originals = payloads_in(parsed)
            for index, row in enumerate(parsed.batch.to_pylist()):
                position = row.pop(ORIGIN)["position"]
                rows[position] = {name: value for name, value in row.items() if value is not None}
                assert json.loads(originals[index]) is not None
            rejects |= {item.position: (item.reasons[0].code, item.payload) for item in parsed.rejected}
    return rows, rejects


ROWS = [{"id": i, "text": 'a "}]{[, \\' * (i % 3) + "é\n", "tags": ["x", "]"][: i % 3]} for i in range(50)]

SHAPES = {
    "array": json.dumps(ROWS),
    "array_of_lines": "[" + ",\n".join(map(json.dumps, ROWS)) + "]\n",
    "pretty_array": json.dumps(ROWS, indent=2, ensure_ascii=False),
    "tabs_and_crlf": "\r\n" + json.dumps(ROWS, indent="\t").replace("\n", "\r\n"),
    "pretty_objects": "\n".join(json.dumps(row, indent=4) for row in ROWS),
    "joined_objects": "".join(map(json.dumps, ROWS)),
    "joined_pretty_objects": "".join(json.dumps(row, indent=4) for row in ROWS),
    "pages": "\n".join(json.dumps(ROWS[start : start + 7]) for start in range(0, 50, 7)) + "\n[]",
    "byte_order_mark": "\ufeff" + json.dumps(ROWS, indent=1),
}


@pytest.mark.parametrize("text", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("block_bytes", [3, 100, 4 << 20])
def test_each_object_of_a_document_is_a_row_at_its_brace(tmp_path, text, block_bytes):
    for name, data in (("t.json", text.encode()), ("t.json.gz", gzip.compress(text.encode()))):
        rows, rejects = read(write(tmp_path, data, name), block_bytes=block_bytes, part_bytes=1000)
        assert not rejects
        assert list(rows.values()) == ROWS
        for position, row in rows.items():
            assert json.JSONDecoder().raw_decode(text.encode()[position:].decode())[0] == row


scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text()
objects = st.dictionaries(st.sampled_from(["a", "b", "ü"]), scalars | st.lists(st.integers(-9, 9)), min_size=1)


@on_shared_path(150)
@given(st.lists(objects, min_size=1), st.sampled_from([None, 0, 2]), st.booleans(), st.sampled_from([1, 50, 1 << 20]))
def test_any_objects_are_read_under_a_schema_as_python_reads_them(tmp_path, objects, indent, is_array, block_bytes):
    text = (
        json.dumps(objects, indent=indent) if is_array else " ".join(json.dumps(row, indent=indent) for row in objects)
    )
    features = [Feature("a", Kind.BYTES), Feature("b", Kind.BYTES), Feature("ü", Kind.BYTES)]
    rows, rejects = read(write(tmp_path, text), features, block_bytes=block_bytes)
    assert not rejects
    assert [normal(row) for row in rows.values()] == [normal(row) for row in objects]


def normal(row: dict) -> dict:
    """Numbers as text, as a schema of BYTES has them, and a value as a list of one."""
    return {name: [spelled(item) for item in items(value)] for name, value in row.items() if value is not None}


def items(value):
    return value if isinstance(value, list) else [value]


def spelled(value):
    return value if isinstance(value, str) else json.dumps(value)


def test_a_document_is_one_part_and_has_no_tail(tmp_path):
    reader = JsonlFormat(part_bytes=100)
    file = write(tmp_path, SHAPES["pretty_array"])
    assert list(reader.plan(file)) == [Part()]
    assert reader.tail(file) is None
    lines = write(tmp_path, "\n".join(map(json.dumps, ROWS)))
    assert len(list(reader.plan(lines))) > 2
    assert reader.tail(lines) is not None


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("[", True),
        ("[]", True),
        ('[{"a":1}]', True),
        ('\n [\n {"a":1}', True),
        ('[null,\n{"a":1}]', True),
        ('["Name", "Session"]\n["Ann", "2013"]', False),
        ("[1, 2]", False),
        ("{", False),
        ("{}", False),
        ("{\n}", True),
        ('{\n  "a": 1\n}', True),
        ('{"a": {\n"b": 1}}', True),
        ('{"a":\n{"b": 1}}', True),
        ('{"a": [{"b": 1},\n{"b": 2}]}', True),
        ('{"a": 1\n, "b": 2}', True),
        ('{"a":1} {"a":2}', True),
        ('{"a":1}{\n"a":2}', True),
        ('{"a":1}\n{"a":2}', False),
        ('{"a":1}{"a":2}\n{"a":3}', False),
        ('{"a":1\n{"a":2}', False),
        ('{"a":1,\n{"a":2}', False),
        ('{"a":"cut\n{"a":2}', False),
        ('{"a":1},\n{"a":2},', False),
        ('{"a":1}x', False),
        ("null\n[]", False),
        ("", False),
    ],
)
def test_the_first_lines_tell_documents_from_lines(head, expected):
    assert is_document(head.encode()) == expected


def test_items_that_are_no_rows_are_dead_letters_and_the_rest_is_read(tmp_path):
    data = b'[{"a":1}, 2, "x",\n [{}], {"a":NaN}, {"a":1 "b":2}, nul, {"a":"\xff"}, {"a":"\\ud800"}, {"a":3}]'
    rows, rejects = read(write(tmp_path, data))
    assert list(rows.values()) == [{"a": 1}, {"a": 3}]
    payloads = {position: payload for position, (_, payload) in rejects.items() if payload.startswith('{"a":')}
    assert all(data[position:].startswith(payload.encode()) for position, payload in payloads.items())
    assert [payload for _, payload in rejects.values()][:3] == ["2", '"x"', "[{}]"]
    assert [code for code, _ in rejects.values()] == [
        "jsonl.not_object", "jsonl.not_object", "jsonl.not_object", "jsonl.parse", "jsonl.parse", "jsonl.parse",
        "jsonl.encoding", "jsonl.encoding",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ('[{"a":1},]', r"broken at byte 9, at '\]': no comma may stand behind the last item of an array; remove it"),
        ('[{"a":1} {"a":2}]', r"at byte 9, at '\{.*': a comma must stand between two items"),
        ('[{"a":1},\n{"a":2', r"at byte 10, at '\{\"a\":2': what begins here has no end; the file may be cut off"),
        ('[{"a":1}', r"at byte 8, at its end: the file ends inside an array"),
        ("[", r"at byte 1, at its end: the file ends inside an array"),
        ('[{"a":1}]]', r"at byte 9, at '\]': an object must come here"),
        ('{\n"a":1},\n{"a":2}', r"at byte 8, at ',.*': an object must come here"),
        ('[{"a":"x\n"}]', r"at byte 6, at '\"x\\n\"\}\]': the text that begins here is not closed on its line"),
        ('[{"a":[1}, {"a":2}]', r"at byte 19, at its end: the file ends inside an array"),
        ('[{"a":1}, // two\n{"a":2}, /* x */ {"a":3}]', r"at byte 13, at 'two"),
    ],
    ids=["trailing", "missing", "cut", "open", "bracket", "closed", "comma", "text", "unbalanced", "comment"],
)
@pytest.mark.parametrize("block_bytes", [4, 4 << 20])
def test_a_broken_document_is_an_error_with_its_place(tmp_path, data, message, block_bytes):
    with pytest.raises(InputError, match=r"t\.json: the JSON document is broken .*" + message.removeprefix("broken ")):
        read(write(tmp_path, data), block_bytes=block_bytes)


def test_an_object_over_the_limit_is_an_error(tmp_path):
    file = write(tmp_path, json.dumps({"data": ROWS}, indent=1))
    with pytest.raises(InputError, match=r"broken at byte 0, .*more than 500 bytes.*jq -c '\.NAME\[\]' FILE"):
        read(file, max_line_bytes=500, block_bytes=200)


def test_documents_without_rows(tmp_path):
    for data in ("[]", "[ \n]\n", "\ufeff[]"):
        assert read(write(tmp_path, data)) == ({}, {})


def test_utf16_is_refused(tmp_path):
    with pytest.raises(InputError, match="UTF-16"):
        read(write(tmp_path, json.dumps(ROWS).encode("utf-16")))
