import dataclasses
import errno
import functools
import hashlib
import io
import itertools
import pathlib
import random
from collections.abc import Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms import error_handling
from apache_beam.transforms.window import Sessions
from helpers import local_pipeline
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.columns.hashing import SHUFFLE_SALT, hash_rows, salted
from penstock.io.dataset.layout import Staging
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.observer import DatasetObserver
from penstock.io.dataset.publish import read_outcome
from penstock.io.dataset.shuffle import _MergeFn, _ShardRange, hash_bound, shards_of
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dead_letters.handler import REJECTED, DeadLetterHandler, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import row_letters
from penstock.io.errors import ConfigError
from penstock.io.files.folders import list_files
from penstock.io.reasons import Reason
from penstock.io.reserved import EVENT_TIME, SHUFFLE_KEY, SPLIT
from penstock.io.schema import Kind, load_schema, schema_features
from penstock.io.sort.merge import KEYS_END
from penstock.io.sources.read import ReadRecords
from penstock.io.sources.watch import WatchRecords
from penstock.io.write import WriteDataset
from penstock.transforms.verify import verify_dataset

ROWS = 500


def table(rows=ROWS, **columns):
    data = {
        "id": pa.array(range(rows), pa.int64()),
        "name": pa.array(None if i % 7 == 0 else f"näme {i}" for i in range(rows)),
        "parts": pa.array([[], [1.5], None, [float(i), 2.0]][i % 4] for i in range(rows)),
    }
    return pa.record_batch({**data, **columns})


