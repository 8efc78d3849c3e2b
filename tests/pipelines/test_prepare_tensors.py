"""A dataset with sparse and ragged features: written, verified, read by TensorFlow, trained on and served."""

import numpy as np
import pytest
from helpers import examples, job, manifest_of, run_prepare, write_jsonl

from penstock.transforms.verify import verify_dataset
from pipelines._report.result import DONE, WRONG_USAGE

tf = pytest.importorskip("tensorflow")
tft = pytest.importorskip("tensorflow_transform")

SCHEMA = """
feature { name: "label" type: FLOAT presence { min_fraction: 1 } shape { } }
feature { name: "age" type: FLOAT value_count { min: 1 max: 1 } }
feature { name: "kind" type: INT presence { min_fraction: 1 } shape { } int_domain { min: 0 max: 3 } }
feature { name: "at" type: INT int_domain { min: 0 max: 9 } }
feature { name: "weight" type: FLOAT }
feature { name: "words" type: BYTES value_count { min: 0 } }
sparse_feature { name: "weights" index_feature { name: "at" } value_feature { name: "weight" } }
tensor_representation_group {
  key: ""
  value {
    tensor_representation {
      key: "age" value { dense_tensor { column_name: "age" shape { } default_value { float_value: 40 } } }
    }
    tensor_representation { key: "words" value { ragged_tensor { feature_path { step: "words" } } } }
  }
}
"""

MODULE = """
import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    kind = tf.sparse.from_dense(tf.one_hot(inputs["kind"], 4))
    tft.experimental.annotate_true_sparse_output(kind)
    weights = tf.SparseTensor(inputs["weights"].indices, inputs["weights"].values / 2, inputs["weights"].dense_shape)
    tft.experimental.annotate_sparse_output_shape(weights, [10])
    return {
        "label": inputs["label"],
        "age": tft.scale_to_z_score(inputs["age"]),
        "kind": kind,
        "weights": weights,
        "letters": tf.strings.unicode_split(inputs["words"], "UTF-8"),
    }


def one_hot_fn(inputs):
    return {"kind": tf.sparse.from_dense(tf.one_hot(inputs["kind"], 4))}
"""

