"""Splits by a column whose values name them. The column stays in the rows, as any other."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.columns.lists import list_column
from penstock.io.columns.values import is_text, shown
from penstock.io.errors import ConfigError
from penstock.io.reasons import Reason
from penstock.io.reserved import RESERVED
from penstock.io.schema import Feature, Kind, find_feature
from penstock.transforms.splits.base import Chosen, SplitKind
from penstock.transforms.splits.spelling import check_names, parse_column


@dataclasses.dataclass(frozen=True)
class SplitByColumn(SplitKind):
    """Splits by the values of a column of texts or integers.

    Attributes:
      column: its name.
      values: which split a value names; integers as their digits.

    Raises:
      ConfigError: for names that no split can have, or a reserved column.
    """

    column: str
    values: Mapping[str, str]

    def __post_init__(self) -> None:
        check_names(self.values.values(), "splits by a column need the splits that its values name")
        if self.column in RESERVED:
            raise ConfigError(f"split column {self.column!r} is reserved by Penstock; name a column of the data")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses `COLUMN`, whose values are train, eval and test, or `COLUMN:train=TRAINING,eval`.

        Raises:
          ConfigError: for anything else.
        """
        return cls(*parse_column(text))

    @property
    def names(self) -> tuple[str, ...]:  # type: ignore[override]
        """In the order in which they are named first."""
        return tuple(dict.fromkeys(self.values.values()))

    def choose(self, batch: pa.RecordBatch) -> Chosen:
        """By the value of each row; another one, or none, is a fault (`split.value`)."""
        texts = self._texts(batch)
        codes = np.array([self.names.index(name) for name in self.values.values()], np.int32)
        known = pc.index_in(texts, pa.array([value.encode() for value in self.values], pa.binary()))
        indices = pc.fill_null(known, -1).to_numpy(zero_copy_only=False)
        chosen = np.append(codes, np.int32(-1))[indices]
        faults = {int(row): self._reason(texts[int(row)].as_py()) for row in np.flatnonzero(chosen < 0)}
        return Chosen(chosen, faults)

    def _texts(self, batch: pa.RecordBatch) -> pa.Array:
        """Returns one value a row, as bytes; null where there is none, or several."""
        if self.column not in batch.schema.names:
            return pa.nulls(batch.num_rows, pa.binary())
        values = list_column(batch.column(self.column)).single_values()
        return (values if is_text(values.type) else values.cast(pa.string())).cast(pa.binary())

    def _reason(self, value: bytes | None) -> Reason:
        text = None if value is None else value.decode(errors="backslashreplace")
        known = ", ".join(self.values)
        return Reason("split.value", f"{self.column} is {shown(text)}, which names no split; those are {known}")

    def bind(self, features: Sequence[Feature]) -> None:
        """Checks that the column is one of texts or integers with one value a row."""
        found = find_feature(self.column, features, "--split_column")
        if found.kind is Kind.FLOAT or found.multivalued:
            what = "multivalued" if found.multivalued else found.kind.value
            raise ConfigError(f"--split_column {self.column!r} is {what}; it must have one text or integer a row")

    def describe(self) -> dict[str, Any]:
        """The column, and what its values name."""
        return {"by": "column", "column": self.column, "values": dict(self.values)}
