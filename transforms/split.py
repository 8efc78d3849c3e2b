"""Splits: every row belongs to one, chosen by a seeded hash of its key.

The hash is cut into ranges, one for each split in the order given, so the split of a row depends on nothing but its
key, the seed and the ratios: not on order, batches, workers or the other rows. Rows with equal keys share a split. A
ratio holds up to chance: of n keys, a split of ratio r gets r * n, give or take sqrt(n * r * (1 - r)).
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from fractions import Fraction

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.batches import TakesBatches, set_column
from penstock.io.columns.hashing import SPLIT_SALT, hash_rows, salted
from penstock.io.errors import ConfigError
from penstock.io.reserved import RESERVED, SPLIT
from penstock.io.schema import Feature, find_feature

# Folders of a dataset that are not splits.
RESERVED_NAMES = frozenset({"dead_letters", "statistics", "transform", "windows"})

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_SUM_TOLERANCE = 1e-9


def parse_split(text: str) -> dict[str, float]:
    """Parses the ratios of `train=0.8,eval=0.1,test=0.1`, in that order.

    >>> parse_split("train=0.9, eval=0.1")
    {'train': 0.9, 'eval': 0.1}

    Raises:
      ConfigError: for anything else, a name used twice, and what `check_ratios` refuses.
    """
    ratios: dict[str, float] = {}
    for part in text.split(","):
        name, equals, ratio = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ConfigError(f"--split must look like train=0.8,eval=0.2, got {text!r}")
        if name in ratios:
            raise ConfigError(f"--split names {name!r} twice, in {text!r}")
        try:
            ratios[name] = float(ratio)
        except ValueError as error:
            raise ConfigError(f"--split {name}: the ratio must be a number, got {ratio!r}") from error
    check_ratios(ratios)
    return ratios


def check_ratios(ratios: Mapping[str, float]) -> None:
    """Rejects splits that no dataset can have.

    Raises:
      ConfigError: when there is none, a name is unfit for a folder or reserved, a ratio is not in (0, 1], or the
        ratios do not sum to 1.
    """
    if not ratios:
        raise ConfigError("split must name at least one split, such as train=1")
    for name, ratio in ratios.items():
        if not _NAME.fullmatch(name):
            raise ConfigError(f"split names are lower-case letters, digits, '_' and '-', after a letter; got {name!r}")
        if name in RESERVED_NAMES:
            raise ConfigError(f"split name {name!r} is a folder of the dataset; the reserved names are {_list_names()}")
        if not 0 < ratio <= 1:
            raise ConfigError(f"split {name}: the ratio must be above 0 and at most 1, got {ratio}")
    total = float(sum(map(_exact, ratios.values())))
    if abs(total - 1) > _SUM_TOLERANCE:
        raise ConfigError(f"split ratios must sum to 1, got {' + '.join(map(str, ratios.values()))} = {total}")


def _list_names() -> str:
    return ", ".join(sorted(RESERVED_NAMES))


def check_key(key: Sequence[str], features: Sequence[Feature]) -> None:
    """Rejects a split key with a column that is not one of the schema's features.

    Raises:
      ConfigError: naming the unknown column and those that exist.
    """
    for column in key:
        find_feature(column, features, "split key")


def split_codes(hashes: npt.NDArray[np.uint64], ratios: Sequence[float]) -> npt.NDArray[np.int32]:
    """Returns which split each uint64 hash belongs to: int32, an index into `ratios`.

    The bounds are computed exactly, so they are the same everywhere.

    >>> split_codes(np.array([0, 2**63 - 1, 2**63, 2**64 - 1], np.uint64), [0.5, 0.5]).tolist()
    [0, 0, 1, 1]
    """
    total = sum(map(_exact, ratios))
    bounds, reached = [], Fraction(0)
    for ratio in ratios[:-1]:
        reached += _exact(ratio)
        bounds.append(int(reached / total * 2**64))
    return np.searchsorted(np.array(bounds, np.uint64), hashes, side="right").astype(np.int32)


def _exact(ratio: float) -> Fraction:
    # 0.1 as the user wrote it, not the binary fraction next to it.
    return Fraction(repr(float(ratio)))


def assign_split(
    batch: pa.RecordBatch, ratios: Mapping[str, float], columns: Sequence[str] | None, seed: int = 0
) -> pa.RecordBatch:
    """Adds `_split` to a batch: dictionary<int32, string> of the names in `ratios`.

    Args:
      batch: the rows.
      ratios: split name to ratio, in the order of the hash ranges.
      columns: the columns to hash (`hash_rows`); None for all features of the batch.
      seed: the seed of the job; another seed gives other splits.
    """
    if len(ratios) == 1:
        codes = np.zeros(batch.num_rows, np.int32)
    else:
        codes = split_codes(hash_rows(batch, columns, salted(seed, SPLIT_SALT)), list(ratios.values()))
    names = pa.array(list(ratios), pa.string())
    return set_column(batch, SPLIT, pa.DictionaryArray.from_arrays(pa.array(codes), names))


@dataclasses.dataclass(eq=False)
class AssignSplit(TakesBatches, beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[pa.RecordBatch]]):
    """Adds `_split`, the split that each row belongs to.

    Key values of one kind are equal whatever file they come from: 7 in CSV, Parquet or Avro. Rows whose key is null
    are equal to each other as well: they all go to one split, so a key that is often null unbalances the splits.

    Attributes:
      ratios: split name to ratio; they sum to 1. Their order matters: a row stays where it is when only splits after
        its own change.
      key: columns whose values decide. If empty, the whole row decides, so equal rows share a split.
      seed: another seed gives other splits.
      columns: the columns of the whole row, for an empty `key`: the schema's features. A row is then the same whether
        its source has a column of nulls or lacks it. None for all features of each batch.

    Raises:
      ConfigError: for ratios that `check_ratios` refuses, or a reserved column as key.
    """

    ratios: Mapping[str, float]
    key: Sequence[str] = ()
    seed: int = 0
    columns: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__init__()
        check_ratios(self.ratios)
        for column in self.key:
            if column in RESERVED:
                raise ConfigError(f"split key {column!r} is reserved by Penstock; name columns of the data")

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Adds one step, which handles each row independently."""
        columns = tuple(self.key) or self.columns
        assign = beam.Map(assign_split, dict(self.ratios), columns, self.seed)
        return batches | "AssignSplit" >> assign.with_output_types(pa.RecordBatch)
