"""tf.SequenceExamples as columns; `tests/fuzz` holds the kernel against protobuf on odd and damaged ones."""

import pytest
from fuzz.wire import SIZED, as_frames, field

from penstock.io.errors import ConfigError
from penstock.io.examples.decode import decode_examples, example_kinds, is_sequence
from penstock.io.schema import Feature, Kind

tf = pytest.importorskip("tensorflow")


def ints(*values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def floats(*values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def sequence(context=None, **lists):
    message = tf.train.SequenceExample(context=tf.train.Features(feature=context or {}))
    for name, steps in lists.items():
        message.feature_lists.feature_list[name].feature.extend(steps)
    return message.SerializeToString()


def decode(records, features=None, **options):
    return decode_examples(as_frames(records), features, is_sequence=True, **options)


def columns(records, *features, **options):
    decoded = decode(records, features or None, **options)
    assert not decoded.rejects
    return decoded.batch.to_pydict()


def reasons(records, *features, **options):
    return {
        row: (found[0].code, found[0].detail)
        for row, found in decode(records, features or None, **options).rejects.items()
    }


N = Feature("n", Kind.INT)
LENGTHS = Feature("n$step_lengths", Kind.INT)


def test_context_and_lists_become_columns_by_their_names():
    records = [sequence({"u": ints(7)}, n=[ints(1), ints(2)]), sequence({"u": ints()}, f=[floats(0.5)])]
    assert columns(records) == {"f": [None, [0.5]], "n": [[1, 2], None], "u": [[7], []]}
    assert columns(records, Feature("u", Kind.INT), Feature("f", Kind.FLOAT)) == {
        "u": [[7], []],
        "f": [None, [0.5]],
    }


def test_what_is_one_value_by_the_schema_is_no_list():
    one = Feature("n", Kind.INT, multivalued=False)
    assert columns([sequence(n=[ints(1)]), sequence({"n": ints(2)})], one) == {"n": [1, 2]}
    assert columns([sequence(n=[ints(1)]), sequence(n=[])], one) == {"n": [[1], []]}


def test_an_empty_list_is_not_a_missing_one():
    records = [sequence(n=[]), sequence(), sequence(n=[ints(1)])]
    assert columns(records) == {"n": [[], None, [1]]}
    assert columns(records, N) == {"n": [[], None, [1]]}
    assert columns([sequence(n=[])]) == {"n": [[]]}


def test_an_example_is_a_context():
    example = tf.train.Example(features=tf.train.Features(feature={"n": ints(1, 2)})).SerializeToString()
    assert columns([example, b""]) == {"n": [[1, 2], None]}


STEPS = [sequence(n=[ints(1, 2), ints(), ints(3)]), sequence(n=[ints(4)]), sequence(), sequence(n=[tf.train.Feature()])]


def test_steps_of_several_values_have_a_column_of_their_lengths():
    lengths = [[2, 0, 1], None, None, [0]]
    assert columns(STEPS) == {"n": [[1, 2, 3], [4], None, []], "n$step_lengths": lengths}
    assert columns(STEPS, LENGTHS, N) == {"n$step_lengths": lengths, "n": [[1, 2, 3], [4], None, []]}


def test_lengths_that_the_schema_demands_are_in_each_row_that_has_the_list():
    demanded = Feature("n$step_lengths", Kind.INT, complete=True)
    assert columns(STEPS, N, demanded)["n$step_lengths"] == [[2, 0, 1], [1], None, [0]]


@pytest.mark.parametrize("features", [(N,), (N, Feature("n$step_lengths", Kind.BYTES))], ids=["none", "other_kind"])
def test_steps_of_several_values_need_a_column_for_their_lengths(features):
    found = reasons(STEPS, *features)
    assert found == {
        0: (
            "tfrecord.steps",
            "column 'n': step 0 of the feature list has 2 values, not 1; to read such lists, give the schema the INT "
            "feature 'n$step_lengths', the number of values of each step",
        ),
        3: ("tfrecord.steps", found[3][1]),
    }


def test_lengths_that_a_record_has_itself_are_refused():
    own = sequence({"n$step_lengths": ints(9)}, n=[ints(1, 2)])
    code, detail = reasons([own])[0]
    assert code == "tfrecord.steps"
    assert detail == (
        "column 'n$step_lengths': the record has it, but it stands for the steps of one of its feature lists"
    )
    assert columns([sequence({"n$step_lengths": ints(9)}, n=[ints(1)])])["n$step_lengths"] == [[9]]


def test_a_name_in_both_parts_is_refused():
    both = sequence({"n": ints(1)}, n=[ints(1)])
    code, detail = reasons([sequence(n=[]), both])[1]
    assert code == "tfrecord.parse"
    assert "has 'n' in its context and in its feature lists" in detail
    assert columns([both], Feature("other", Kind.INT)) == {"other": [None]}


def test_steps_of_several_kinds_are_refused():
    mixed = sequence(n=[ints(1), floats(1.0)])
    code, detail = reasons([mixed])[0]
    assert code == "tfrecord.parse"
    assert "the steps of the feature list 'n' have values of different kinds" in detail
    assert columns([mixed], Feature("other", Kind.INT)) == {"other": [None]}


def test_lists_of_another_kind_are_refused():
    assert reasons([sequence(n=[floats(1.0)])], N)[0][0] == "tfrecord.type"
    assert columns([sequence(n=[ints(1)])], Feature("n", Kind.FLOAT)) == {"n": [[1.0]]}


def test_a_strict_reader_refuses_lists_that_are_no_features():
    records = [sequence(n=[ints(1)], m=[]), sequence({"m": ints(1)}), sequence(n=[ints(1)])]
    assert [*reasons(records, N, strict=True)] == [0, 1]


def test_of_a_list_held_twice_only_the_last_can_have_steps_of_several_kinds():
    good, mixed = sequence(n=[ints(1), ints(2)]), sequence(n=[ints(3), floats(1.0)])
    assert columns([mixed + good, good], N) == {"n": [[1, 2], [1, 2]]}
    assert list(reasons([good + mixed, good], N)) == [0]


def test_of_a_list_held_twice_the_last_counts():
    assert columns([sequence(n=[ints(1, 1)]) + sequence(n=[ints(2), ints(3)])]) == {"n": [[2, 3]]}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (b"\x1a\x00", "not a tf.SequenceExample: it holds neither a context nor feature lists"),
        (sequence(n=[ints(1)])[:-1], "not a tf.SequenceExample: "),
        (field(2, SIZED, b"\x0a\x7f"), "not a tf.SequenceExample: "),
    ],
    ids=["other_fields", "cut_off", "length_beyond"],
)
def test_malformed_records_are_refused_and_the_others_stay(record, words):
    decoded = decode([sequence(n=[ints(1)]), record, sequence(n=[ints(2)])], [N])
    assert words in decoded.rejects[1][0].detail
    assert decoded.batch.column("n").to_pylist() == [[1], None, [2]]


def test_each_cut_of_a_record_is_refused_or_has_whole_lists():
    whole = sequence({"u": ints(1)}, n=[ints(1), ints(300)])
    decoded = decode([whole[:end] for end in range(len(whole) + 1)])
    kept = [row for index, row in enumerate(decoded.batch.to_pylist()) if index not in decoded.rejects]
    assert kept == [{"n": None, "u": None}, {"n": None, "u": [1]}, {"n": [1, 300], "u": [1]}]


def test_the_kinds_of_both_parts_are_told():
    records = [sequence({"u": ints(7)}), sequence(n=[floats(1)], m=[])]
    assert example_kinds(as_frames(records), is_sequence=True) == {"u": {Kind.INT: 0}, "n": {Kind.FLOAT: 1}}


def test_another_type_of_records_is_refused():
    with pytest.raises(ConfigError, match="record_type must be one of example, sequence_example, got 'sequence'"):
        is_sequence("sequence")
