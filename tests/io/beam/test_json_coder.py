import dataclasses
from collections.abc import Mapping

import pytest
from apache_beam import coders

from penstock.io.beam.json_coder import JsonCoder, OneOf, register_json


@dataclasses.dataclass(frozen=True)
class Inner:
    name: str
    size: int = 1


@register_json
@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    more: tuple[Inner, ...] = ()
    pair: tuple[int, str] = (0, "")
    by_name: Mapping[str, Inner] = dataclasses.field(default_factory=dict)
    maybe: Inner | None = None
    text: str | None = None


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (Outer(Inner("a")), b'{"inner":{"name":"a"}}'),
        (
            Outer(Inner("ä", 2), (Inner("b"),), (3, "c"), {"d": Inner("d")}, Inner("e"), "f"),
            '{"inner":{"name":"ä","size":2},"more":[{"name":"b"}],"pair":[3,"c"],"by_name":{"d":{"name":"d"}},'
            '"maybe":{"name":"e"},"text":"f"}'.encode(),
        ),
    ],
    ids=["defaults", "all"],
)
def test_dataclasses_round_trip(value, encoded):
    coder = coders.registry.get_coder(Outer)
    assert coder.encode(value) == encoded
    assert coder.decode(encoded) == value


def test_coders_of_one_kind_are_equal():
    assert coders.registry.get_coder(Outer) == JsonCoder(Outer) != JsonCoder(Inner)
    assert len({JsonCoder(Outer), JsonCoder(Outer), JsonCoder(Inner)}) == 2
    assert JsonCoder(Outer).is_deterministic()
    assert JsonCoder(Outer).to_type_hint() is Outer


def test_text_of_an_older_release_is_read():
    assert JsonCoder(Outer).decode(b'{"inner":{"name":"a"}}') == Outer(Inner("a"))


class Shape(OneOf):
    """One of two."""


@dataclasses.dataclass(frozen=True)
class Circle(Shape):
    TAG = "radius"

    name: str
    radius: int


@dataclasses.dataclass(frozen=True)
class Square(Shape):
    TAG = "side"

    name: str
    side: Inner
    turned: bool = False


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (Circle("a", 0), b'{"name":"a","radius":0}'),
        (Square("b", Inner("c"), True), b'{"name":"b","side":{"name":"c"},"turned":true}'),
    ],
    ids=["circle", "square"],
)
def test_each_case_of_a_union_round_trips(value, encoded):
    coder = JsonCoder(Shape)
    assert coder.encode(value) == encoded
    assert coder.decode(encoded) == value


def test_what_is_of_no_case_is_an_error():
    with pytest.raises(ValueError, match="Shape must have one of the fields radius, side, got name"):
        JsonCoder(Shape).decode(b'{"name":"a"}')
