"""Dead letters back to rows: what each payload becomes, what is left alone, and that nothing is lost."""

import datetime
import json

import pytest
from helpers import payloads_in

from penstock.io.dead_letters.record import DeadLetter, RejectedBatch, raw_letter
from penstock.io.dead_letters.replay.format import DeadLetterFormat, parse_letters
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import match_files
from penstock.io.formats.lines import Block, index_lines
from penstock.io.reasons import Reason
from penstock.io.schema import Feature, Kind

FEATURES = [Feature("id", Kind.INT, multivalued=False), Feature("name", Kind.BYTES, multivalued=False)]
CSV = {"column_names": ("id", "name")}


def letter(payload, code="csv.quote", encoding="text", position=0, **fields):
    uri = fields.pop("uri", "/in/a.csv")
    return DeadLetter((Reason(code, "why"),), "read", uri, position, payload, encoding, **fields)


def read(tmp_path, letters, features=FEATURES, **options):
    """All rows with their payloads, and all dead letters, of a file."""
    path = tmp_path / "letters.jsonl"
    path.write_text("".join(f"{item.to_json('run')}\n" for item in letters))
    (file,) = match_files([str(path)])
    layout = DeadLetterFormat(**{"format": "csv", "options": CSV, **options})
    rows, rejected = [], []
    for part in layout.plan(file):
        for parsed in layout.read(file, part, features):
            rejected += parsed.rejected
            originals = payloads_in(parsed) or [None] * parsed.batch.num_rows
            for index, row in enumerate(parsed.batch.to_pylist()):
                rows.append({**row, "payload": originals[index] if originals else None})
    return rows, rejected


def test_letters_survive_the_disk(tmp_path):
    letters = [
        DeadLetter((Reason("a", "ü"), Reason("b", 'x"\n'), Reason("c", "")), "validate", "k://t/0", 7, "{}", "json", 2),
        letter("a,b", event_time="2026-01-01T00:00:00.5Z"),
        raw_letter([Reason("a", "b"), Reason("c", "d")], "read", "u", -1, b"\xff"),
    ]
    lines = index_lines(Block("".join(f"{item.to_json('run')}\n" for item in letters).encode(), 0))
    assert list(parse_letters(lines, "letters.jsonl")) == letters
    assert list(parse_letters(lines.select(lines.starts < 0), "letters.jsonl")) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", "at byte 0 is not a dead letter: it has no 'reason'"),
        ('{"a": 1', "at byte 0 is not a dead letter"),
        ("1", "not a dead letter"),
        (letter("x").to_json().replace('"x"', "7"), "not dead letters as jobs write them"),
    ],
    ids=["other_object", "broken", "number", "payload"],
)
def test_what_is_no_dead_letter_is_refused_by_its_place(line, message):
    with pytest.raises(InputError, match=message):
        parse_letters(index_lines(Block(line.encode(), 0)), "x.jsonl")


def test_rows_keep_their_origin_and_count_their_attempt(tmp_path):
    letters = [
        letter("1,a", position=16),
        letter('{"name": "b", "id": 2}', "schema.domain", "json", position=5, attempt=2),
        letter('{"name": {"base64": "/w=="}}', "schema.domain", "json"),
    ]
    rows, rejected = read(tmp_path, letters)
    assert rejected == []
    found = {row["_attempt"]: row for row in rows if row["_origin"]["position"]}
    assert found[2]["payload"] == b"1,a"
    assert found[2]["_origin"] == {"uri": "/in/a.csv", "position": 16}
    assert (found[3]["id"], found[3]["name"], found[3]["payload"]) == (2, b"b", b'{"name": "b", "id": 2}')
    assert [row["name"] for row in rows if not row["_origin"]["position"]] == [b"\xff"]


