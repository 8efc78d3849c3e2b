import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from fuzz.wire import END_GROUP, FIXED32, FIXED64, GROUP, SIZED, VARINT, field, varint
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.examples.decode import decode_examples
from penstock.io.examples.frames import Frames
from penstock.io.kernel import native
from penstock.io.schema import Feature, Kind

tf = pytest.importorskip("tensorflow")

INT = Feature("n", Kind.INT, multivalued=False)
INTS = Feature("n", Kind.INT)
FLOAT = Feature("n", Kind.FLOAT, multivalued=False)
BYTES = Feature("n", Kind.BYTES, multivalued=False)


def feature(values, kind=None):
    kind = kind or {int: "int64", float: "float", bytes: "bytes"}[type(values[0])]
    lists = {"int64": tf.train.Int64List, "float": tf.train.FloatList, "bytes": tf.train.BytesList}
    return tf.train.Feature(**{f"{kind}_list": lists[kind](value=values)})


def as_frames(records):
    """The records one after the other, with other bytes around them."""
    lengths = np.array([len(record) for record in records], np.int64)
    return Frames(b"\xff".join([b"", *records, b""]), np.cumsum([1, *(lengths + 1)])[:-1], lengths, 0)


def example(**columns):
    lists = {name: tf.train.Feature() if values is None else feature(values) for name, values in columns.items()}
    return tf.train.Example(features=tf.train.Features(feature=lists)).SerializeToString()


def empty(kind):
    return tf.train.Example(features=tf.train.Features(feature={"n": feature([], kind)})).SerializeToString()


def decode(records, *features, strict=False):
    decoded = decode_examples(as_frames(records), features or None, strict)
    decoded.batch.validate(full=True)
    assert decoded.batch.num_rows == len(records)
    return decoded


def test_every_kind_comes_back_as_lists_sorted_by_name():
    records = [example(i=[1, -(2**63)], f=[0.5], b=[b"\xff", b""]), example(i=[2**63 - 1], c=[b"x"])]
    batch = decode(records).batch
    assert batch.schema == pa.schema(
        {
            "b": pa.list_(pa.binary()),
            "c": pa.list_(pa.binary()),
            "f": pa.list_(pa.float32()),
            "i": pa.list_(pa.int64()),
        }
    )
    assert batch.to_pydict() == {
        "b": [[b"\xff", b""], None],
        "c": [None, [b"x"]],
        "f": [[0.5], None],
        "i": [[1, -(2**63)], [2**63 - 1]],
    }


def test_absent_key_and_unset_kind_are_null_and_an_empty_list_is_empty():
    records = [example(), example(n=None), empty("int64"), example(n=[1])]
    assert decode(records, INTS).batch.column("n").to_pylist() == [None, None, [], [1]]
    assert decode([example(n=None)]).batch.schema.names == []


def test_one_value_features_are_scalars_while_all_rows_hold_one():
    scalars = decode([example(n=[1]), example(), example(n=[3])], INT).batch.column("n")
    assert scalars.type == pa.int64()
    assert scalars.to_pylist() == [1, None, 3]
    assert decode([example(), example()], INT).batch.column("n").equals(pa.array([None, None], pa.int64()))


@pytest.mark.parametrize("other", [pytest.param([2, 3], id="two"), pytest.param([], id="none")])
def test_a_row_with_another_number_of_values_keeps_them_all(other):
    record = example(n=other) if other else empty("int64")
    assert decode([example(n=[1]), record], INT).batch.column("n").to_pylist() == [[1], other]


def test_only_the_named_features_are_read_in_their_order():
    batch = decode([example(a=[1], n=[2], z=[b"z"])], INTS, Feature("a", Kind.INT, False)).batch
    assert batch.schema.names == ["n", "a"]
    assert batch.to_pydict() == {"n": [[2]], "a": [1]}


def test_integers_are_taken_for_a_float_feature():
    batch = decode([example(n=[0.5]), example(n=[16777217])], FLOAT).batch
    assert batch.column("n").to_pylist() == [0.5, 16777217.0]


