"""Texts that repeat each other are parsed as `json.loads` parses each alone, and what is known is not parsed again."""

import json

import pytest

from penstock.io.dataset.spans import shared_parts
from penstock.io.dataset.spans.shared_parts import SharedParts


def text_of(count, **more):
    items = [{"path": f"é {i}", "index": {"path": "{"}, "notes": [{"of": [{"n": i}]}]} for i in range(count)]
    return json.dumps({"shards": items, "extras": [], "spans": items[:2], **more}, indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(text_of(0), id="empty"),
        pytest.param(text_of(1), id="one"),
        pytest.param(text_of(3, inputs=[{"uri": "\n    {\n", "parts": [{}, {"a": []}]}]), id="line_breaks"),
        pytest.param(text_of(3, score=float("-inf"), other=float("inf")), id="infinite"),
        pytest.param(text_of(3, score=[{"a": "NaN"}, None, "NaN"]), id="nan_in_text"),
        pytest.param(json.dumps(json.loads(text_of(3))), id="one_line"),
        pytest.param(json.dumps(json.loads(text_of(3)), indent=4), id="wide"),
        pytest.param(json.dumps([[{"a": 1}], [{"b": {}}]], indent=2), id="lists_of_lists"),
        pytest.param('{"a": [\n    {\n"b": {\n"c": 1\n    }\n    },\n    {\n"d": 2}]}', id="edited"),
        pytest.param('"NaN"', id="text"),
    ],
)
def test_it_is_what_json_says(text):
    parts = SharedParts()
    assert [parts.parse(text), parts.parse(text)] == [json.loads(text)] * 2


@pytest.mark.parametrize("text", ["", text_of(3)[:-9], text_of(3).replace("    },", "    ", 1), '{"a": [\n    {\n'])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(json.JSONDecodeError):
        SharedParts().parse(text)


def test_what_is_known_is_not_parsed_again(monkeypatch):
    parsed = []
    real = json.loads
    monkeypatch.setattr(shared_parts.json, "loads", lambda text, **kw: (parsed.append(len(text)), real(text, **kw))[1])
    texts, parts = [text_of(count) for count in range(1, 100)], SharedParts()
    found = [parts.parse(text) for text in texts]
    assert found[-1]["shards"][:-1] == found[-2]["shards"]
    assert all(one is other for one, other in zip(found[-1]["shards"], found[-2]["shards"], strict=False))
    assert sum(parsed) < sum(map(len, texts)) / 10
