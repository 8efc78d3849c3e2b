"""Replay end to end: rows rejected by one job are repaired by the next, none lost, none twice."""

import json
import os
import pathlib

import pytest
from helpers import FLAGS, all_files, dead_letters, job, manifest_of, run_prepare, write_schema_file

from penstock.io.beam.durations import parse_duration
from penstock.io.dead_letters.record import raw_letter
from penstock.io.dead_letters.replay.claims import Claim, claim_files
from penstock.io.errors import ConfigError
from penstock.io.files.inputs import match_files
from penstock.io.reasons import Reason
from penstock.transforms.verify import verify_dataset
from pipelines import replay
from pipelines._jobs import replay as _replay
from pipelines._options.replay import ReplayOptions

LINES = ["id,fare", *(f"{row},{row}.5" for row in range(20)), "20,x", "21,500", "22,1,2", '23,"', "24,600"]


def run_replay(*argv):
    return replay.run([*FLAGS, *map(str, argv)])


def schema(path, most):
    return write_schema_file(
        path,
        id="INT presence { min_fraction: 1 } value_count { min: 1 max: 1 }",
        fare=f"FLOAT value_count {{ min: 1 max: 1 }} float_domain {{ max: {most} }}",
    )


@pytest.fixture
def dataset(tmp_path):
    """A dataset with five dead letters."""
    (tmp_path / "in.csv").write_text("\n".join(LINES) + "\n")
    strict = schema(tmp_path / "strict.pbtxt", 90)
    flags = [f"--schema={strict}", "--split=train=0.5,eval=0.5", "--max_reject_fraction=1"]
    assert run_prepare(f"--input={tmp_path}/in.csv", f"--output={tmp_path}/out", *flags) == 0
    return tmp_path / "out"


def letters_of(dataset):
    return f"--dead_letters={dataset}/dead_letters/*.jsonl"


