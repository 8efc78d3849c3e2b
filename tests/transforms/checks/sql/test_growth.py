import pytest

from penstock.transforms.checks.sql.functions import FUNCTIONS, Nature
from penstock.transforms.checks.sql.growth import MAX_FACTOR, check_growth
from penstock.transforms.checks.sql.trees import PredicateError, parse_expression


def check(sql):
    check_growth(sql, parse_expression(sql))


@pytest.mark.parametrize(
    "sql",
    [
        f"repeat(a, {MAX_FACTOR})",
        "repeat(a, least(n, 10) + 5)",
        "repeat(a, 2 * 3)",
        "repeat(a, n % 100)",
        "repeat(a, CASE WHEN n > 3 THEN 3 ELSE 0 END)",
        "repeat(a, coalesce(least(n, 3), 1))",
        "repeat(a, CAST(least(n, 10) AS INT))",
        "repeat('-', length(a) - 1)",
        "repeat(repeat(a, 100), 100)",
        "repeat(a, 5000) || repeat(b, 5000)",
        "concat(lpad(a, 100), lpad(b, 100), lpad(c, 100), lpad(d, 100))",
        "lpad(a, length(a) + 2, '0')",
        "lpad(a, greatest(length(a), 20), '0')",
        "lpad(a, least(n, length(b)), '0')",
        "range(len(xs))",
        "range(1, len(xs) + 1)",
        "range(10, 0, -1)",
        "range(greatest(n, 0), 1000)",
        "range(0, 1000000, 1000)",
        "list_transform(range(100), lambda i: repeat(a, 100))",
        "list_resize(xs, len(xs) + 1, 0)",
        "range(TIMESTAMP '2020-01-01', TIMESTAMP '2020-01-02', INTERVAL 1 MINUTE)",
        "format('{:>10} {:>10}', a, b)",
        "format('{{:99999999}} {}', a)",
        "printf('%5.2f %% %s', n, a)",
        "list_reduce(xs, lambda a, b: a + b)",
        "list_reduce(xs, lambda a, b: CASE WHEN a > b THEN a ELSE b END)",
        "list_reduce(xs, lambda a, b: if(length(a) > length(b), a, b))",
        "list_reduce(tags, lambda a, b: a || ',' || b)",
        "list_aggregate(xs, 'max', 3)",
        "NULL::INT[100]",
    ],
)
def test_bounded(sql):
    check(sql)


@pytest.mark.parametrize(
    ("sql", "message", "offset"),
    [
        (
            "1 < n AND repeat(a, n) = b",
            "function repeat: its result is as large as n says, .* or least.n, 1000. ins",
            10,
        ),
        ("lpad(a, n * 2, '0')", r"write a constant or least\(\(n \* 2\), 1000\) instead", 0),
        ("repeat(a, 10 - n)", r"as large as \(10 - n\) says", 0),
        ("repeat(a, -n)", r"as large as \(-\(n\)\) says", 0),
        ("repeat(a, n::INT)", "as large as CAST", 0),
        (
            "repeat(a, 10001)",
            "makes up to 10,001 values or characters .* may make 10,000, .*; write smaller numbers",
            0,
        ),
        ("repeat(repeat(a, 101), 100)", "makes up to 10,100 values", 0),
        ("range(n, 10)", r"as large as n says, .* greatest\(n, 0\) instead", 0),
        ("range(10, n, -1)", r"as large as n says, .* greatest\(n, 0\) instead", 0),
        ("range(n, 10, -1)", r"as large as n says, .* least\(n, 1000\) instead", 0),
        ("range(0, 10, n)", "write its step as a number", 0),
        ("range(t, t + INTERVAL 1 DAY, INTERVAL 1 DAY)", "all its times as constants, or count: range", 0),
        ("repeat(a, length(a))", "grows with the square of the row; one of the numbers must be a constant", 0),
        ("repeat(a || b, length(b))", "grows with the square", 0),
        ("list_transform(range(len(xs)), lambda i: range(i))", "as large as i says", 41),
        ("list_resize(xs, 200, repeat(a, 200))", "function list_resize: makes up to 40,000", 0),
        ("array_to_string(range(200), repeat(a, 200))", "function array_to_string: makes up to 40,000", 0),
        ("format(a, n)", "write its template as text", 0),
        ("format('{:>{}}', a, n)", "a width that is an argument has no bound; write it into the template", 0),
        ("printf('%.*f', n, a)", "a width that is an argument has no bound", 0),
        ("format('{:>9000} {:>9000}', a, b)", "makes up to 18,000", 0),
        ("printf('%9000s %9000s', a, b)", "makes up to 18,000", 0),
        ("list_aggregate(xs, 'approx_top_k', 100000)", "function list_aggregate: makes up to 100,000", 0),
        ("list_reduce(xs, lambda a, b: a || b || a)", "list_reduce: a stands in its result more than once", 0),
        ("reduce(xs, lambda a, b: [a, a])", "reduce: a stands in its result more than once", 0),
        ("NULL::INT[200][200]", "type ARRAY: makes up to 40,000", None),
    ],
)
def test_not_bounded(sql, message, offset):
    with pytest.raises(PredicateError, match=message) as caught:
        check(sql)
    assert caught.value.offset == offset


@pytest.mark.parametrize("name", sorted(name for name, nature in FUNCTIONS.items() if nature is Nature.GROWS))
def test_each_function_that_grows_needs_bounds(name):
    arguments = "a, n, n" if name in ("format", "printf") else "n, n, n"
    with pytest.raises(PredicateError, match=f"function {name}: "):
        check(f"{name}({arguments})")
