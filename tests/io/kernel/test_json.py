"""Where the values of JSON documents begin and end: the kernel, and its twin, against Python's own parser."""

import json

import pytest
from depth import scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import twins

from penstock.io.kernel.shared import documents
from penstock.io.kernel.shared.documents import AFTER, BETWEEN, FIRST, NEXT, Cut

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
