"""Pipelines of Beam YAML with Penstock's types, in this process."""

import json
import pathlib

import apache_beam as beam
import pytest
import yaml
from apache_beam.testing.util import assert_that, equal_to
from helpers import examples, local_pipeline, manifest_of, write_schema_file

from penstock.io.errors import ConfigError
from penstock.transforms.beam_yaml import PROVIDERS, steps
from penstock.transforms.beam_yaml.steps import PenstockSplit
from penstock.transforms.verify import verify_dataset

# Without the extra `yaml` there is nothing to run; `make install` brings it, so that CI runs these.
yaml_transform = pytest.importorskip("apache_beam.yaml.yaml_transform", reason="needs the extra yaml")

INTO_A_DATASET = """
pipeline:
  transforms:
    - type: Create
      name: Rows
      config:
        elements:
          - {id: 1, name: Ann, score: 0.5}
          - {id: 2, name: Ben, score: 1.5}
          - {id: -3, name: Cleo, score: 2.5}
    - type: PenstockValidate
      name: Check
      input: Rows
      config:
        schema: "{{ schema }}"
        error_handling: {output: rejected}
    - type: PenstockSplit
      name: Split
      input: Check.good
      config: {ratios: "train=0.5,eval=0.5", key: [id]}
    - type: PenstockWriteDataset
      name: Write
      input: {input: Split, rejects: Check.rejected}
      config: {path: "{{ output }}", splits: [train, eval], num_shards: 1, max_reject_fraction: 0.5}
providers:
  - include: "{{ providers }}"
"""

BACK_TO_ROWS = """
pipeline:
  type: chain
  transforms:
    - type: ReadPenstockRecords
      config: {path: "{{ input }}", schema: "{{ schema }}"}
    - type: PenstockToRows
      config: {schema: "{{ schema }}"}
    - type: MapToFields
      config:
        language: python
        fields:
          id: id
          twice: {callable: "lambda row: row.score * 2"}
providers:
  - include: "{{ providers }}"
"""

REJECTS_AS_ROWS = """
pipeline:
  transforms:
    - type: ReadPenstockRecords
      name: Read
      config: {path: "{{ input }}", schema: "{{ schema }}", error_handling: {output: bad}}
    - type: PenstockRejectsToRows
      name: Bad
      input: Read.bad
  output: Bad
providers:
  - include: "{{ providers }}"
"""


def run(text, **variables):
    """Runs a pipeline of YAML, as `python -m apache_beam.yaml.main --jinja_variables` does; returns what it gives."""
    variables = {"providers": PROVIDERS, **{name: str(value) for name, value in variables.items()}}
    spec = yaml_transform.expand_jinja(text, variables, [])
    pipeline = local_pipeline()
    return pipeline, yaml_transform.expand_pipeline(pipeline, spec, validate_schema=None)


@pytest.fixture
def schema(tmp_path):
    return write_schema_file(
        tmp_path / "schema.pbtxt",
        id="INT value_count { min: 1 max: 1 } int_domain { min: 0 }",
        name="BYTES value_count { min: 1 max: 1 }",
        score="FLOAT value_count { min: 1 max: 1 }",
    )


def test_rows_of_beam_yaml_into_a_dataset(tmp_path, schema):
    output = tmp_path / "dataset"
    pipeline, _ = run(INTO_A_DATASET, schema=schema, output=output)
    pipeline.run().wait_until_finish()
    manifest = manifest_of(output)
    assert (manifest.rows_in, manifest.rows_out, manifest.rejected_by_reason) == (3, 2, {"schema.domain": 1})
    assert list(manifest.splits) == ["train", "eval"]
    rows = [row for split in manifest.splits for row in examples(output, split)]
    assert sorted(row["id"][0] for row in rows) == [1, 2]
    assert list(verify_dataset(str(output))) == []


