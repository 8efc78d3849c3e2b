"""`ReadRecords` in a pipeline: every format, its origins, its rejects, its counters."""

import collections
import dataclasses
import functools
import inspect
import os

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from helpers import batches_of, write_avro, write_csv, write_jsonl, write_parquet, write_tfrecord

from penstock.io import ReadFromAvro, ReadFromCsv, ReadFromJsonl, ReadFromParquet, ReadFromTFRecord
from penstock.io.batches import MAX_BATCH_ROWS, origin_array, source_order
from penstock.io.dead_letters.handler import DeadLetterHandler, DiscardingHandler
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import InputFile, match_files
from penstock.io.files.partitions import Partitioning
from penstock.io.formats.avro.format import AvroFormat
from penstock.io.formats.csv.format import CsvFormat
from penstock.io.formats.json.format import JsonlFormat
from penstock.io.formats.parquet import ParquetFormat
from penstock.io.formats.registry import FORMATS, detect_format
from penstock.io.formats.tfrecord import TFRecordFormat
from penstock.io.reserved import ORIGIN, SHUFFLE_KEY
from penstock.io.schema import Feature, Kind
from penstock.io.sources import read
from penstock.io.sources.read import ReadRecords, resolve_format, uris_behind

FEATURES = (Feature("n", Kind.INT), Feature("x", Kind.FLOAT), Feature("t", Kind.BYTES))
ROWS = [{"n": row, "x": row / 4, "t": f"t{row}"} for row in range(50)]


def files(*names):
    return [InputFile(name, 1, 0.0) for name in names]


def rows_of(batches):
    """Rows without reserved columns, by uri and position."""
    rows = [row for batch in batches for row in batch.to_pylist()]
    rows.sort(key=lambda row: (row[ORIGIN]["uri"], row[ORIGIN]["position"]))
    return [{name: value for name, value in row.items() if not name.startswith("_")} for row in rows]


def positions_of(batches):
    return sorted(row["position"] for batch in batches for row in batch.column(ORIGIN).to_pylist())


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.csv", "b.TSV.gz", "c.csv.zst"], "csv"),
        (["a.jsonl", "b.ndjson.bz2", "c.json"], "jsonl"),
        (["s3://b/part-0.avro"], "avro"),
        (["a.parquet", "b.pq"], "parquet"),
        (["a.orc"], "orc"),
        (["a.txt", "b.TXT.gz", "c.txt.zst"], "text"),
        (["a.tfrecord.gz", "b.tfrecords.zlib", "c.tfr"], "tfrecord"),
    ],
)
def test_the_suffix_tells_the_format(names, expected):
    assert detect_format(names) == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.csv", "dir.csv/b"], r"dir.csv/b: no format is known for this name; pass --format csv\|jsonl\|avro"),
        (["a.gz"], r"a.gz: no format is known"),
        (["a.csv", "b.avro"], r"several formats: b.avro \(avro\), a.csv \(csv\); run one job for each"),
    ],
)
def test_suffixes_that_do_not_tell_one_format_are_refused(names, message):
    with pytest.raises(ConfigError, match=message):
        detect_format(names)


def test_a_format_is_made_from_its_name_and_options():
    assert resolve_format(None, files("a.csv")) == CsvFormat()
    assert resolve_format("jsonl", files("a.csv"), block_bytes=7) == JsonlFormat(block_bytes=7)
    assert resolve_format(CsvFormat(";"), files("a.tsv")) == CsvFormat(";")
    with pytest.raises(ConfigError, match=rf"the format of files must be one of {', '.join(FORMATS)}, got 'xml'"):
        resolve_format("xml", files("a.csv"))


