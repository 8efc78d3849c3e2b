"""Rewrites predicates that DuckDB computes in a way that a rule cannot use; the answers stay the same."""

from collections.abc import Sequence
from typing import Any

from penstock.transforms.checks.sql.trees import (
    NO_LOCATION,
    Node,
    arguments_of,
    parse_expression,
    sql_of,
    without_semicolon,
)

# These fail for every row computed together with one whose list contains a NULL.
_DISTANCES = frozenset(
    {
        "<->",
        "<=>",
        "list_cosine_distance",
        "list_cosine_similarity",
        "list_distance",
        "list_dot_product",
        "list_inner_product",
        "list_negative_dot_product",
        "list_negative_inner_product",
    }
)


def runnable(sql: str) -> str:
    """Returns a predicate as it runs: without a semicolon at its end, and rewritten.

    >>> runnable("2 <= dist ; -- metres"), runnable("dist = ANY(xs)")[:30]
    ('2 <= dist ', 'CASE  WHEN ((xs IS NULL)) THEN')
    """
    tree = parse_expression(sql)
    spelled = spell_out(tree, sql)
    return without_semicolon(sql) if spelled == tree else sql_of(spelled)


def spell_out(tree: Any, sql: str) -> Any:
    """Rewrites a syntax tree of `sql` so that the answer for each row does not depend on other rows."""
    if isinstance(tree, list):
        return [spell_out(item, sql) for item in tree]
    if not isinstance(tree, dict):
        return tree
    tree = {key: spell_out(child, sql) for key, child in tree.items()}
    items = _quantified_list(tree)
    if items is not None:
        return _quantified(tree, items, sql)
    if tree.get("class") == "FUNCTION" and tree["function_name"].lower() in _DISTANCES:
        return _distance(tree, sql)
    return tree


def _quantified_list(node: Node) -> Node | None:
    """Returns the list of `x = ANY(list)`; None for anything else, such as a subquery that a user wrote."""
    if node.get("class") != "SUBQUERY" or node["subquery_type"] != "ANY":
        return None
    selected = node["subquery"]["node"].get("select_list", [])
    # The parser wraps the list in a call of unnest that has no position in the text.
    if (
        len(selected) != 1
        or selected[0].get("function_name") != "unnest"
        or selected[0]["query_location"] != NO_LOCATION
    ):
        return None
    return arguments_of(selected[0])[0]


def _quantified(node: Node, items: Node, sql: str) -> Node:
    """Rewrites `x = ANY(items)` as a search through the list. ALL is parsed as the negation of an ANY.

    DuckDB plans it as a subquery. It accepts no subquery under TRY, which confines an error to its row, nor inside a
    lambda. The subquery takes 90 ms for 32,768 lists of five, this search 3. As in DuckDB, nothing is found in a list
    that is NULL: ANY is false for it, and ALL is true.
    """
    found, item = _unused_names(sql, "found", "item")
    compared = _node("COMPARISON", node["comparison_type"], left=node["child"], right=_reference(item))
    step = _lambda([found, item], _either(_reference(found), compared))
    is_null = _node("OPERATOR", "OPERATOR_IS_NULL", children=[items])
    return _case(
        node, is_null, _constant("BOOLEAN", "false"), _call("list_reduce", items, step, _constant("BOOLEAN", "false"))
    )


def _distance(node: Node, sql: str) -> Node:
    """Rewrites a distance of two lists, so that a row with a NULL in a list has an error and no distance."""
    (item,) = _unused_names(sql, "item")
    suspects = [argument for argument in arguments_of(node) if not _is_written_out(argument)]
    if not suspects:
        return node
    is_present = _lambda([item], _node("OPERATOR", "OPERATOR_IS_NOT_NULL", children=[_reference(item)]))
    checks = [
        _node("COMPARISON", "COMPARE_NOTEQUAL", left=_call("len", one), right=_call("list_count", one))
        for one in suspects
    ]
    # Make a cast fail, since TRY accepts no function that raises.
    told = [_node("CAST", "OPERATOR_CAST", child=one, type_expr=_type("VARCHAR"), try_cast=False) for one in suspects]
    text = _call("concat_ws", _constant("STRING", " "), _constant("STRING", "NULL among"), *told)
    fails = _node("CAST", "OPERATOR_CAST", child=text, type_expr=_type("DOUBLE"), try_cast=False)
    arguments = [
        {**argument, "expression": _call("list_filter", argument["expression"], is_present)}
        if argument["expression"] in suspects
        else argument
        for argument in node["arguments"]
    ]
    return _case(node, _either(*checks) if len(checks) > 1 else checks[0], fails, {**node, "arguments": arguments})


def _is_written_out(node: Node) -> bool:
    """Whether an argument is a literal list of numbers without a NULL."""
    return node.get("function_name") == "list_value" and all(
        item["class"] == "CONSTANT" and item["literal"]["kind"] != "NULL_LITERAL" for item in arguments_of(node)
    )


def _unused_names(sql: str, *names: str) -> tuple[str, ...]:
    number = next(number for number in range(len(sql)) if f"_{number}" not in sql)
    return tuple(f"{name}_{number}" for name in names)


def _node(kind: str, type_: str, **parts: Any) -> dict[str, Any]:
    return {
        "class": kind,
        "type": type_,
        "alias": "",
        "query_location": NO_LOCATION,
        "query_location_length": 0,
        **parts,
    }


def _reference(name: str) -> dict[str, Any]:
    return _node("COLUMN_REF", "COLUMN_REF", column_names=[name])


def _constant(kind: str, text: str) -> dict[str, Any]:
    return _node("CONSTANT", "VALUE_CONSTANT", literal={"kind": kind, "text": text})


def _type(name: str) -> dict[str, Any]:
    return _node("TYPE", "TYPE", type_name=name, children=[], catalog="", schema="", qualified_name={"path": [name]})


def _either(*conditions: Node) -> dict[str, Any]:
    return _node("CONJUNCTION", "CONJUNCTION_OR", children=list(conditions))


def _lambda(parameters: Sequence[str], body: Node) -> dict[str, Any]:
    names = [_reference(name) for name in parameters]
    left = names[0] if len(names) == 1 else _call("row", *names)
    return _node("LAMBDA", "LAMBDA", lhs=left, expr=body, syntax_type="LAMBDA_KEYWORD")


def _case(at: Node, condition: Node, then: Node, otherwise: Node) -> dict[str, Any]:
    checks = [{"when_expr": condition, "then_expr": then}]
    return {
        **_node("CASE", "CASE_EXPR", case_checks=checks, else_expr=otherwise),
        "query_location": at["query_location"],
    }


def _call(name: str, *arguments: Node) -> dict[str, Any]:
    named = [{"name": "", "expression": argument} for argument in arguments]
    return _node(
        "FUNCTION",
        "FUNCTION",
        function_name=name,
        schema="",
        catalog="",
        filter=None,
        order_bys={"type": "ORDER_MODIFIER", "orders": []},
        distinct=False,
        is_operator=False,
        export_state=False,
        arguments=named,
        qualified_name={"path": [name]},
        is_legacy_function_call=False,
    )
