"""Sketches of values in pieces, merged in any order: what must not change a byte."""

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st


@st.composite
def pieces(draw: st.DrawFn, values: st.SearchStrategy[list[Any]]) -> tuple[list[Any], list[list[Any]]]:
    """Values, and the same in another order, cut into pieces, some of which may be empty."""
    whole = draw(values)
    shuffled = draw(st.permutations(whole))
    cuts = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    return whole, [shuffled[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]


def merged(sketches: Sequence[Any], draw: Callable[[Any], Any]) -> Any:
    """Merges sketches in a tree that is drawn, some of them after their bytes were written and read."""
    left = list(sketches)
    while len(left) > 1:
        sketch = left.pop(draw(st.integers(0, len(left) - 1)))
        place = draw(st.integers(0, len(left) - 1))
        if draw(st.booleans()):
            left[place] = type(sketch).from_bytes(left[place].to_bytes())
        left[place].merge(sketch)
    return left[0]
