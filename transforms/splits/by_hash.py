"""Splits by a seeded hash of the row or of its key.

The hash is cut into ranges, one for each split in the order given, so the split of a row depends on nothing but its
key, the seed and the ratios: not on order, batches, workers or the other rows. Rows with equal keys share a split. A
ratio holds up to chance: of n keys, a split of ratio r gets r * n, give or take sqrt(n * r * (1 - r)). That is so for
the keys of each value of a column as well.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.columns.hashing import SPLIT_SALT, hash_rows, salted
from penstock.io.errors import ConfigError
from penstock.io.reserved import RESERVED
from penstock.io.schema import Feature, find_feature
from penstock.transforms.splits.base import Chosen, Codes, SplitKind, with_split
from penstock.transforms.splits.spelling import HASH_VERSION, Ratio, check_ratios, exact


def check_key(key: Sequence[str], features: Sequence[Feature]) -> None:
    """Rejects a split key with a column that is not one of the schema's features.

    Raises:
      ConfigError: naming the unknown column and those that exist.
    """
    for column in key:
        find_feature(column, features, "split key")


def split_codes(hashes: npt.NDArray[np.uint64], ratios: Sequence[Ratio]) -> Codes:
    """Returns which split each uint64 hash belongs to: int32, an index into `ratios`.

    The bounds are computed exactly, so they are the same everywhere.

    >>> split_codes(np.array([0, 2**63 - 1, 2**63, 2**64 - 1], np.uint64), [0.5, 0.5]).tolist()
    [0, 0, 1, 1]
    """
    total = sum(map(exact, ratios))
    bounds, reached = [], Fraction(0)
    for ratio in ratios[:-1]:
        reached += exact(ratio)
        bounds.append(int(reached / total * 2**64))
    return np.searchsorted(np.array(bounds, np.uint64), hashes, side="right").astype(np.int32)


@dataclasses.dataclass(frozen=True)
class SplitByHash(SplitKind):
    """Splits by the hash of key or row.

    Attributes:
      ratios: split name to ratio, in the order of the hash ranges; they sum to 1.
      key: columns whose values decide. If empty, the whole row decides, so equal rows share a split.
      seed: another seed gives other splits.
      columns: the columns of the whole row, for an empty `key`; None for all features of each batch.
      version: of the hash (`hash_rows`).

    Raises:
      ConfigError: for ratios that `check_ratios` refuses, a reserved column as key, or an unknown version.
    """

    ratios: Mapping[str, Ratio]
    key: Sequence[str] = ()
    seed: int = 0
    columns: Sequence[str] | None = None
    version: int = HASH_VERSION

    may_reject = False

    def __post_init__(self) -> None:
        check_ratios(self.ratios)
        for column in self.key:
            if column in RESERVED:
                raise ConfigError(f"split key {column!r} is reserved by Penstock; name columns of the data")
        if self.version not in (1, 2):
            raise ConfigError(f"the version of the hash must be 1 or 2, got {self.version!r}")

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the ratios."""
        return tuple(self.ratios)

    def choose(self, batch: pa.RecordBatch) -> Chosen:
        """By the hash of each row."""
        if len(self.ratios) == 1:
            return Chosen(np.zeros(batch.num_rows, np.int32))
        columns = tuple(self.key) or self.columns
        hashes = hash_rows(batch, columns, salted(self.seed, SPLIT_SALT), self.version)
        return Chosen(split_codes(hashes, list(self.ratios.values())))

    def bind(self, features: Sequence[Feature]) -> None:
        """Checks the key."""
        check_key(self.key, features)

    def describe(self) -> dict[str, Any]:
        """Ratios, key, and the version of the hash."""
        ratios = {name: str(exact(ratio)) for name, ratio in self.ratios.items()}
        return {"by": "hash", "ratios": ratios, "key": list(self.key), "hash_version": self.version}


def assign_split(
    batch: pa.RecordBatch, ratios: Mapping[str, Ratio], columns: Sequence[str] | None, seed: int = 0
) -> pa.RecordBatch:
    """Adds `_split` to a batch: dictionary<int32, string> of the names in `ratios`.

    Args:
      batch: the rows.
      ratios: split name to ratio, in the order of the hash ranges.
      columns: the columns to hash (`hash_rows`); None for all features of the batch.
      seed: the seed of the job; another seed gives other splits.
    """
    kind = SplitByHash(ratios, seed=seed, columns=columns)
    return with_split(batch, kind.choose(batch).codes, kind.names)