@pytest.mark.parametrize(
    ("format_name", "options", "payload", "expected"),
    [
        ("csv", CSV, b"7,x", ("7", "x")),
        ("csv", {**CSV, "delimiter": ";"}, b"7;x", ("7", "x")),
        ("csv", CSV, b'7,"x\ny"', ("7", "x\ny")),
        ("jsonl", {}, b'{"id": 7, "name": "x"}', (7, "x")),
        ("json", {}, b'{"id": 7, "name": "x"}', (7, "x")),
    ],
    ids=["csv", "delimiter", "multiline", "jsonl", "json"],
)
def test_bytes_are_read_by_their_format(tmp_path, format_name, options, payload, expected):
    letters = [raw_letter([Reason("schema.type", "why")], "read", "/in/a", 3, payload)]
    rows, rejected = read(tmp_path, letters, format=format_name, options=options)
    assert rejected == []
    assert [(str(row["id"]), row["name"], row["payload"]) for row in rows] == [(str(expected[0]), expected[1], payload)]


def test_objects_are_exploded_again_and_their_rows_are_not(tmp_path):
    payload = b'{"id": [{"name": "x"}, {"name": "y"}]}'
    letters = [
        raw_letter([Reason("jsonl.type", "why")], "read", "/in/a.json", 3, payload),
        letter('{"id.name": "z"}', "schema.domain", "json", position=4),
    ]
    features = [Feature("id.name", Kind.BYTES)]
    rows, rejected = read(tmp_path, letters, features, format="jsonl", options={"explode": "id"})
    assert rejected == []
    assert sorted((row["id.name"], row["_origin"]["position"], row["payload"]) for row in rows) == [
        ("x", 3, None),
        ("y", 3, None),
        ("z", 4, b'{"id.name": "z"}'),
    ]


def test_tf_examples_are_read_from_base64(tmp_path):
    # A tf.Example with the feature id, one INT, 7.
    payload = bytes.fromhex("0a0d0a0b0a02696412051a030a0107")
    letters = [raw_letter([Reason("tfrecord.type", "why")], "read", "/in/a", 3, payload)]
    rows, _ = read(tmp_path, letters, format="tfrecord", options={})
    assert (rows[0]["id"], rows[0]["payload"]) == (7, payload)


def test_what_cannot_be_decoded_again_is_the_same_letter_once_more(tmp_path):
    letters = [
        letter('1,"a', position=4),
        raw_letter([Reason("csv.encoding", "why")], "read", "/in/a.csv", 9, b"1,\xff"),
        letter('{"id": {"x": 1}}', "jsonl.type", "json", position=12, event_time="2026-01-01T00:00:00Z"),
    ]
    rows, rejected = read(tmp_path, letters)
    assert rows == []
    kept = {item.position: (item.payload, item.payload_encoding, item.attempt) for item in rejected}
    assert kept == {4: ('1,"a', "text", 2), 9: ("MSz/", "base64", 2), 12: ('{"id": {"x": 1}}', "json", 2)}
    assert {item.event_time for item in rejected} == {None, "2026-01-01T00:00:00.000000Z"}


def test_letters_that_failed_often_enough_are_not_tried(tmp_path):
    letters = [letter(f"{attempt},a", attempt=attempt) for attempt in (1, 2, 3, 7)]
    rows, rejected = read(tmp_path, letters)
    assert [row["_attempt"] for row in rows] == [2, 3]
    assert [(item.attempt, item.stage, item.reasons[0].code) for item in rejected] == [
        (3, "read", "csv.quote"),
        (7, "read", "csv.quote"),
    ]
    assert len(read(tmp_path, letters, max_attempts=10)[0]) == 4


@pytest.mark.parametrize("text", ["AAA", "\u00e9"])
def test_a_payload_that_is_not_base64_is_told(tmp_path, text):
    with pytest.raises(InputError, match=r"letters\.jsonl: the payload of a dead letter is not base64"):
        read(tmp_path, [letter(text, encoding="base64")])


@pytest.mark.parametrize("code", ["file.broken", "file.changed", "kafka.tombstone", "csv.too_long", "jsonl.too_long"])
def test_payloads_that_are_no_row_are_parked_at_once(tmp_path, code):
    rows, rejected = read(tmp_path, [letter("1,a", code)])
    assert rows == []
    assert [item.attempt for item in rejected] == [3]