WORDS = [["a", "bc"], None, ["ü"], ["", "xyz"]]
ROWS = [
    {
        "label": float(row % 2),
        **({} if row % 5 == 0 else {"age": 20.0 + row}),
        "kind": row % 4,
        "at": [row % 10, (row + 3) % 10][: row % 3],
        "weight": [1.0 * row, 0.5][: row % 3],
        **({} if WORDS[row % 4] is None else {"words": WORDS[row % 4]}),
    }
    for row in range(64)
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensors")
    write_jsonl(folder / "in.jsonl", ROWS)
    (folder / "schema.pbtxt").write_text(SCHEMA)
    (folder / "tensor_features.py").write_text(MODULE)
    return folder


def flags(folder, function="preprocessing_fn"):
    files = ("--input", folder / "in.jsonl", "--schema", folder / "schema.pbtxt")
    return (*files, "--features", f"tensor_features:{function}", "--shuffle=none", "--num_shards=1")


@pytest.fixture(scope="module")
def prepared(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        assert run_prepare(*flags(folder), "--output", folder / "out") == DONE
    return folder / "out"


def spec_of(prepared):
    return tft.TFTransformOutput(str(prepared / "transform")).transformed_feature_spec()


def shards(prepared):
    return [str(path) for path in sorted(prepared.glob("train/*"))]


def test_the_dataset_is_whole(prepared):
    assert manifest_of(prepared).rows_out == len(ROWS)
    assert not list(verify_dataset(str(prepared)))


def test_tensors_read_back(prepared):
    spec = spec_of(prepared)
    assert {name: type(feature).__name__ for name, feature in spec.items()} == {
        **{"age": "FixedLenFeature", "label": "FixedLenFeature"},
        **{"kind": "SparseFeature", "weights": "SparseFeature", "letters": "RaggedFeature"},
    }
    data = tf.data.TFRecordDataset(shards(prepared), compression_type="GZIP").batch(100)
    (batch,) = [tf.io.parse_example(records, spec) for records in data]
    assert tf.sparse.to_dense(batch["kind"]).numpy().tolist() == np.eye(4)[np.arange(64) % 4].tolist()
    weights = np.zeros((64, 10))
    for row, given in enumerate(ROWS):
        for at, weight in zip(given["at"], given["weight"], strict=True):
            weights[row, at] = weight / 2
    assert tf.sparse.to_dense(batch["weights"]).numpy().tolist() == weights.tolist()
    letters = [[[letter.encode() for letter in word] for word in row.get("words", [])] for row in ROWS]
    assert batch["letters"].to_list() == letters


def test_a_list_without_words_has_no_feature(prepared):
    assert "letters$ragged_values" not in examples(prepared)[1]


@pytest.mark.slow
def test_keras_trains_on_batches_and_serves_raw_rows(prepared, tmp_path):
    """As TFX's trainers do: `make_batched_features_dataset` in, a SavedModel that takes raw tf.Examples out."""
    from tensorflow_transform.keras_lib import tf_keras

    output = tft.TFTransformOutput(str(prepared / "transform"))
    data = tf.data.experimental.make_batched_features_dataset(
        shards(prepared),
        batch_size=32,
        features=spec_of(prepared),
        reader=lambda files: tf.data.TFRecordDataset(files, compression_type="GZIP"),
        label_key="label",
        num_epochs=1,
        shuffle=False,
    )

    class Model(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = tf_keras.layers.Dense(1)

        def call(self, features):
            lengths = tf.cast(features["letters"].values.row_lengths(), tf.float32)
            sums = tf.reduce_sum(features["letters"].with_values(lengths), axis=1)
            wide = [tf.sparse.to_dense(features[name]) for name in ("kind", "weights")]
            return self.dense(tf.concat([tf.stack([tf.reshape(features["age"], [-1]), sums], axis=1), *wide], axis=1))

    model = Model()
    model.compile(optimizer=tf_keras.optimizers.SGD(0.001), loss="mse")
    model.fit(data, verbose=0)
    model.transform = output.transform_features_layer()

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def serve(records):
        raw = output.raw_feature_spec()
        raw.pop("label")
        return {"outputs": model(model.transform(tf.io.parse_example(records, raw)))}

    model.save(str(tmp_path / "model"), save_format="tf", signatures={"serving_default": serve})
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    served = loaded.signatures["serving_default"](tf.constant([raw_example(row) for row in ROWS]))["outputs"]
    records = tf.data.TFRecordDataset(shards(prepared), compression_type="GZIP").batch(100)
    (batch,) = [tf.io.parse_example(each, spec_of(prepared)) for each in records]
    np.testing.assert_allclose(served, model(batch), rtol=1e-5, atol=1e-6)


def raw_example(row):
    def feature(value):
        values = value if isinstance(value, list) else [value]
        if values and isinstance(values[0], str):
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode() for text in values]))
        if values and isinstance(values[0], float):
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    fields = {name: feature(value) for name, value in row.items() if value != [] and name != "label"}
    return tf.train.Example(features=tf.train.Features(feature=fields)).SerializeToString()


@pytest.mark.parametrize("dry_run", [(), ("--dry_run",)], ids=["run", "dry_run"])
def test_an_output_that_cannot_be_written_is_found_before_anything_is_read(folder, tmp_path, monkeypatch, dry_run):
    monkeypatch.syspath_prepend(folder)
    out = tmp_path / "out"
    code, stderr = job(*flags(folder, "one_hot_fn"), "--output", out, *dry_run)
    assert code == WRONG_USAGE
    assert "--features tensor_features:one_hot_fn: output 'kind' cannot be written: " in stderr
    assert "annotate_true_sparse_output" in stderr
    assert str(tmp_path) not in stderr
    assert list(tmp_path.iterdir()) == []