def parked(dataset):
    lines = [line for path in dataset.glob("dead_letters/parked/*") for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def test_letters_in_are_rows_out_rejected_and_parked(dataset, tmp_path, capsys):
    relaxed = schema(tmp_path / "relaxed.pbtxt", 550)
    assert run_replay(letters_of(dataset), f"--output={tmp_path}/one", f"--schema={relaxed}", "--max_attempts=2") == 0
    manifest = manifest_of(tmp_path / "one")
    assert (manifest.rows_in, manifest.rows_out, manifest.rows_rejected) == (5, 1, 4)
    assert "5 letters: 1 repaired, 0 rejected, 4 parked" in capsys.readouterr().out
    assert [len(dead_letters(tmp_path / "one")), len(parked(tmp_path / "one"))] == [0, 4]
    assert set(manifest.splits) == {"train", "eval"}
    assert list(verify_dataset(str(tmp_path / "one"))) == []
    assert list(verify_dataset(str(dataset))) == []


def test_what_fails_again_keeps_its_place_and_counts_its_attempts(dataset, tmp_path):
    first = {(letter["uri"], letter["position"]): letter for letter in dead_letters(dataset)}
    source = dataset
    for attempt in (2, 3):
        target = tmp_path / f"attempt{attempt}"
        assert run_replay(letters_of(source), f"--output={target}") == 0
        found = dead_letters(target) + parked(target)
        assert {letter["attempt"] for letter in found} == {attempt}
        for letter in found:
            before = first[letter["uri"], letter["position"]]
            assert (letter["reason"], letter["stage"]) == (before["reason"], before["stage"])
            if letter["payload_encoding"] == before["payload_encoding"]:
                assert letter["payload"] == before["payload"]
        source = target
    assert len(parked(source)) == 5
    again = f"--dead_letters={source}/dead_letters/parked/*.jsonl"
    assert run_replay(again, f"--output={tmp_path}/left") == 0
    assert [letter["attempt"] for letter in parked(tmp_path / "left")] == [3] * 5
    assert manifest_of(tmp_path / "left").rows_in == 5
    more = f"--dead_letters={tmp_path}/left/dead_letters/parked/*.jsonl"
    assert run_replay(more, f"--output={tmp_path}/more", "--max_attempts=5") == 0
    assert {letter["attempt"] for letter in dead_letters(tmp_path / "more")} == {4}


def test_a_file_is_replayed_once(dataset, tmp_path, capsys):
    assert run_replay(letters_of(dataset), f"--output={tmp_path}/one") == 0
    before = all_files(dataset)
    assert run_replay(letters_of(dataset), f"--output={tmp_path}/two") == 0
    assert "were replayed before\nnothing to replay" in capsys.readouterr().out
    assert not (tmp_path / "two").exists()
    assert all_files(dataset) == before


def test_what_another_replay_holds_is_left_to_it(dataset, tmp_path, capsys):
    held, *_ = match_files([f"{dataset}/dead_letters/*.jsonl"])
    claim_files([held], Claim("other", str(tmp_path / "other"), is_local=False))
    assert run_replay(letters_of(dataset), f"--output={tmp_path}/one") == 0
    assert "is claimed by other; if that replay was killed: --release other" in capsys.readouterr().out
    in_held = len(pathlib.Path(held.uri).read_text().splitlines())
    assert manifest_of(tmp_path / "one").rows_in == 5 - in_held
    assert run_replay(letters_of(dataset), f"--output={tmp_path}/two", "--release=other") == 0
    assert manifest_of(tmp_path / "two").rows_in == in_held


def test_a_replay_that_fails_gives_its_claims_back(dataset, tmp_path):
    code, message = job(letters_of(dataset), f"--output={tmp_path}/one", "--max_reject_fraction=0", run=replay.run)
    assert (code, "5 of 5 rows were rejected" in message.replace("\n", " ")) == (1, True)
    assert not [path for path in all_files(dataset) if ".claim" in path]
    assert run_replay(letters_of(dataset), f"--output={tmp_path}/two") == 0


def test_reasons_choose_and_the_others_move_on_as_they_are(dataset, tmp_path):
    relaxed = schema(tmp_path / "relaxed.pbtxt", 1000)
    flags = [f"--schema={relaxed}", "--reasons=schema.domain,late"]
    assert run_replay(letters_of(dataset), f"--output={tmp_path}/one", *flags) == 0
    manifest = manifest_of(tmp_path / "one")
    assert (manifest.rows_in, manifest.rows_out) == (5, 2)
    assert {(letter["reason"], letter["attempt"]) for letter in dead_letters(tmp_path / "one")} == {
        ("schema.type", 1),
        ("csv.column_count", 1),
        ("csv.quote", 1),
    }
    assert list(verify_dataset(str(tmp_path / "one"))) == []


def completed(*argv):
    return _replay.completed(ReplayOptions.parse(argv))


def test_flags_are_those_of_the_run_unless_given(dataset, tmp_path):
    options = completed(letters_of(dataset), "--output=x", "--split=train=1")
    assert options.input.format == "csv"
    assert options.split.split == "train=1"
    assert options.checks.schema == f"{dataset}/schema.pbtxt"
    assert options.checks.max_reject_fraction == 1
    assert completed(letters_of(dataset), "--output=x").split.split == "train=0.5,eval=0.5"


def test_datasets_that_differ_are_told_apart(dataset, tmp_path):
    flags = [f"--schema={tmp_path}/strict.pbtxt", "--max_reject_fraction=1"]
    assert run_prepare(f"--input={tmp_path}/in.csv", f"--output={tmp_path}/other", "--seed=1", *flags) == 0
    both = [letters_of(dataset), letters_of(tmp_path / "other"), "--output=x"]
    with pytest.raises(ConfigError, match=r"had a different --seed: pass it, or replay"):
        completed(*both)
    assert completed(*both, "--seed=2").split.seed == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--dead_letters is required"),
        (["--input=x", "--dead_letters=x"], "--input is what prepare reads; a replay reads --dead_letters"),
        (["--dead_letters={0}/letters.jsonl"], "--schema is required: these dead letters do not lie in a dataset"),
    ],
    ids=["letters", "input", "schema"],
)
def test_wrong_usage(tmp_path, flags, message):
    (tmp_path / "letters.jsonl").write_text("")
    code, said = job(*(flag.format(tmp_path) for flag in flags), f"--output={tmp_path}/out", run=replay.run)
    assert (code, message in said) == (2, True)


