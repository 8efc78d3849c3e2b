"""The main job with keys that are unique: duplicates are dead letters, and no pass sees them."""

import json

import pytest
from helpers import (
    FLAGS,
    dead_letters,
    examples,
    job,
    manifest_of,
    run_prepare,
    shard_contents,
    window_examples,
    write_csv,
    write_schema_file,
)

from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.transforms.verify import verify_dataset
from pipelines import fit, replay
from pipelines._report.result import DONE, WRONG_USAGE

START = 1_700_000_000 // 60 * 60
FILES = {
    "b": [("u1", 1, 10), ("u2", 1, 11), ("u1", 2, 12)],
    "a": [("u1", 1, 20), (None, 1, 21), ("u3", 1, 22), ("u3", 1, 23), (None, 1, 24)],
    "c": [("u2", 1, 30), ("u4", 5, 31), ("u1", 1, 32)],
}
KEPT = {12, 20, 21, 22, 24, 31, 11}
REJECTED = {10: 20, 23: 22, 30: 11, 32: 20}


@pytest.fixture
def inputs(tmp_path):
    """Three files, a schema and rules."""
    for name, rows in FILES.items():
        rows = [{"user": user, "day": day, "n": n, "time": START + 60 * day} for user, day, n in rows]
        write_csv(tmp_path / f"{name}.csv", rows, ("user", "day", "n", "time"))
    write_schema_file(tmp_path / "schema.pbtxt", user="BYTES", day="INT", n="INT", time="INT")
    (tmp_path / "rules.yaml").write_text("unique: [user, day]\n")
    return tmp_path


def flags(folder, *names):
    given = [f"--input={folder}/{name}.csv" for name in names or FILES]
    return [*given, f"--schema={folder}/schema.pbtxt", f"--rules={folder}/rules.yaml", "--max_reject_fraction=1"]


def numbers(dataset):
    return {row["n"][0] for row in examples(dataset)}


def number_of(letter):
    columns = json.loads(letter["payload_columns"])
    return int(letter["payload"].split(",")[columns.index("n")])


def test_the_first_in_source_order_stays_and_the_others_say_where_it_is(inputs, tmp_path):
    out = tmp_path / "out"
    assert run_prepare(*flags(inputs), "--output", out) == DONE
    assert numbers(out) == KEPT
    letters = {number_of(letter): letter for letter in dead_letters(out)}
    assert set(letters) == set(REJECTED)
    assert {(letter["reason"], letter["stage"]) for letter in letters.values()} == {("unique.user_day", "validate")}
    detail = f"user is 'u1', day is 1, as in the row of {inputs}/a.csv at 16, which stays"
    assert (letters[10]["detail"], letters[32]["detail"]) == (detail, detail)
    manifest = manifest_of(out)
    assert (manifest.rows_in, manifest.rows_out, manifest.rows_rejected) == (11, 7, 4)
    assert list(verify_dataset(str(out))) == []


def test_what_stays_does_not_depend_on_workers_and_order(inputs, tmp_path):
    contents = []
    for number, (names, shuffle, workers) in enumerate(
        [("abc", "global", 1), ("cba", "global", 3), ("abc", "none", 2)]
    ):
        out = tmp_path / f"out{number}"
        more = [f"--shuffle={shuffle}", f"--direct_num_workers={workers}", "--num_shards=2"]
        assert run_prepare(*flags(inputs, *names), *more, "--output", out) == DONE
        contents.append(shard_contents(out))
        assert numbers(out) == KEPT
    assert contents[0] == contents[1]


def test_rules_come_first(inputs, tmp_path):
    """A row that a rule rejects is the first of nothing."""
    (inputs / "rules.yaml").write_text("rules: [{name: late, sql: n > 20}]\nunique: {once: [user, day]}\n")
    assert run_prepare(*flags(inputs), "--output", tmp_path / "out") == DONE
    assert numbers(tmp_path / "out") == {21, 22, 24, 30, 31, 32}
    reasons = {number_of(letter): letter["reason"] for letter in dead_letters(tmp_path / "out")}
    assert reasons == {10: "rule.late", 11: "rule.late", 12: "rule.late", 20: "rule.late", 23: "unique.once"}


def test_a_key_may_come_again_in_the_next_window(inputs, tmp_path):
    (inputs / "rules.yaml").write_text("unique: [user]\n")
    out = tmp_path / "out"
    windows = ("--event_time=time:s", "--window=fixed:60s", "--num_shards=1")
    assert run_prepare(*flags(inputs), *windows, "--output", out) == DONE
    found = [{row["n"][0] for row in window_examples(out, window)} for window in read_window_manifests(str(out))]
    assert found == [KEPT - {12, 31}, {12}, {31}]
    lines = [line for path in out.rglob("*.jsonl") for line in path.read_text().splitlines()]
    letters = [json.loads(line) for line in lines]
    assert {number_of(letter): letter["reason"] for letter in letters} == dict.fromkeys(REJECTED, "unique.user")


def test_features_are_fitted_without_duplicates(inputs, tmp_path, capsys):
    pytest.importorskip("tensorflow_transform")
    (inputs / "features.yaml").write_text("features: {n: {ops: [scale_to_0_1]}, user: {ops: [is_missing]}}\n")
    (inputs / "b.csv").write_text("user,day,n,time\nu1,1,1000,0\n")  # a duplicate; would be the greatest
    out = tmp_path / "out"
    assert run_prepare(*flags(inputs, "a", "b"), "--features", inputs / "features.yaml", "--output", out) == DONE
    assert sorted(row["n"][0] for row in examples(out)) == [0.0, 0.25, 0.5, 1.0]
    graph = ["--features", f"{inputs}/features.yaml", "--output", f"{tmp_path}/graph", "--json"]
    assert fit.run([*flags(inputs, "a", "b")[:-1], *graph]) == DONE
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (told["rows_in"], told["rows_rejected"], told["rows_fitted"]) == (6, 2, 4)


def test_duplicates_can_be_replayed(inputs, tmp_path, capsys):
    """They are compared with each other, not with the dataset that they were rejected from."""
    assert run_prepare(*flags(inputs), "--output", tmp_path / "out") == DONE
    letters = f"--dead_letters={tmp_path}/out/dead_letters/*.jsonl"
    assert replay.run([*FLAGS, letters, f"--output={tmp_path}/again", "--max_reject_fraction=1"]) == 0
    assert numbers(tmp_path / "again") == {10, 23, 30}
    [letter] = dead_letters(tmp_path / "again")
    assert (number_of(letter), letter["attempt"]) == (32, 2)
    assert letter["detail"].endswith("b.csv at 16, which stays")


def test_the_plan_tells_it(inputs, tmp_path, capsys):
    assert run_prepare(*flags(inputs), "--output", tmp_path / "out", "--dry_run") == DONE
    assert "reject rows that repeat a key (user, day)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rules", "more", "message"),
    [
        pytest.param(
            "unique: [usr]", [], "line 1: unique 'usr': column 'usr' is not a feature of the schema", id="column"
        ),
        pytest.param(
            "unique: [user]",
            ["--event_time=time:s", "--window=sliding:60s/10s", "--num_shards=1"],
            "line 1: unique 'user': a key is unique in a fixed window",
            id="sliding",
        ),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_read(inputs, tmp_path, rules, more, message):
    (inputs / "rules.yaml").write_text(rules)
    code, stderr = job(*flags(inputs), *more, "--output", tmp_path / "out")
    assert (code, message in stderr) == (WRONG_USAGE, True), stderr