def test_tsv_files_have_tabs_unless_something_else_is_said():
    assert resolve_format(None, files("a.tsv", "b.tsv.gz")) == CsvFormat("\t")
    assert resolve_format(None, files("a.tsv"), delimiter=";") == CsvFormat(";")
    assert resolve_format(None, files("a.tsv", "b.csv"), delimiter=";") == CsvFormat(";")
    with pytest.raises(ConfigError, match=r"several delimiters: a.csv \('default'\), b.tsv \('.t'\); run one job"):
        resolve_format(None, files("a.csv", "b.tsv"))


def test_source_order_is_that_of_files_then_positions():
    def keys(index, *positions):
        batch = pa.record_batch({ORIGIN: origin_array("a", pa.array(positions).to_numpy())})
        return source_order(index, batch).to_pylist()

    assert keys(0, 0, 5) == [0, 5]
    assert keys(0, (1 << 44) - 1)[0] < keys(1, 0)[0]
    assert keys((1 << 20) - 1, (1 << 44) - 1) == [(1 << 64) - 1]


AVRO_TYPES = {"n": "long", "x": "double", "t": "string"}
WRITERS = {
    "csv": (functools.partial(write_csv, names=["n", "x", "t"]), ReadFromCsv),
    "jsonl": (write_jsonl, ReadFromJsonl),
    "avro": (functools.partial(write_avro, types=AVRO_TYPES, block_bytes=100), ReadFromAvro),
    "parquet": (lambda path, rows: write_parquet(path, pa.Table.from_pylist(rows), 7), ReadFromParquet),
    "tfrecord": (write_tfrecord, ReadFromTFRecord),
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_same_typed_rows_each_with_its_place(tmp_path, suffix):
    write, reader = WRITERS[suffix]
    path = write(tmp_path / f"in.{suffix}", ROWS)
    for transform in (ReadRecords([str(path)], features=FEATURES), reader([str(path)], FEATURES)):
        batches = batches_of(transform)
        columns = [batch.column(name) for batch in batches for name in ("n", "x", "t")]
        if suffix == "tfrecord":  # values of a tf.Example are lists
            assert rows_of(batches) == [{"n": [r["n"]], "x": [r["x"]], "t": [r["t"].encode()]} for r in ROWS]
            columns = [column.flatten() for column in columns]
        else:
            assert rows_of(batches) == ROWS
        assert {column.type for column in columns} <= {pa.int64(), pa.float64(), pa.string(), pa.binary()}
        assert {row["uri"] for batch in batches for row in batch.column(ORIGIN).to_pylist()} == {str(path)}
    content = path.read_bytes()
    if suffix in ("avro", "parquet"):
        assert positions_of(batches) == list(range(50))
    else:
        starts = [content.find(f"t{row}".encode()) for row in range(50)]
        gaps = [start - position for start, position in zip(starts, positions_of(batches), strict=True)]
        assert all(0 < gap < 60 for gap in gaps)


def test_batches_are_bounded_in_rows(tmp_path):
    path = write_csv(tmp_path / "in.csv", [{"n": row} for row in range(20_000)], ["n"])
    sizes = [batch.num_rows for batch in batches_of(ReadFromCsv([str(path)], FEATURES))]
    assert sum(sizes) == 20_000
    assert max(sizes) <= MAX_BATCH_ROWS


def test_without_features_all_columns_come_as_they_are(tmp_path):
    path = write_csv(tmp_path / "in.csv", ROWS[:2], ["n", "t"])
    (batch,) = batches_of(ReadFromCsv([str(path)]))
    assert batch.schema.names == ["n", "t", ORIGIN]
    assert rows_of([batch]) == [{"n": "0", "t": "t0"}, {"n": "1", "t": "t1"}]


def test_files_without_an_optional_column_do_without(tmp_path):
    write_csv(tmp_path / "1.csv", ROWS[:1], ["n", "t"])
    write_csv(tmp_path / "2.csv", ROWS[1:2], ["x"])
    batches = batches_of(ReadFromCsv([str(tmp_path / "*.csv")], FEATURES))
    assert rows_of(batches) == [{"n": 0, "t": "t0"}, {"x": 0.25}]


def test_order_keys_number_the_rows_of_sorted_files(tmp_path):
    for name in "ba":
        write_csv(tmp_path / f"{name}.csv", ROWS[:30], ["n"])
    reader = CsvFormat(part_bytes=20, block_bytes=10)
    batches = batches_of(ReadRecords([str(tmp_path / "*.csv")], reader, FEATURES, order_key=True))
    rows = sorted((row for batch in batches for row in batch.to_pylist()), key=lambda row: row[SHUFFLE_KEY])
    assert [(os.path.basename(row[ORIGIN]["uri"]), row["n"]) for row in rows] == [
        *(("a.csv", row) for row in range(30)),
        *(("b.csv", row) for row in range(30)),
    ]


BAD = 'n,x,t\n1,1,a\nzwei,2,b\n3\n4,vier,"c\n5,1e99,d\n6,7,e\n'


def run(path, handler, **options):
    """The batches' row count and the counters by namespace and name, of a read whose rejects go to a handler."""
    pipeline = beam.Pipeline(runner=FnApiRunner())
    reader = ReadRecords([str(path)], CsvFormat(**options), FEATURES)
    good = pipeline | reader.with_error_handler(handler)
    _ = good | beam.Map(lambda batch: None)
    handler.close()
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter())["counters"]
    return {(counter.key.metric.namespace, counter.key.metric.name): counter.committed for counter in counters}


