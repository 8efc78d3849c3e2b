"""Where the values of JSON documents begin and end: the kernel, and its twin, against Python's own parser."""

import json

import numpy as np
import pytest
from depth import scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import twins

from penstock.io.kernel import native
from penstock.io.kernel.shared import documents
from penstock.io.kernel.shared.documents import AFTER, BETWEEN, FIRST, FLOATS, INTS, NEXT, TEXTS, Cut

MODULES = twins.each("json")

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
spaces = st.sampled_from(["", " ", "\n", "\r\n\t"])


@settings(max_examples=scaled(300))
@given(st.lists(st.tuples(values, spaces, spaces)), st.booleans(), st.booleans())
def test_items_of_an_array_are_found(items, is_ascii, is_indented):
    texts = [json.dumps(item, ensure_ascii=is_ascii, indent=2 if is_indented else None) for item, _, _ in items]
    padded = [before + text + after for text, (_, before, after) in zip(texts, items, strict=True)]
    data = f"[{','.join(padded)}] ".encode()
    for module in MODULES:
        starts, ends, marks, cut = module.cut_values(data, BETWEEN, True)
        assert [data[start:end].decode() for start, end in zip(starts, ends, strict=True)] == texts
        assert [data[mark] for mark in marks] == [*b"[", *b"," * (len(texts) - 1), *b"]"]
        assert cut == Cut(BETWEEN, len(data), 0, -1)


@settings(max_examples=scaled(500))
@given(
    st.lists(st.sampled_from([*'{}[]",:\\\n a1é', '{"a":1}', '"x"', "true"]), max_size=14).map("".join),
    st.sampled_from([BETWEEN, FIRST, AFTER, NEXT]),
    st.booleans(),
)
def test_both_find_the_same_in_anything(text, state, final):
    data = text.encode()
    first, *others = (module.cut_values(data, state, final) for module in MODULES)
    assert 0 <= first[3].consumed <= len(data)
    for found in others:
        assert [array.tolist() for array in found[:3]] == [array.tolist() for array in first[:3]]
        assert found[3] == first[3]


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    ("data", "state", "final", "values", "expected"),
    [
        (b"", BETWEEN, True, [], Cut(BETWEEN, 0, 0, -1)),
        (b'{"a":1}{"b":2} [] [3]', BETWEEN, True, [b'{"a":1}', b'{"b":2}', b"3"], Cut(BETWEEN, 21, 0, -1)),
        (b'{"a":"}\\""} 1', BETWEEN, False, [b'{"a":"}\\""}'], Cut(BETWEEN, 12, 0, -1)),
        (b'[{"a":1}, {"b', BETWEEN, False, [b'{"a":1}'], Cut(NEXT, 10, 0, -1)),
        (b', {"b":2}]', AFTER, True, [b'{"b":2}'], Cut(BETWEEN, 10, 0, -1)),
        (b"x]", FIRST, True, [b"x"], Cut(BETWEEN, 2, 0, -1)),
        (b"{},", BETWEEN, True, [b"{}"], Cut(BETWEEN, 2, documents.NO_VALUE, 2)),
        (b"[{}{}]", BETWEEN, True, [b"{}"], Cut(AFTER, 3, documents.NO_COMMA, 3)),
        (b"[{},]", BETWEEN, True, [b"{}"], Cut(NEXT, 4, documents.TRAILING_COMMA, 4)),
        (b'[{"a":"x\n"}]', BETWEEN, False, [], Cut(FIRST, 6, documents.LINE_BREAK, 6)),
        (b'[{"a":"x\\\n"}]', BETWEEN, False, [], Cut(FIRST, 6, documents.LINE_BREAK, 6)),
        (b'[{"a":[1}', BETWEEN, True, [], Cut(FIRST, 1, documents.OPEN_VALUE, 1)),
        (b"[{}", BETWEEN, True, [b"{}"], Cut(AFTER, 3, documents.OPEN_ARRAY, 3)),
    ],
)
def test_states_and_faults(module, data, state, final, values, expected):
    starts, ends, _, cut = module.cut_values(data, state, final)
    assert [data[start:end] for start, end in zip(starts, ends, strict=True)] == values
    assert cut == expected


def columns_of(module, data, starts=(0,), ends=None, before=(b'{"a":',), after=b"}", forms=(INTS,), lists=(0,)):
    ends = np.array([len(data)] if ends is None else ends, np.int64)
    content, starts = np.frombuffer(data, np.uint8), np.array(starts, np.int64)
    return module.parse_columns(content, starts, ends, list(before), after, forms, lists)


@pytest.mark.skipif(not native.ENABLED, reason="the twin parses nothing")
def test_columns_of_documents():
    one, other = b'{"a":[1.5,null,1e-30],"b":"x\\n"}', b'{"a":null,"b":null}'
    data, bounds = one + b"  " + other, ([0, len(one) + 2], [len(one), len(one + other) + 2])
    native_json = twins.both("json")[0]
    found = columns_of(native_json, data, *bounds, [b'{"a":', b',"b":'], b"}", (FLOATS, TEXTS), (1, 0))
    (lists, floats), (texts, content) = found
    assert [level.length for level in (*lists, *texts)] == [2, 3, 2]
    assert [level.valid.tolist() for level in (*lists, *texts)] == [[True, False], [True, False, True], [True, False]]
    assert (lists[0].starts.tolist(), lists[1].starts, texts[0].starts.tolist()) == ([0, 3, 3], None, [0, 2, 2])
    assert floats.tolist() == [1.5, 0.0, 1e-30]
    assert content.tobytes() == b"x\n"


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize(
    "changes", [{"data": b'{"a":1.0}'}, {"data": b'{"a": 1}'}, {"data": b'{"b":1}'}, {"data": b""}, {"lists": (99,)}]
)
def test_other_documents_are_given_up(module, changes):
    assert columns_of(module, **{"data": b'{"a":1}', **changes}) is None


@pytest.mark.skipif(not native.ENABLED, reason="the twin looks at nothing")
@pytest.mark.parametrize("changes", [{"ends": [8]}, {"starts": [-1]}, {"starts": [7], "ends": [6]}, {"starts": []}])
def test_documents_must_lie_in_the_data(changes):
    with pytest.raises(ValueError, match="document"):
        columns_of(twins.both("json")[0], b'{"a":1}', **changes)
