"""What every format of the table can do, with the jobs: a new one adds a line to `WRITERS` and must pass.

The rows have one column, `text`, which every format has a form for.
"""

import functools
import re

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from helpers import (
    dead_letters,
    examples,
    job,
    manifest_of,
    run_prepare,
    write_avro,
    write_csv,
    write_jsonl,
    write_orc,
    write_parquet,
    write_schema_file,
    write_text,
    write_tfrecord,
)

from penstock.io.files.inputs import match_files
from penstock.io.formats.registry import FORMATS, choose_format
from penstock.io.reserved import ORIGIN
from penstock.io.sources.watch import WatchRecords, latest_event_time
from penstock.transforms.verify import verify_dataset
from pipelines import fit, replay
from pipelines._report.result import DONE

WRITERS = {
    "csv": lambda path, rows: write_csv(path, rows, ["text"]),
    "jsonl": write_jsonl,
    "avro": functools.partial(write_avro, types={"text": "string"}),
    "parquet": lambda path, rows: write_parquet(path, pa.Table.from_pylist(rows), 7),
    "orc": lambda path, rows: write_orc(path, pa.Table.from_pylist(rows), 7),
    "tfrecord": write_tfrecord,
    "text": write_text,
}

TEXTS = [f'row {number}, "é"' for number in range(20)]
ROWS = [{"text": text} for text in TEXTS]
NOT_THE_THIRD = "rules: [{name: not_the_third, sql: text NOT LIKE 'row 3%'}]"


def values(dataset):
    return sorted(value for example in examples(dataset) for value in example["text"])


def entry_of(path):
    """The format that the suffix tells."""
    return choose_format(None, [str(path)])


@pytest.fixture(params=FORMATS)
def path(request, tmp_path):
    """A file of each format."""
    return WRITERS[request.param](tmp_path / f"in.{FORMATS[request.param].suffixes[0]}", ROWS)


def test_prepare_by_suffix_and_by_name(path, tmp_path):
    schema = write_schema_file(tmp_path / "schema.pbtxt", text="BYTES")
    assert run_prepare("--input", path, "--output", tmp_path / "inferred") == DONE
    assert values(tmp_path / "inferred") == sorted(TEXTS)
    entry = entry_of(path)
    unknown = path.rename(tmp_path / "in.dat")
    for name in (entry.name, *entry.aliases):
        out = tmp_path / name
        assert run_prepare("--input", unknown, "--format", name, "--schema", schema, "--output", out) == DONE
        assert values(out) == sorted(TEXTS)
        assert not list(verify_dataset(str(out)))


def test_replay_of_its_own_dead_letters(path, tmp_path):
    (tmp_path / "rules.yaml").write_text(NOT_THE_THIRD)
    (tmp_path / "none.yaml").write_text("rules: [{name: any, sql: text IS NOT NULL}]")
    out, repaired = tmp_path / "out", tmp_path / "repaired"
    flags = ("--input", path, "--rules", tmp_path / "rules.yaml", "--max_reject_fraction=1", "--output", out)
    assert run_prepare(*flags) == DONE
    (letter,) = dead_letters(out)
    assert (letter["reason"], letter["uri"]) == ("rule.not_the_third", str(path))
    replayed = ("--dead_letters", f"{out}/dead_letters/*.jsonl", "--rules", tmp_path / "none.yaml")
    assert job(*replayed, "--output", repaired, run=replay.run) == (DONE, "")
    assert values(out) + values(repaired) == [*sorted(set(TEXTS) - {TEXTS[3]}), TEXTS[3]]
    assert manifest_of(repaired).rows_in == 1


def texts_of(batch):
    column = batch.column("text")
    flat = column.flatten() if pa.types.is_list(column.type) else column  # values of a tf.Example are lists
    return flat.cast(pa.string()).to_pylist()


def test_watch_reads_it(path, tmp_path):
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        batches = pipeline | WatchRecords([str(tmp_path / f"*{path.suffix}")], "100ms", looks=3)
        texts = batches | beam.FlatMap(texts_of)
        origins = batches | beam.FlatMap(lambda batch: batch.column(ORIGIN).field("uri").to_pylist())
        assert_that(texts, equal_to(TEXTS), label="texts")
        assert_that(origins, equal_to([str(path)] * len(TEXTS)), label="origins")


def test_its_latest_time_is_found(path, tmp_path):
    entry = entry_of(path)
    times = WRITERS[entry.name](path, [{"text": f"2026-01-01T00:00:{second:02}Z"} for second in range(20)])
    (file,) = match_files([str(times)])
    assert latest_event_time(entry.make(), file, "text") == (1767225600 + 19) * 1_000_000


# A fit reads as prepare does: the text of one format and the types of another show it.
@pytest.mark.parametrize(
    "path",
    [name if name in ("csv", "parquet") else pytest.param(name, marks=pytest.mark.slow) for name in FORMATS],
    indirect=True,
)
def test_fit_reads_it(path, tmp_path):
    pytest.importorskip("tensorflow_transform")
    (tmp_path / "features.yaml").write_text("features: {text: {ops: [compute_and_apply_vocabulary]}}")
    flags = ("--input", path, "--features", tmp_path / "features.yaml", "--output", tmp_path / "graph")
    code, stderr = job(*flags, run=fit.run)
    assert code == DONE
    assert not re.sub(r"^computing the graph: [\d:]+\n", "", stderr, flags=re.MULTILINE), "but for where it takes long"


def test_there_is_a_writer_for_every_format():
    assert set(WRITERS) == set(FORMATS)
