import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import twins

from penstock.io.errors import ConfigError
from penstock.io.examples.decode import decode_examples
from penstock.io.examples.frames import Frames
from penstock.io.examples.sequences import try_encode_sequences
from penstock.io.kernel.pure.examples import _varint
from penstock.io.schema import Feature, Kind

compiled, pure = twins.both("examples")

INTS = st.integers(-(2**63), 2**63 - 1) | st.integers(-200, 20_000)
COLUMNS = {
    "age": (pa.float64(), st.floats(width=32)),
    "clicks": (pa.list_(pa.int64()), st.lists(INTS, max_size=9)),
    "prices": (pa.large_list(pa.float64()), st.lists(st.floats(width=32), max_size=9)),
    "tags": (pa.list_(pa.string()), st.lists(st.text(max_size=5), max_size=3)),
    "user": (pa.int64(), INTS),
    "wörds": (pa.list_(pa.string()), st.lists(st.text(max_size=200), max_size=4)),
    "x" * 200: (pa.int32(), st.integers(-9, 9)),
}
SCHEMA = pa.schema({name: arrow_type for name, (arrow_type, _) in COLUMNS.items()})
LISTS = {"clicks", "prices", "wörds", "x" * 200}
ROWS = st.lists(st.fixed_dictionaries({name: st.none() | values for name, (_, values) in COLUMNS.items()}), max_size=9)


def records(encoded):
    content = encoded.data.tobytes()
    return [content[a + 12 : b - 4] for a, b in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)]


def encode(batch, lists=LISTS):
    encoded, faults = try_encode_sequences(batch, lists)
    assert not faults
    return records(encoded)


def feature(name, values):
    item = SCHEMA.field(name).type
    item = item.value_type if pa.types.is_nested(item) else item
    if pa.types.is_integer(item):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    if pa.types.is_floating(item):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode() for value in values]))


def reference(row):
    """The tf.SequenceExample of a row, whose maps are written entry by entry in name order, as C++ protobuf does."""
    context, lists = b"", b""
    for name in sorted(name for name in row if row[name] is not None):
        values = row[name] if isinstance(row[name], list) else [row[name]]
        if name in LISTS:
            steps = tf.train.FeatureList(feature=[feature(name, [value]) for value in values])
            lists += tf.train.FeatureLists(feature_list={name: steps}).SerializeToString()
        else:
            context += tf.train.Features(feature={name: feature(name, values)}).SerializeToString()
    return b"\n" + _varint(len(context)) + context + b"\x12" + _varint(len(lists)) + lists


@given(ROWS)
def test_equals_protobufs_deterministic_bytes(rows):
    batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
    assert encode(batch) == [reference(row) for row in rows]


@given(ROWS, st.integers(0, 3))
def test_the_kernel_encodes_slices_like_python(rows, first):
    batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMA).slice(first)
    ours, theirs = (try_encode_sequences(batch, LISTS, kernel) for kernel in (compiled, pure))
    assert ours[0].data.tobytes() == theirs[0].data.tobytes()
    assert ours[0].offsets.tolist() == theirs[0].offsets.tolist()


@pytest.mark.parametrize("size", [0, 1, 120, 127, 128, 16_383, 16_384])
def test_the_kernel_writes_steps_of_any_size_like_python(size):
    batch = pa.record_batch({"t": [[b"x" * size, b""]], "u": [b"y" * size], "i": [[300] * size]})
    ours, theirs = (try_encode_sequences(batch, {"t", "i"}, kernel)[0].data for kernel in (compiled, pure))
    assert ours.tobytes() == theirs.tobytes()


def test_tensorflow_parses_what_is_encoded():
    batch = pa.record_batch(
        {
            "user": pa.array([7, 8]),
            "tags": pa.array([["a", "b"], []], pa.list_(pa.string())),
            "clicks": pa.array([[1, 2, 3], [4]]),
            "prices": pa.array([[0.5], None], pa.list_(pa.float64())),
            "prices$step_lengths": pa.array([None, None], pa.list_(pa.int64())),
            "pairs": pa.array([[b"a", b"b", b"c"], []], pa.list_(pa.binary())),
            "pairs$step_lengths": pa.array([[2, 0, 1], []]),
        }
    )
    serialized = encode(batch, {"clicks", "prices", "pairs"})
    context = {"user": tf.io.FixedLenFeature([], tf.int64), "tags": tf.io.RaggedFeature(tf.string)}
    steps = {
        "clicks": tf.io.FixedLenSequenceFeature([], tf.int64),
        "prices": tf.io.FixedLenSequenceFeature([], tf.float32, allow_missing=True),
        "pairs": tf.io.RaggedFeature(tf.string),
    }
    found, lists, lengths = tf.io.parse_sequence_example(serialized, context, steps)
    assert found["user"].numpy().tolist() == [7, 8]
    assert found["tags"].to_list() == [[b"a", b"b"], []]
    assert lists["clicks"].numpy().tolist() == [[1, 2, 3], [4, 0, 0]]
    assert lists["prices"].numpy().tolist() == [[0.5], [0.0]]
    assert lists["pairs"].to_list() == [[[b"a", b"b"], [], [b"c"]], []]
    assert lengths["clicks"].numpy().tolist() == [3, 1]
    found, lists = tf.io.parse_single_sequence_example(serialized[0], context, steps)
    assert (found["user"].numpy(), lists["clicks"].numpy().tolist()) == (7, [1, 2, 3])


