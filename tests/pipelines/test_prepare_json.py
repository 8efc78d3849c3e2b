"""JSON as web APIs write it: an array becomes a dataset, and what no column can hold is told or exploded."""

import json

import pytest
from helpers import dead_letters, examples, job, local_pipeline, manifest_of

from penstock.io import ReadFromJsonl, WriteDataset
from penstock.io.files.inputs import stat_file
from penstock.io.formats.json.format import JsonlFormat
from penstock.io.schema import load_schema
from penstock.io.sources.watch import latest_event_time
from penstock.transforms.verify import verify_dataset
from pipelines import replay

ORDERS = [
    {"id": number, "name": "é" * (number % 3), "items": [{"sku": f"s{n}", "price": n + 0.5} for n in range(number % 4)]}
    for number in range(40)
]
CHEAP = 'rules: [{name: cheap, sql: \'"items.price" < 2 OR "items.price" IS NULL\'}]'


def write(path, rows):
    path.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    return path


def test_an_array_becomes_a_dataset_and_tells_what_is_left_out(tmp_path, capsys):
    path = write(tmp_path / "orders.json", ORDERS)
    code, _ = job("--input", path, "--output", tmp_path / "out")
    assert code == 0
    assert sorted((row["id"][0], *row["name"]) for row in examples(tmp_path / "out")) == [
        (row["id"], row["name"]) for row in ORDERS
    ]
    (note,) = manifest_of(tmp_path / "out").notes
    assert (note.code, note.subject, note.count) == ("left_out", "items", 30)
    assert "left_out items   30" in capsys.readouterr().out
    schema = load_schema(str(tmp_path / "out" / "schema.pbtxt"))
    assert [feature.name for feature in schema.feature] == ["id", "name"]
    (comment,) = schema.annotation.comment
    assert comment.startswith("'items', in 30 rows: a list of objects or of lists")
    assert "--explode items" in comment
    assert not list(verify_dataset(str(tmp_path / "out")))


def test_a_pipeline_without_a_schema_tells_what_is_left_out_too(tmp_path):
    path = write(tmp_path / "orders.json", ORDERS)
    with local_pipeline() as pipeline:
        _ = pipeline | ReadFromJsonl([str(path)]) | WriteDataset(str(tmp_path / "out"), num_shards=1)
    (note,) = manifest_of(tmp_path / "out").notes
    assert (note.code, note.subject, note.count) == ("left_out", "items", 30)


def test_items_are_rows_that_are_rejected_and_replayed_one_by_one(tmp_path):
    path, rules = write(tmp_path / "orders.json", ORDERS), tmp_path / "rules.yaml"
    rules.write_text(CHEAP)
    flags = ["--max_reject_fraction=1", "--output"]
    assert job("--input", path, "--explode=items", "--rules", rules, *flags, tmp_path / "out")[0] == 0
    manifest = manifest_of(tmp_path / "out")
    # Ten orders without an item, ten with one, ten with two and ten with three: the third costs too much.
    assert (manifest.rows_in, manifest.rows_out, manifest.rows_rejected) == (70, 60, 10)
    assert manifest.notes == ()
    letters = dead_letters(tmp_path / "out")
    assert {json.loads(letter["payload"])["items.sku"] for letter in letters} == {"s2"}
    text = path.read_bytes()
    assert all(text[letter["position"] :].startswith(b"{") for letter in letters)
    rules.write_text("rules: [{name: any, sql: id >= 0}]")
    given = ["--dead_letters", tmp_path / "out/dead_letters/*.jsonl", "--rules", rules]
    schema = ["--schema", tmp_path / "out/schema.pbtxt"]
    assert job(*given, *schema, *flags, tmp_path / "again", run=replay.run)[0] == 0
    assert sorted(row["items.price"][0] for row in examples(tmp_path / "again")) == [2.5] * 10


def test_an_object_around_the_rows_is_refused_with_the_way_to_them(tmp_path):
    path = tmp_path / "page.json"
    path.write_text(json.dumps({"data": ORDERS}))
    code, stderr = job("--input", path, "--output", tmp_path / "out")
    assert code == 1
    assert "no rows with a member that can be a column ('data', in 1 rows" in stderr
    assert "--explode data makes a row of each item" in stderr


@pytest.mark.parametrize("content", ["{}\n{}\n", "[{}, {}]"], ids=["lines", "document"])
def test_rows_without_members_are_not_called_none(tmp_path, content):
    (tmp_path / "in.json").write_text(content)
    code, stderr = job("--input", tmp_path / "in.json", "--output", tmp_path / "out")
    assert code == 1
    assert "no rows with a member that can be a column ('{}', in 2 rows: the row has no members)" in stderr


def test_a_broken_array_names_its_place(tmp_path):
    path = tmp_path / "orders.json"
    path.write_text(json.dumps(ORDERS)[:-1] + ",]")
    code, stderr = job("--input", path, "--output", tmp_path / "out")
    assert (code, "orders.json: the JSON document is broken at byte" in stderr) == (1, True)
    assert "no comma may stand behind the last item of an array; remove it" in stderr


def test_a_watcher_looks_for_event_times_from_the_start_of_an_array(tmp_path):
    path = write(tmp_path / "t.json", [{"t": f"2020-01-01T00:00:{second:02}Z"} for second in range(60)] * 200)
    times = latest_event_time(JsonlFormat(block_bytes=2000), stat_file(str(path)), "t")
    assert 0 < times - 1_577_836_800_000_000 < 60_000_000
