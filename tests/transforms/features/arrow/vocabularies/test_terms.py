"""Which terms a vocabulary holds, and in which order, against plain Python; nothing here needs TensorFlow."""

import collections
import hashlib
import itertools
import math
import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from penstock.io.errors import DataError
from penstock.io.schema import Kind
from penstock.transforms.features.arrow.compute.columns import Column, RowFaultsError
from penstock.transforms.features.arrow.vocabularies.information import mutual_information
from penstock.transforms.features.arrow.vocabularies.order import descending
from penstock.transforms.features.arrow.vocabularies.terms import Terms

ROWS = 3000
_RNG = np.random.default_rng(8)
_TEXTS = [b"a", b"ab", b"ab\0", b"ab\0\0", b"abcdefgh", b"abcdefgh\0", b"abcdefghi", "Ä".encode(), b"\xff", b" ",
          *(f"a long word of {at % 7} and {at}".encode() for at in range(40))]  # fmt: skip


def texts(rows: int = ROWS) -> list[bytes]:
    return [_TEXTS[at] for at in _RNG.zipf(1.4, rows) % len(_TEXTS)]


def column(values: list[Any]) -> Column:
    is_text = isinstance(values[0], bytes)
    return Column(pa.array(values, pa.binary()) if is_text else np.array(values))


def found(terms: Terms) -> list[bytes]:
    return terms.finish()["terms"].to_pylist()


def analyzed(kind: Kind, values: list[Any], sides: dict[str, np.ndarray] | None = None, **arguments: Any) -> Terms:
    """Of three parts, one of which was pickled, merged in another order."""
    parts = []
    for rows in np.array_split(np.arange(len(values)), 3):
        part = Terms([kind], **arguments)
        given = {name: Column(side[rows]) for name, side in (sides or {}).items()}
        part.add([column([values[row] for row in rows])], **given)
        parts.append(part)
    merged = pickle.loads(pickle.dumps(parts[2]))
    merged.merge(parts[0])
    merged.merge(pickle.loads(pickle.dumps(parts[1])))
    return merged


def ranked(sums: dict[bytes, float]) -> list[bytes]:
    return sorted(sums, key=lambda term: (sums[term], term), reverse=True)


def test_order_is_that_of_bytes_among_equals() -> None:
    values = _RNG.integers(0, 3, len(_TEXTS))
    places = descending(pa.array(_TEXTS, pa.large_binary()), values)
    expected = sorted(range(len(_TEXTS)), key=lambda at: (values[at], _TEXTS[at]), reverse=True)
    assert places.tolist() == expected
    assert descending(pa.array(_TEXTS, pa.large_binary()), values, 5).tolist() == expected[:5]
    assert descending(pa.array([], pa.large_binary()), values[:0]).tolist() == []


def test_most_frequent_first() -> None:
    values = texts()
    assert found(analyzed(Kind.BYTES, values)) == ranked(collections.Counter(values))


def test_integers_are_ordered_as_texts() -> None:
    values = (_RNG.integers(-30, 30, ROWS) * 2**57).tolist()
    expected = ranked(collections.Counter(str(value).encode() for value in values))
    assert found(analyzed(Kind.INT, values)) == expected


WEIGHTS = [0.1, 1e-30, 3.25, -0.3, 1e30, 2.0**-149, 0.0]


def test_weights_are_summed_exactly() -> None:
    values, weights = texts(), np.array(WEIGHTS, np.float32)[_RNG.integers(0, len(WEIGHTS), ROWS)]
    by_term: dict[bytes, list[float]] = collections.defaultdict(list)
    for value, weight in zip(values, weights.tolist(), strict=True):
        by_term[value].append(weight)
    sums = {term: math.fsum(parts) for term, parts in by_term.items()}
    sides = {"weights": weights}
    assert found(analyzed(Kind.BYTES, values, sides, weights="w")) == ranked(sums)
    kept = [term for term in ranked(sums) if sums[term] >= 2.5e30]
    assert found(analyzed(Kind.BYTES, values, sides, weights="w", frequency_threshold=2.5e30)) == kept


def reference(values: list[bytes], labels: list[int]) -> dict[bytes, float]:
    """The mutual information of counts; none where all rows have the term."""
    rows, of_label = len(values), collections.Counter(labels)
    of_term, of_both = collections.Counter(values), collections.Counter(zip(values, labels, strict=True))
    result = {}
    for term, label in itertools.product(of_term, of_label):
        share = min(max(of_both[term, label] / of_term[term], 1e-6), 1 - 1e-6)
        both = share * of_term[term]
        told = both * math.log2(both * rows / (of_term[term] * of_label[label]))
        result[term] = result.get(term, 0.0) + told
    return result


