"""The flags of the jobs: how they are composed, and what of them goes into a manifest."""

import re

import pytest

from penstock.io.errors import ConfigError
from pipelines._main import JOBS
from pipelines._options.dataset import DatasetJobOptions
from pipelines._options.history import HistoryOptions
from pipelines._options.prepare import PrepareOptions
from pipelines._options.relax import RelaxOptions
from pipelines._options.replay import ReplayOptions
from pipelines._report.result import UsageError

LETTERS = ("--dead_letters=a.jsonl", "--output=out")


def flags_of(options):
    return re.findall(r"^  --(\w+)", options.parser().format_help(), re.MULTILINE)


def test_both_jobs_that_write_a_dataset_have_its_flags_and_none_hides_any():
    prepare, replay = set(flags_of(PrepareOptions)), set(flags_of(ReplayOptions))
    assert prepare - replay == {"input", "inventory_columns"}
    assert replay - prepare == {"dead_letters", "max_attempts", "reasons", "release"}
    assert not issubclass(ReplayOptions, PrepareOptions)


@pytest.mark.parametrize(
    ("job", "arguments", "message"),
    [
        ("prepare", ["--input=kafka://h:9092/t", "--output=out", "--schema=s.pbtxt", "--window=fixed:60s"],
         "penstock status --output DIR --report FILE.html"),
        ("replay", [*LETTERS, "--watch=1"], "penstock status --output DIR/RUN_ID --report FILE.html"),
        ("history", ["--dataset=out"], "--report is of penstock status, which draws the history in it"),
        ("relax", ["--input=a.csv"], "--report is of penstock check"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)  # fmt: skip
def test_a_report_where_it_has_no_meaning_is_refused_with_what_to_do(job, arguments, message, capsys):
    options = {"prepare": PrepareOptions, "replay": ReplayOptions, "history": HistoryOptions, "relax": RelaxOptions}
    with pytest.raises((ConfigError, UsageError)) as raised:
        options[job].parse([*arguments, "--report=r.html"])
    assert message in f"{raised.value} {capsys.readouterr().err}"


@pytest.mark.parametrize(("options", "own"), [(PrepareOptions, "input"), (ReplayOptions, "dead_letters")])
def test_what_is_read_comes_before_how_it_is_read(options, own):
    flags = flags_of(options)
    assert flags.index(own) < flags.index("format") < flags.index("schema")


def test_flags_in_a_manifest_have_the_order_of_the_help():
    resolved = PrepareOptions.parse(["--input=a.csv", "--output=out"]).resolved()
    assert list(resolved)[:3] == ["input", "inventory_columns", "format"]
    assert [name for name in flags_of(PrepareOptions) if name in resolved] == list(resolved)


def test_a_flag_that_was_left_to_its_default_is_told_by_what_it_meant():
    assert PrepareOptions.parse(["--input=a.csv", "--output=out"]).resolved()["compression"] == "gzip"


def test_a_job_that_does_not_say_what_it_reads_is_incomplete():
    families = {name: kind() for name, kind in DatasetJobOptions.families().items()}
    with pytest.raises(TypeError, match=r"abstract methods .*check_input.* is_endless"):
        DatasetJobOptions(**families).check()


@pytest.mark.parametrize("job", JOBS)
def test_every_job_asks_for_what_it_needs(job, capsys):
    with pytest.raises(ConfigError, match=r"^(--\w+ is|A B are|DATASET( is|.* are)) required"):
        JOBS[job][0].parse([])


def test_flags_of_another_job_say_which(tmp_path, capsys):
    with pytest.raises(SystemExit):
        ReplayOptions.parse([*LETTERS, "--input=a.csv"])
    assert "--input is what prepare reads; a replay reads --dead_letters" in capsys.readouterr().err
    (tmp_path / "job.yaml").write_text("seed: 1\ninput: a.csv\n")
    with pytest.raises(ConfigError, match=r"job.yaml, line 2: --input is what prepare reads; a replay reads"):
        ReplayOptions.parse([*LETTERS, f"--config={tmp_path}/job.yaml"])


def test_many_letters_that_are_rejected_again_are_no_failure():
    assert ReplayOptions.parse(LETTERS).checks.max_reject_fraction == 1.0
    assert PrepareOptions.parse(["--input=a.csv", "--output=out"]).checks.max_reject_fraction == 0.05