@pytest.mark.parametrize("part_bytes", [1, 11, 1 << 20])
def test_rejects_go_to_the_handler_and_are_counted_by_reason(tmp_path, part_bytes):
    (tmp_path / "in.csv").write_text(BAD)
    handler = DeadLetterHandler(str(tmp_path / "letters"), "run")
    counters = run(tmp_path / "in.csv", handler, part_bytes=part_bytes)
    assert counters["ReadRecords", "in-rows"] == 6
    assert counters["ReadRecords", "bad-rows"] == 4
    reasons = {name: count for (namespace, name), count in counters.items() if namespace == "DeadLetters"}
    assert reasons == {"schema.type": 1, "csv.column_count": 1, "csv.quote": 1, "schema.float_overflow": 1}
    lines = [line for path in (tmp_path / "letters").iterdir() for line in path.read_text().splitlines()]
    assert len(lines) == 4


def test_rejects_may_be_dropped_on_purpose(tmp_path):
    (tmp_path / "in.csv").write_text(BAD)
    rows = rows_of(
        batches_of(ReadFromCsv([str(tmp_path / "in.csv")], FEATURES).with_error_handler(DiscardingHandler()))
    )
    assert rows == [{"n": 1, "x": 1.0, "t": "a"}, {"n": 6, "x": 7.0, "t": "e"}]


def test_the_first_reject_fails_a_pipeline_without_handler(tmp_path):
    (tmp_path / "in.csv").write_text("n,x,t\nzwei,2,b\n")
    with pytest.raises(
        Exception, match=r"in.csv at 6, rejected by stage read: schema.type: column 'n': 'zwei' .*handler"
    ):
        batches_of(ReadFromCsv([str(tmp_path / "in.csv")], FEATURES))


def test_inputs_must_be_named():
    with pytest.raises(ConfigError, match="inputs must name at least one file or pattern, got none"):
        batches_of(ReadRecords([]))
    with pytest.raises(InputError, match="no file matches /nowhere/"):
        batches_of(ReadRecords(["/nowhere/*.csv"]))


@pytest.mark.parametrize("change", ["size", "mtime"])
def test_a_file_that_is_no_longer_as_it_was_matched_fails_the_read(tmp_path, change):
    path = write_csv(tmp_path / "in.csv", ROWS, ["n"])
    matched = match_files([str(path)])
    if change == "size":
        path.write_text("n\n1\n")
    else:
        os.utime(path, (1, 1))
    with pytest.raises(
        Exception, match=r"in.csv changed while it was read: .*run the job again when the file is complete"
    ):
        batches_of(ReadRecords(matched, features=FEATURES))


