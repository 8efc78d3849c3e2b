import re

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from arrow_batches import batches
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.batches import origin_array
from penstock.io.columns.lists import without_views
from penstock.io.errors import ConfigError, DataError
from penstock.io.examples.encode import check_encodable, encode_examples, try_encode_examples
from penstock.io.kernel import native
from penstock.io.kernel.pure.examples import _varint

INTS = st.integers(-(2**63), 2**63 - 1) | st.integers(-200, 20_000)
COLUMNS = {
    "b": (pa.binary(), st.binary(max_size=300)),
    "f": (pa.float32(), st.floats(width=32)),
    "i": (pa.int64(), INTS),
    "é": (pa.string(), st.text(max_size=5)),
    "ints": (pa.list_(pa.int64()), st.lists(INTS, max_size=20)),
    "floats": (pa.large_list(pa.float64()), st.lists(st.floats(width=32), max_size=40)),
    "texts": (pa.list_(pa.string()), st.lists(st.text(max_size=5), max_size=4)),
    "n" * 200: (pa.null(), st.none()),
}
SCHEMA = pa.schema({name: arrow_type for name, (arrow_type, _) in COLUMNS.items()})
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | values for name, (_, values) in COLUMNS.items()}), max_size=9)


def reference(row):
    """The tf.Example of a row of Python values, feature by feature in name order, as protobuf writes each.

    Not one deterministic serialisation: Python's protobuf (upb) sorts `ints` before `i`, C++'s after it.
    """
    present = sorted(name for name in row if row[name] is not None)
    features = b"".join(reference_feature(name, row[name]).SerializeToString() for name in present)
    example = tf.train.Example.FromString(b"\n" + _varint(len(features)) + features)
    assert sorted(example.features.feature) == present
    return b"\n" + _varint(len(features)) + features


def reference_feature(name, value):
    features = tf.train.Features()
    values = value if isinstance(value, list) else [value]
    arrow_type = SCHEMA.field(name).type
    item_type = arrow_type.value_type if pa.types.is_nested(arrow_type) else arrow_type
    if pa.types.is_integer(item_type):
        features.feature[name].int64_list.CopyFrom(tf.train.Int64List(value=values))
    elif pa.types.is_floating(item_type):
        features.feature[name].float_list.CopyFrom(tf.train.FloatList(value=values))
    else:
        encoded = [v.encode() if isinstance(v, str) else v for v in values]
        features.feature[name].bytes_list.CopyFrom(tf.train.BytesList(value=encoded))
    return features


def records(encoded):
    content = encoded.data.tobytes()
    return [content[a + 12 : b - 4] for a, b in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)]


def parsed(array):
    (record,) = records(encode_examples(pa.record_batch({"c": array})))
    return tf.train.Example.FromString(record).features.feature


@given(ROWS)
def test_equals_protobufs_deterministic_bytes(rows):
    batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
    assert records(encode_examples(batch)) == [reference(row) for row in rows]


@pytest.mark.skipif(not native.ENABLED, reason="needs the kernel")
@given(batches(with_faults=False))
def test_protobuf_reads_what_is_encoded(batch):
    encoded, faults = try_encode_examples(batch)
    assert not faults
    for record, row in zip(records(encoded), batch.to_pylist(), strict=True):
        features = tf.train.Example.FromString(record).features.feature
        found = {name: getattr(feature, feature.WhichOneof("kind")).value for name, feature in features.items()}
        expected = {name: v if isinstance(v, list) else [v] for name, v in row.items() if v is not None}
        assert {name: [*map(comparable, v)] for name, v in found.items()} == {
            name: [*map(comparable, v)] for name, v in expected.items()
        }


def comparable(value):
    """Texts as bytes, and NaN as itself."""
    return value.encode() if isinstance(value, str) else str(value) if value != value else value


@given(ROWS, st.integers(0, 9), st.integers(0, 9))
def test_a_slice_encodes_like_its_rows(rows, start, length):
    batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
    assert records(encode_examples(batch.slice(start, length))) == records(encode_examples(batch))[start:][:length]