@dataclasses.dataclass(frozen=True)
class Slices(Sequence):
    """Slices of a batch; pickled, each of them would hold the whole batch."""

    batch: pa.RecordBatch
    rows: int

    def __len__(self):
        return -(-self.batch.num_rows // self.rows)

    def __getitem__(self, index):
        return self.batch.slice(range(0, self.batch.num_rows, self.rows)[index], self.rows)


def write(output, batches, workers=1, **options):
    """Writes batches, read in a DoFn as a source would give them; returns the outcome's status."""
    arguments = [f"--direct_num_workers={workers}"] if workers > 1 else []
    options = {"run_id": "r1", "num_shards": 3, **options}
    with local_pipeline(*arguments) as pipeline:
        rows = pipeline | beam.Create(list(range(len(batches)))) | beam.Reshuffle()
        rows = rows | "Rows" >> beam.Map(functools.partial(_at, batches)).with_output_types(pa.RecordBatch)
        _ = rows | WriteDataset(str(output), **options)
    return read_outcome(Staging(str(output), options["run_id"])).status


def _at(batches, index):
    return batches[index]


def shard_bytes(output):
    return {
        path: (pathlib.Path(output) / path).read_bytes()
        for path in list_files(str(output))
        if "/part-" in f"/{path}" and ".tmp" not in path
    }


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    output = tmp_path_factory.mktemp("reference")
    assert write(output, [table()]) == "published"
    return shard_bytes(output)


SHUFFLED = list(range(ROWS))
random.Random(1).shuffle(SHUFFLED)


EACH_RUNNER = {"marks": pytest.mark.each_runner}


@pytest.mark.parametrize(
    ("batches", "options"),
    [
        pytest.param([table()], {}, id="again"),
        pytest.param(Slices(table(), 7), {}, id="small_batches"),
        pytest.param(Slices(table().take(pa.array(SHUFFLED)), 60), {}, id="other_order", **EACH_RUNNER),
        pytest.param(Slices(table(), 60), {"workers": 4}, id="4_workers"),
        pytest.param(Slices(table(), 60), {"spill": False}, id="runner_shuffle", **EACH_RUNNER),
        pytest.param([table().select(["parts", "name", "id"])], {}, id="other_columns_order"),
        pytest.param([table().append_column("_origin", pa.array(range(ROWS)))], {}, id="origin"),
    ],
)
def test_same_rows_give_the_same_bytes(tmp_path, reference, batches, options):
    assert write(tmp_path, batches, **options) == "published"
    assert shard_bytes(tmp_path) == reference


def test_other_seed_gives_another_order(tmp_path, reference):
    write(tmp_path, [table()], seed=1)
    assert shard_bytes(tmp_path).keys() == reference.keys()
    assert shard_bytes(tmp_path) != reference


@pytest.mark.parametrize(("compression", "suffix"), [("gzip", ".gz"), ("zlib", ".zlib"), ("none", "")])
def test_tf_data_reads_every_record(tmp_path, compression, suffix):
    tf = pytest.importorskip("tensorflow")
    write(tmp_path, Slices(table(), 100), compression=compression)
    files = sorted(str(path) for path in (tmp_path / "train").iterdir())
    assert [pathlib.Path(file).name for file in files] == [f"part-0000{i}-of-00003.tfrecord{suffix}" for i in range(3)]
    found = {}
    for record in tf.data.TFRecordDataset(files, compression_type=compression.upper().replace("NONE", "")):
        features = tf.train.Example.FromString(record.numpy()).features.feature
        values = {name: list(getattr(value, value.WhichOneof("kind")).value) for name, value in features.items()}
        found[values.pop("id")[0]] = values
    expected = {
        row["id"]: {
            **({"name": [row["name"].encode()]} if row["name"] is not None else {}),
            **({"parts": row["parts"]} if row["parts"] is not None else {}),
        }
        for row in table().to_pylist()
    }
    assert found == expected


def test_records_of_a_shard_are_in_the_order_of_their_hashes(tmp_path):
    tf = pytest.importorskip("tensorflow")
    write(tmp_path, [table()], compression="none", seed=5)
    hashes = hash_rows(table(), None, salted(5, SHUFFLE_SALT))
    order = [
        tf.train.Example.FromString(record.numpy()).features.feature["id"].int64_list.value[0]
        for index in range(3)
        for record in tf.data.TFRecordDataset(f"{tmp_path}/train/part-0000{index}-of-00003.tfrecord")
    ]
    assert order == np.argsort(hashes).tolist()


def test_manifest_describes_the_files(tmp_path):
    write(tmp_path, [table()], provenance={"who": "a test"})
    manifest = read_manifest(str(tmp_path))
    assert (manifest.rows_in, manifest.rows_out, manifest.splits) == (ROWS, ROWS, {"train": ROWS})
    assert manifest.provenance.keys() == {"schema_fingerprint", "who"}
    import gzip

    for shard in manifest.shards:
        stored = (tmp_path / shard.path).read_bytes()
        assert shard.bytes == len(stored)
        assert shard.uncompressed_bytes == len(gzip.decompress(stored))
        assert shard.sha256 == hashlib.sha256(gzip.decompress(stored)).hexdigest()
        assert stored[4:8] == bytes(4)


def test_splits_without_rows_and_shards_without_rows_are_empty_files(tmp_path):
    tf = pytest.importorskip("tensorflow")
    split = pa.array(["eval"] * 2).dictionary_encode()
    for spill in (True, False):
        output = tmp_path / str(spill)
        write(output, [table(2, **{SPLIT: split})], splits=("train", "eval"), num_shards=4, spill=spill)
        assert read_manifest(str(output)).splits == {"train": 0, "eval": 2}
        assert [len(list((output / name).iterdir())) for name in ("train", "eval")] == [4, 4]
        files = tf.io.gfile.glob(f"{output}/*/part-*")
        assert sum(1 for _ in tf.data.TFRecordDataset(files, compression_type="GZIP")) == 2
    assert shard_bytes(tmp_path / "True") == shard_bytes(tmp_path / "False")


@pytest.mark.parametrize(
    "split_type", [pytest.param(pa.string(), **EACH_RUNNER), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_mixed_splits_give_the_same_bytes(tmp_path, split_type):
    names = pa.array([("train", "eval", "train")[i % 3] for i in range(ROWS)]).cast(split_type)
    columns = {SPLIT: names, SHUFFLE_KEY: pa.array(range(7, ROWS + 7), pa.uint64())}
    mixed = {"batches": Slices(table(**columns), 60), "splits": ("train", "test", "eval")}
    ways = [{}, {"spill": False}, {"workers": 2}, {"shuffle": "none", "num_shards": 1}]
    for index, options in enumerate(ways):
        assert write(tmp_path / str(index), **{**mixed, "num_shards": 2, **options}) == "published"
        assert read_manifest(str(tmp_path / str(index))).splits == {"train": 333, "test": 0, "eval": 167}
    assert shard_bytes(tmp_path / "0") == shard_bytes(tmp_path / "1") == shard_bytes(tmp_path / "2")
    write(tmp_path / "eval", Slices(table(**columns).filter(pc.equal(names.cast(pa.string()), "eval")), 9),
          splits=("eval",), shuffle="none", num_shards=1)  # fmt: skip
    assert shard_bytes(tmp_path / "eval").items() <= shard_bytes(tmp_path / "3").items()


@pytest.mark.parametrize("options", [{}, {"index": True, "compression": "none"}, {"format": "arrayrecord"}], ids=str)
def test_rows_of_any_columns_and_keys_lie_side_by_side(tmp_path, options):
    keyed = table(40, **{SHUFFLE_KEY: pa.array([5] * 40, pa.uint64())})  # in the order of their bytes
    others = [table(3).append_column(f"column {number}", pa.array([None, number, 7])) for number in range(20)]
    empty = pa.record_batch({f"rare {number}": pa.array([None] * 5, pa.int64()) for number in range(99)})
    batches = [
        table(20).select(["id", "name"]),
        table(20),
        *others,
        table(20).select(["parts"]),
        keyed,
        empty,
        table(9),
    ]
    for spill in (True, False):
        assert write(tmp_path / str(spill), batches, num_shards=2, spill=spill, **options) == "published"
        assert read_manifest(str(tmp_path / str(spill))).splits == {"train": 174}
        assert list(verify_dataset(str(tmp_path / str(spill)))) == []
    assert shard_bytes(tmp_path / "True") == shard_bytes(tmp_path / "False")
    spilled, grouped = (read_manifest(str(tmp_path / name)) for name in ("True", "False"))
    assert spilled.shards == grouped.shards, "indexes too"


@pytest.mark.each_runner
@pytest.mark.parametrize("spill", [True, False])
def test_number_of_shards_follows_the_bytes(tmp_path, spill):
    write(tmp_path, Slices(table(), 90), num_shards=None, shard_bytes=4096, spill=spill, compression="none")
    shards = read_manifest(str(tmp_path)).shards
    size = sum(shard.uncompressed_bytes for shard in shards)
    assert len(shards) == -(-size // 4096)
    assert max(shard.uncompressed_bytes for shard in shards) < 8192


def test_without_shuffle_shards_are_cuts_of_the_input(tmp_path):
    tf = pytest.importorskip("tensorflow")
    batches = list(Slices(table(**{SHUFFLE_KEY: pa.array(range(0, ROWS * 10, 10), pa.uint64())}), 33))
    random.Random(2).shuffle(batches)
    write(tmp_path, batches, shuffle="none", num_shards=4, compression="none")
    order = [
        [
            tf.train.Example.FromString(record.numpy()).features.feature["id"].int64_list.value[0]
            for record in tf.data.TFRecordDataset(f"{tmp_path}/train/part-0000{index}-of-00004.tfrecord")
        ]
        for index in range(4)
    ]
    assert list(itertools.chain.from_iterable(order)) == list(range(ROWS))
    assert [len(ids) for ids in order] == [125] * 4


def test_shards_of_a_split_are_balanced(tmp_path):
    rows = 100_000
    batch = pa.record_batch({"id": pa.array(range(rows), pa.int64())})
    write(tmp_path, Slices(batch, 8192), num_shards=8)
    counts = [shard.records for shard in read_manifest(str(tmp_path)).shards]
    assert sum(counts) == rows
    assert max(abs(count - rows / 8) for count in counts) < 0.05 * rows / 8


def test_identical_rows_share_a_shard(tmp_path):
    batch = pa.record_batch({"x": pa.array([7] * 1000, pa.int64())})
    write(tmp_path, Slices(batch, 10), num_shards=5)
    assert sorted(shard.records for shard in read_manifest(str(tmp_path)).shards) == [0, 0, 0, 0, 1000]


def test_event_times_of_each_shard_are_in_the_manifest(tmp_path):
    times = pa.array([None if i == 3 else i * 1_000_000 for i in range(10)], pa.timestamp("us", "UTC"))
    write(tmp_path, [table(10, **{EVENT_TIME: times})], num_shards=1)
    assert read_manifest(str(tmp_path)).shards[0].event_time == (
        "1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:09.000000Z"
    )  # fmt: skip


@pytest.mark.each_runner
def test_row_that_cannot_be_written_is_a_dead_letter(tmp_path):
    batch = pa.record_batch({"x": pa.array([[1], [1, None], [2]])})
    handler = DeadLetterHandler(Staging(str(tmp_path), "r1").dead_letters, "r1")
    assert write(tmp_path, [batch], dead_letters=handler, max_reject_fraction=0.5) == "published"
    manifest = read_manifest(str(tmp_path))
    assert (manifest.rows_in, manifest.rows_out, manifest.rejected_by_reason) == (3, 2, {"write.null_in_list": 1})
    assert list_files(str(tmp_path))["dead_letters/part-00000-of-00001.jsonl"] > 0


def test_row_that_cannot_be_written_fails_without_a_handler(tmp_path):
    with pytest.raises(Exception, match=r"rejected by stage write: write.null_in_list: column 'x' has a null"):
        write(tmp_path, [pa.record_batch({"x": pa.array([[1, None]])})])
    assert read_manifest(str(tmp_path)) is None


@pytest.mark.each_runner
def test_job_that_fails_leaves_no_manifest_and_the_next_one_succeeds(tmp_path):
    with pytest.raises(Exception, match=r"a row is of split 'other'; splits must name it, got train"):
        write(tmp_path, [table(2, **{SPLIT: pa.array(["other"] * 2).dictionary_encode()})])
    assert read_manifest(str(tmp_path)) is None
    assert write(tmp_path, [table()], overwrite=True, run_id="r2") == "published"
    assert not [path for path in list_files(str(tmp_path)) if "r1" in path]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_shards": 0}, r"num_shards must be >= 1, got 0"),
        ({"shard_bytes": 0}, r"shard_bytes must be >= 1, got 0"),
        (
            {"compression": "snappy"},
            r"compression must be one of gzip, zlib, none for the format tfrecord",
        ),
        ({"format": "orc"}, r"format must be one of tfrecord.*, got 'orc'"),
        ({"columns": pa.schema([])}, r"columns are for formats that need them, which tfrecord does not"),
        ({"shuffle": "local"}, r"shuffle must be one of global, none, got 'local'"),
        ({"splits": ()}, r"splits must be different names, at least one, got \[\]"),
        ({"splits": ("a", "a")}, r"splits must be different names"),
        ({"splits": [f"s{i}" for i in range(65_537)]}, r"splits must be at most 65536, got 65537"),
        ({"max_reject_fraction": 2}, r"max_reject_fraction must be from 0 to 1, got 2"),
        ({"shuffle": "none", "spill": False}, r"shuffle 'none' works only where all workers share a disk"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        WriteDataset("out", **options)


def test_rows_without_a_place_cannot_be_kept_in_order(tmp_path):
    with pytest.raises(Exception, match=r"shuffle='none' needs the place of each row: read with ReadRecords"):
        write(tmp_path, [table()], shuffle="none")


def test_shards_are_equal_ranges_of_hashes():
    for total in (1, 3, 7, 1000):
        bounds = [hash_bound(index, total) for index in range(total + 1)]
        assert (bounds[0], bounds[-1]) == (0, 2**64)
        keys = np.array([key for bound in bounds[:-1] for key in (bound, max(bound - 1, 0))], np.uint64)
        assert shards_of(keys, total).tolist() == [int(key) * total >> 64 for key in keys]


def put(pipeline, batch, window=None):
    rows = pipeline | beam.Create([0]) | beam.Map(functools.partial(_at, [batch])).with_output_types(pa.RecordBatch)
    return rows | beam.WindowInto(window) if window else rows


ONE_BAD = pa.record_batch({"x": pa.array([[1, None], *([[2]] * 50)]), "s": pa.array(["a"] * 51, pa.string_view())})


def test_what_goes_to_another_handler_is_accounted_for_as_well(tmp_path):
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        with error_handling.ErrorHandler(beam.Map(lambda letter: letter.reasons[0].code)) as handler:
            _ = put(pipeline, ONE_BAD) | WriteDataset(str(tmp_path)).with_error_handler(handler)
        assert_that(handler.output(), equal_to(["write.null_in_list"]))
    manifest = read_manifest(str(tmp_path))
    assert (manifest.rows_in, manifest.rows_out, manifest.rows_rejected) == (51, 50, 1)
    assert [file.records for file in manifest.dead_letters] == [1]


class RejectFirst(RejectingTransform):
    """A step of somebody else, between source and sink."""

    def expand(self, batches):
        split = beam.ParDo(_RejectFirstFn()).with_output_types(pa.RecordBatch)
        good, rejected = split_rejected(batches | split.with_outputs(REJECTED, main="out"))
        self._reject(rejected)
        return good


class _RejectFirstFn(beam.DoFn):
    def process(self, batch):
        yield from reject(row_letters(batch, {0: [Reason("rule.first", "it is the first")]}, "validate"))
        yield batch.slice(1)


@pytest.mark.each_runner
def test_rows_that_a_step_before_the_sink_rejected_came_in_too(tmp_path):
    staging = Staging.new(str(tmp_path))
    handler = DeadLetterHandler(staging.dead_letters, staging.run_id)
    with local_pipeline() as pipeline:
        rows = put(pipeline, table()) | RejectFirst().with_error_handler(handler)
        _ = rows | WriteDataset(str(tmp_path), num_shards=1, dead_letters=handler)
    manifest = read_manifest(str(tmp_path))
    assert (manifest.rows_in, manifest.rows_out, manifest.rejected_by_stage) == (ROWS, ROWS - 1, {"validate": 1})


@pytest.mark.each_runner
def test_nothing_published_fails_the_pipeline_of_one_who_reads_no_outcome(tmp_path):
    handler = DeadLetterHandler(str(tmp_path / "letters"), "r1")
    with (
        pytest.raises(Exception, match=r"nothing is published: 1 of 51 rows were rejected; .* are in .*/dead_letters"),
        beam.Pipeline(runner=FnApiRunner()) as pipeline,
    ):
        _ = put(pipeline, ONE_BAD) | WriteDataset(str(tmp_path / "out"), dead_letters=handler, max_reject_fraction=0.01)
    assert read_manifest(str(tmp_path / "out")) is None
    assert list_files(str(tmp_path / "out"))["dead_letters/part-00000-of-00001.jsonl"] > 0


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, **EACH_RUNNER),
        pytest.param({"spill": False}, **EACH_RUNNER),
        {"shuffle": "none"},
        {"format": "arrayrecord"},
    ],
    ids=str,
)
def test_feature_of_two_kinds_publishes_nothing(tmp_path, options):
    if options.get("format"):
        pytest.importorskip("array_record")
    ints = pa.record_batch({"a": [1, 2], "_shuffle_key": pa.array([0, 1], pa.uint64())})
    floats = pa.record_batch({"a": [None, 2.5], "_shuffle_key": pa.array([2, 3], pa.uint64())})
    with pytest.raises(Exception, match=r"column 'a' is \w+ in a row with [\d.]+, and \w+ in a row with [\d.]+; a "):
        write(tmp_path, [ints, floats], **options)
    assert read_manifest(str(tmp_path)) is None
    assert write(tmp_path, [ints, ints], **{**options, "overwrite": True, "run_id": "r2"}) == "published"


def test_schema_is_published_with_the_dataset(tmp_path):
    write(tmp_path, Slices(table(), 60))
    schema = load_schema(str(tmp_path / "schema.pbtxt"))
    assert [(feature.name, feature.kind, feature.complete) for feature in schema_features(schema)] == [
        ("id", Kind.INT, True),
        ("name", Kind.BYTES, False),
        ("parts", Kind.FLOAT, False),
    ]
    assert read_manifest(str(tmp_path)).extras == ("schema.pbtxt",)
    assert list(verify_dataset(str(tmp_path))) == []


def test_schema_that_is_given_is_published(tmp_path):
    schema = schema_pb2.Schema()
    for name, kind in (("id", "INT"), ("name", "BYTES"), ("parts", "FLOAT"), ("later", "INT")):
        schema.feature.add(name=name, type=schema_pb2.FeatureType.Value(kind))
    write(tmp_path / "good", [table()], schema=schema)
    assert load_schema(str(tmp_path / "good" / "schema.pbtxt")) == schema
    del schema.feature[2]
    with pytest.raises(Exception, match=r"column 'parts' of a row with .* is not a feature of the schema"):
        write(tmp_path / "bad", [table()], schema=schema)
    with pytest.raises(ConfigError, match=r"leave schema\.pbtxt out of the extras"):
        WriteDataset("out", schema=schema, extras=("schema.pbtxt",))


def test_windows_are_refused(tmp_path):
    pipeline = beam.Pipeline(runner=FnApiRunner())
    with pytest.raises(ConfigError, match="from the global window, got Sessions"):
        _ = put(pipeline, table(3), Sessions(5)) | WriteDataset(str(tmp_path))


def test_unbounded_input_is_refused(tmp_path):
    rows = put(beam.Pipeline(runner=FnApiRunner()), table(3))
    rows.is_bounded = False
    with pytest.raises(ConfigError, match="unbounded input is written window by window: pass --window"):
        _ = rows | WriteDataset(str(tmp_path))


def test_null_shuffle_key_fails(tmp_path):
    with pytest.raises(Exception, match="_shuffle_key must not be null, got 1 nulls"):
        write(tmp_path, [table(2, **{SHUFFLE_KEY: pa.array([1, None], pa.uint64())})])


def test_rows_without_a_split_cannot_be_shared_among_several(tmp_path):
    with pytest.raises(Exception, match="rows have no split; use AssignSplit, or one split instead of a, b"):
        write(tmp_path, [table(2)], splits=("a", "b"))


def test_row_with_a_null_split_fails(tmp_path):
    with pytest.raises(Exception, match="a row is of split None; splits must name it"):
        write(tmp_path, [table(2, **{SPLIT: pa.array([None, "train"]).dictionary_encode()})])


@pytest.mark.parametrize("split", ["", "a/b", "..", ".tmp-x", "dead_letters", "transform"])
def test_split_that_cannot_be_a_folder_is_refused(split):
    with pytest.raises(ConfigError, match="a split must be named with letters"):
        WriteDataset("out", splits=("train", split))


@pytest.mark.parametrize(
    "name",
    ["out", "out/", "./out", "a/../out", ".", "a b/ünï", "run [1]", "what?*", "link", "link/deeper", "-o", "~", "a:b"],
)
def test_every_way_to_name_the_output(tmp_path, monkeypatch, reference, name):
    (tmp_path / "work" / "a").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "work" / "link").symlink_to(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path / ("elsewhere" if name == "." else "work"))
    assert write(name, [table()]) == "published"
    assert shard_bytes(name) == reference
    assert set(list_files(name)) == {*reference, "manifest.json", "schema.pbtxt"}
    with pytest.raises(ConfigError, match="is not empty"):
        write(name, [table()], run_id="r2")
    assert write(name, [table(20)], run_id="r2", overwrite=True) == "published"
    assert read_manifest(name).rows_out == 20
    assert len(list_files(name)) == 5


def test_folder_beside_an_output_that_looks_like_a_pattern_is_left_alone(tmp_path):
    assert write(tmp_path / "out1", [table(5)]) == "published"
    assert write(tmp_path / "out?", [table(7)]) == "published"
    assert write(tmp_path / "out?", [table(9)], run_id="r2", overwrite=True) == "published"
    assert [read_manifest(str(tmp_path / name)).rows_out for name in ("out1", "out?")] == [5, 9]


def test_folders_and_links_of_others_in_the_output_are_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    output = tmp_path / "out"
    (output / "empty").mkdir(parents=True)
    write(output, [table(5)])
    write(output, [table(6)], run_id="r2", overwrite=True)
    assert (output / "empty").is_dir()
    (output / "linked").symlink_to(tmp_path / "photos")
    with pytest.raises(ConfigError, match=r"holds files that are no part of a dataset \(linked\)"):
        write(output, [table(5)], run_id="r3", overwrite=True)
    assert read_manifest(str(output)).rows_out == 6


class _FullDisk(io.BytesIO):
    def write(self, data):
        if self.tell() + len(data) > 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.mark.each_runner
def test_full_disk_leaves_the_old_dataset(tmp_path, monkeypatch):
    write(tmp_path, [table(5)])
    before = shard_bytes(tmp_path)
    files = []
    real = FileSystems.create

    def create(path, *arguments, **options):
        if "part-" not in path:
            return real(path, *arguments, **options)
        files.append(_FullDisk())
        return files[-1]

    monkeypatch.setattr(FileSystems, "create", create)
    with pytest.raises(Exception, match="No space left on device"):
        write(tmp_path, [table()], run_id="r2", overwrite=True)
    assert files
    assert all(file.closed for file in files)
    assert shard_bytes(tmp_path) == before
    assert read_manifest(str(tmp_path)).rows_out == 5


def test_shard_that_is_written_twice_from_runs_that_are_gone_fails(tmp_path):
    staging = Staging(str(tmp_path), "r1")
    merge = _MergeFn(staging, DatasetSpec(str(tmp_path), compression="none"), str(tmp_path / "runs"), once=True)
    shard = _ShardRange("train", 0, 1, 0, KEYS_END)
    assert [one.records for one in merge.process(shard, [])] == [0]
    with pytest.raises(RuntimeError, match=r"train/part-00000-of-00001\.tfrecord: was begun before"):
        list(merge.process(shard, []))


def test_an_output_that_holds_the_input_is_refused_before_anything_is_deleted(tmp_path):
    (tmp_path / "ds" / "train").mkdir(parents=True)
    (tmp_path / "ds" / "train" / "part-00000-of-00001.csv").write_text("a\n1\n")
    (tmp_path / "linked").symlink_to(tmp_path / "ds")
    pipeline = beam.Pipeline()
    rows = (pipeline | ReadRecords([f"{tmp_path}/ds/train/*.csv"]), pipeline | beam.Create([table()]))
    with pytest.raises(ConfigError, match=r"the input .*/part-00000-of-00001\.csv: lies in --output .*/linked, and"):
        _ = rows | beam.Flatten() | WriteDataset(str(tmp_path / "linked"), overwrite=True)
    assert [path.name for path in (tmp_path / "ds").rglob("*.*")] == ["part-00000-of-00001.csv"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("ds/in/*.csv", "ds/in/[*].csv: lies in --output"), ("**.tfrecord.gz", "matches what the job writes to --output")],
)
def test_an_output_in_which_a_watcher_looks_is_refused(tmp_path, pattern, message):
    rows = beam.Pipeline() | WatchRecords([f"{tmp_path}/{pattern}"], "1s", format="csv")
    with pytest.raises(ConfigError, match=message):
        _ = rows | WriteDataset(str(tmp_path / "ds"), num_shards=1, window="fixed:60s")