def test_only_wanted_reasons_are_tried_and_the_others_keep_their_attempt(tmp_path):
    several = DeadLetter((Reason("schema.type", ""), Reason("rule.b", "")), "validate", "u", 3, '{"id": 3}', "json")
    letters = [
        letter("1,a", "csv.quote"),
        letter('{"id": 2}', "rule.a", "json", attempt=2),
        several,
        letter('{"id": 4}', "late", "json"),
    ]
    rows, rejected = read(tmp_path, letters, reasons=("rule.*", "late"))
    assert sorted(row["id"] for row in rows) == [2, 3, 4]
    assert [(item.payload, item.attempt) for item in rejected] == [("1,a", 1)]


def test_event_times_of_letters_are_those_of_the_rows(tmp_path):
    letters = [
        letter("1,a", event_time="2026-01-01T00:00:00.25Z"),
        letter("2,b", position=8),
        letter('{"id": 3}', "late", "json", event_time="2026-01-01T00:00:01Z"),
    ]
    rows, rejected = read(tmp_path, letters, event_times=True)
    times = {str(row["id"]): row["_event_time"] for row in rows}
    assert times["1"] == datetime.datetime(2026, 1, 1, 0, 0, 0, 250_000, datetime.UTC)
    assert [(item.position, item.reasons[0].code, item.attempt) for item in rejected] == [(8, "event_time.missing", 2)]
    assert "_event_time" not in read(tmp_path, letters)[0][0]


def test_letters_name_the_columns_of_their_lines(tmp_path):
    letters = [
        letter("1,a", payload_columns='["id", "name"]'),
        letter("b,2", position=3, payload_columns='["name", "id"]'),
        letter("3,c,", position=5, payload_columns='["id", "name"]'),
    ]
    rows, (again,) = read(tmp_path, letters, options={})
    assert sorted((str(row["id"]), row["name"]) for row in rows) == [("1", "a"), ("2", "b")]
    assert (again.payload, again.payload_columns, again.attempt) == ("3,c,", '["id", "name"]', 2)


@pytest.mark.parametrize(
    ("encoding", "columns"),
    [("text", "{}"), ("text", "[1]"), ("text", "x"), ("json", "[]"), ("json", '{"id": 1}'), ("json", '{"id": "what"}')],
)
def test_what_is_no_note_of_columns_is_refused(tmp_path, encoding, columns):
    with pytest.raises(InputError, match=r"letters\.jsonl: the payload_columns of a dead letter are wrong: "):
        read(tmp_path, [letter("{}", encoding=encoding, payload_columns=columns)], options={})


def test_a_file_that_a_letter_names_is_not_opened(tmp_path):
    """A letter is data: only inputs of the run that wrote it are opened."""
    secret = tmp_path / "secret"
    secret.write_text("id,name\n")
    letters = [DeadLetter((Reason("schema.type", ""),), "read", str(secret), 3, "1,a", "text")]
    for inputs in (frozenset(), frozenset({str(tmp_path), f"{secret}/"})):
        with pytest.raises(ConfigError, match=r"secret', which the dead letters name, is no input .* --columns"):
            read(tmp_path, letters, options={}, inputs=inputs)
    assert len(read(tmp_path, letters)[0]) == 1  # the names are given: nothing need be opened


