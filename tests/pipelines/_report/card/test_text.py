"""What a card says, made of a manifest and a schema alone."""

import dataclasses
import re

import pyarrow as pa
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.dataset.manifest import Manifest, Shard
from pipelines._report.card.text import MARKER, CardSource, card_text

SCHEMA = text_format.Parse(
    """
    string_domain { name: "kinds" value: "a|b" value: "c" }
    feature { name: "id" type: INT value_count { min: 1 max: 1 } presence { min_fraction: 1 }
              int_domain { min: 3 } annotation { comment: "of the *ride*" } }
    feature { name: "kind" type: BYTES value_count { min: 1 max: 1 } domain: "kinds" }
    feature { name: "at" type: STRUCT struct_domain {
        feature { name: "lat" type: FLOAT float_domain { min: -90 max: 90 } } } }
    feature { name: "pixels" type: INT shape { dim { size: 4 } } bool_domain {} }
    """,
    schema_pb2.Schema(),
)


@pytest.fixture
def source():
    manifest = Manifest(
        run_id="r1",
        dataset_id="d1",
        created="2026-11-28T00:00:00Z",
        rows_in=12,
        rows_out=10,
        rows_rejected=2,
        splits={"train": 8, "eval": 2},
        shards=(
            Shard("train/part-00000-of-00001.parquet", "train", 8, 2048, 1, "0" * 8, "0"),
            Shard("eval/part-00000-of-00001.parquet", "eval", 2, 10, 1, "0" * 8, "0"),
        ),
        dead_letters=(),
        rejected_by_reason={"schema.range": 1, "csv.columns": 2},
        rejected_by_stage={"read": 2},
        compression="zstd",
        shuffle="global",
        seed=0,
        format="parquet",
        extras=("schema.pbtxt", "statistics"),
        provenance={
            "inputs": [{"uri": f"s3://me:pass@b/{n}.csv"} for n in range(12)],
            "options": {"input": ["s3://me:pass@b/*.csv"], "seed": 0, "label": None, "append": False, "columns": []},
            "versions": {"penstock": "0.1.0"},
        },
    )
    return CardSource(
        "data/rides|`x`", [manifest], SCHEMA, pa.schema([("id", pa.int64()), ("at", pa.list_(pa.date32()))])
    )


def test_it_says_what_the_dataset_is(source):
    text = card_text(source)
    assert MARKER in text.splitlines()
    for line in (
        "# rides|\\`x\\`",
        "| train | 8 | 1 | 2.0 KiB |",
        "| id | INT | 1 | at least 3; of the \\*ride\\* |",
        "| kind | BYTES | 1, may be missing | one of a\\|b, c |",
        "| at.lat | FLOAT | any number, may be missing | at least -90.0, at most 90.0 |",
        "| pixels | INT | 4, may be missing | true or false |",
        "| csv.columns | 2 |",
        "loaded = penstock.load('data/rides|`x`', split='train', columns=['id']).shuffle(seed=1)",
        "- and 2 more",
        "seed: 0",
        "By penstock 0.1.0.",
        "- [statistics](statistics): statistics of the rows",
    ):
        assert line in text.splitlines()
    assert "label" not in text


def test_it_has_no_passwords(source):
    assert "pass@" not in card_text(source)


def test_it_does_not_depend_on_the_run(source):
    other = dataclasses.replace(source.manifests[0], run_id="r2", created="2026-11-29T00:00:00Z")
    assert card_text(dataclasses.replace(source, manifests=[other])) == card_text(source)


def test_the_code_ends_where_its_fence_says(source):
    text = card_text(dataclasses.replace(source, output="a````b"))
    assert len(re.findall(r"^`{5}(?:python)?$", text, re.MULTILINE)) == 6