@pytest.mark.parametrize(
    ("wanted", "values", "held"),
    [
        pytest.param(INT, [0.5], "FLOAT", id="float-for-int"),
        pytest.param(INT, [b"1"], "BYTES", id="bytes-for-int"),
        pytest.param(FLOAT, [b"1"], "BYTES", id="bytes-for-float"),
        pytest.param(BYTES, [1], "INT", id="int-for-bytes"),
        pytest.param(BYTES, [1.0], "FLOAT", id="float-for-bytes"),
    ],
)
def test_another_kind_than_the_schema_rejects_that_row_only(wanted, values, held):
    good = {Kind.INT: [7], Kind.FLOAT: [7.0], Kind.BYTES: [b"7"]}[wanted.kind]
    decoded = decode([example(n=good), example(n=values), example(n=good)], wanted)
    assert list(decoded.rejects) == [1]
    (reason,) = decoded.rejects[1]
    assert reason.code == "tfrecord.type"
    assert reason.detail == f"column 'n': the record holds {held} values, not {wanted.kind.value}"
    assert decoded.batch.column("n").to_pylist() == [good[0], None, good[0]]


def test_all_kinds_that_differ_in_a_row_are_reported():
    decoded = decode([example(n=[b"x"], m=[b"y"])], INT, Feature("m", Kind.FLOAT))
    assert [reason.detail.split(":")[0] for reason in decoded.rejects[0]] == ["column 'n'", "column 'm'"]


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(b"\x0a\xff", id="cut-off"),
        pytest.param(b"\x0a\x05\x0a\x03\x0a\x01\xff", id="key-not-utf8"),
        pytest.param(b"\x12\x00\x18\x01", id="other-fields"),
        pytest.param(b"h1", id="text-that-parses"),
    ],
)
def test_bytes_that_are_no_example_are_rejected_alone(record):
    decoded = decode([example(n=[1]), record, example(n=[2])], INT)
    assert [reason.code for reason in decoded.rejects[1]] == ["tfrecord.parse"]
    assert decoded.batch.column("n").to_pylist() == [1, None, 2]
    assert list(decoded.rejects) == [1]


def test_sequence_examples_are_rejected_by_name():
    sequence = tf.train.SequenceExample()
    sequence.context.feature["n"].int64_list.value.append(1)
    sequence.feature_lists.feature_list["s"].feature.add().int64_list.value.append(1)
    decoded = decode([sequence.SerializeToString()])
    assert "tf.SequenceExample" in decoded.rejects[0][0].detail


def test_of_a_key_held_twice_the_last_counts():
    assert decode([example(n=[1]) + example(n=[2, 3])], INTS).batch.column("n").to_pylist() == [[2, 3]]


def test_inference_widens_kinds_that_disagree():
    numbers = decode([example(n=[1]), example(n=[0.5])]).batch.column("n")
    assert numbers.to_pylist() == [[1.0], [0.5]]
    assert numbers.type == pa.list_(pa.float64())
    texts = decode([example(n=[1, 2]), example(n=[b"x"])]).batch.column("n")
    assert texts.to_pylist() == [[b"1", b"2"], [b"x"]]


def test_no_records_and_no_keys():
    assert decode([]).batch.num_columns == 0
    assert decode([], INT).batch.schema.names == ["n"]
    assert decode([b"", example()]).batch.num_rows == 2


VALUES = st.one_of(
    st.none(),
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=3),
    st.lists(st.binary(max_size=5), min_size=1, max_size=3),
)


@given(st.lists(st.dictionaries(st.sampled_from(["n", "m", "é"]), VALUES, max_size=3), max_size=12))
def test_rows_read_plus_rows_rejected_are_all_rows(rows):
    records = [example(**row) for row in rows]
    decoded = decode(records, INTS, Feature("m", Kind.FLOAT), Feature("é", Kind.BYTES))
    accepted = {"n": (int,), "m": (float, int), "é": (bytes,)}
    for index, (row, read) in enumerate(zip(rows, decoded.batch.to_pylist(), strict=True)):
        wrong = {name for name, values in row.items() if values and not isinstance(values[0], accepted[name])}
        assert len(decoded.rejects.get(index, ())) == len(wrong)
        kept = {name: None if name in wrong else row.get(name) for name in accepted}
        kept["m"] = kept["m"] and [float(value) for value in kept["m"]]
        assert read == kept