def test_what_terms_tell_of_labels_orders_them() -> None:
    values = texts()
    labels = [(len(value) + int(noise)) % 3 for value, noise in zip(values, _RNG.integers(0, 2, ROWS), strict=True)]
    expected = reference(values, labels)
    got = found(analyzed(Kind.BYTES, values, {"labels": np.array(labels)}, labels="y"))
    assert sorted(got) == sorted(expected)
    told = [expected[term] for term in got]
    np.testing.assert_allclose(told, sorted(told, reverse=True), rtol=1e-6, atol=1e-6)
    most = found(analyzed(Kind.BYTES, values, {"labels": np.array(labels)}, labels="y", frequency_threshold=9.5))
    assert most == [term for term in got if expected[term] >= 9.5] != got


def test_expected_information_is_subtracted() -> None:
    """Of 2 rows with a term among 4, 2 of which have the label: all, one or none of 6 ways have both."""
    sums, counts = np.array([[2.0, 0.0]]), np.array([2])
    plain, adjusted = (
        mutual_information(sums, counts, np.array([2.0, 2.0]), 4, is_adjusted, 0)[0] for is_adjusted in (False, True)
    )
    assert plain == pytest.approx(2, abs=1e-4)
    # One of six ways has both rows with the label, which tells 2 bits; four have one of them, which tells nothing.
    assert plain - adjusted == pytest.approx(2 * (2 / 6))


def test_labels_that_differ_little_tell_nothing() -> None:
    sums, counts = np.array([[6.0, 4.0], [9.0, 1.0]]), np.array([10, 10])
    told = mutual_information(sums, counts, np.array([50.0, 50.0]), 100, False, 2)
    assert told[0] == 0
    assert told[1] > 1


def test_reserved_tokens_come_first() -> None:
    reserved = ["[PAD]", "a", "[UNK]"]
    counted = ranked(collections.Counter(values := texts()))
    got = found(analyzed(Kind.BYTES, values, reserved_tokens=reserved, top_k=4))
    assert got == [b"[PAD]", b"a", b"[UNK]", *(term for term in counted[:4] if term != b"a")]


def test_fingerprints_shuffle_what_is_kept() -> None:
    kept = ranked(collections.Counter(values := texts()))[:9]
    got = found(analyzed(Kind.BYTES, values, fingerprint_shuffle=True, top_k=9))
    assert got == sorted(kept, key=lambda term: hashlib.sha1(term).digest()) != kept


def test_records_hold_what_lines_do_not() -> None:
    values = [b"", b"a\nb", b"c\r", b"c\r", b"d"]
    assert found(analyzed(Kind.BYTES, values, file_format="tfrecord_gzip")) == [b"c\r", b"d", b"a\nb", b""]
    lines = analyzed(Kind.BYTES, values)
    assert found(lines) == [b"d"]
    (note,) = lines.notes("text")
    assert (note.code, note.subject, note.count) == ("fit.unheld", "text", 4)


def test_nothing_is_one_line_of_its_own() -> None:
    assert found(Terms([Kind.INT], top_k=3)) == [b"-1"]
    assert found(Terms([Kind.INT], reserved_tokens=["5"])) == [b"5"]
    assert found(Terms([Kind.INT], top_k=3, reserved_tokens=["5"])) == [b"5", b"-1"]


@pytest.mark.parametrize(
    ("weight", "labels", "message"),
    [
        pytest.param(math.nan, None, "a weight must be finite, 'w' is nan", id="nan"),
        pytest.param(-1.0, np.zeros(2, np.int64), "finite and at least 0, 'w' is -1.0", id="negative"),
    ],
)
def test_weights_that_are_refused(weight: float, labels: Any, message: str) -> None:
    terms = Terms([Kind.BYTES], weights="w", labels=None if labels is None else "y")
    sides = {"weights": Column(np.array([1, weight], np.float32))}
    with pytest.raises(RowFaultsError, match=message):
        terms.add([column([b"a", b"b"])], **sides, **({} if labels is None else {"labels": Column(labels)}))


def test_terms_that_lists_repeat_tell_nothing_of_a_label() -> None:
    terms = Terms([Kind.BYTES], labels="y")
    words = Column(pa.array([b"a", b"a", b"a"], pa.binary()), np.array([2, 1]))
    terms.add([words], labels=Column(np.array([0, 1])))
    with pytest.raises(DataError, match=r"lists repeat terms; leave labels \(y\) out, or take bag_of_words"):
        terms.finish()
