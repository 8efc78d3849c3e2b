"""Vocabularies, in which values are looked up; nothing here needs TensorFlow."""

import numpy as np
import pyarrow as pa
import pytest

from penstock.io.schema import Kind
from penstock.transforms.features.arrow.vocabularies import lookup
from penstock.transforms.features.arrow.vocabularies.lookup import Vocabulary


@pytest.mark.parametrize(
    ("terms", "places"),
    [
        pytest.param([], None, id="no terms"),
        pytest.param([b"a", b"b", b"", b"ab"], None, id="each once"),
        pytest.param([b"c", b"a", b"b", b"a", b"b", b"a"], (1, 3), id="the first that comes again"),
        pytest.param([b"x", b"a", b"b", b"b", b"a"], (2, 3), id="the second comes again first"),
    ],
)
@pytest.mark.parametrize("collide", [False, True])
def test_a_term_that_is_there_twice_is_found(terms, places, collide, monkeypatch):
    if collide:
        monkeypatch.setattr(lookup, "fingerprints", lambda texts: np.zeros(len(texts), np.uint64))
    assert Vocabulary(pa.array(terms, pa.large_binary())).repeated(Kind.BYTES) == places
    numbers = [b"%d" % int.from_bytes(term) for term in terms]
    assert Vocabulary(pa.array(numbers, pa.large_binary())).repeated(Kind.INT) == places
