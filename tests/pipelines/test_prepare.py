"""The main job end to end: what is written, that it is right, and that it is the same each time."""

import functools
import itertools
import os
import re
import sys

import numpy as np
import pyarrow as pa
import pytest
from apache_beam.typehints import trivial_inference
from helpers import (
    all_files,
    dataset_files,
    dead_letters,
    examples,
    manifest_of,
    run_prepare,
    shard_contents,
    write_avro,
    write_csv,
    write_jsonl,
    write_parquet,
    write_schema_file,
    write_tfrecord,
)

from penstock.io.formats.csv import format as csv_format
from penstock.io.formats.csv.format import CsvFormat
from penstock.io.formats.json.format import JsonlFormat
from penstock.transforms.verify import verify_dataset

INT64 = np.iinfo(np.int64)
TYPES = {"id": "INT", "price": "FLOAT", "name": "BYTES", "flag": "INT bool_domain {}", "day": "BYTES"}


def make_rows(count: int) -> list[dict]:
    """Rows with nulls, unicode, empty texts and extremes; `price` and `id` have no common pattern of nulls."""
    names = ["", "ü", "東京", "a,b", 'say "hi"', "NA", " x ", "𝒳"]
    return [
        {
            "id": None if row % 11 == 5 else [INT64.min, INT64.max, 0, -row, row][row % 5],
            "price": None if row % 7 == 3 else row / 3 - 10,
            "name": None if row % 13 == 6 else names[row % 8],
            "flag": None if row % 17 == 8 else row % 2 == 0,
            "day": f"2024-02-{row % 28 + 1:02d}T0{row % 10}:00:00Z",
        }
        for row in range(count)
    ]


def expected(row: dict) -> dict:
    """The parsed tf.Example of a row: what is absent is left out, floats are float32."""
    values = {name: value if isinstance(value, list) else [value] for name, value in row.items() if value is not None}
    return {name: [_as_stored(value) for value in list_] for name, list_ in values.items()}


def _as_stored(value):
    match value:
        case bool():
            return int(value)
        case float():
            return float(np.float32(value))
        case _:
            return value


def in_any_order(rows):
    return sorted(map(repr, (sorted(row.items()) for row in rows)))


@pytest.fixture
def schema(tmp_path):
    return write_schema_file(tmp_path / "schema.pbtxt", **TYPES)


@pytest.mark.each_runner
def test_tf_data_reads_every_row_with_the_values_of_the_source(tmp_path, schema):
    rows = make_rows(500)
    write_csv(tmp_path / "in.csv", rows, list(TYPES))
    out = tmp_path / "out"
    assert run_prepare("--input", tmp_path / "in.csv", "--schema", schema, "--output", out, "--num_shards=3") == 0
    assert in_any_order(examples(out)) == in_any_order(map(expected, rows))
    assert not list(verify_dataset(str(out)))


@pytest.mark.each_runner
def test_lists_nested_objects_and_empty_lists_reach_the_example(tmp_path):
    schema = write_schema_file(tmp_path / "s", ids="INT", words="BYTES", **{"at.lat": "FLOAT", "at.name": "BYTES"})
    rows = [
        {"ids": [INT64.min, 0, INT64.max], "words": ["ü", ""], "at": {"lat": 1.1, "name": "a"}},
        {"ids": [], "words": ["one"], "at": {"lat": -0.0, "name": None}},
        {"ids": [7], "at": None},
        {"words": []},
    ]
    write_jsonl(tmp_path / "in.jsonl", rows)
    out = tmp_path / "out"
    assert run_prepare("--input", tmp_path / "in.jsonl", "--schema", schema, "--output", out, "--shuffle=none") == 0
    assert examples(out) == [
        {"ids": [INT64.min, 0, INT64.max], "words": ["ü", ""], "at.lat": [np.float32(1.1)], "at.name": ["a"]},
        {"ids": [], "words": ["one"], "at.lat": [0.0]},
        {"ids": [7]},
        {"words": []},
    ]


