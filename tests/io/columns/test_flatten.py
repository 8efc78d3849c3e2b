import pyarrow as pa
import pytest

from penstock.io.batches import origin_array
from penstock.io.columns.flatten import flatten_batch, flatten_schema
from penstock.io.errors import InputError
from penstock.io.reserved import ORIGIN


def test_struct_columns_become_dotted_columns_in_place():
    batch = pa.record_batch(
        {
            "a": pa.array([1, 2]),
            "trip": pa.array([{"from": {"lat": 1.5}, "km": 3}, {"from": None, "km": 4}]),
            "z": pa.array(["x", "y"]),
        }
    )
    flat = flatten_batch(batch)
    assert flat.to_pydict() == {"a": [1, 2], "trip.from.lat": [1.5, None], "trip.km": [3, 4], "z": ["x", "y"]}
    assert flatten_schema(batch.schema).names == flat.schema.names
    assert flatten_schema(batch.schema).equals(flat.schema)


def test_null_struct_hides_the_values_below_it():
    child = pa.array([1, 2, 3])
    struct = pa.StructArray.from_arrays([child], names=["x"], mask=pa.array([False, True, False]))
    assert flatten_batch(pa.record_batch([struct], names=["s"])).to_pydict() == {"s.x": [1, None, 3]}


def test_sliced_batches_keep_their_offset():
    struct = pa.array([{"x": i, "y": [i]} for i in range(6)])
    flat = flatten_batch(pa.record_batch([struct], names=["s"]).slice(2, 3))
    assert flat.to_pydict() == {"s.x": [2, 3, 4], "s.y": [[2], [3], [4]]}


def test_non_nullable_child_of_a_nullable_struct_becomes_nullable():
    inner = pa.field("x", pa.int64(), nullable=False)
    struct = pa.array([{"x": 1}, None], pa.struct([inner]))
    flat = flatten_batch(pa.record_batch([struct], names=["s"]))
    assert flat.schema.field("s.x").nullable
    flat.validate(full=True)


def test_reserved_columns_stay_structs():
    batch = pa.record_batch([pa.array([{"x": 1}]), origin_array("f", [7])], names=["s", ORIGIN])
    flat = flatten_batch(batch)
    assert flat.schema.names == ["s.x", ORIGIN]
    assert flat.column(ORIGIN).to_pylist() == [{"uri": "f", "position": 7}]


def test_batch_without_structs_is_returned_as_it_is():
    batch = pa.record_batch({"a": [1], "l": [[{"x": 1}]]})
    assert flatten_batch(batch) is batch


def test_struct_without_fields_leaves_no_column_but_keeps_the_rows():
    empty = pa.array([{}, {}], pa.struct([]))
    assert flatten_batch(pa.record_batch({"e": empty, "a": [1, 2]})).to_pydict() == {"a": [1, 2]}
    assert flatten_batch(pa.record_batch({"e": empty})).num_rows == 2


def test_collision_after_flattening_is_an_input_error_naming_file_and_column():
    batch = pa.record_batch({"a": pa.array([{"b": 1}]), "a.b": pa.array([2])})
    with pytest.raises(InputError, match=r"trips\.parquet: column name 'a\.b' appears more than once"):
        flatten_batch(batch, "trips.parquet")
    with pytest.raises(InputError, match=r"trips\.parquet: .*'a\.b'"):
        flatten_schema(batch.schema, "trips.parquet")
