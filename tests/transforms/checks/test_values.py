import pyarrow as pa
import pytest

from penstock.io.schema import Feature, Kind
from penstock.transforms.checks.values import typed_column

INT, FLOAT, BYTES = (Feature("x", kind) for kind in Kind)
MANY = Feature("x", Kind.INT, multivalued=True)
TEXTS = Feature("x", Kind.BYTES, multivalued=True)


def typed(values, feature, arrow_type=None):
    column = typed_column(pa.record_batch({"x": pa.array(values, arrow_type)}), feature)
    column.values.validate(full=True)
    return column.values.to_pylist(), column.unusable


@pytest.mark.parametrize(
    ("values", "arrow_type", "feature", "expected"),
    [
        pytest.param([1, None], pa.int8(), INT, [1, None], id="int8"),
        pytest.param([True, None], pa.bool_(), INT, [1, None], id="bool"),
        pytest.param([2**63 - 1, None], pa.uint64(), INT, [2**63 - 1, None], id="uint64"),
        pytest.param([1.5, None], pa.float32(), FLOAT, [1.5, None], id="float32"),
        pytest.param([b"\xc3\xa9", None], pa.binary(), BYTES, ["é", None], id="binary"),
        pytest.param(["é", None], pa.string_view(), BYTES, ["é", None], id="string_view"),
        pytest.param(["a", None], pa.dictionary(pa.int8(), pa.string()), BYTES, ["a", None], id="dictionary"),
        pytest.param([None, None], pa.null(), INT, [None, None], id="null"),
        pytest.param([[7], None, []], pa.list_(pa.int64()), INT, [7, None, None], id="lists_of_one"),
        pytest.param([7, None], pa.int64(), MANY, [[7], None], id="scalar_as_list"),
        pytest.param([[1, 2], None, []], pa.large_list(pa.int32()), MANY, [[1, 2], None, []], id="large_list"),
        pytest.param([["a", None], None], pa.list_(pa.string()), TEXTS, [["a", None], None], id="null_items"),
        pytest.param([[b"a"]], pa.list_(pa.binary()), TEXTS, [["a"]], id="binary_list"),
    ],
)
def test_columns_take_the_type_of_the_schema(values, arrow_type, feature, expected):
    assert typed(values, feature, arrow_type) == (expected, {})


@pytest.mark.parametrize(
    ("values", "arrow_type", "feature", "expected", "bad"),
    [
        pytest.param([b"a", b"\xff"], pa.binary(), BYTES, ["a", None], {1: "not UTF-8"}, id="utf8"),
        pytest.param([[b"\xff"], [b"a"]], pa.list_(pa.binary()), TEXTS, [None, ["a"]], {0: "UTF-8"}, id="utf8_list"),
        pytest.param([b"\xff", b"a"], pa.binary(), TEXTS, [None, ["a"]], {0: "UTF-8"}, id="utf8_scalar_as_list"),
        pytest.param([2**63, 1], pa.uint64(), INT, [None, 1], {0: "beyond int64"}, id="uint64"),
        pytest.param([[1, 2], [3]], pa.list_(pa.int64()), INT, [None, 3], {0: "holds 2 values"}, id="several"),
        pytest.param(["7", None], pa.string(), INT, [None, None], {0: "is string, the schema says INT"}, id="kind"),
    ],
)
def test_what_has_no_such_form_is_null_and_named(values, arrow_type, feature, expected, bad):
    found, unusable = typed(values, feature, arrow_type)
    assert found == expected
    assert unusable.keys() == bad.keys()
    for row, text in bad.items():
        assert text in unusable[row]


def test_an_absent_column_is_all_null():
    batch = pa.record_batch({"y": [1, 2]})
    assert typed_column(batch, MANY).values.equals(pa.nulls(2, pa.list_(pa.int64())))


def test_slices_keep_their_rows():
    batch = pa.record_batch({"x": pa.array([[1], [2, 3], None, [4]])}).slice(1, 3)
    assert typed_column(batch, MANY).values.to_pylist() == [[2, 3], None, [4]]