def test_both_parts_are_there_even_if_they_are_empty():
    batch = pa.record_batch({"n": [None, [1]], "u": [1, None]})
    (one, other) = map(tf.train.SequenceExample.FromString, encode(batch, {"n"}))
    assert one.HasField("feature_lists")
    assert other.HasField("context")
    assert encode(batch.select([]), {"n"}) == [b"\n\0\x12\0"] * 2
    assert encode(batch.slice(2), {"n"}) == []


def test_columns_that_are_no_lists_have_one_step():
    (record,) = encode(pa.record_batch({"n": [3]}), {"n", "is not there"})
    assert str(tf.train.SequenceExample.FromString(record)).count("value: 3") == 1


def test_what_is_encoded_is_decoded_again():
    columns = {"n": [[1, 2, 3], None, []], "n$step_lengths": [[2, 0, 1], None, None], "u": [[1], [2], None]}
    batch = pa.record_batch(columns)
    serialized = encode(batch, {"n"})
    lengths = np.array([*map(len, serialized)], np.int64)
    frames = Frames(b"".join(serialized), np.cumsum([0, *lengths])[:-1], lengths, 0)
    features = [Feature(name, Kind.INT) for name in columns]
    for known in (None, features):
        decoded = decode_examples(frames, known, strict=True, is_sequence=True)
        assert not decoded.rejects
        assert decoded.batch.to_pydict() == columns


@pytest.mark.parametrize(
    ("columns", "code", "words"),
    [
        ({"n": [[1], [1, None]]}, "write.null_in_list", "column 'n' has a null inside a list"),
        ({"u": [[1.0], [1e300]]}, "write.float_overflow", "column 'u' has a finite value"),
        ({"n": [[1.0], [1e300]]}, "write.float_overflow", "column 'n' has a finite value"),
        ({"n": pa.array([[1], [1 << 63]], pa.list_(pa.uint64()))}, "write.int_overflow", "column 'n' has an integer"),
        ({"n": [[1], [1, 2]], "n$step_lengths": [[1], [1]]}, "write.step_lengths", "has 2 values, got .* sum 1"),
        ({"n": [[1], [1]], "n$step_lengths": [[1], [2, -1]]}, "write.step_lengths", "has 1 values"),
        ({"n": [[1], []], "n$step_lengths": [[1], [1 << 62] * 4]}, "write.step_lengths", "has 0 values"),
        ({"n": [[1], None], "n$step_lengths": [[1], []]}, "write.step_lengths", "has no values"),
        ({"n": [[1], [1]], "n$step_lengths": [[1], [1, None]]}, "write.step_lengths", "number of values of each step"),
    ],
)
def test_rows_without_a_form_are_told_and_left_out(columns, code, words):
    batch = pa.record_batch({"k": [5, 6], **columns})
    for kernel in (compiled, pure):
        encoded, faults = try_encode_sequences(batch, {"n"}, kernel)
        assert records(encoded) == encode(batch.slice(0, 1), {"n"})
        (reason,) = faults.pop(1)
        assert not faults
        assert reason.code == code
        assert pa.compute.match_substring_regex(pa.scalar(reason.detail), words).as_py(), reason.detail


def test_lengths_that_are_no_integers_are_refused():
    batch = pa.record_batch({"n": [[1]], "n$step_lengths": [[1.0]]})
    with pytest.raises(ConfigError, match=r"'n\$step_lengths' has type list<item: double>; it must hold integers"):
        try_encode_sequences(batch, {"n"})


def test_lengths_of_a_feature_of_the_context_are_a_column():
    (record,) = encode(pa.record_batch({"n": [[1]], "n$step_lengths": [[1]]}), {"other"})
    assert set(tf.train.SequenceExample.FromString(record).context.feature) == {"n", "n$step_lengths"}


def test_lists_of_lists_are_refused_by_name():
    with pytest.raises(ConfigError, match="column 'n' has type"):
        try_encode_sequences(pa.record_batch({"n": [[[1]]]}), {"n"})