def test_batches_into_rows_of_beam_yaml(tmp_path, schema):
    (tmp_path / "rows.csv").write_text("id,name,score\n1,Ann,0.5\n2,Ben,4\n")
    pipeline, rows = run(BACK_TO_ROWS, schema=schema, input=tmp_path / "rows.csv")
    assert_that(rows | beam.Map(lambda row: (row.id, row.twice)), equal_to([(1, 1.0), (2, 8.0)]))
    pipeline.run().wait_until_finish()


def test_rejected_rows_as_rows_of_beam_yaml(tmp_path, schema):
    (tmp_path / "rows.csv").write_text("id,name,score\n1,Ann,0.5\nx,Ben,1\n")
    pipeline, rows = run(REJECTS_AS_ROWS, schema=schema, input=tmp_path / "rows.csv")
    told = rows | beam.Map(lambda row: (row.reason, row.payload, row.position))
    assert_that(told, equal_to([("schema.type", "x,Ben,1", 24)]))
    pipeline.run().wait_until_finish()


def test_every_type_of_the_file_is_a_step():
    (provider,) = yaml.safe_load(pathlib.Path(PROVIDERS).read_text())
    names = {path.rpartition(".")[2] for path in provider["transforms"].values()}
    assert names == set(provider["transforms"]) == {name for name in vars(steps) if "Penstock" in name}


@pytest.mark.parametrize("errors", [{"output": "good"}, {"to": "bad"}, {}], ids=json.dumps)
def test_error_handling_that_is_none(errors, schema):
    with pytest.raises(ConfigError, match=r"error_handling must be \{output: NAME\}, of any name but 'good'"):
        steps.PenstockValidate(str(schema), error_handling=errors)


def test_rejects_that_are_none(tmp_path):
    pipeline = beam.Pipeline()
    rows = pipeline | beam.Create([beam.Row(a=1)])
    with pytest.raises(ConfigError, match="the input 'rejects' must be what error_handling of a step of Penstock gave"):
        _ = {"input": rows, "rejects": rows} | steps.PenstockWriteDataset(str(tmp_path / "out"))
    with pytest.raises(ConfigError, match="one of several inputs must be named 'input', got a, b"):
        _ = {"a": rows, "b": rows} | "Again" >> steps.PenstockWriteDataset(str(tmp_path / "out"))


def test_event_times_and_windows(tmp_path):
    with local_pipeline() as pipeline:
        rows = pipeline | beam.Create(
            [beam.Row(id=1, at="2024-01-01T00:00:05Z"), beam.Row(id=2, at="2024-01-01T00:01:05Z")]
        )
        timed = rows | steps.PenstockFromRows() | steps.PenstockAssignEventTime("at")
        _ = timed | steps.PenstockWriteDataset(str(tmp_path / "out"), num_shards=1, window="fixed:60s")
    assert len(list((tmp_path / "out" / "windows").iterdir())) == 2
    assert list(verify_dataset(str(tmp_path / "out"))) == []


def test_splits_of_each_kind():
    assert PenstockSplit("8,1,1", key=["a"])._assign.kind.names == ("train", "eval", "test")
    assert PenstockSplit(folds=2)._assign.kind.names == ("fold_0", "fold_1")
    assert PenstockSplit(time="a<2026-01-01,b", gap="1d")._assign.kind.gap == "1d"
    assert PenstockSplit(files="a=x/*")._assign.kind.names == ("a",)
    assert PenstockSplit(column="use:a,b", error_handling={"output": "bad"})._assign.kind.column == "use"
    assert PenstockSplit("1,1", hash_version=1)._assign.kind.version == 1
    with pytest.raises(ConfigError, match="--split and --folds each say what the splits are"):
        PenstockSplit("1,1", folds=2)
    with pytest.raises(ConfigError, match="PenstockSplit rejects no rows by ratios or folds: leave error_handling out"):
        PenstockSplit("1,1", error_handling={"output": "bad"})