class CountObserver(DatasetObserver):
    """Counts rows, and refuses a dataset of some; pickled, it knows no pipeline."""

    extras = ("counts",)

    def __init__(self, refused=()):
        self.refused = refused

    def observe(self, staging, written, rejected):
        counts = {"written": written, **{f"rejected {index}": rows for index, rows in enumerate(rejected)}}
        sizes = [
            rows | f"Count {name}" >> beam.FlatMap(_sizes, name.split()[0]) for name, rows in counts.items()
        ] | "Counts" >> beam.Flatten()
        once = written.pipeline | "OnceForCounts" >> beam.Create([None])
        path = staging.path("counts", "rows.txt")
        return once | "Stage" >> beam.FlatMap(_stage, path, self.refused, beam.pvalue.AsList(sizes))


def _sizes(batch, name):
    rows = batch.num_rows if isinstance(batch, pa.RecordBatch) else len(batch)
    splits = batch.column(SPLIT).unique().to_pylist() if SPLIT in getattr(batch, "schema", pa.schema([])).names else []
    yield name, rows, splits


def _stage(_, path, refused, sizes):
    totals = {name: sum(rows for one, rows, _ in sizes if one == name) for name in ("written", "rejected")}
    splits = sorted({split for _, _, found in sizes for split in found})
    with FileSystems.create(path) as file:
        file.write(f"{totals} {splits}".encode())
    yield from refused


