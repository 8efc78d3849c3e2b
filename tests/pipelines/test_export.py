"""The flag and the job that export fitted features, and a model that serves from what they wrote."""

import json

import numpy as np
import pytest
from fitted import exporting_here
from helpers import job, manifest_of, run_prepare, write_csv, write_schema_file

from penstock.io.files.extras import TFT
from penstock.transforms.verify import verify_dataset
from pipelines import export, fit
from pipelines._report.result import DONE, WRONG_USAGE

FEATURES = """
features:
  x: {ops: [scale_to_z_score]}
  word: {default: "", ops: [{compute_and_apply_vocabulary: {num_oov_buckets: 1}}]}
  y: {}
"""
ROWS = [{"word": "abc"[row % 3], "x": row / 3, "y": float(row % 7)} for row in range(200)]


@pytest.fixture
def folder(tmp_path):
    write_csv(tmp_path / "in.csv", ROWS, list(ROWS[0]))
    one = "presence { min_fraction: 1 } value_count { min: 1 max: 1 }"
    write_schema_file(tmp_path / "schema.pbtxt", word=f"BYTES {one}", x=f"FLOAT {one}", y=f"FLOAT {one}")
    (tmp_path / "features.yaml").write_text(FEATURES)
    return tmp_path


def flags(folder, output="out"):
    return (
        f"--input={folder}/in.csv",
        f"--schema={folder}/schema.pbtxt",
        "--split=train=0.8,eval=0.2",
        f"--features={folder}/features.yaml",
        f"--output={folder}/{output}",
    )


@pytest.mark.slow
def test_a_model_serves_from_what_prepare_exported(folder, capsys):
    tft, keras = pytest.importorskip("tensorflow_transform"), pytest.importorskip("tf_keras")
    import tensorflow as tf

    assert run_prepare(*flags(folder), "--export_saved_model", "--json") == DONE
    told = json.loads(capsys.readouterr().out)
    assert told["saved_model"] == f"{folder}/out/transform/transform_fn"
    assert told["features_engine"] == "arrow"
    assert list(verify_dataset(str(folder / "out"))) == []

    loaded = tft.TFTransformOutput(str(folder / "out/transform"))
    spec = loaded.transformed_feature_spec()
    files = tf.io.gfile.glob(str(folder / "out/train/*"))
    rows = tf.data.TFRecordDataset(files, "GZIP" if files[0].endswith(".gz") else None).batch(64)
    parsed = rows.map(lambda records: tf.io.parse_example(records, spec))
    model = keras.Sequential([keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)])
    model.compile(optimizer="adam", loss="mse")

    def matrix(features):
        return tf.stack([features["x"], tf.cast(features["word"], tf.float32)], axis=1)

    model.fit(parsed.map(lambda features: (matrix(features), features["y"])), epochs=1, verbose=0)

    class Server(tf.Module):
        def __init__(self):
            self.model, self.features = model, loaded.transform_features_layer()

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32), tf.TensorSpec([None], tf.string)])
        def serve(self, x, word):
            return self.model(matrix(self.features({"x": x, "word": word, "y": tf.zeros_like(x)})))

    server = Server()
    tf.saved_model.save(server, str(folder / "served"), signatures=server.serve)
    served = tf.saved_model.load(str(folder / "served")).signatures["serving_default"]
    (found,) = served(x=tf.constant([1.0, 2.0]), word=tf.constant(["a", "unknown"])).values()
    state = json.loads((folder / "out/transform/features.json").read_text())
    fitted = {feature["name"]: feature["ops"] for feature in state["features"]}["x"][0]["fitted"]
    scaled = (np.array([1, 2], np.float32) - np.float32(fitted["mean"])) / np.sqrt(np.float32(fitted["variance"]))
    terms = (folder / "out/transform/vocabularies/word").read_text().split()
    words = np.array([terms.index("a"), len(terms)], np.float32)
    np.testing.assert_allclose(found, model(np.stack([scaled, words], axis=1)), rtol=1e-5)


@pytest.mark.slow
def test_export_gives_what_the_flag_does(folder, capsys):
    pytest.importorskip("tensorflow_transform")
    graph = [flag for flag in flags(folder, "graph") if not flag.startswith("--schema")]
    assert fit.run([*graph, f"--schema={folder}/schema.pbtxt"]) == DONE
    assert "; not as a SavedModel (--export_saved_model, or penstock export)" in capsys.readouterr().out
    given = (f"--transform={folder}/graph", f"--output={folder}/exported")
    with exporting_here():
        assert export.run(given) == DONE
    assert f"tft.TFTransformOutput loads {folder}/exported" in capsys.readouterr().out
    code, error = job(*given, run=export.run)
    assert (code, "holds a graph already; pass --overwrite" in error) == (WRONG_USAGE, True)
    code, error = job(f"--transform={folder}/exported", f"--output={folder}/again", run=export.run)
    assert (code, "is a SavedModel already: it has no features.json" in error) == (WRONG_USAGE, True)
    # Either is applied, to the same dataset.
    applied = [flag for flag in flags(folder, "by_arrow") if not flag.startswith("--features")]
    assert run_prepare(*applied, f"--transform={folder}/graph") == DONE
    applied[-1] = f"--output={folder}/by_graph"
    assert run_prepare(*applied, f"--transform={folder}/exported") == DONE
    shards = [manifest_of(folder / name).shards for name in ("by_arrow", "by_graph")]
    assert [shard.sha256 for shard in shards[0]] == [shard.sha256 for shard in shards[1]]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--output=g",), "--transform is required"),
        (("--transform={0}",), "--output is required"),
        (("--transform={0}/absent", "--output={0}/g"), "is not a folder with a fitted graph"),
        (("--transform={0}/out/transform", "--output={0}/out/transform"), "out/transform"),
    ],
    ids=["no_features", "no_output", "absent", "in_place"],
)
def test_wrong_usage_is_told(argv, message, folder):
    (folder / "out/transform/transformed_metadata").mkdir(parents=True)
    (folder / "out/transform/transformed_metadata/schema.pbtxt").touch()
    (folder / "out/transform/features.json").touch()
    code, error = job(*(flag.format(folder) for flag in argv), run=export.run)
    assert code == WRONG_USAGE
    assert message in error


def test_the_flag_is_about_features_that_are_fitted(folder, monkeypatch):
    given = [flag for flag in flags(folder) if not flag.startswith("--features")]
    code, error = job(*given, "--export_saved_model")
    assert (code, "exports what --features fits" in error) == (WRONG_USAGE, True)
    monkeypatch.setattr(type(TFT), "is_installed", property(lambda _: False))
    code, error = job(*flags(folder), "--export_saved_model")
    assert (code, "a SavedModel (--export_saved_model) needs tensorflow-transform" in error) == (WRONG_USAGE, True)
    assert not (folder / "out").exists()