# Forms that protobuf reads and few writers make: what they mean is protobuf's rule that fields may come again.
ONE, TWO, SIX = (field(1, SIZED, varint(value)) for value in (1, 2, 6))
KEY = field(1, SIZED, b"n")


def record_of(*entry_fields):
    """A record with one entry of these fields."""
    return field(1, SIZED, field(1, SIZED, b"".join(entry_fields)))


def value_of(*feature_fields):
    return field(2, SIZED, b"".join(feature_fields))


def ints(*list_fields):
    return field(3, SIZED, b"".join(list_fields))


@pytest.mark.parametrize(
    ("record", "values"),
    [
        pytest.param(record_of(KEY, value_of(ints(ONE, TWO))), [1, 2], id="packed-twice"),
        pytest.param(record_of(KEY, value_of(ints(field(1, VARINT, b"\5"), ONE))), [5, 1], id="packed-and-not"),
        pytest.param(record_of(KEY, value_of(ints(ONE), ints(TWO))), [1, 2], id="list-twice"),
        pytest.param(record_of(KEY, value_of(ints(ONE)), value_of(ints(SIX))), [1, 6], id="value-twice"),
        pytest.param(record_of(KEY, value_of(ints(ONE), field(2, SIZED), ints(TWO))), [2], id="another-kind-between"),
        pytest.param(record_of(value_of(ints(ONE)), KEY), [1], id="key-behind-its-value"),
        pytest.param(record_of(field(1, SIZED, b"m"), value_of(ints(ONE)), KEY), [1], id="last-of-two-keys"),
        pytest.param(record_of(KEY, value_of(ints(ONE))) + record_of(KEY, value_of(ints(TWO))), [2], id="entry-again"),
        pytest.param(record_of(KEY, value_of(ints(ONE))) + record_of(KEY), None, id="entry-again-without-value"),
        pytest.param(
            record_of(KEY, value_of(ints(ONE))) + record_of(KEY, value_of(ints())), [], id="entry-again-with-empty-list"
        ),
        pytest.param(record_of(KEY, value_of(ints(field(7, VARINT, b"\1"), ONE))), [1], id="unknown-in-list"),
        pytest.param(record_of(KEY, value_of(field(9, SIZED, b"x"), ints(ONE))), [1], id="unknown-in-feature"),
        pytest.param(record_of(KEY, field(3, FIXED32, b"abcd"), value_of(ints(ONE))), [1], id="unknown-in-entry"),
        pytest.param(field(15, FIXED64, bytes(8)) + record_of(KEY, value_of(ints(ONE))), [1], id="unknown-in-example"),
        pytest.param(
            field(1, GROUP) + field(1, SIZED, b"x") + field(1, END_GROUP) + record_of(KEY, value_of(ints(ONE))),
            [1],
            id="a-group-where-features-belong",
        ),
        pytest.param(record_of(KEY, value_of(ints(field(1, FIXED32, b"abcd"), ONE))), [1], id="of-another-wire-type"),
        pytest.param(record_of(KEY, value_of(ints(field(1, SIZED, varint(-1))))), [-1], id="negative"),
        pytest.param(record_of(KEY, value_of(ints(field(1, SIZED, varint(1, 8))))), [1], id="spare-bytes-in-a-number"),
        pytest.param(
            field(1, SIZED, field(1, SIZED, KEY + value_of(ints(ONE)), 2), 3), [1], id="spare-bytes-in-tags-and-lengths"
        ),
    ],
)
def test_fields_that_come_again_in_any_order_and_unknown_ones(record, values):
    assert decode([record, record], INTS).batch.column("n").to_pylist() == [values] * 2
    assert decode([record], INTS).rejects == {}