def test_parquet_has_lists_for_what_a_tensor_is_made_of(folder, prepared, tmp_path):
    import pyarrow.parquet as pq

    graph = ("--transform", prepared / "transform", "--output_format", "parquet", "--compression", "zstd")
    files = flags(folder)[:4]
    assert run_prepare(*files, *graph, "--shuffle=none", "--num_shards=1", "--output", tmp_path / "out") == DONE
    table = pq.read_table(next((tmp_path / "out/train").iterdir()))
    assert table.num_rows == len(ROWS)
    assert table.column("kind$sparse_indices_0").to_pylist() == [[row % 4] for row in range(64)]
    assert table.column("letters$row_lengths_1").to_pylist()[:4] == [[1, 2], None, [1], [0, 3]]
    assert not list(verify_dataset(str(tmp_path / "out")))


SEQUENCES = """
feature { name: "user" type: INT presence { min_fraction: 1 } shape { } }
feature { name: "prices" type: FLOAT value_count { min: 0 } }
feature { name: "prices$step_lengths" type: INT presence { min_fraction: 1 } value_count { min: 0 } }
tensor_representation_group {
  key: ""
  value {
    tensor_representation {
      key: "prices"
      value {
        ragged_tensor {
          feature_path { step: "prices" } partition { row_length: "prices$step_lengths" } row_partition_dtype: INT64
        }
      }
    }
  }
}
"""

OF_SEQUENCES = """
import tensorflow as tf
import tensorflow_transform as tft


def preprocessing_fn(inputs):
    prices = inputs["prices"]
    halves = prices / 2
    scaled = halves.with_flat_values(halves.flat_values - tft.min(prices.flat_values))
    return {
        "user": inputs["user"],
        "sum": tf.reduce_sum(prices, axis=2),
        "ragged": scaled,
        "half": halves.merge_dims(1, 2).to_sparse(),
        "half$step_lengths": halves.row_lengths(axis=2).to_sparse(),
    }
"""


def sequence(user, steps):
    lists = [tf.train.Feature(float_list=tf.train.FloatList(value=step)) for step in steps]
    context = tf.train.Features(feature={"user": tf.train.Feature(int64_list=tf.train.Int64List(value=[user]))})
    prices = tf.train.FeatureLists(feature_list={"prices": tf.train.FeatureList(feature=lists)})
    return tf.train.SequenceExample(context=context, feature_lists=prices).SerializeToString()


def test_the_steps_of_sequences_are_a_ragged_tensor_and_steps_again(tmp_path):
    rows = [[[4.0, 2.0], [], [8.0]], [[6.0], [10.0]], [], [[2.0, 3.0, 5.0]]]
    with tf.io.TFRecordWriter(str(tmp_path / "in.tfrecord")) as writer:
        for user, steps in enumerate(rows):
            writer.write(sequence(user, steps))
    (tmp_path / "schema.pbtxt").write_text(SEQUENCES)
    (tmp_path / "module.py").write_text(OF_SEQUENCES)
    given = ("--input", tmp_path / "in.tfrecord", "--record_type=sequence_example", "--max_reject_fraction=0")
    how = ("--shuffle=none", "--num_shards=1", "--output_format=sequence_example")
    made = ("--schema", tmp_path / "schema.pbtxt", "--features", tmp_path / "module.py", "--output", tmp_path / "out")
    assert run_prepare(*given, *how, *made) == DONE
    assert not list(verify_dataset(str(tmp_path / "out")))
    names = ("half", "sum$ragged_values", "ragged$ragged_values", "ragged$row_lengths_1")
    lists = {name: tf.io.RaggedFeature(tf.int64 if "lengths" in name else tf.float32) for name in names}
    context = {"user": tf.io.FixedLenFeature([], tf.int64)}
    (records,) = tf.data.TFRecordDataset(shards(tmp_path / "out"), compression_type="GZIP").batch(9)
    users, found, _ = tf.io.parse_sequence_example(records, context, lists)
    assert users["user"].numpy().tolist() == [0, 1, 2, 3]
    assert found["half"].to_list() == [[[price / 2 for price in step] for step in row] for row in rows]
    singles = {name: [[step[0] for step in row] for row in found[name].to_list()] for name in names[1:]}
    assert singles["sum$ragged_values"] == [[sum(step) for step in row] for row in rows]
    assert singles["ragged$row_lengths_1"] == [[len(step) for step in row] for row in rows]
    assert singles["ragged$ragged_values"] == [[price / 2 - 2 for step in row for price in step] for row in rows]
