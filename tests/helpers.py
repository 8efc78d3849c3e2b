"""What tests of several modules share: small files of every format, running a job, reading what it wrote."""

import base64
import contextlib
import io
import json
import os
import pathlib
import shlex
import tempfile
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import fastavro
import pyarrow as pa
from pyarrow import orc, parquet

from penstock.io.batches import RecordBatchCoder
from penstock.io.dataset.manifest import Manifest, read_manifest
from penstock.io.dataset.windowed.manifest import WindowManifest
from penstock.io.dead_letters.source import payloads_of
from penstock.io.formats.base import Parsed
from pipelines import prepare
from pipelines._cli.beam import _JobOptions
from pipelines._cli.command import main
from pipelines._run.job import _runner

Row = Mapping[str, Any]

# Flags for every run of the main job: tests/integration runs its tests once more on another runner.
# Modules for a package that tests have apart from the others (`tests/pytorch`).
APART = frozenset({"penstock.io.dataset.load.torch", "penstock.io.dataset.load.torch_follow"})

FLAGS = tuple(shlex.split(os.environ.get("PENSTOCK_TEST_FLAGS", "")))


def payloads_in(parsed: Parsed) -> list[bytes]:
    """The bytes of the rows that a format has read; empty where it has none."""
    found = None if parsed.source is None else payloads_of(parsed.source)
    pairs = [] if found is None else zip(found.texts, found.encodings, strict=True)
    return [base64.b64decode(text) if encoding == "base64" else text.encode() for text, encoding in pairs]


def local_pipeline(*flags: str) -> beam.Pipeline:
    """A pipeline on the runner that jobs use here, with options as theirs."""
    options = _JobOptions([*FLAGS, *flags])
    return beam.Pipeline(runner=_runner(options), options=options)


def run_prepare(*argv: object) -> int:
    """Exit code of the main job, run in this process."""
    return prepare.run([*FLAGS, *map(str, argv)])


def job(*argv: object, run: Any = prepare.run) -> tuple[int, str]:
    """Exit code of a job as its command line has it, and what it printed to stderr."""
    stderr = io.StringIO()
    with contextlib.redirect_stderr(stderr):
        try:
            code = main("prepare", run, [*FLAGS, *map(str, argv)])
        except SystemExit as error:
            code = int(error.code or 0)
    return code, stderr.getvalue()


def batches_of(transform: beam.PTransform[Any, Any]) -> list[pa.RecordBatch]:
    """All batches that a source gives, in no order, as they come out of their coder."""
    with tempfile.TemporaryDirectory() as directory:
        with local_pipeline() as pipeline:
            _ = pipeline | transform | "Save" >> beam.Map(_save, directory)
        return [RecordBatchCoder().decode(path.read_bytes()) for path in pathlib.Path(directory).iterdir()]


def _save(batch: pa.RecordBatch, directory: str) -> None:
    pathlib.Path(directory, uuid.uuid4().hex).write_bytes(RecordBatchCoder().encode(batch))


def write_schema_file(path: pathlib.Path, **types: str) -> pathlib.Path:
    """A schema of features by type; text after the type goes into the feature: `x="INT presence { min_count: 1 }"`."""
    features = []
    for name, text in types.items():
        kind, _, rest = text.partition(" ")
        features.append(f'feature {{ name: "{name}" type: {kind} {rest} }}\n')
    path.write_text("".join(features))
    return path


