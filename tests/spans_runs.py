"""Runs that add small spans to a dataset, without a pipeline: what `WriteDataset` stages, and its publication."""

import numpy as np
import pyarrow as pa
from tensorflow_metadata.proto.v0 import schema_pb2

import penstock
from penstock.io.dataset.encode import RecordEncoder
from penstock.io.dataset.layout import Staging, new_run_id
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.options import Addition
from penstock.io.dataset.publish import Publisher
from penstock.io.dataset.run_folder import manifest_version
from penstock.io.dataset.shard import IndexPlace, write_shard
from penstock.io.dataset.shuffle import merged_batches
from penstock.io.dataset.spans.append import AddSpan
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.dead_letters.record import raw_letter
from penstock.io.files import stores
from penstock.io.reasons import Reason
from penstock.transforms.splits.by_hash import assign_split

SPLITS = {"train": 0.8, "eval": 0.2}


def rows(first, count):
    ids = pa.array(np.arange(first, first + count), pa.int64())
    return assign_split(pa.record_batch({"id": ids}), SPLITS, ["id"])


def schema():
    found = schema_pb2.Schema()
    feature = found.feature.add(name="id", type=schema_pb2.INT)
    feature.presence.min_fraction = 1
    feature.shape.SetInParent()
    return found


def stage(output, batch, rejected=0, span=None, **changes):
    """A run that has written its rows; to be published."""
    base = read_manifest(str(output))
    addition = Addition(span, base.run_id if base else "")
    spec = DatasetSpec(
        str(output),
        **{
            "splits": tuple(SPLITS),
            "num_shards": 1,
            "max_reject_fraction": 1.0,
            "append": addition,
            "extras": ("schema.pbtxt",),
            **changes,
        },
    )
    run = Publisher(
        Staging(str(output), new_run_id()), spec, manifest_version(str(output)), AddSpan(addition.base, span)
    )
    shards = []
    encoder, codes = RecordEncoder(spec, spec.shard_format()), batch.column("_split")
    for split in SPLITS:
        own = batch.filter(pa.array([name == split for name in codes.to_pylist()], pa.bool_()))
        path = f"{split}/part-00000-of-00001{spec.suffix}"
        with merged_batches([encoder.encode(own).records], spec.splits) as merged:
            staged = run.staging.path(*path.split("/"))
            index = IndexPlace.of(run.staging, path) if spec.index else None
            shards.append(write_shard(staged, path, split, spec.shard_format(), merged, index=index))
    letters = []
    if rejected:
        path = run.staging.path("dead_letters", "a.jsonl")
        letter = raw_letter((Reason("schema.type", "no"),), "validate", "x.csv", 1, b"?")
        stores.write_file(path, (letter.to_json() + "\n").encode() * rejected)
        letters = [DeadLetterFile(path, rejected, {"schema.type": rejected}, {"validate": rejected})]
    return run, shards, letters, len(batch) + rejected


def publish(staged):
    run, shards, letters, rows_in = staged
    return run.publish(shards, letters, rows_in, schema=schema())


def ids_of(output, split, version=None):
    batches = penstock.load(str(output), split, version=version).batches(1000)
    return sorted(one for batch in batches for one in batch["id"].to_pylist())


def expected(split, count):
    batch = rows(0, count)
    return [one["id"] for one in batch.to_pylist() if one["_split"] == split]
