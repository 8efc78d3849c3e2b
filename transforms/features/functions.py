"""Features: what a model sees, described in a YAML file or by a `preprocessing_fn` of tensorflow-transform.

The file has one entry for each output feature::

    features:
      distance:                             # input: the column of the same name
        default: 0.0                        # for rows without a value
        ops: [log1p, scale_to_z_score]      # one after the other
      carrier:
        default: ""
        ops:
          - compute_and_apply_vocabulary: {top_k: 100, num_oov_buckets: 1}
      dep_hour:
        input: sched_dep_time
        ops: [{floordiv: 100}]
      route:
        inputs: [origin, dest]              # several columns; the first operation combines them
        ops: [{join: "-"}, {hash_strings: 1000}]
      delay_by_carrier:
        inputs: [dep_delay, carrier]        # the second is the key
        default: [0, ""]
        ops: [scale_to_z_score_per_key]
      arr_delay:                            # no ops: as it is, such as the label

Nothing else goes out: a column that no entry names is left behind.

- **Operations** are those of `penstock.transforms.features.operations`, which docs/features.md lists. The main argument
  of one may be given alone: `floordiv: 100`.
- **Missing values.** A missing value is never 0. With `default`, it is replaced before the first operation. Without, it
  stays missing in the output, and no statistic counts it. Operations with a key cannot handle missing values and demand
  a default. If one of several inputs is missing, so is the result, unless it chooses between them. `is_missing`
  gives 1 or 0. An empty list counts as missing, since a tensor cannot distinguish the two.
- **Lists** (features that the schema does not bound to one value) stay lists; operations work on each of their values.
  Two lists are combined item by item if the schema gives them the same length.
- **Types** are checked against the schema before anything runs. INT is int64 throughout; operations that give FLOAT
  work in float32, as tensorflow-transform does. `equal` and similar operations give 1 or 0.
- **Large integers**, such as seconds since 1970, are centred before they are narrowed, by all that scales them or puts
  them into buckets: the result is as exact as a float32 can be. Here it differs from tensorflow-transform's, which
  rounds to float32 first, so that all times within a minute are one. If all values of the fit are within 2^24, either
  way, the result is tensorflow-transform's, to the bit. Boundaries of `bucketize` are exact to 2^53.
- **Vocabularies** are stored under their entry's name, if that is valid for one: letters, digits, `_`, `.`, `-`
  (`tft.TFTransformOutput.vocabulary_by_name`), or under `vocab_filename`. They are text files, one term a line, which
  hold neither line breaks nor the empty text: such values are out of vocabulary, and a note of the fit counts them.
  With `file_format: tfrecord_gzip` a vocabulary holds every text. `weights` names a column, a number in every row,
  which counts instead of 1; `labels` a column of classes (0, 1, ...), and terms are ordered by their mutual
  information with it (`use_adjusted_mutual_info`, `min_diff_from_avg`). The graph is applied without either.
- **Shared vocabularies.** Entries with the same `vocabulary: NAME` share one, which holds the terms of all of them, in
  the file of that name. Each applies it with its own `default_value` and `num_oov_buckets`; what makes it, such as
  `top_k`, is said in one of them, or is the same in all::

      origin: {ops: [{compute_and_apply_vocabulary: {vocabulary: airports, top_k: 500, num_oov_buckets: 1}}]}
      dest: {ops: [{compute_and_apply_vocabulary: {vocabulary: airports, num_oov_buckets: 1}}]}

A `preprocessing_fn` is given as a file, `module.py` or `module.py:function`, or as `module:function`, and gets tensors
as TFX would give them: by the schema's `tensor_representation_group` and `sparse_feature`; else a feature with a fixed
shape, which must be present in every row, as a dense tensor, and every other one as a `SparseTensor`, or a
`RaggedTensor` where the schema represents variable length as ragged (`penstock.transforms.features.tensors.inputs`). It
may return dense tensors, `SparseTensor`s and `RaggedTensor`s of int64, float32 or string
(`penstock.transforms.features.tensors.outputs`). The features of a file get lists, whatever the schema says of tensors.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.io.files.yaml_files import read_text
from penstock.io.schema import Feature, feature_map
from penstock.transforms._named import (
    FEATURES_HINT,
    check_custom_config,
    config_file,
    function_of,
    parse_custom_config,
)
from penstock.transforms.features.code.function import FeatureFunction
from penstock.transforms.features.compute.columns import fill_missing, map_items, map_values
from penstock.transforms.features.compute.vocabulary import apply_alone, apply_shared, build_shared
from penstock.transforms.features.entries.binding import Input, Output, State, bind_entry
from penstock.transforms.features.entries.file import Entry, Step, parse_entries
from penstock.transforms.features.entries.vocabulary import OPERATION as VOCABULARY
from penstock.transforms.features.entries.vocabulary import Vocabulary, check_columns, check_terms, vocabularies
from penstock.transforms.features.graph import CALLS
from penstock.transforms.features.tensorflow import Tensorflow, import_tensorflow


@dataclasses.dataclass(frozen=True)
class FeatureFile:
    """The entries of a features file."""

    entries: tuple[Entry, ...]

    def bind(self, features: Sequence[Feature]) -> "Preprocessing":
        """Binds the features to columns of these types.

        Raises:
          ConfigError: for a column that the schema lacks, an operation that does not take its input, a default or
            argument of the wrong type, a missing default; with file, line and entry.
        """
        columns = feature_map(features)
        outputs = tuple(bind_entry(entry, columns) for entry in self.entries)
        terms = {output.entry.name: output.terms for output in outputs if output.terms}
        for vocabulary in vocabularies(self.entries).values():
            check_columns(vocabulary, columns)
            check_terms(vocabulary, terms)
        used = {name for entry in self.entries for name in entry.columns}
        inputs = tuple(Input(columns[name]) for name in sorted(used))
        return Preprocessing(inputs, outputs)


def load_features(features: str, custom_config: str | None = None) -> FeatureFile | FeatureFunction:
    """Reads what `--features` names: a YAML file, or a `preprocessing_fn`.

    A function is imported here, to find a mistake in its name at once; otherwise TensorFlow is not needed.

    Args:
      features: the YAML file or the function.
      custom_config: what the function gets as `custom_config`: an object in JSON, or a file that holds one.

    Raises:
      ConfigError: when a file cannot be read or is not valid, the function cannot be imported, or takes no
        `custom_config`, or needs one.
    """
    check_custom_config(custom_config, features)
    named = function_of(features)
    if named is not None:
        function = FeatureFunction(*named, None if custom_config is None else _load_config(custom_config))
        function.load()
        return function
    source = f"--features {features}"
    return parse_features(read_text(features, source, FEATURES_HINT), source)


def _load_config(custom_config: str) -> dict[str, Any]:
    path = config_file(custom_config)
    source = f"--custom_config {custom_config}"
    if path is None:
        return parse_custom_config(custom_config, "--custom_config")
    return parse_custom_config(read_text(path, source, "give a JSON file, or an object in JSON"), source)


def parse_features(text: str, source: str = "features") -> FeatureFile:
    """Parses the features of a YAML text.

    Raises:
      ConfigError: with line and entry.
    """
    entries = parse_entries(text, source)
    vocabularies(entries)
    return FeatureFile(entries)


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """A `preprocessing_fn` made from the entries of a features file. It can be pickled; its graph is always the same.

    Attributes:
      inputs: the columns that it reads, in name order.
      outputs: the outputs that it makes from them.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]

    @property
    def single(self) -> frozenset[str]:
        """The output features that have at most one value in each row."""
        return frozenset(output.entry.name for output in self.outputs if output.single)

    @property
    def labels(self) -> frozenset[str]:
        """The columns that vocabularies are told by; they must be classes."""
        found = vocabularies(output.entry for output in self.outputs).values()
        return frozenset(item.arguments["labels"] for item in found if "labels" in item.arguments)

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Computes the output columns from input columns, while a graph is built."""
        computed = _Computation(import_tensorflow(), self.outputs, inputs)
        return {output.entry.name: computed.output(output) for output in self.outputs}


class _Computation:
    """Computes outputs while a graph is built; a vocabulary that entries share is built once, from all of them."""

    def __init__(self, t: Tensorflow, outputs: Sequence[Output], inputs: Mapping[str, Any]):
        self._t = t
        self._outputs = {output.entry.name: output for output in outputs}
        self._inputs = inputs
        self._vocabularies = vocabularies(output.entry for output in outputs)
        self._terms: dict[str, Any] = {}
        self._built: dict[str | None, Any] = {}

    def output(self, output: Output) -> Any:
        """Returns the column of an output."""
        entry = output.entry
        if entry.name not in self._vocabularies:
            return self._apply(output, range(len(entry.steps)), entering_columns(self._t, output, self._inputs))[0]
        at = _vocabulary_step(entry)
        column = self._apply_vocabulary(self._vocabularies[entry.name], output, entry.steps[at])
        return self._apply(output, range(at + 1, len(entry.steps)), [column])[0]

    def _apply(self, output: Output, steps: range, columns: list[Any]) -> list[Any]:
        for index in steps:
            columns = [apply_step(self._t, output.entry.steps[index], columns, output.entering(index))]
        return columns

    def _terms_of(self, output: Output) -> Any:
        """Returns the column that the vocabulary of an entry holds the values of."""
        name = output.entry.name
        if name not in self._terms:
            before = range(_vocabulary_step(output.entry))
            self._terms[name] = self._apply(output, before, entering_columns(self._t, output, self._inputs))[0]
        return self._terms[name]

    def _apply_vocabulary(self, vocabulary: Vocabulary, output: Output, step: Step) -> Any:
        column = self._terms_of(output)
        if not vocabulary.shared:
            return apply_alone(self._t, vocabulary, column, step, self._inputs)
        if vocabulary.name not in self._built:
            columns = [self._terms_of(self._outputs[entry.name]) for entry in vocabulary.members]
            self._built[vocabulary.name] = build_shared(self._t, vocabulary, columns, self._inputs)
        return apply_shared(self._t, vocabulary, self._built[vocabulary.name], column, step)


def _vocabulary_step(entry: Entry) -> int:
    return next(index for index, step in enumerate(entry.steps) if step.name == VOCABULARY)


def entering_columns(t: Tensorflow, output: Output, inputs: Mapping[str, Any]) -> list[Any]:
    """Returns the columns that the first operation of an entry gets, with defaults for what is missing."""
    entry, columns = output.entry, []
    for name, default, state in zip(entry.inputs, entry.defaults, output.states, strict=True):
        column = t.tf.nest.map_structure(t.tf.identity, inputs[name], expand_composites=True)
        columns.append(column if default is None else fill_missing(t, column, default, state.single))
    return columns


def apply_step(t: Tensorflow, step: Step, columns: Sequence[Any], states: Sequence[State]) -> Any:
    """Returns the column that an operation makes of columns in these states."""
    operation, arguments, call = step.operation, dict(step.arguments), CALLS[step.name]
    if operation.shape == "vector":
        arguments["complete"] = all(state.complete for state in states)
    if (table := arguments.pop("table", None)) is not None:
        arguments |= {"keys": table.keys_of(states[0].kind), "values": list(table.values)}
    if not operation.on_values:
        return call(t, *columns, **arguments)

    def values(*parts: Any) -> Any:
        return call(t, *parts, **arguments)

    length = next((state.length for state in states if not state.single), None)
    if len(columns) > 1 and length:
        return map_items(t, columns, [state.single for state in states], length, values)
    return map_values(t, columns, values)
