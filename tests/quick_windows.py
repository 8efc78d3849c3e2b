"""Windows of a dataset without a pipeline: shards and manifests as a stream leaves them, ten thousand in seconds."""

import hashlib
import pathlib

import numpy as np
import pyarrow as pa
from google.protobuf import text_format
from spans_runs import schema

from penstock.io.beam.windows import time_name
from penstock.io.dataset.manifest import ShardIndex, dataset_id
from penstock.io.dataset.shard_formats.tfrecord import encode_framed
from penstock.io.dataset.windowed.manifest import WindowManifest, WindowShard, window_manifest_path
from penstock.io.kernel import crc32c

SECOND = 1_000_000
ROWS = 3


def iso(second):
    return f"{np.datetime64(second * SECOND, 'us')}Z"


def ids_of(number, late=False):
    """The ids of a window, by its number: it begins at this second."""
    first = number * 100 + (50 if late else 0)
    return range(first, first + ROWS)


def write_windows(output, numbers, late=(), final=True, status="published", created=None, index=False, in_all=0):
    """Writes windows of a second by their numbers, those in `late` with late rows too; again, if they are there."""
    output, numbers = pathlib.Path(output), list(numbers)
    (output / "windows").mkdir(parents=True, exist_ok=True)
    (output / "schema.pbtxt").write_text(text_format.MessageToString(schema()))
    for number in numbers:
        shards = [_write(output, number, "on_time", index)]
        shards += [_write(output, number, "late", index)] if number in late else []
        start = number * SECOND
        manifest = WindowManifest(
            run_id="r1",
            dataset_id=dataset_id(shards),
            created=created or iso(number + 60),
            window=(iso(number), iso(number + 1)),
            windows="fixed:1s",
            final=final or number in late,
            sequence=len(shards),
            status=status,
            rows_in=ROWS * len(shards),
            rows_out=ROWS * len(shards),
            rows_rejected=0,
            rows_on_time=ROWS,
            rows_late=ROWS * (len(shards) - 1),
            splits={"train": ROWS * len(shards)},
            shards=tuple(shards),
            dead_letters=(),
            rejected_by_reason={},
            rejected_by_stage={},
            inputs=(),
            compression="none",
            shuffle="global",
            seed=0,
            num_shards=1,
            extras=("schema.pbtxt",),
            windows_in_all=in_all,
        )
        name = f"{time_name(start)}_{time_name(start + SECOND)}"
        pathlib.Path(window_manifest_path(str(output), name)).write_text(manifest.to_json())


def _write(output, number, pane, has_index):
    ids = pa.array(list(ids_of(number, pane == "late")), pa.int64())
    encoded = encode_framed(pa.record_batch({"id": ids}))
    data = bytes(encoded.data)
    folder = output / "train" / time_name(number * SECOND)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{'late' if pane == 'late' else 'part'}-00000-of-00001.tfrecord"
    path.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    checksum = f"{crc32c.extend(0, data):08x}"
    relative = str(path.relative_to(output))
    index = _write_index(output, f"_index/{relative}.index", encoded.offsets) if has_index else None
    return WindowShard(relative, "train", ROWS, len(data), len(data), checksum, digest, None, pane, index=index)


def _write_index(output, relative, offsets):
    content, path = offsets.astype("<u8").tobytes(), output / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return ShardIndex(relative, len(content), f"{crc32c.extend(0, content):08x}")
