"""The main job with features: what it writes is what tensorflow-transform itself makes of the same rows."""

import shutil

import numpy as np
import pytest
from helpers import (
    dataset_files,
    dead_letters,
    example_bytes,
    examples,
    job,
    manifest_of,
    run_prepare,
    shard_contents,
    write_csv,
    write_schema_file,
)

from penstock.transforms.verify import verify_dataset
from pipelines import fit, prepare
from pipelines._report.result import DATA_FAILED, DONE

FEATURES = """
features:
  id: {}
  fare: {ops: [log1p, scale_to_z_score]}
  filled: {input: fare, default: 1.0, ops: [scale_to_0_1]}
  word: {ops: [compute_and_apply_vocabulary]}
  pair: {inputs: [word, fare_text], default: "", ops: [{join: "-"}, {hash_strings: 50}]}
  bucket: {input: fare, ops: [{bucketize: {num_buckets: 4}}]}
  missing: {input: word, ops: [is_missing]}
"""
WORDS = ["a", "b", "ü", "東京", "e f"]
ROWS = [
    {
        "id": row,
        "fare": None if row % 9 == 4 else row * 0.37,
        "fare_text": f"{row % 6}",
        "word": None if row % 8 == 3 else WORDS[row % 5] + str(row % 3),
    }
    for row in range(400)
]
SPLIT = ("--split=train=0.7,eval=0.3", "--split_key=id")
BY_TFT = ("--features_engine=tft",)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Folder of a run with features: in.csv, schema.pbtxt, features.yaml, out/."""
    folder = tmp_path_factory.mktemp("features")
    write_csv(folder / "in.csv", ROWS, list(ROWS[0]))
    one = "value_count { min: 1 max: 1 }"
    types = {"id": "INT", "fare": "FLOAT", "fare_text": "BYTES", "word": "BYTES"}
    write_schema_file(folder / "schema.pbtxt", **{name: f"{kind} {one}" for name, kind in types.items()})
    (folder / "features.yaml").write_text(FEATURES, encoding="utf-8")
    given = ("--features", folder / "features.yaml", *BY_TFT)
    assert run_prepare(*flags(folder), *given, "--output", folder / "out") == DONE
    return folder


def flags(folder):
    return ("--input", folder / "in.csv", "--schema", folder / "schema.pbtxt", *SPLIT, "--num_shards=2", "--seed=4")


def by_id(rows):
    return {row["id"][0]: row for row in rows}


def tft_values(graph, rows):
    """What `tft.TFTransformOutput` makes of the rows: for each the features that it has a value of."""
    import tensorflow as tf
    import tensorflow_transform as tft

    output = tft.TFTransformOutput(str(graph))
    examples_ = [example_bytes({name: row[name] for name in output.raw_feature_spec()}) for row in rows]
    parsed = tf.io.parse_example(examples_, output.raw_feature_spec())
    found = [{} for _ in rows]
    for name, tensor in output.transform_features_layer()(parsed).items():
        if isinstance(tensor, tf.SparseTensor):
            for (row, _), value in zip(tensor.indices.numpy(), tensor.values.numpy(), strict=True):
                found[row].setdefault(name, []).append(value)
        else:
            for row, values in enumerate(tensor.numpy()):
                found[row][name] = np.atleast_1d(values).tolist()
    return found


@pytest.mark.each_runner
def test_transformed_values_are_those_of_tft(prepared):
    written = by_id([*examples(prepared / "out"), *examples(prepared / "out", "eval")])
    assert written.keys() == {row["id"] for row in ROWS}
    for row, expected in zip(ROWS, tft_values(prepared / "out/transform", ROWS), strict=True):
        found = written[row["id"]]
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=1e-6, atol=1e-7, err_msg=f"{name} of {row}")
    assert "fare" not in written[4]
    assert written[3]["missing"] == [1]


def test_the_fit_sees_the_train_split_alone(prepared):
    import tensorflow_transform as tft

    train = by_id(examples(prepared / "out")).keys()
    fares = np.log1p([row["fare"] for row in ROWS if row["id"] in train and row["fare"] is not None])
    written = [row["fare"][0] for row in examples(prepared / "out") if "fare" in row]
    assert (np.mean(written), np.std(written)) == (pytest.approx(0, abs=1e-5), pytest.approx(1, abs=1e-5))
    everything = np.log1p([row["fare"] for row in ROWS if row["fare"] is not None])
    assert abs(np.mean(everything) - np.mean(fares)) / np.std(fares) > 1e-3  # the test could tell
    vocabulary = tft.TFTransformOutput(str(prepared / "out/transform")).vocabulary_by_name("word")
    assert {word.decode() for word in vocabulary} == {row["word"] for row in ROWS if row["id"] in train} - {None}


def test_the_dataset_with_its_graph_is_whole(prepared):
    manifest = manifest_of(prepared / "out")
    assert not list(verify_dataset(str(prepared / "out")))
    assert set(manifest.extras) == {"schema.pbtxt", "statistics", "transform"}
    assert len(manifest.provenance["transform_fingerprint"]) == 64
    assert {path.split("/")[0] for path in dataset_files(prepared / "out")} == {
        *("eval", "manifest.json", "schema.pbtxt", "statistics", "train", "transform")
    }


@pytest.mark.each_runner
def test_the_graph_of_one_run_gives_another_the_same_shards(prepared, tmp_path):
    graph = ("--transform", prepared / "out/transform")
    assert run_prepare(*flags(prepared), *graph, "--output", tmp_path / "one") == DONE
    workers = ("--direct_num_workers=3",)
    assert run_prepare(*flags(prepared), *graph, "--output", tmp_path / "two", *workers) == DONE
    first = shard_contents(prepared / "out")
    assert shard_contents(tmp_path / "one") == first
    assert shard_contents(tmp_path / "two") == first
    fingerprints = {
        manifest_of(path).provenance["transform_fingerprint"] for path in (prepared / "out", tmp_path / "one")
    }
    assert len(fingerprints) == 1


def test_a_dataset_can_be_replaced_by_one_made_with_its_own_graph(prepared, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(prepared / "out", out)
    assert run_prepare(*flags(prepared), "--transform", out / "transform", "--output", out, "--overwrite") == DONE
    assert shard_contents(out) == shard_contents(prepared / "out")
    assert not list(verify_dataset(str(out)))


def test_a_function_of_a_module_is_fitted_as_well(prepared, tmp_path, monkeypatch):
    (tmp_path / "my_features.py").write_text(
        "import tensorflow as tf\nimport tensorflow_transform as tft\n"
        "def fn(inputs):\n"
        "    return {'id': inputs['id'], 'scaled': tft.scale_to_0_1(inputs['id'])}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "out"
    assert run_prepare(*flags(prepared), "--features=my_features:fn", "--output", out) == DONE
    rows = examples(out)
    highest = max(row["id"][0] for row in rows)
    lowest = min(row["id"][0] for row in rows)
    for row in rows:
        assert row["scaled"][0] == pytest.approx((row["id"][0] - lowest) / (highest - lowest), rel=1e-6)


@pytest.mark.each_runner
def test_rows_that_a_graph_fails_on_are_dead_letters(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("n,text\n" + "".join(f"{row},{'x' if row % 40 == 7 else row}\n" for row in range(200)))
    write_schema_file(tmp_path / "s", n="INT", text="BYTES")
    (tmp_path / "f.yaml").write_text("features:\n  n: {}\n  text: {ops: [{to_number: int}]}\n")
    out = tmp_path / "out"
    files = ("--input", path, "--schema", tmp_path / "s", "--features", tmp_path / "f.yaml", "--output", out)
    assert run_prepare(*files) == DONE
    manifest = manifest_of(out)
    assert (manifest.rows_in, manifest.rows_out, manifest.rejected_by_stage) == (200, 195, {"transform": 5})
    assert manifest.rejected_by_reason == {"transform.error": 5}
    letters = dead_letters(out)
    assert [letter["payload"] for letter in letters] == [f"{row},x" for row in (7, 47, 87, 127, 167)]
    assert all("'x'" in letter["detail"] or "x" in letter["detail"] for letter in letters)
    assert {row["n"][0]: row["text"][0] for row in examples(out)} == {n: n for n in range(200) if n % 40 != 7}


@pytest.mark.each_runner
def test_a_train_split_without_a_good_row_says_why_they_are_rejected(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("k,n\n1,x\n2,y\n")
    (tmp_path / "f.yaml").write_text("features:\n  n: {ops: [scale_to_z_score]}\n")
    schema = write_schema_file(tmp_path / "schema.pbtxt", k="INT", n="INT")
    flags = ("--features", tmp_path / "f.yaml", "--schema", schema)
    for run, out in ((prepare.run, "out"), (fit.run, "graph")):
        code, stderr = job("--input", path, *flags, "--output", tmp_path / out, run=run)
        assert code == DATA_FAILED
        assert (
            "cannot fit the features: the split 'train' has no rows; 2 rows are rejected: 2 for schema.type "
            f"({path}, line 2: column 'n': 'x' is not an INT"
        ) in stderr
        assert not list(tmp_path.glob(f"{out}*/*rejects*"))


def test_an_empty_train_split_cannot_be_fitted(tmp_path):
    path = tmp_path / "in.csv"
    path.write_text("k,n\n" + "1,2\n" * 20)
    (tmp_path / "f.yaml").write_text("features:\n  n: {ops: [scale_to_z_score]}\n")
    for seed in range(20):  # the one key falls into train or eval
        out = tmp_path / f"out{seed}"
        split = ("--split=train=0.5,eval=0.5", "--split_key=k", f"--seed={seed}")
        code, stderr = job("--input", path, "--features", tmp_path / "f.yaml", "--output", out, *split)
        if code != DONE:
            break
    assert code == DATA_FAILED
    assert "cannot fit the features: the split 'train' has no rows" in stderr
    assert not out.exists()