def with_bad_rows():
    """Rows of two splits, of which each 50th cannot be written."""
    splits = pa.array(["train" if row % 2 else "eval" for row in range(ROWS)])
    big = [1e300 if row % 50 == 0 else 1.0 for row in range(ROWS)]
    return [table(**{SPLIT: splits, "big": pa.array(big)}).slice(start, 100) for start in range(0, ROWS, 100)]


@pytest.mark.parametrize("options", [{}, {"spill": False}, {"workers": 2}], ids=str)
def test_an_observer_sees_the_rows_that_are_written_and_those_that_are_rejected(tmp_path, options):
    letters = DeadLetterHandler(Staging(str(tmp_path), "r1").dead_letters, "r1")
    given = {"splits": ("train", "eval"), "dead_letters": letters, "max_reject_fraction": 0.5, **options}
    assert write(tmp_path, with_bad_rows(), observer=CountObserver(), **given) == "published"
    found = (tmp_path / "counts" / "rows.txt").read_text()
    assert found == "{'written': 490, 'rejected': 10} ['eval', 'train']"
    manifest = read_manifest(str(tmp_path))
    assert (manifest.rows_out, manifest.rows_rejected) == (490, 10)
    assert "counts" in manifest.extras


def test_an_observer_may_refuse_publication(tmp_path):
    assert write(tmp_path, [table()], observer=CountObserver(["x: shifted"])) == "refused"
    assert read_manifest(str(tmp_path)) is None
    assert read_outcome(Staging(str(tmp_path), "r1")).refused == ("x: shifted",)
    with pytest.raises(Exception, match="nothing is published: x: shifted; dead letters"):
        write(tmp_path / "b", [table()], run_id=None, observer=CountObserver(["x: shifted"]))


def test_an_observer_does_not_change_the_dataset(tmp_path):
    for name, observer in (("with", CountObserver()), ("without", None)):
        write(tmp_path / name, [table()], observer=observer)
    ids = [read_manifest(str(tmp_path / name)).dataset_id for name in ("with", "without")]
    assert ids[0] == ids[1]


def test_an_observer_needs_a_dataset_without_windows(tmp_path):
    with pytest.raises(ConfigError, match="observer looks at a dataset as a whole"):
        write(tmp_path, [table()], observer=CountObserver(), window="fixed:60s")
