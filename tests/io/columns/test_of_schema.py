import pyarrow as pa
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.columns.of_schema import dataset_columns

SCHEMA = """
feature { name: "n" type: INT }
feature { name: "x" type: FLOAT value_count { min: 1 max: 1 } }
feature { name: "xs" type: FLOAT value_count { min: 0 max: 3 } }
feature { name: "t" type: BYTES shape {} }
feature { name: "image" type: BYTES image_domain {} }
feature { name: "blobs" type: BYTES value_count { min: 1 } annotation { tag: "binary" } }
"""


def test_each_feature_is_a_column():
    schema = text_format.Parse(SCHEMA, schema_pb2.Schema())
    expected = {
        "n": pa.int64(),
        "x": pa.float64(),
        "xs": pa.list_(pa.float64()),
        "t": pa.string(),
        "image": pa.binary(),
        "blobs": pa.list_(pa.binary()),
    }
    assert dataset_columns(schema) == pa.schema(expected)
    assert dataset_columns(schema, pa.float32()).field("xs").type == pa.list_(pa.float32())


def test_a_feature_of_any_number_of_values_is_a_list_in_the_schema_of_a_graph():
    columns = dataset_columns(text_format.Parse(SCHEMA, schema_pb2.Schema()), lists=True)
    assert columns.field("n").type == pa.list_(pa.int64())
    assert columns.field("x").type == pa.float64()
    assert columns.field("t").type == pa.string()