def test_a_dry_run_claims_nothing(dataset, tmp_path, capsys):
    before = all_files(dataset)
    assert run_replay(letters_of(dataset), f"--output={tmp_path}/one", "--dry_run") == 0
    assert "Nothing was read or written" in capsys.readouterr().out
    assert all_files(dataset) == before


class _EnoughError(Exception):
    pass


def test_watching_replays_each_batch_of_new_files_into_a_dataset_of_its_own(dataset, tmp_path):
    (tmp_path / "new").mkdir()
    letters = sorted(dataset.glob("dead_letters/*.jsonl"))
    batches = iter([letters[:1], [], letters[1:], [], None])

    def sleep(_):
        batch = next(batches)
        if batch is None:
            raise _EnoughError
        for path in batch:
            (tmp_path / "new" / f"{path.stem}.jsonl").write_bytes(path.read_bytes())

    flags = [*FLAGS, f"--dead_letters={tmp_path}/new/*.jsonl", f"--output={tmp_path}/out2", "--format=csv"]
    with pytest.raises(_EnoughError):
        _replay.watch(ReplayOptions.parse([*flags, f"--schema={tmp_path}/strict.pbtxt"]), parse_duration("1s"), sleep)
    written = [manifest_of(path) for path in (tmp_path / "out2").iterdir()]
    assert sum(manifest.rows_in for manifest in written) == 5
    assert len(written) == 2


@pytest.mark.parametrize(
    ("columns", "code", "message"),
    [
        (None, 2, "which the dead letters name, is no input of the run that wrote them, so it is not opened"),
        ('["id", "fare"]', 1, "1 of 1 rows were rejected"),
    ],
    ids=["header", "line"],
)
def test_what_only_a_letter_names_is_not_opened(dataset, tmp_path, columns, code, message):
    os.mkfifo(tmp_path / "secret")  # to open it would not end
    forged = raw_letter([Reason("schema.type", "no")], "read", str(tmp_path / "secret"), 3, b"1,x", columns)
    (dataset / "dead_letters" / "forged.jsonl").write_text(forged.to_json() + "\n")
    letters = f"--dead_letters={dataset}/dead_letters/forged.jsonl"
    found = job(letters, f"--output={tmp_path}/one", "--max_reject_fraction=0", run=replay.run)
    assert (found[0], message in " ".join(found[1].split())) == (code, True), found


def test_a_report_shows_what_became_of_the_letters(dataset, tmp_path, capsys):
    relaxed, report = schema(tmp_path / "relaxed.pbtxt", 550), tmp_path / "report.html"
    flags = [f"--output={tmp_path}/one", f"--schema={relaxed}", f"--report={report}"]
    assert run_replay(letters_of(dataset), *flags) == 0
    assert str(report) in capsys.readouterr().out
    page = report.read_text()
    assert "<div><dt>in</dt><dd>5</dd></div>" in page
    assert "<div><dt>out</dt><dd>1</dd></div>" in page
    assert "22,1,2" in page  # a letter that was rejected again


def test_a_report_of_a_replay_that_watches_is_refused(dataset, tmp_path):
    flags = [letters_of(dataset), f"--output={tmp_path}/one", "--watch=1", f"--report={tmp_path}/report.html"]
    with pytest.raises(ConfigError, match=r"--watch makes many.*penstock status --output DIR/RUN_ID --report"):
        run_replay(*flags)