def test_the_same_rows_of_every_format_give_the_same_shards(tmp_path, schema):
    rows = make_rows(300)
    columns = {
        "id": pa.array([row["id"] for row in rows], pa.int64()),
        "price": pa.array([row["price"] for row in rows], pa.float32()),
        "name": pa.array([row["name"] for row in rows], pa.large_string()),
        "flag": pa.array([row["flag"] for row in rows], pa.bool_()),
        "day": pa.array([row["day"] for row in rows]).dictionary_encode(),
    }
    avro_types = {"id": "long", "price": "double", "name": "string", "flag": "boolean", "day": "string"}
    inputs = [
        write_csv(tmp_path / "in.csv", rows, list(TYPES)),
        write_jsonl(tmp_path / "in.jsonl", rows),
        write_parquet(tmp_path / "in.parquet", pa.table(columns)),
        write_avro(tmp_path / "in.avro", rows, avro_types),
        write_tfrecord(tmp_path / "in.tfrecord", [{**row, "flag": _as_stored(row["flag"])} for row in rows]),
    ]
    contents = {}
    for path in inputs:
        out = tmp_path / f"out{path.suffix}"
        run_prepare(
            "--input", path, "--schema", schema, "--output", out, "--split=train=0.7,eval=0.3", "--num_shards=2"
        )
        contents[path.suffix] = shard_contents(out)
    assert len(contents[".csv"]) == 4
    assert [name for name in contents if contents[name] != contents[".csv"]] == []


def test_int32_and_narrow_floats_of_parquet_are_the_numbers_of_the_text(tmp_path):
    schema = write_schema_file(tmp_path / "s", a="INT", b="FLOAT")
    rows = [{"a": n - 50, "b": float(np.float32(n / 7))} for n in range(100)]
    table = pa.table(
        {"a": pa.array([r["a"] for r in rows], pa.int32()), "b": pa.array([r["b"] for r in rows], pa.float32())}
    )
    outs = []
    for path in (write_csv(tmp_path / "a.csv", rows, "ab"), write_parquet(tmp_path / "a.parquet", table)):
        outs.append(tmp_path / f"out-{path.name}")
        run_prepare("--input", path, "--schema", schema, "--output", outs[-1])
    assert shard_contents(outs[0]) == shard_contents(outs[1])