def test_a_file_that_changes_under_the_reader_fails_the_read(tmp_path, monkeypatch):
    path = write_csv(tmp_path / "in.csv", ROWS, ["n"])
    conform = read.conform_batch

    def conform_and_touch(*args):
        os.utime(path, (1, 1))
        return conform(*args)

    monkeypatch.setattr(read, "conform_batch", conform_and_touch)
    with pytest.raises(Exception, match=r"in.csv changed while it was read"):
        batches_of(ReadFromCsv([str(path)], FEATURES))


def test_no_row_is_lost_or_doubled_for_any_size_of_parts(tmp_path):
    """Rows of all lengths, so that borders of parts fall everywhere; each part is an element of its own."""
    rows = [{"n": row, "t": "x" * (row * 7 % 40)} for row in range(300)]
    path = write_csv(tmp_path / "in.csv", rows, ["n", "t"])
    for part_bytes in (17, 64, 333, 4096):
        reader = CsvFormat(part_bytes=part_bytes, block_bytes=part_bytes // 2 + 1)
        batches = batches_of(ReadRecords([str(path)], reader, FEATURES))
        counts = collections.Counter(value for batch in batches for value in batch.column("n").to_pylist())
        assert counts == collections.Counter(range(300))


# Of each reader the format, with a value for each option that is not the default.
READERS = {
    ReadFromCsv: (
        CsvFormat(";", True, ("a", "b"), ("NA",), 1 << 20, 1 << 10, 1 << 8, "skip", "standard"),
        CsvFormat(trim=True),  # not with line breaks
    ),
    ReadFromJsonl: (JsonlFormat(1 << 20, 1 << 10, 1 << 8, "e"),),
    ReadFromAvro: (AvroFormat(1 << 20, "e", max_row_bytes=7),),
    ReadFromParquet: (ParquetFormat(1 << 20, "e", max_row_bytes=7),),
    ReadFromTFRecord: (TFRecordFormat("sequence_example", max_row_bytes=7),),
}


@pytest.mark.parametrize(("reader", "formats"), READERS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_options_of_a_reader_are_those_of_its_format(reader, formats):
    parameters = inspect.signature(reader).parameters.values()
    partitioning, *options = [option for option in parameters if option.kind is inspect.Parameter.KEYWORD_ONLY]
    assert (partitioning.name, partitioning.default, partitioning.annotation) == ("partitioning", "auto", Partitioning)
    fields = dataclasses.fields(formats[0])
    assert [(option.name, option.default, option.annotation) for option in options] == [
        (field.name, field.default, field.type) for field in fields
    ]
    for option in options:
        assert any(getattr(format, option.name) != option.default for format in formats)
    for format in formats:
        values = {field.name: getattr(format, field.name) for field in fields}
        read_with = reader(["a"], FEATURES, partitioning="none", **values)
        assert (read_with.format, read_with.features, read_with.partitioning) == (format, FEATURES, "none")
    assert all(f"\n  {option.name}: " in inspect.getdoc(reader) for option in options)


def test_the_files_behind_values_are_found_through_all_that_lies_between(tmp_path):
    for name in ("a", "b", "side", "other"):
        (tmp_path / f"{name}.csv").write_text("x\n1\n")
    pipeline = beam.Pipeline()
    first, second, side, _ = (
        pipeline | name >> ReadRecords([f"{tmp_path}/{name}.csv"]) for name in ("a", "b", "side", "other")
    )
    joined = (first, second | "Same" >> beam.Map(lambda batch: batch)) | beam.Flatten()
    values = joined | "Count" >> beam.Map(lambda batch, sides: len(sides), beam.pvalue.AsList(side))
    assert sorted(uris_behind(values)) == [f"{tmp_path}/{name}.csv" for name in ("a", "b", "side")]