def test_the_header_of_each_input_names_the_columns_of_its_rows(tmp_path):
    inputs = frozenset({str(tmp_path / "a.csv"), str(tmp_path / "b.csv")})
    (tmp_path / "a.csv").write_text("id,name\n")
    (tmp_path / "b.csv").write_text("name,id\n")
    letters = [
        DeadLetter((Reason("schema.type", ""),), "read", str(tmp_path / name), 3, payload, "text")
        for name, payload in (("a.csv", "1,a"), ("b.csv", "b,2"))
    ]
    rows, _ = read(tmp_path, letters, options={}, inputs=inputs)
    assert sorted((str(row["id"]), row["name"]) for row in rows) == [("1", "a"), ("2", "b")]
    (tmp_path / "b.csv").unlink()
    with pytest.raises(ConfigError, match=r"b\.csv.*--columns"):
        read(tmp_path, letters, options={}, inputs=inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "xml"}, "must be one of"),
        ({"max_attempts": 0}, "--max_attempts must be >= 1, got 0"),
        ({"format": "json", "options": {"delimiter": ","}}, "format json of messages has no option delimiter"),
    ],
    ids=["format", "attempts", "options"],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, [letter("1,a")], **options)


@pytest.mark.parametrize("format_name", [None, "parquet"])
def test_bytes_need_a_format(tmp_path, format_name):
    with pytest.raises(ConfigError, match="name their format with --format"):
        read(tmp_path, [letter("1,a")], format=format_name, options={})
    assert len(read(tmp_path, [letter("{}", encoding="json")], format=format_name, options={})[0]) == 1


FOLDERS = [*FEATURES, Feature("month", Kind.INT, required=True, complete=True), Feature("city", Kind.BYTES)]


@pytest.mark.parametrize(
    ("payload", "encoding", "options"),
    [("7,x", "text", CSV), ("7,x", "text", {}), ('{"id": 7, "name": "x"}', "json", CSV)],
    ids=["csv", "csv that names its columns", "json"],
)
def test_rows_have_the_columns_of_the_folders_of_their_file(tmp_path, payload, encoding, options):
    uris = ["in/month=02/city=a%20b/f.csv", "in/month=03/city=c/f.csv", "in/month=02/city=a%20b/g.csv"]
    columns = json.dumps(["id", "name"]) if encoding == "text" and not options else None
    letters = [letter(payload, encoding=encoding, uri=uri, payload_columns=columns) for uri in uris]
    rows, rejected = read(tmp_path, letters, FOLDERS, options=options)
    assert rejected == []
    assert sorted((row["_origin"]["uri"], row["month"], row["city"]) for row in rows) == [
        (uris[0], 2, "a b"),
        (uris[2], 2, "a b"),
        (uris[1], 3, "c"),
    ]
    assert {row["payload"] for row in rows} == {payload.encode()}
    if encoding == "text":
        with pytest.raises(InputError, match="column 'month' is required by the schema"):
            read(tmp_path, letters, FOLDERS, options=options, partitioning="none")


def test_a_row_that_is_not_of_its_folder_is_the_same_letter_once_more(tmp_path):
    letters = [letter('{"id": 7, "month": 3}', encoding="json", uri="in/month=02/f.csv")]
    rows, (rejected,) = read(tmp_path, letters, FOLDERS)
    assert rows == []
    assert (rejected.reasons[0].code, rejected.payload, rejected.attempt) == (
        "partition.differs",
        letters[0].payload,
        2,
    )


def test_files_are_read_in_parts_and_nothing_is_lost(tmp_path):
    letters = [letter(f"{row},a" if row % 3 else '0,"', position=row) for row in range(1000)]
    rows, rejected = read(tmp_path, letters, part_bytes=10_000)
    assert len(rows) + len(rejected) == 1000
    assert {row["_origin"]["position"] for row in rows} == {row for row in range(1000) if row % 3}


def test_files_of_other_things_are_refused(tmp_path):
    (tmp_path / "x.jsonl").write_text(json.dumps({"id": 1}) + "\n")
    (file,) = match_files([str(tmp_path / "x.jsonl")])
    layout = DeadLetterFormat()
    with pytest.raises(InputError, match=r"x\.jsonl: the line at byte 0 is not a dead letter"):
        list(layout.read(file, next(layout.plan(file)), None))


def test_the_columns_of_letters_are_those_that_jobs_exchange():
    batch = RejectedBatch.of([letter("x")])
    lines = index_lines(Block(f"{letter('x').to_json()}\n".encode(), 0))
    assert parse_letters(lines, "").letters.equals(batch.letters)
