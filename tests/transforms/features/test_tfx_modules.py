"""Modules that TFX and tensorflow-transform have as examples give here what they give there, on the same rows.

The bodies are ours, with the same operations in the same order. Every output must be that of
`AnalyzeAndTransformDataset`, to the last bit.
"""

import random
from pathlib import Path

import pyarrow as pa
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tft_reference import largest_difference, our_rows, tft_rows

from penstock.transforms.features.analyses.losses import UNHELD
from penstock.transforms.features.functions import load_features

tft = pytest.importorskip("tensorflow_transform")
tf = pytest.importorskip("tensorflow")

EXAMPLES = Path(__file__).parents[3] / "examples" / "tfx"
ROWS = 300


def read_schema(text: str) -> schema_pb2.Schema:
    return text_format.Parse(text, schema_pb2.Schema())


def features(kind: str, names: str, rest: str = "") -> str:
    return "".join(f'feature {{ name: "{name}" type: {kind} {rest} }}\n' for name in names.split())


FIXED = "presence { min_fraction: 1 } shape { dim { size: 1 } }"
SCALAR = "presence { min_fraction: 1 } shape { }"
TAXI = features(
    "INT",
    "trip_start_hour trip_start_day trip_start_month pickup_census_tract dropoff_census_tract pickup_community_area "
    "dropoff_community_area trip_seconds",
)
TAXI += features("FLOAT", "trip_miles fare tips pickup_latitude pickup_longitude dropoff_latitude dropoff_longitude")
TAXI += features("BYTES", "payment_type company")
MEASURES = "culmen_length_mm culmen_depth_mm flipper_length_mm body_mass_g"
PENGUIN = features("FLOAT", MEASURES, FIXED) + features("INT", "species", FIXED)
CENSUS = features("BYTES", "workclass label", SCALAR) + features("FLOAT", "age hours", SCALAR)
CENSUS += features("FLOAT", "education_num") + "represent_variable_length_as_ragged: true\n"
REVIEWS = features("BYTES", "review", SCALAR) + features("INT", "label", SCALAR)
SEQUENCES = features("INT", "ids") + features("BYTES", "tokens") + features("FLOAT", "weights")
SEQUENCES += "represent_variable_length_as_ragged: true\n"

WORDS = b"a the good bad plot, scene. really! (oh) ? end actor dull".split()


def rows_of(schema: schema_pb2.Schema, seed: int = 5) -> pa.RecordBatch:
    """Rows that the schema allows: values that are missing, lists of any length, texts of some words."""
    draw = random.Random(seed)
    kinds = {schema_pb2.INT: _int, schema_pb2.FLOAT: _float, schema_pb2.BYTES: _text}
    columns = {}
    for feature in schema.feature:
        value = kinds[feature.type]
        most = 5 if schema.represent_variable_length_as_ragged else 1
        count = (lambda: 1) if feature.HasField("shape") else (lambda most=most: draw.randint(0, most))
        columns[feature.name] = [[value(draw, feature.name) for _ in range(count())] or None for _ in range(ROWS)]
    types = {schema_pb2.INT: pa.int64(), schema_pb2.FLOAT: pa.float32(), schema_pb2.BYTES: pa.binary()}
    return pa.record_batch(
        [pa.array(columns[feature.name], pa.list_(types[feature.type])) for feature in schema.feature],
        [feature.name for feature in schema.feature],
    )


def _int(draw: random.Random, name: str) -> int:
    return draw.randint(0, 1) if name in ("label", "species") else draw.randint(0, 2000)


def _float(draw: random.Random, name: str) -> float:
    return draw.choice([0.0, draw.uniform(-90, 90), float(draw.randint(0, 40))])


def _text(draw: random.Random, name: str) -> bytes:
    if name == "label":
        return draw.choice([b">50K", b"<=50K", b" >50K.", b"<=50K."])
    return b" ".join(draw.choices(WORDS, k=draw.randint(0, 30 if name == "review" else 2)))