def test_tf_data_reads_the_frames(tmp_path):
    rows = 5000
    batch = pa.record_batch({"i": np.arange(rows), "s": [f"text {'x' * (i % 300)}" for i in range(rows)]})
    path = tmp_path / "a.tfrecord"
    path.write_bytes(encode_examples(batch).data.tobytes())
    spec = {"i": tf.io.FixedLenFeature([], tf.int64), "s": tf.io.FixedLenFeature([], tf.string)}
    dataset = tf.data.TFRecordDataset(str(path)).batch(rows).map(lambda r: tf.io.parse_example(r, spec))
    (values,) = dataset.as_numpy_iterator()
    assert values["i"].tolist() == list(range(rows))
    assert [s.decode() for s in values["s"]] == batch.column("s").to_pylist()


INTEGERS = {
    "int8": (pa.int8(), [-128, 127]),
    "int16": (pa.int16(), [-(2**15), 2**15 - 1]),
    "int32": (pa.int32(), [-(2**31), 2**31 - 1]),
    "int64": (pa.int64(), [-(2**63), 2**63 - 1]),
    "uint8": (pa.uint8(), [0, 255]),
    "uint16": (pa.uint16(), [0, 2**16 - 1]),
    "uint32": (pa.uint32(), [0, 2**32 - 1]),
    "uint64": (pa.uint64(), [0, 2**63 - 1]),
}


@pytest.mark.parametrize(("arrow_type", "values"), INTEGERS.values(), ids=INTEGERS)
def test_integers_widen(arrow_type, values):
    assert list(parsed(pa.array([values], pa.list_(arrow_type)))["c"].int64_list.value) == values
    for value in values:
        assert list(parsed(pa.array([value], arrow_type))["c"].int64_list.value) == [value]


def test_bools_are_0_and_1():
    assert list(parsed(pa.array([[True, False]]))["c"].int64_list.value) == [1, 0]


@pytest.mark.parametrize("arrow_type", [pa.float16(), pa.float32(), pa.float64()], ids=str)
def test_floats_narrow(arrow_type):
    values = np.array([0.1, -0.0, np.inf, np.nan]).astype(arrow_type.to_pandas_dtype())
    found = np.array(parsed(pa.array([list(values)], pa.list_(arrow_type)))["c"].float_list.value, np.float32)
    np.testing.assert_array_equal(found, values.astype(np.float32))
    assert np.signbit(found[1])


TEXT_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.list_(pa.large_string()),
    pa.list_(pa.string_view(), 1),
    pa.list_(pa.dictionary(pa.int32(), pa.binary())),
]


@pytest.mark.parametrize("arrow_type", TEXT_TYPES, ids=str)
def test_text_in_all_its_types(arrow_type):
    value = ["é\0"] if pa.types.is_nested(arrow_type) else "é\0"
    assert list(parsed(pa.array([value], arrow_type))["c"].bytes_list.value) == ["é\0".encode()]


def test_fixed_size_lists_skip_the_slots_of_nulls():
    array = pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int32(), 2))
    examples = map(tf.train.Example.FromString, records(encode_examples(pa.record_batch({"c": array}))))
    assert [list(e.features.feature["c"].int64_list.value) if e.features.feature else None for e in examples] == [
        [1, 2],
        None,
        [3, 4],
    ]


def test_values_under_a_null_are_not_written():
    offsets, validity = pa.py_buffer(np.array([0, 2, 4], np.int32)), pa.py_buffer(b"\x02")
    texts = pa.Array.from_buffers(pa.string(), 2, [validity, offsets, pa.py_buffer(b"hide")])
    lists = pa.Array.from_buffers(pa.list_(pa.int64()), 2, [validity, offsets], children=[pa.array([7, 7, 1, 2])])
    first, second = records(encode_examples(pa.record_batch({"l": lists, "t": texts})))
    assert first == b"\n\0"
    assert tf.train.Example.FromString(second).features.feature["t"].bytes_list.value == [b"de"]


def test_reserved_columns_stay_out():
    batch = pa.record_batch({"_origin": origin_array("f", np.arange(1)), "_shuffle_key": pa.array([1], pa.uint64())})
    assert records(encode_examples(batch)) == [b"\n\0"]