def write_csv(path: pathlib.Path, rows: Iterable[Row], names: Sequence[str], delimiter: str = ",") -> pathlib.Path:
    """None becomes an empty field, text is quoted."""
    lines = [delimiter.join(names), *(delimiter.join(_csv_field(row.get(name)) for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="")
    return path


def _csv_field(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case str():
            quoted = value.replace('"', '""')
            return f'"{quoted}"'
        case _:
            return repr(value)


def write_jsonl(path: pathlib.Path, rows: Iterable[Row]) -> pathlib.Path:
    """One object a line."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def write_text(path: pathlib.Path, rows: Iterable[Row]) -> pathlib.Path:
    """One line a row, of its column `text`."""
    path.write_text("".join(f"{row['text']}\n" for row in rows))
    return path


def write_parquet(path: pathlib.Path, table: pa.Table, row_group_size: int = 100) -> pathlib.Path:
    """With row groups, which are the parts of the file."""
    parquet.write_table(table, path, row_group_size=row_group_size)
    return path


def write_orc(path: pathlib.Path, table: pa.Table, stripe_rows: int = 100, **options: Any) -> pathlib.Path:
    """With stripes, which are the parts of the file: Arrow closes one when it is full after a batch of rows."""
    with orc.ORCWriter(path, stripe_size=1, batch_size=stripe_rows, **options) as writer:
        writer.write(table)
    return path


def write_avro(
    path: pathlib.Path, rows: Sequence[Row], types: Mapping[str, Any], block_bytes: int = 1000
) -> pathlib.Path:
    """Every field may be null; blocks are the parts of the file."""
    fields = [{"name": name, "type": ["null", kind]} for name, kind in types.items()]
    schema = fastavro.parse_schema({"type": "record", "name": "row", "fields": fields})
    with path.open("wb") as file:
        fastavro.writer(file, schema, rows, sync_interval=block_bytes)
    return path


def write_tfrecord(path: pathlib.Path, rows: Iterable[Row]) -> pathlib.Path:
    """tf.Examples as `example_bytes` makes them."""
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            writer.write(example_bytes(row))
    return path


def example_bytes(row: Row) -> bytes:
    """A serialized tf.Example, made by TensorFlow."""
    import tensorflow as tf

    features = {}
    for name, value in row.items():
        values = value if isinstance(value, list) else [value]
        match values:
            case [None]:
                continue
            case [int(), *_]:
                features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
            case [float(), *_]:
                features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
            case _:
                encoded = [item.encode() if isinstance(item, str) else item for item in values]
                features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def manifest_of(dataset: pathlib.Path) -> Manifest:
    """The manifest, which must be there."""
    manifest = read_manifest(str(dataset))
    assert manifest is not None, f"{dataset} has no manifest"
    return manifest


def examples(dataset: pathlib.Path, split: str = "train") -> list[dict[str, list[Any]]]:
    """All rows of a split in the order of its shards, read and parsed by TensorFlow: feature -> its values."""
    import tensorflow as tf

    paths = sorted(str(path) for path in (dataset / split).iterdir())
    kind = {".gz": "GZIP", ".zlib": "ZLIB"}.get(pathlib.Path(paths[0]).suffix, "")
    return [_values(record) for record in tf.data.TFRecordDataset(paths, compression_type=kind).as_numpy_iterator()]


def window_examples(dataset: pathlib.Path, manifest: WindowManifest, split: str = "train") -> list[dict[str, Any]]:
    """All rows of a window's split, read and parsed by TensorFlow: feature -> its values."""
    import tensorflow as tf

    kind = {"gzip": "GZIP", "zlib": "ZLIB"}.get(manifest.compression, "")
    paths = [str(dataset / shard.path) for shard in manifest.shards if shard.split == split]
    return [_values(record) for record in tf.data.TFRecordDataset(paths, compression_type=kind).as_numpy_iterator()]


def _values(record: bytes) -> dict[str, list[Any]]:
    import tensorflow as tf

    example = tf.train.Example.FromString(record)
    values: dict[str, list[Any]] = {}
    for name, feature in example.features.feature.items():
        match feature.WhichOneof("kind"):
            case "bytes_list":
                values[name] = [value.decode(errors="surrogateescape") for value in feature.bytes_list.value]
            case "float_list":
                values[name] = list(feature.float_list.value)
            case "int64_list":
                values[name] = list(feature.int64_list.value)
            case _:
                values[name] = []
    return values


def shard_contents(dataset: pathlib.Path) -> dict[str, bytes]:
    """The bytes of every shard by its path in the dataset."""
    return {shard.path: (dataset / shard.path).read_bytes() for shard in manifest_of(dataset).shards}


def dead_letters(dataset: pathlib.Path) -> list[dict[str, Any]]:
    """All dead letters, by file and position."""
    lines = [line for path in sorted(dataset.glob("dead_letters/*.jsonl")) for line in path.read_text().splitlines()]
    return sorted(map(json.loads, lines), key=lambda letter: (letter["uri"], letter["position"]))


def all_files(directory: pathlib.Path) -> set[str]:
    """Relative paths of all files below a folder, hidden ones too."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def dataset_files(directory: pathlib.Path) -> set[str]:
    """As `all_files`, without card and history, which outlive a dataset."""
    return {path for path in all_files(directory) if path != "README.md" and not path.startswith("_history/")}


def tree(directory: pathlib.Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {path: (directory / path).read_bytes() for path in all_files(directory)}