def test_an_entry_without_a_key_has_the_empty_one():
    batch = decode([record_of(value_of(ints(ONE)))]).batch
    assert batch.to_pydict() == {"": [[1]]}


def test_keys_in_another_order_in_each_record():
    names = [f"feature_{i}" for i in range(200)]
    rows = [{name: [i] for i, name in enumerate(names)}, {name: [-i] for i, name in reversed([*enumerate(names)])}]
    batch = decode([example(**row) for row in rows * 3]).batch
    assert batch.to_pylist() == rows * 3


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        pytest.param(b"\x0a\xff", "what begins at byte 1 is cut off", id="length-cut-off"),
        pytest.param(b"\x0a\x02\x0a\x01", "what begins at byte 3 is cut off", id="longer-than-what-it-is-in"),
        pytest.param(b"\x0a\x00\x1e", "no field begins at byte 2", id="wire-type-6"),
        pytest.param(b"\x0a\x00\x02\x00", "no field begins at byte 2", id="field-number-0"),
        pytest.param(b"\x0a\x00\x18" + b"\xff" * 10 + b"\x01", "the number at byte 3 has more", id="varint-of-11"),
        pytest.param(
            record_of(KEY, value_of(field(2, SIZED, field(1, SIZED, b"abc")))), "the floats at byte", id="3-bytes"
        ),
        pytest.param(record_of(field(1, SIZED, b"\xff")), "the key at byte 6 is not UTF-8", id="key"),
        pytest.param(b"\x0a\x00\x1c", "the group at byte 2 has no end, no start", id="group-without-start"),
        pytest.param(b"\x0a\x00\x1b\x08\x00", "the group at byte", id="group-without-end"),
        pytest.param(b"\x1b" * 101 + b"\x1c" * 101, "the group at byte 100", id="deep-groups"),
    ],
)
def test_a_malformed_record_is_rejected_and_adds_nothing(record, fault):
    good = example(n=[1, 2])
    decoded = decode([good, good + record, record, good], INTS)
    assert {row: [reason.code for reason in reasons] for row, reasons in decoded.rejects.items()} == {
        1: ["tfrecord.parse"],
        2: ["tfrecord.parse"],
    }
    assert decoded.batch.column("n").to_pylist() == [[1, 2], None, None, [1, 2]]
    if native.ENABLED:
        assert fault in decoded.rejects[2][0].detail


def test_records_are_not_read_beyond_their_ends():
    record = example(n=[1])
    frames = Frames(record * 2, np.array([0]), np.array([len(record) - 1]), 0)
    assert list(decode_examples(frames, [INT]).rejects) == [0]


def test_tensorflow_that_was_in_the_process_before_does_not_collide():
    """In the other order: test_tensorflow.py."""
    program = (
        "import tensorflow as tf; tf.train.Example.FromString(b'')\n"
        "from penstock.io.kernel.pure.decode import _message_class\n"
        "assert _message_class(False).FromString(b'\\n\\x05\\n\\x03\\n\\x01n').features.feature[0].key == 'n'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_strict_reading_rejects_integers_for_floats_and_unknown_keys():
    records = [
        example(n=[1.5]),
        example(n=[2]),
        example(n=[2.5], other=[1], more=[b"x"]),
        empty("int64"),
        example(o=None),
    ]
    strict = decode(records, FLOAT, strict=True)
    assert {row: [reason.code for reason in reasons] for row, reasons in strict.rejects.items()} == {
        1: ["tfrecord.type"],
        2: ["schema.unknown", "schema.unknown"],
        3: ["tfrecord.type"],
    }
    assert strict.rejects[2][0].detail == "the schema has no feature 'more'"
    assert strict.batch.schema.names == ["n"]
    assert strict.batch.column("n").to_pylist() == [1.5, None, 2.5, None, None]
    assert decode(records[:3], FLOAT).rejects == {}