def census_fn(inputs):
    outputs = inputs.copy()
    for name in ("age", "hours"):
        outputs[name] = tft.scale_to_0_1(inputs[name])
    widened = inputs["education_num"][:, :1]
    outputs["education_num"] = tft.scale_to_0_1(widened).to_tensor(default_value=0.0, shape=[None, 1])
    places = tft.compute_and_apply_vocabulary(
        tf.strings.strip(inputs["workclass"]), num_oov_buckets=1, vocab_filename="workclass"
    )
    depth = tft.experimental.get_vocabulary_size_by_name("workclass") + 1
    one_hot = tf.one_hot(places, depth=tf.cast(depth, tf.int32), on_value=1, off_value=0, dtype=tf.int64)
    outputs["workclass"] = tf.sparse.from_dense(tf.reshape(one_hot, [-1, depth]))
    tft.experimental.annotate_sparse_output_shape(outputs["workclass"], depth)
    with tf.init_scope():
        pairs = tf.lookup.KeyValueTensorInitializer([">50K", "<=50K"], tf.constant([0, 1], tf.int64))
        table = tf.lookup.StaticHashTable(pairs, default_value=-1)
    labels = table.lookup(tf.strings.strip(tf.strings.regex_replace(inputs["label"], r"\.", "")))
    outputs["label"] = tf.reshape(tf.one_hot(labels, depth=2, on_value=1.0, off_value=0.0), [-1, 2])
    return outputs


def sentiment_fn(inputs):
    tokens = tf.compat.v1.string_split(inputs["review"], ".,!?() ")
    places = tft.compute_and_apply_vocabulary(tokens, top_k=20)
    bag, weights = tft.tfidf(places, 21)
    return {"review": bag, "review_weight": weights, "label": tf.one_hot(inputs["label"], 2)}


def imdb_fn(inputs):
    words = tf.strings.split(tf.reshape(inputs["review"], [-1])).to_sparse()
    places = tft.compute_and_apply_vocabulary(words, default_value=8, top_k=8)
    dense = tf.pad(tf.sparse.to_dense(places, default_value=-1), [[0, 0], [0, 12]], "CONSTANT", -1)
    return {"text_xf": tf.slice(dense, [0, 0], [-1, 12]) + 1, "label_xf": inputs["label"]}


def ragged_fn(inputs):
    return {
        "ids": tft.compute_and_apply_vocabulary(inputs["tokens"], num_oov_buckets=2),
        "hashed": tft.hash_strings(inputs["tokens"], 7),
        "weights": tft.scale_to_z_score(inputs["weights"]),
        "sums": tf.reduce_sum(inputs["ids"], axis=1),
        "pairs": tf.strings.split(inputs["tokens"], " "),
    }


MODULES = {
    "taxi": (EXAMPLES / "taxi.py", TAXI),
    "penguin": (EXAMPLES / "penguin.py", PENGUIN),
    "imdb": (imdb_fn, REVIEWS),
    "census": (census_fn, CENSUS),
    "sentiment": (sentiment_fn, REVIEWS),
    "ragged": (ragged_fn, SEQUENCES),
}
OTHERS = [name for name in MODULES if name != "penguin"]


@pytest.mark.parametrize("name", ["penguin", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_a_module_gives_what_tensorflow_transform_gives(tmp_path, caplog, name) -> None:
    given, text = MODULES[name]
    config = str(EXAMPLES / "penguin.json") if name == "penguin" else None
    function = load_features(str(given), config) if isinstance(given, Path) else given
    schema, batch = read_schema(text), rows_of(read_schema(text))
    ours = our_rows(function, schema, batch, tmp_path / "graph")
    theirs = tft_rows(function.load() if isinstance(given, Path) else function, schema, batch)
    assert largest_difference(ours, theirs) == 0.0
    # Nothing in it is batch-dependent; that a vocabulary cannot hold the empty text is said of the values.
    told = [record.getMessage() for record in caplog.records if record.name.startswith("penstock")]
    assert [text for text in told if UNHELD not in text] == []
