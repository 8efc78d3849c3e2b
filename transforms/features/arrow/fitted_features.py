"""Fitted features, loaded to be applied: the counterpart of a graph of TensorFlow."""

import dataclasses
from collections.abc import Collection

import numpy as np
import pyarrow as pa

from penstock.io.batches import notes_of, with_notes
from penstock.io.errors import ConfigError
from penstock.io.reserved import RESERVED
from penstock.io.schema import Kind
from penstock.transforms.features.arrow.fitted_file import read_fitted
from penstock.transforms.features.arrow.program import Program


@dataclasses.dataclass(frozen=True)
class FeatureInput:
    """A column that features are computed from; `needed` as that of a graph."""

    name: str
    kind: Kind
    needed: bool = True


class FittedFeatures:
    """The features of a folder, which threads may share.

    Attributes:
      inputs: the columns that they are computed from, in name order.
      columns: the names of the features, in order.
      width: how many values the lists of fixed length have that a row becomes.
    """

    def __init__(self, transform_dir: str, left_out: Collection[str] = ()):
        """Loads the features, without those that are left out.

        Raises:
          ConfigError: when the folder holds none that can be read.
        """
        self._where = f"--transform {transform_dir}"
        self._program: Program = read_fitted(transform_dir, tuple(left_out))
        self.inputs = tuple(FeatureInput(item.name, item.kind) for item in self._program.inputs)
        self.width = self._program.width
        self.columns = tuple(output.entry.name for output in self._program.outputs)

    def outputs_of(self, columns: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Returns the features that depend on some of these columns, each with its column.

        Raises:
          ConfigError: when all features do.
        """
        wanted = set(columns)
        found: dict[str, tuple[str, ...]] = {
            output.entry.name: (output.entry.name,)
            for output in self._program.outputs
            if not wanted.isdisjoint(output.entry.inputs)
        }
        if len(found) == len(self.columns):
            raise ConfigError(
                f"{self._where}: each feature needs {', '.join(map(repr, sorted(columns)))}, which the environment "
                "does not expect; fit features without it"
            )
        return found

    def apply(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, dict[int, str]]:
        """Returns the features of the rows that can be computed, and for each other row why it cannot.

        The reserved columns, and notes of the batch, stay as they are.

        Raises:
          DataError: when a column is not of the kind that the features take.
        """
        columns, faults = self._program.read(batch)
        left = np.delete(np.arange(batch.num_rows), list(faults))
        arrays: list[pa.Array] = []
        while not arrays and len(left):
            rows = {name: column.take(left) for name, column in columns.items()} if faults else columns
            arrays, failed = self._program.compute(rows)
            faults |= {int(left[row]): text for row, text in failed.items()}
            left = np.delete(left, list(failed))
        if not arrays:
            return batch.slice(0, 0), faults
        reserved = [name for name in batch.schema.names if name in RESERVED]
        kept = batch.select(reserved)
        kept = kept.take(pa.array(left)) if faults else kept
        outputs = pa.record_batch([*arrays, *kept.columns], [*self.columns, *reserved])
        return with_notes(outputs, notes_of(batch)), faults
