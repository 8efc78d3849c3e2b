"""Casts of texts: the kernel against Arrow."""

import pyarrow as pa
import pytest
from depth import scaled
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_cases import twins
from kernel_cases.number_texts import BOOLS, TYPES, long_floats, near_numbers, sliced, struct_bits

compiled, pure = twins.both("grammar")

columns = st.tuples(
    st.lists(st.none() | near_numbers | long_floats | st.sampled_from([*BOOLS]), max_size=40),
    st.sampled_from(TYPES),
    st.integers(0, 9),
)


@settings(max_examples=scaled(500))
@given(columns, st.booleans())
@example((["9007199254740993", "9007199254740993e1", "0.1234567890123456789", "1e23", "0e99999"], pa.string(), 1), True)
@example((["9007199254740993.0", "18014398509481985e-1", "18014398509481987e-1", "5e-324"], pa.string(), 0), False)
@example((["1", None, "2"], pa.large_binary(), 8), False)
def test_the_kernel_casts_as_arrow_does(column, boolean):
    text = sliced(*column)
    for name, arguments in (("ints", (boolean,)), ("floats", ())):
        ours, theirs = (_outcomes(*getattr(kernel, name)(text, *arguments), kernel) for kernel in (compiled, pure))
        assert ours == theirs


def _outcomes(values, states, kernel):
    """What became of each text: its value, as something that can be compared, or why there is none."""
    states = [kernel.GOOD] * len(values) if states is None else states.tolist()
    return [
        struct_bits(value) if state == kernel.GOOD else {kernel.BAD: "bad", kernel.ABSENT: "absent"}[state]
        for value, state in zip(values.tolist(), states, strict=True)
    ]


@pytest.mark.parametrize("column", [pa.array([1]), pa.array([["1"]])], ids=["int", "list"])
def test_the_kernel_takes_only_texts(column):
    with pytest.raises(TypeError, match="one of texts"):
        compiled.floats(column)
