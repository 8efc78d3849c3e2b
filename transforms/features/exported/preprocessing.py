"""The `preprocessing_fn` of features that are fitted: a graph of the same operations, with what is fitted in it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from penstock.transforms.features.arrow.compute.analysis import Fitted
from penstock.transforms.features.arrow.fitted_file import vocabulary_names
from penstock.transforms.features.arrow.program import Program
from penstock.transforms.features.compute.columns import Column
from penstock.transforms.features.compute.modules import Tensorflow
from penstock.transforms.features.entries.binding import Output
from penstock.transforms.features.entries.file import Step
from penstock.transforms.features.entries.vocabulary import APPLYING, vocabularies
from penstock.transforms.features.entries.vocabulary import OPERATION as VOCABULARY
from penstock.transforms.features.exported.fitted import CALLS
from penstock.transforms.features.functions import apply_step, entering_columns
from penstock.transforms.features.tensors.inputs import DenseInput, InputTensor, ListInput

_COMPRESSED, _SUFFIX = "tfrecord_gzip", ".tfrecord.gz"


class FittedPreprocessing:
    """A `preprocessing_fn` without analyzers.

    Attributes:
      tensors: what it takes.
    """

    def __init__(self, t: Tensorflow, program: Program, assets: str):
        """Writes the vocabularies to the folder `assets`, as files that the graph reads."""
        self._t = t
        self._program = program
        entries = [output.entry for output in program.outputs]
        names, found = vocabulary_names(entries), vocabularies(entries)
        self._formats = {name: str(found[name].arguments.get("file_format", "text")) for name in names}
        self._files = {name: _vocabulary_file(assets, names[name], self._formats[name]) for name in names}
        for entry in entries:
            for at, step in enumerate(entry.steps):
                if step.name == VOCABULARY:
                    _write_terms(t, program.fitted[entry.name, at]["terms"], self._files[entry.name])
        self.tensors: tuple[InputTensor, ...] = tuple(
            (DenseInput if item.dense else ListInput)(item.name, item.kind, item.name) for item in program.inputs
        )

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Column]:
        """Computes the features from input columns, while a graph is built."""
        return {output.entry.name: self._computed(output, inputs) for output in self._program.outputs}

    def _computed(self, output: Output, inputs: Mapping[str, Any]) -> Column:
        entry, columns = output.entry, entering_columns(self._t, output, inputs)
        for at, step in enumerate(entry.steps):
            fitted = self._program.fitted.get((entry.name, at))
            if step.name == VOCABULARY:
                columns = [self._looked_up(entry.name, step, columns[0])]
            elif step.name in CALLS:
                columns = [_apply_fitted(self._t, step, columns, fitted or {})]
            else:
                columns = [apply_step(self._t, step, columns, output.entering(at))]
        return columns[0]

    def _looked_up(self, entry: str, step: Step, column: Column) -> Column:
        arguments = {name: step.arguments[name] for name in APPLYING if name in step.arguments}
        return self._t.tft.apply_vocabulary(column, self._files[entry], file_format=self._formats[entry], **arguments)


def _apply_fitted(t: Tensorflow, step: Step, columns: Sequence[Column], fitted: Fitted) -> Column:
    return CALLS[step.name](t, *columns, fitted=fitted, **step.arguments)


def _vocabulary_file(assets: str, name: str, file_format: str) -> str:
    """Where `tft.TFTransformOutput.vocabulary_file_by_name` looks for it, among the assets of the SavedModel."""
    file = name.removesuffix(_SUFFIX).replace(".", "_")
    return os.path.join(assets, file + (_SUFFIX if file_format == _COMPRESSED else ""))


def _write_terms(t: Tensorflow, terms: pa.Array, path: str) -> None:
    pieces = (terms[start : start + (1 << 16)].to_pylist() for start in range(0, len(terms), 1 << 16))
    if path.endswith(_SUFFIX):
        with t.tf.io.TFRecordWriter(path, "GZIP") as writer:
            for piece in pieces:
                for term in piece:
                    writer.write(term)
        return
    with open(path, "wb") as file:
        for piece in pieces:
            file.write(b"".join(term + b"\n" for term in piece))
