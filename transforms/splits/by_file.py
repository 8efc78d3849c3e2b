"""Splits by the file that a row comes from, as TFX's `input_config` names them: `train=train/*,eval=eval/*`.

A pattern is matched against the end of the file's path: `train/*` takes `/data/train/part-0.csv`. `*` stands for any
part of one name, `**` for any path. The first pattern that matches decides, so that a file is in one split.
"""

import dataclasses
import functools
import logging
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.io.filesystem import FileSystem

from penstock.io.errors import ConfigError, DataError
from penstock.io.reasons import Reason
from penstock.io.reserved import ORIGIN
from penstock.transforms.splits.base import Chosen, SplitKind
from penstock.transforms.splits.spelling import check_names

_LOGGER = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class SplitByFile(SplitKind):
    """Splits by the `uri` of `_origin`.

    Attributes:
      patterns: split names and patterns; a split may have several.

    Raises:
      ConfigError: for names that no split can have.
    """

    patterns: Sequence[tuple[str, str]]

    def __post_init__(self) -> None:
        check_names(self.names, "splits by file need patterns, such as ('train', 'train/*')")

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        """In the order in which they are named first."""
        return tuple(dict.fromkeys(name for name, _ in self.patterns))

    def split_of(self, uri: str) -> int | None:
        """Returns the index of a file's split in `names`; None if no pattern takes it."""
        for name, pattern in self.patterns:
            if _matcher(pattern).match(uri):
                return self.names.index(name)
        return None

    def choose(self, batch: pa.RecordBatch) -> Chosen:
        """By the file of each row; one of a file that no pattern takes has a fault (`split.file`)."""
        if ORIGIN not in batch.schema.names:
            raise DataError("rows do not say which file they come from: read them with ReadRecords to split them by it")
        column = batch.column(ORIGIN).field("uri")
        uris = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        texts = uris.dictionary.to_pylist()
        found = [self.split_of(uri) for uri in texts]
        table = np.array([-1 if code is None else code for code in [*found, None]], np.int32)
        indices = pc.fill_null(uris.indices, len(texts)).to_numpy(zero_copy_only=False)
        codes = table[indices]
        names = [*texts, None]
        faults = {int(row): self._reason(names[indices[row]]) for row in np.flatnonzero(codes < 0)}
        for detail in {reason.detail for reason in faults.values()}:
            _tell(detail)
        return Chosen(codes, faults)

    def _reason(self, uri: str | None) -> Reason:
        patterns = ", ".join(pattern for _, pattern in self.patterns)
        return Reason("split.file", f"no pattern of --split_from takes the file {uri or '(unknown)'}: {patterns}")

    def check_files(self, uris: Sequence[str]) -> None:
        """Checks that each file has a split, and each pattern a file."""
        for uri in uris:
            if self.split_of(uri) is None:
                raise ConfigError(
                    f"--split_from: {self._reason(uri).detail}; add one, such as train=**, or leave it out"
                )
        for name, pattern in self.patterns:
            if not any(_matcher(pattern).match(uri) for uri in uris):
                raise ConfigError(
                    f"--split_from {name}={pattern}: no file of the input is of this pattern, which is matched against "
                    f"the end of paths such as {uris[0] if uris else '(none)'}"
                )

    def describe(self) -> dict[str, Any]:
        """The patterns."""
        return {"by": "file", "patterns": [f"{name}={pattern}" for name, pattern in self.patterns]}


@functools.lru_cache(maxsize=4096)
def _tell(detail: str) -> None:
    """Tells of a file once, not with each of its batches."""
    _LOGGER.warning("%s; its rows become dead letters, and a replay with another --split_from takes them", detail)


@functools.lru_cache(maxsize=256)
def _matcher(pattern: str) -> re.Pattern[str]:
    """Matches paths that end in a pattern, from the beginning of a name; a folder stands for all files below it."""
    whole = f"{pattern}**" if pattern.endswith("/") else pattern
    expression = FileSystem.translate_pattern(whole)
    return re.compile(expression.replace("(?ms)", "(?ms)(?:.*/)?", 1))