def test_no_rows_and_no_columns():
    assert len(encode_examples(pa.record_batch({"a": pa.array([], pa.int64())}))) == 0
    without = pa.RecordBatch.from_struct_array(pa.array([{}, {}], pa.struct([])))
    assert records(encode_examples(without)) == [b"\n\0", b"\n\0"]


def test_records_are_written_where_the_caller_says():
    buffer, batch = np.zeros(1000, np.uint8), pa.record_batch({"c": [1, 300, 2**40]})
    encoded, _ = try_encode_examples(batch, lambda size: buffer[7 : 7 + size])
    assert np.shares_memory(encoded.data, buffer)
    assert records(encoded) == records(encode_examples(batch))
    assert not buffer[:7].any()
    assert not buffer[7 + len(encoded.data) :].any()


def test_long_values():
    texts = ["x" * 100_000, "y" * 5000, ""]
    examples = map(tf.train.Example.FromString, records(encode_examples(pa.record_batch({"c": texts}))))
    assert [e.features.feature["c"].bytes_list.value[0].decode() for e in examples] == texts


def test_an_example_above_protobufs_limit_is_refused():
    pages_that_nobody_touches = pa.py_buffer(np.zeros(1 << 31, np.uint8))
    buffers = [None, pa.py_buffer(np.array([0, 1 << 31], np.int64)), pages_that_nobody_touches]
    batch = pa.record_batch({"c": pa.Array.from_buffers(pa.large_binary(), 1, buffers)})
    with pytest.raises(DataError, match=r"a row takes 2147483681 bytes as a tf\.Example; .* limit is 2147483647"):
        encode_examples(batch)


FAULTS = {
    "null_in_list": (pa.array([[1], [None, 2], None]), "write.null_in_list", "a null inside a list"),
    "null_in_texts": (pa.array([["a"], ["b", None], []]), "write.null_in_list", "a null inside a list"),
    "null_in_view": (pa.array([["a"], [None]], pa.list_(pa.string_view())), "write.null_in_list", "a null inside"),
    "uint64": (pa.array([1, 2**63, None], pa.uint64()), "write.int_overflow", "above 9223372036854775807"),
    "uint64_list": (pa.array([[1], [0, 2**64 - 1]], pa.list_(pa.uint64())), "write.int_overflow", "above 922"),
    "float64": (pa.array([np.inf, 1e39, np.nan]), "write.float_overflow", "finite value that overflows float32"),
    "float64_list": (pa.array([[1.0], [1.0, -1e300]]), "write.float_overflow", "finite value that overflows"),
}


@pytest.mark.parametrize(("array", "code", "detail"), FAULTS.values(), ids=FAULTS)
def test_rows_without_a_faithful_form_are_named(array, code, detail):
    batch = pa.record_batch({"c": array})
    encoded, faults = try_encode_examples(batch)
    assert {row: [reason.code for reason in reasons] for row, reasons in faults.items()} == {1: [code]}
    good = without_views(batch).filter(pa.array([row != 1 for row in range(batch.num_rows)]))
    assert records(encoded) == records(encode_examples(good))
    with pytest.raises(DataError, match=rf"row 1 .* column 'c' has .*{detail}"):
        encode_examples(batch)


def test_views_beside_a_slice_of_lists_of_nulls():
    lists, views = (
        pa.array([[None], [None, None], []], pa.list_(pa.null())),
        pa.array(["a", "b", "c"], pa.string_view()),
    )
    encoded, faults = try_encode_examples(pa.record_batch({"l": lists, "v": views}).slice(1))
    assert [*faults] == [0]
    assert len(encoded) == 1


def test_all_faults_of_a_row_are_kept():
    batch = pa.record_batch({"a": pa.array([[None, 1e300]]), "b": pa.array([2**63], pa.uint64())})
    _, faults = try_encode_examples(batch)
    assert [reason.code for reason in faults[0]] == ["write.null_in_list", "write.float_overflow", "write.int_overflow"]


def test_types_without_an_example_form_are_refused():
    with pytest.raises(ConfigError, match=re.escape("column 't' has type timestamp[s], which has no tf.Example form")):
        check_encodable(pa.schema({"x": pa.int64(), "t": pa.timestamp("s")}))


def test_two_columns_of_one_name_are_refused():
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    with pytest.raises(ConfigError, match="more than one column named 'a'"):
        encode_examples(batch)
