"""What terms tell of a label, against the function of tensorflow-transform, term by term."""

from typing import Any

import numpy as np
import pytest

from penstock.transforms.features.arrow.vocabularies.information import mutual_information

pytestmark = pytest.mark.slow  # importing TensorFlow takes some seconds

ROWS, TERMS, LABELS = 5000, 60, 4


def _theirs(sums: Any, counts: Any, labels: Any, adjusted: bool, least: float) -> list[float]:
    analyzers = pytest.importorskip("tensorflow_transform.analyzers")
    impls = pytest.importorskip("tensorflow_transform.beam.analyzer_impls")

    def accumulated(of_label: Any, count: int) -> Any:
        total = of_label.sum()
        mean, weight = (of_label / (total or 1)).astype(np.float32), np.float32(total / count)
        return analyzers.WeightedMeanAndVarCombiner.accumulator_class(np.int64(count), mean, np.float32(0), weight)

    rows = accumulated(labels, ROWS)
    return [
        impls._calculate_mutual_information_for_feature_value(("", accumulated(*term)), rows, adjusted, least)[1][0]
        for term in zip(sums, counts.tolist(), strict=True)
    ]


@pytest.mark.parametrize("least", [0, 1.5])
@pytest.mark.parametrize("adjusted", [False, True], ids=["plain", "adjusted"])
@pytest.mark.parametrize("weighted", [False, True], ids=["counts", "weights"])
def test_information_is_that_of_tft(weighted: bool, adjusted: bool, least: float) -> None:
    rng = np.random.default_rng(3)
    labels = rng.choice([0, 1, 3], ROWS)  # no row has the label 2
    terms = np.where(rng.random(ROWS) < 0.2, labels * 3, np.minimum(rng.zipf(1.3, ROWS), TERMS) - 1)
    _, terms = np.unique(terms, return_inverse=True)
    weights = rng.integers(0, 20, ROWS) / 8 if weighted else np.ones(ROWS)
    counts = np.bincount(terms)
    sums = np.zeros((len(counts), LABELS))
    np.add.at(sums, (terms, labels), weights)
    of_label = np.bincount(labels, weights, LABELS)
    ours = mutual_information(sums, counts, of_label, ROWS, adjusted, least)
    theirs = np.array(_theirs(sums, counts, of_label, adjusted, least), np.float64)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-9 if adjusted else 0)
    assert np.argsort(-ours, kind="stable").tolist() == np.argsort(-theirs, kind="stable").tolist()
