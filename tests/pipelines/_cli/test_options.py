import argparse
import dataclasses
import pickle
import re

import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, StandardOptions

from penstock.io.errors import ConfigError
from pipelines._cli.beam import beam_options
from pipelines._cli.flags import byte_size, fraction, job_parser, parse_job, positive
from pipelines._cli.options import CheckOptions, InputOptions, OutputOptions, RunOptions, SplitOptions

FAMILIES = (InputOptions, CheckOptions, SplitOptions, OutputOptions, RunOptions)


def parse(*argv):
    namespace, beam = parse_job(job_parser("job", "A job.", "examples", FAMILIES), argv)
    options = {}
    for family in FAMILIES:
        options |= dataclasses.asdict(family.from_namespace(namespace))
    return options, list(beam.arguments)


def test_flags_that_are_not_given_have_the_defaults_of_their_family():
    options, rest = parse()
    assert rest == []
    assert (options["input"], options["columns"], options["compression"]) == ((), (), None)
    assert (options["max_reject_fraction"], options["shard_bytes"], options["overwrite"]) == (0.05, None, False)


def test_flags_of_the_job_and_of_beam_stand_side_by_side():
    options, rest = parse("--input", "a", "--runner=PrismRunner", "--input", "b", "--columns", "x, y", "--seed", "-1")
    assert (options["input"], options["columns"], options["seed"]) == (("a", "b"), ("x", "y"), -1)
    assert rest == ["--runner=PrismRunner"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--num_shard=3", r"unknown flag --num_shard; did you mean --num_shards\?"),
        ("--num-shards=3", r"unknown flag --num-shards; did you mean --num_shards\?"),
        ("--runer=X", r"unknown flag --runer; did you mean --runner\?"),
        ("--zzzzzz", r"unknown flag --zzzzzz\n"),
        ("b.csv", r"unexpected argument 'b.csv'; .*quote patterns"),
        ("--seed=x", r"--seed: invalid int value: 'x'"),
        ("--compression=lzma", r"--compression: invalid choice: 'lzma'"),
    ],
)
def test_what_nobody_knows_is_an_error_with_the_nearest_name(capsys, argument, message):
    with pytest.raises(SystemExit) as exit_info:
        parse(argument)
    assert exit_info.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_config_file_holds_flags_by_name_and_flags_win(tmp_path):
    config = tmp_path / "job.yaml"
    config.write_text(
        "input: [a.csv, 'b,c.csv']\nsplit: {train: 0.9, eval: 0.1}\nnull_values: [NA, '-']\nseed: 7\n"
        "overwrite: true\ncsv_multiline: false\nrunner: PrismRunner\nnum_shards: 3\n"
    )
    options, rest = parse("--config", str(config), "--seed=8", "--input", "d.csv")
    assert (options["input"], options["seed"], options["num_shards"]) == (("d.csv",), 8, 3)
    assert (options["split"], options["null_values"]) == ("train=0.9,eval=0.1", ("NA", "-"))
    assert (options["overwrite"], options["csv_multiline"]) == (True, False)
    assert rest == ["--runner=PrismRunner"]
    assert parse("--config", str(config))[0]["input"] == ("a.csv", "b,c.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_shard: 3", r"job.yaml, line 1: unknown name num_shard; did you mean num_shards\?"),
        ("config: x", r"unknown name config"),
        ("- a", r"job.yaml, line 1: must be a mapping of names, got a list"),
        ("a: [", r"--config .*job.yaml, line 1, column 5: is not valid YAML"),
        ("label: {a: 1}", r"label: must be a text, number"),
        ("label: no", r"line 1: label: takes a value, got false; if that is a text, put it in quotes"),
        ("null_values: [NA, no]", r"null_values: must be a text, number, .*, got \[\"NA\", false\]"),
        ("input: [a.csv, {b: c}]", r"input: must be a text, number"),
        ("split: {train: [1]}", r"split: must be a text, number"),
        ("label: [" + "[a], " * 99 + "]", r"got .{100}\.\.\.$"),
    ],
)
def test_config_that_cannot_be_used_is_refused(tmp_path, text, message):
    (tmp_path / "job.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        parse("--config", str(tmp_path / "job.yaml"))


def test_a_switch_that_is_off_is_told_to_beam_where_its_default_may_be_on(tmp_path):
    (tmp_path / "job.yaml").write_text("finish_bundle_before_checkpointing: false\n")
    assert parse("--config", str(tmp_path / "job.yaml"))[1] == ["--finish_bundle_before_checkpointing=false"]
    (tmp_path / "job.yaml").write_text("dry_run: false\noverwrite: false\n")
    assert parse("--config", str(tmp_path / "job.yaml")) == parse()


def test_missing_config_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"--config .*none.yaml: cannot be read"):
        parse("--config", str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("argv", "ours", "beams"), [((), None, False), (("--dry_run",), "", False), (("--dry_run=True",), "True", "True")]
)
def test_dry_run_without_a_value_is_ours_and_with_one_is_beams(argv, ours, beams):
    options, rest = parse(*argv)
    assert options["dry_run"] == ours
    assert beam_options(rest).get_all_options()["dry_run"] == beams


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("64MB", 64_000_000), ("2Ki", 2048), ("1 GiB", 2**30), ("5k", 5000)]
)
def test_byte_sizes(text, size):
    assert byte_size(text) == size


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (byte_size, "0"),
        (byte_size, "1TB"),
        (byte_size, "-1"),
        (fraction, "1.1"),
        (fraction, "nan"),
        (positive, "0"),
        (positive, "1.5"),
    ],
)
def test_values_out_of_range_are_refused(kind, text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"must be .*, got '{text}'"):
        kind(text)


def test_help_groups_the_flags_and_shows_defaults_and_examples():
    text = job_parser("job", "A job.", "examples", FAMILIES).format_help()
    for part in ("schema and rules:", "--num_shards N", "(default: tfrecord)", "examples", "any Beam pipeline option"):
        assert part in text


def test_views_of_beams_options_are_made_once_and_share_their_values():
    options = beam_options(["--job_name=a"])
    view = options.view_as(GoogleCloudOptions)
    assert options.view_as(GoogleCloudOptions) is view
    assert view.job_name == "a"
    options.view_as(StandardOptions).streaming = True
    copy = pickle.loads(pickle.dumps(options))
    assert (copy.get_all_options()["streaming"], copy.view_as(GoogleCloudOptions).job_name) == (True, "a")
    assert copy.view_as(GoogleCloudOptions) is not view