class TestSameBytes:
    """The shards depend on the rows alone."""

    ROWS = make_rows(600)

    def run(self, tmp_path, name, paths, *flags):
        schema = write_schema_file(tmp_path / "schema.pbtxt", **TYPES)
        inputs = list(itertools.chain.from_iterable(("--input", path) for path in paths))
        split = ("--split=train=0.8,eval=0.2", "--num_shards=3", "--seed=5")
        assert run_prepare(*inputs, "--schema", schema, "--output", tmp_path / name, *split, *flags) == 0
        return shard_contents(tmp_path / name)

    def files(self, tmp_path, cuts, prefix):
        bounds = [0, *cuts, len(self.ROWS)]
        return [
            write_csv(tmp_path / f"{prefix}{index}.csv", self.ROWS[low:high], list(TYPES))
            for index, (low, high) in enumerate(itertools.pairwise(bounds))
        ]

    def test_for_another_run_number_of_workers_order_and_cut_of_the_files(self, tmp_path, monkeypatch):
        paths = self.files(tmp_path, [100, 450], "a")
        first = self.run(tmp_path, "first", paths)
        workers = ("--direct_num_workers=4",)
        four = self.run(tmp_path, "four", paths, *workers)
        reordered = self.run(tmp_path, "reordered", [paths[2], paths[0], paths[1]])
        cut = self.run(tmp_path, "cut", self.files(tmp_path, [1, 2, 300, 599], "b"))
        for part_bytes, block_bytes in ((1000, 300), (201, 4096)):
            small = functools.partial(CsvFormat, part_bytes=part_bytes, block_bytes=block_bytes)
            monkeypatch.setattr(csv_format, "CsvFormat", small)
            parts = self.run(tmp_path, f"parts{part_bytes}", paths, *workers)
            assert parts == first
        assert len(first) == 6
        assert four == reordered == cut == first
        ids = {manifest_of(tmp_path / name).dataset_id for name in ("first", "four", "cut")}
        assert len(ids) == 1

    @pytest.mark.integration
    def test_for_workers_in_processes_of_their_own(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        paths = self.files(tmp_path, [100, 450], "a")
        workers = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
        assert self.run(tmp_path, "two", paths, *workers) == self.run(tmp_path, "one", paths)

    def test_and_another_seed_gives_another_split_and_order(self, tmp_path):
        paths = self.files(tmp_path, [], "a")
        assert self.run(tmp_path, "one", paths) != self.run(tmp_path, "two", paths, "--seed=6")

    @pytest.mark.parametrize("shuffle", ["global", "none"])
    def test_event_times_do_not_change_them(self, tmp_path, shuffle):
        paths = self.files(tmp_path, [], "a")
        plain = self.run(tmp_path, "plain", paths, f"--shuffle={shuffle}")
        assert self.run(tmp_path, "timed", paths, f"--shuffle={shuffle}", "--event_time=day") == plain

    def test_identical_rows_share_a_shard(self, tmp_path):
        path = write_csv(tmp_path / "a.csv", [{"a": row % 10} for row in range(400)], "a")
        run_prepare("--input", path, "--output", tmp_path / "out", "--num_shards=4")
        homes = [{row["a"][0] for row in shard} for shard in shard_rows(tmp_path / "out")]
        assert sum(map(len, homes)) == 10


def shard_rows(dataset, split="train"):
    """The rows of each shard."""
    rows = iter(examples(dataset, split))
    shards = [shard for shard in manifest_of(dataset).shards if shard.split == split]
    return [list(itertools.islice(rows, shard.records)) for shard in shards]


@pytest.mark.parametrize("workers", [1, 3])
def test_without_shuffle_the_order_is_that_of_sorted_files_and_rows(tmp_path, monkeypatch, workers):
    monkeypatch.setattr(csv_format, "CsvFormat", functools.partial(CsvFormat, part_bytes=500, block_bytes=200))
    for name, numbers in {"b": range(100, 400), "a": range(100), "c": range(400, 401)}.items():
        write_csv(tmp_path / f"{name}.csv", [{"n": number} for number in numbers], "n")
    out = tmp_path / "out"
    flags = [f"--direct_num_workers={workers}"] if workers > 1 else []
    run_prepare(
        *("--input", tmp_path / "c.csv", "--input", tmp_path / "[ab].csv", "--output", out),
        *("--shuffle=none", "--num_shards=4", *flags),
    )
    assert [row["n"] for row in examples(out)] == [[number] for number in range(401)]
    assert [len(rows) for rows in shard_rows(out)] == [100, 100, 100, 101]


def test_split_and_shard_are_independent(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("n\n" + "\n".join(map(str, range(100_000))) + "\n")
    schema = write_schema_file(tmp_path / "s", n="INT")
    split = ("--split=train=0.8,eval=0.1,test=0.1", "--num_shards=8")
    assert run_prepare("--input", path, "--schema", schema, "--output", tmp_path / "out", *split) == 0
    manifest = manifest_of(tmp_path / "out")
    assert sum(manifest.splits.values()) == manifest.rows_out == 100_000
    assert manifest.splits == pytest.approx({"train": 80_000, "eval": 10_000, "test": 10_000}, rel=0.03)
    records = [shard.records for shard in manifest.shards if shard.split == "train"]
    assert len(records) == 8
    assert max(abs(count / np.mean(records) - 1) for count in records) < 0.05


@pytest.mark.parametrize(("shards", "told"), [(5, True), (3, False), (None, False)])
def test_more_shards_than_rows_are_told(tmp_path, capsys, shards, told):
    (tmp_path / "in.csv").write_text("a\n1\n2\n3\n")
    flags = [f"--num_shards={shards}"] if shards else []
    assert run_prepare(f"--input={tmp_path}/in.csv", f"--output={tmp_path}/out", "--split=train=1", *flags) == 0
    out = capsys.readouterr().out
    assert ("splits with more shards than rows, so with empty ones: 1" in out) == told
    assert ("train: 5 shards of 3 rows: pass a smaller --num_shards, or none" in out) == told


def test_rows_with_one_split_key_stay_together(tmp_path):
    rows = [{"user": f"u{row % 701}", "day": row % 3, "n": row} for row in range(3000)]
    path = write_csv(tmp_path / "in.csv", rows, list(rows[0]))
    for keys in ("user", "user,day"):
        out = tmp_path / keys
        run_prepare("--input", path, "--output", out, "--split=train=0.6,eval=0.2,test=0.2", f"--split_key={keys}")
        splits = [
            {tuple(row[key][0] for key in keys.split(",")) for row in examples(out, split)}
            for split in manifest_of(out).splits
        ]
        assert sum(map(len, splits)) == len(set.union(*splits)) == (701 if keys == "user" else 2103)
        assert min(map(len, splits)) > 100


FAULTY_CSV = (
    b'id,price,name\n1,1.5,a\n\n2,x,b\n3,2\n4,1,"open\n5,2,c\rd\n6,3,\xff\n7,4,nul\0\n'
    b'9223372036854775808,1,big\n8,1e39,wide\n9,,\r\n ,1,\n10,5,"q"\n'
)
FAULTY_JSONL = (
    b'{"id": 1}\n{"id": "x"}\n[1]\n{"id": 1, "id": 2}\n{"id": \n\n{"id": 1.5}\n{"name": "\xff"}\n'
    b'{"price": 1e39}\n{"name": ["a", null]}\n{"id": null}\n{"id": [1, 2]}\n{}\n'
)


FAULTS = {
    "csv": [
        (23, "schema.type"),
        (29, "csv.column_count"),
        (33, "csv.quote"),
        (43, "csv.lone_cr"),
        (51, "csv.encoding"),
        (57, "csv.nul_byte"),
        (66, "schema.int_overflow"),
        (92, "schema.float_overflow"),
        (109, "schema.type"),
    ],
    "jsonl": [
        (10, "schema.type"),
        (22, "jsonl.not_object"),
        (26, "jsonl.duplicate_key"),
        (45, "jsonl.parse"),
        (54, "schema.type"),
        (66, "jsonl.encoding"),
        (80, "schema.float_overflow"),
        (96, "schema.null_in_list"),
    ],
}


@pytest.mark.parametrize("size", [1, 7, 40, 1 << 20])
@pytest.mark.parametrize(
    ("suffix", "data", "rows", "make"),
    [("csv", FAULTY_CSV, 12, CsvFormat), ("jsonl", FAULTY_JSONL, 12, JsonlFormat)],
    ids=["csv", "jsonl"],
)
def test_rows_in_are_rows_out_and_rejects_for_any_cut_of_the_bytes(
    tmp_path, monkeypatch, suffix, data, rows, make, size
):
    schema = write_schema_file(tmp_path / "s", id="INT", price="FLOAT", name="BYTES")
    small = functools.partial(make, part_bytes=size, block_bytes=max(size // 2, 1))
    monkeypatch.setattr(sys.modules[make.__module__], make.__name__, small)
    (tmp_path / f"in.{suffix}").write_bytes(data)
    out = tmp_path / "out"
    run_prepare("--input", tmp_path / f"in.{suffix}", "--schema", schema, "--output", out, "--max_reject_fraction=1")
    manifest = manifest_of(out)
    letters = dead_letters(out)
    assert manifest.rows_in == rows
    assert manifest.rows_out + manifest.rows_rejected == rows
    assert len(examples(out)) == manifest.rows_out
    assert len(letters) == manifest.rows_rejected
    for letter in letters:  # what was rejected are the bytes that stand there
        line = data[letter["position"] :].partition(b"\n")[0].removesuffix(b"\r")
        assert letter["payload_encoding"] == "base64" or letter["payload"].encode() == line
    reasons = sorted((letter["position"], letter["reason"]) for letter in letters)
    assert reasons == FAULTS[suffix]


@pytest.mark.each_runner
def test_all_reasons_of_a_row_are_kept_and_counted(tmp_path):
    schema = write_schema_file(
        tmp_path / "s",
        a="INT int_domain { max: 9 }",
        b="BYTES presence { min_fraction: 1 }",
        c="INT",
        d="INT int_domain { max: 9 }",
    )
    (tmp_path / "rules.yaml").write_text(
        "rules:\n- {name: odd, sql: a % 2 = 1}\n- {name: near, sql: a < 100, severity: warn}\n"
    )
    (tmp_path / "in.csv").write_text("a,b,c,d\n1,x,1,1\n12,,1,\n200,y,1,99\n3,z,,1\n4,w,1,1\n")
    out = tmp_path / "out"
    flags = ("--rules", tmp_path / "rules.yaml", "--label=c", "--max_reject_fraction=0.8")
    assert run_prepare("--input", tmp_path / "in.csv", "--schema", schema, "--output", out, *flags) == 0
    letters = dead_letters(out)
    reasons = [{letter["reason"], *(other["reason"] for other in letter["also"])} for letter in letters]
    assert reasons == [
        {"schema.domain", "schema.presence", "rule.odd"},
        {"schema.domain", "rule.odd"},
        {"label.missing"},
        {"rule.odd"},
    ]
    assert [letter["payload"] for letter in letters] == ["12,,1,", "200,y,1,99", "3,z,,1", "4,w,1,1"]
    assert {letter["run_id"] for letter in letters} == {manifest_of(out).run_id}
    assert manifest_of(out).rejected_by_reason == {
        "label.missing": 1,
        "rule.odd": 3,
        "schema.domain": 2,  # rows: one of them for two columns
        "schema.presence": 1,
    }
    assert list(verify_dataset(str(out))) == []
    assert manifest_of(out).rejected_by_stage == {"validate": 4}


@pytest.mark.each_runner
def test_event_times_stand_in_the_manifest_and_bad_ones_are_rejected(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("at,n\n2024-01-02T03:04:05Z,1\nyesterday,2\n,3\n1999-12-31 23:59:59.5,4\n")
    out = tmp_path / "out"
    assert run_prepare("--input", path, "--output", out, "--event_time=at", "--max_reject_fraction=0.5") == 0
    (shard,) = manifest_of(out).shards
    assert shard.event_time == ("1999-12-31T23:59:59.500000Z", "2024-01-02T03:04:05.000000Z")
    assert [(row["at"], row["n"]) for row in sorted(examples(out), key=lambda row: row["n"])] == [
        (["2024-01-02T03:04:05Z"], [1]),
        (["1999-12-31 23:59:59.5"], [4]),
    ]
    assert [letter["reason"] for letter in dead_letters(out)] == ["event_time.invalid", "event_time.missing"]


def test_an_inferred_schema_can_be_used_again_for_the_same_shards(tmp_path):
    path = write_csv(tmp_path / "in.csv", make_rows(200), list(TYPES))
    assert run_prepare("--input", path, "--output", tmp_path / "one") == 0
    assert run_prepare("--input", path, "--output", tmp_path / "two", "--schema", tmp_path / "one/schema.pbtxt") == 0
    assert shard_contents(tmp_path / "one") == shard_contents(tmp_path / "two")
    assert (tmp_path / "one/schema.pbtxt").read_bytes() == (tmp_path / "two/schema.pbtxt").read_bytes()
    fingerprints = {manifest_of(tmp_path / name).provenance["schema_fingerprint"] for name in ("one", "two")}
    assert len(fingerprints) == 1


def test_manifest_tells_where_the_dataset_came_from(tmp_path):
    path = write_csv(tmp_path / "in.csv", make_rows(50), list(TYPES))
    out = tmp_path / "out"
    run_prepare(
        "--input",
        path,
        "--output",
        out,
        "--seed=3",
        "--split=train=0.5,eval=0.5",
        "--label=price",
        "--max_reject_fraction=0.5",
    )
    manifest = manifest_of(out)
    (source,) = manifest.provenance["inputs"]
    assert (source["uri"], source["size"]) == (str(path), path.stat().st_size)
    assert source["mtime"] == pytest.approx(path.stat().st_mtime)
    assert manifest.provenance["options"]["split"] == "train=0.5,eval=0.5"
    assert manifest.provenance["label"] == "price"
    assert manifest.provenance["versions"].keys() >= {"penstock", "apache-beam", "pyarrow"}
    assert manifest.seed == 3


@pytest.mark.parametrize(
    ("compression", "suffix"), [("gzip", "tfrecord.gz"), ("zlib", "tfrecord.zlib"), ("none", "tfrecord")]
)
def test_shards_are_compressed_as_asked_and_hold_the_same(tmp_path, compression, suffix):
    path = write_csv(tmp_path / "in.csv", make_rows(200), list(TYPES))
    out = tmp_path / "out"
    run_prepare("--input", path, "--output", out, f"--compression={compression}", "--num_shards=2")
    assert [shard.path for shard in manifest_of(out).shards] == [
        f"train/part-0000{n}-of-00002.{suffix}" for n in (0, 1)
    ]
    assert len(examples(out)) == 200
    assert not list(verify_dataset(str(out)))


@pytest.mark.each_runner
def test_shards_by_bytes_and_a_split_without_rows(tmp_path):
    path = write_csv(tmp_path / "in.csv", [{"k": 1, "n": n} for n in range(1000)], ["k", "n"])
    out = tmp_path / "out"
    run_prepare("--input", path, "--output", out, "--split=train=0.5,eval=0.5", "--split_key=k", "--shard_bytes=4KB")
    manifest = manifest_of(out)
    full, empty = sorted(manifest.splits, key=manifest.splits.get, reverse=True)
    assert (manifest.splits[full], manifest.splits[empty]) == (1000, 0)
    sizes = [shard.uncompressed_bytes for shard in manifest.shards if shard.split == full]
    assert len(sizes) == -(-sum(sizes) // 4000)
    assert max(sizes) < 6000
    assert [shard.records for shard in manifest.shards if shard.split == empty] == [0]
    assert examples(out, empty) == []
    assert not list(verify_dataset(str(out)))


class TestCsvFlags:
    def rows(self, tmp_path, *flags, **kwargs):
        out = tmp_path / "out"
        assert run_prepare(*flags, "--output", out, "--shuffle=none") == 0
        return examples(out)

    def test_columns_null_values_and_tabs(self, tmp_path):
        path = tmp_path / "in.txt"
        path.write_text('1\tNA\tx y\n-\t2\t\n3\tNA\t"NA"\n')
        flags = ("--format=csv", "--csv_delimiter=\\t", "--columns=a,b,c", "--null_values=NA,-")
        assert self.rows(tmp_path, "--input", path, *flags) == [
            {"a": [1], "c": ["x y"]},
            {"b": [2]},
            {"a": [3], "c": ["NA"]},
        ]

    def test_tsv_needs_no_flag(self, tmp_path):
        path = write_csv(tmp_path / "in.tsv", [{"a": 1, "b": "x,y"}], "ab", "\t")
        assert self.rows(tmp_path, "--input", path) == [{"a": [1], "b": ["x,y"]}]

    def test_multiline(self, tmp_path):
        path = tmp_path / "in.csv"
        path.write_bytes(b'\xef\xbb\xbfa,b\r\n1,"x\r\ny"\r\n2,"""z"""\r\n')
        assert self.rows(tmp_path, "--input", path, "--csv_multiline") == [
            {"a": [1], "b": ["x\r\ny"]},
            {"a": [2], "b": ['"z"']},
        ]

    @pytest.mark.parametrize("codec", ["gzip", "bz2", "zstd"])
    def test_compressed_input(self, tmp_path, codec):
        plain = write_csv(tmp_path / "in.csv", [{"a": n} for n in range(1000)], "a")
        path = tmp_path / f"in.csv.{ {'gzip': 'gz', 'bz2': 'bz2', 'zstd': 'zst'}[codec] }"
        with pa.CompressedOutputStream(str(path), codec) as stream:
            stream.write(plain.read_bytes())
        assert self.rows(tmp_path, "--input", path) == [{"a": [n]} for n in range(1000)]


def test_a_dry_run_shows_configuration_and_stages_and_touches_nothing(tmp_path, capsys):
    path = write_csv(tmp_path / "in.csv", make_rows(3), list(TYPES))
    before = all_files(tmp_path)
    flags = ("--split=train=0.9,eval=0.1", "--event_time=day", "--dry_run")
    assert run_prepare("--input", path, "--output", tmp_path / "out", *flags) == 0
    printed = capsys.readouterr().out
    assert "split: train=0.9,eval=0.1" in printed
    assert "compression: gzip" in printed
    assert re.search(r"1\. infer the schema.*\n.*2\. read .*in\.csv \(1 files, .* CsvFormat", printed)
    assert "Nothing was read or written." in printed
    assert all_files(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_a_configuration_file_is_as_good_as_flags(tmp_path):
    path = write_csv(tmp_path / "in.csv", make_rows(60), list(TYPES))
    config = tmp_path / "job.yaml"
    config.write_text(f"input: {path}\nsplit: {{train: 0.5, eval: 0.5}}\nnum_shards: 2\ncompression: none\nseed: 9\n")
    assert run_prepare("--config", config, "--output", tmp_path / "one") == 0
    flags = ("--split=train=0.5,eval=0.5", "--num_shards=2", "--compression=none", "--seed=9")
    assert run_prepare("--input", path, "--output", tmp_path / "two", *flags) == 0
    assert shard_contents(tmp_path / "one") == shard_contents(tmp_path / "two")


def test_the_summary_says_what_a_person_wants_to_know(tmp_path, capsys):
    path = tmp_path / "in.csv"
    path.write_text("a\n1\n2,3\n")
    out = tmp_path / "out"
    run_prepare("--input", path, "--output", out, "--max_reject_fraction=0.5")
    printed = capsys.readouterr().out
    for part in ("csv.column_count", "50.00%", str(out), f"penstock verify --dataset {out}"):
        assert part in printed


@pytest.mark.each_runner
def test_nothing_but_the_dataset_is_left(tmp_path):
    path = write_csv(tmp_path / "in.csv", make_rows(20), list(TYPES))
    out = tmp_path / "out"
    run_prepare("--input", path, "--output", out)
    statistics = {f"statistics/{name}.{suffix}" for name in ("in", "out", "rejected") for suffix in ("json", "pb")}
    assert dataset_files(out) == {"manifest.json", "schema.pbtxt", "train/part-00000-of-00001.tfrecord.gz", *statistics}
    assert {child.name for child in out.iterdir()} == {
        "manifest.json",
        "README.md",
        "schema.pbtxt",
        "train",
        "statistics",
        "_history",
    }
    assert len(all_files(out) - dataset_files(out)) == 2


def test_no_step_is_left_to_beams_inference_of_types(tmp_path, monkeypatch):
    """It walks through the bytecode of a step without a type for its output, and takes up to 60 ms for it."""
    inferred, infer = [], trivial_inference.infer_return_type

    def inferring(function, *arguments, **options):
        inferred.append(function)
        return infer(function, *arguments, **options)

    monkeypatch.setattr(trivial_inference, "infer_return_type", inferring)
    (tmp_path / "rules.yaml").write_text("rules: [{name: low, sql: id < 90}]\n")
    path = write_csv(tmp_path / "in.csv", [{"id": n, "day": n % 7} for n in range(100)], ("id", "day"))
    flags = ("--split=train=8,eval=2", "--split_key=day", "--label=day", "--max_reject_fraction=1")
    out = tmp_path / "out"
    assert run_prepare("--input", path, "--output", out, "--rules", tmp_path / "rules.yaml", *flags) == 0
    assert manifest_of(out).rows_rejected == 10
    assert [each for each in inferred if getattr(each, "__module__", "").startswith("penstock")] == []
    assert inferred
