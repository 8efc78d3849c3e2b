import operator

import pyarrow as pa
import pytest
from depth import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.transforms.checks.sql.queries import run_query
from penstock.transforms.checks.sql.rewrites import runnable

COMPARISONS = {"=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt}
NUMBERS = st.none() | st.integers(-2, 2)


def expected(number, items, compare, quantifier):
    """`number <compare> quantifier(items)` in Kleene's logic; a list that is NULL is empty, as in DuckDB."""
    answers = [None if None in (number, item) else compare(number, item) for item in items or ()]
    decides = quantifier == "ANY"
    if decides in answers:
        return decides
    return None if None in answers else not decides


@pytest.mark.parametrize("quantifier", ["ANY", "ALL"])
@pytest.mark.parametrize("sign", COMPARISONS)
@settings(max_examples=scaled(30))
@given(rows=st.lists(st.tuples(NUMBERS, st.none() | st.lists(NUMBERS, max_size=4)), min_size=1, max_size=20))
def test_quantified_comparisons(sign, quantifier, rows):
    table = pa.table(
        {
            "n": pa.array([number for number, _ in rows], pa.int64()),
            "xs": pa.array([items for _, items in rows], pa.list_(pa.int64())),
        }
    )
    sql = runnable(f"n {sign} {quantifier}(xs)")
    plain, opposite = run_query([f"TRY({sql})", f"TRY(NOT ({sql}))"], table)
    answers = [expected(number, items, COMPARISONS[sign], quantifier) for number, items in rows]
    assert plain.tolist() == answers
    assert opposite.tolist() == [None if answer is None else not answer for answer in answers]


@pytest.mark.parametrize(
    ("sql", "rewritten"),
    [
        ("n > 3", False),
        ("n IN (1, 2)", False),
        ("n IN xs", False),
        ("n = ANY(xs)", True),
        ("n <> ALL([1, 2])", True),
        ("list_distance(xs, [1, 2]) > 0", True),
        ("list_distance([1, 2], [3, 4]) > n", False),
        ("xs <=> xs > 0", True),
    ],
)
def test_only_what_must_be_is_rewritten(sql, rewritten):
    assert (runnable(sql) != sql) == rewritten


def test_a_list_with_a_null_is_named_where_a_distance_cannot_be_computed():
    table = pa.table({"xs": pa.array([[1.0, 2.0], [2.0, None]])})
    with pytest.raises(Exception, match=r"Could not convert string 'NULL among \[2\.0, NULL\]' to DOUBLE"):
        run_query([runnable("list_distance(xs, [1, 2]) >= 0")], table)
    assert run_query([f"TRY({runnable('list_distance(xs, [1, 2]) >= 0')})"], table)[0].tolist() == [True, None]
