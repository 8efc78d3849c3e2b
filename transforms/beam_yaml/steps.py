"""What `providers.yaml` names: Penstock's transforms, configured by texts and numbers as YAML has them.

Between them pass batches, so that rows are made into batches once and keep their reserved columns. Each one that takes
batches takes Beam's rows as well (`FromRows`). `PenstockToRows` gives rows to other transforms of Beam YAML.

Each that may reject rows takes `error_handling: {output: NAME}`. Its rejected rows are the output NAME, dead letters
for the input `rejects` of `PenstockWriteDataset`, which publishes and counts them, or for `PenstockRejectsToRows`. The
good rows are the output `good`. Without it, the first bad row fails the pipeline.
"""

import typing
from collections.abc import Iterator, Mapping
from typing import Any, Optional

import apache_beam as beam
import pyarrow as pa

from penstock.io.dataset.layout import Staging
from penstock.io.dead_letters.handler import BatchErrorHandler, DeadLetterHandler, RejectingTransform, rejected_batch
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch
from penstock.io.errors import ConfigError
from penstock.io.schema import load_schema, schema_features
from penstock.io.sources.read import ReadRecords
from penstock.io.write import WriteDataset
from penstock.transforms.adapters.rows import FromRows, ToRows
from penstock.transforms.checks.file import load_rules
from penstock.transforms.checks.severity import SchemaSeverity
from penstock.transforms.checks.validate import ValidateRecords
from penstock.transforms.event_time import AssignEventTime
from penstock.transforms.splits.assign import AssignSplit
from penstock.transforms.splits.registry import split_kind

# The output of good rows beside one of rejected ones, as Beam YAML names it.
_GOOD = "good"


class _Rejecting(beam.PTransform[Any, Any]):
    """Base of the steps that may reject rows."""

    def __init__(self, error_handling: Mapping[str, str] | None):
        super().__init__()
        self._errors = _Collected()
        self._output = None if error_handling is None else _output_of(error_handling)

    def _with_errors(self, transform: RejectingTransform) -> RejectingTransform:
        return transform if self._output is None else transform.with_error_handler(self._errors)

    def _batches(self, rows: beam.PCollection[Any]) -> beam.PCollection[pa.RecordBatch]:
        """Returns batches as they are, and rows of Beam as batches."""
        if rows.element_type is pa.RecordBatch:
            return rows
        return rows | "FromRows" >> self._with_errors(FromRows())

    def _outputs(self, good: beam.PCollection[Any]) -> Any:
        if self._output is None:
            return good
        return {_GOOD: good, self._output: self._errors.rejected}


class _Collected(BatchErrorHandler):
    """Hands the rejects of some steps on."""

    def __init__(self) -> None:
        super().__init__(consumer=None)
        self._collected: list[beam.PCollection[RejectedBatch]] = []

    def add_error_pcollection(self, pcoll: beam.PCollection[Any]) -> None:
        self._collected.append(pcoll)

    @property
    def rejected(self) -> beam.PCollection[RejectedBatch]:
        return tuple(self._collected) | "Rejected" >> beam.Flatten()


def _output_of(error_handling: Mapping[str, str]) -> str:
    if set(error_handling) != {"output"} or error_handling["output"] == _GOOD:
        raise ConfigError(
            f"error_handling must be {{output: NAME}}, of any name but {_GOOD!r}, got {dict(error_handling)}"
        )
    return error_handling["output"]


class ReadPenstockRecords(_Rejecting):
    """Reads files of any format that Penstock knows (`penstock.io.ReadRecords`).

    Args:
      path: A pattern, or several.
      schema: The schema of the rows, a file of protobuf text; without it, columns are as in the files.
      format: csv, jsonl, avro, parquet, orc, tfrecord or text; without it, the suffix of the files tells.
      error_handling: Whether and where to output bad rows.
    """

    def __init__(
        self,
        path: str | list[str],
        schema: Optional[str] = None,  # noqa: UP045 - Beam YAML reads no `X | None`
        format: Optional[str] = None,  # noqa: UP045
        error_handling: Optional[Mapping[str, str]] = None,  # noqa: UP045
    ):
        super().__init__(error_handling)
        features = None if schema is None else schema_features(load_schema(schema))
        self._read = self._with_errors(ReadRecords([path] if isinstance(path, str) else path, format, features))

    def expand(self, pbegin: beam.pvalue.PBegin) -> Any:
        """Reads."""
        return self._outputs(pbegin | "Read" >> self._read)


class PenstockFromRows(_Rejecting):
    """Makes batches of rows of Beam (`penstock.transforms.FromRows`).

    Args:
      schema: The features to read, a file of protobuf text; without it, all fields as their types are declared.
      error_handling: Whether and where to output bad rows.
    """

    def __init__(
        self,
        schema: Optional[str] = None,  # noqa: UP045
        error_handling: Optional[Mapping[str, str]] = None,  # noqa: UP045
    ):
        super().__init__(error_handling)
        self._from_rows = self._with_errors(FromRows(None if schema is None else load_schema(schema)))

    def expand(self, rows: beam.PCollection[Any]) -> Any:
        """Converts."""
        return self._outputs(rows | "FromRows" >> self._from_rows)


class PenstockToRows(_Rejecting):
    """Makes rows of Beam of batches (`penstock.transforms.ToRows`).

    Args:
      schema: The features, which are the fields, a file of protobuf text.
      error_handling: Whether and where to output bad rows.
    """

    def __init__(self, schema: str, error_handling: Optional[Mapping[str, str]] = None):  # noqa: UP045
        super().__init__(error_handling)
        self._to_rows = self._with_errors(ToRows(load_schema(schema)))

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> Any:
        """Converts."""
        return self._outputs(batches | "ToRows" >> self._to_rows)


class PenstockValidate(_Rejecting):
    """Rejects rows that break the schema or a rule (`penstock.transforms.ValidateRecords`).

    Args:
      schema: The schema, a file of protobuf text.
      rules: A file of rules.
      environment: Where the rows come from, such as SERVING; without it, all features are expected.
      schema_mode: What becomes of rows that break the schema: enforce, warn or off.
      schema_warn: What only warns of a schema that is enforced, such as company.presence.
      error_handling: Whether and where to output bad rows.
    """

    def __init__(
        self,
        schema: str,
        rules: Optional[str] = None,  # noqa: UP045
        environment: Optional[str] = None,  # noqa: UP045
        schema_mode: str = "enforce",
        schema_warn: Optional[list[str]] = None,  # noqa: UP045
        error_handling: Optional[Mapping[str, str]] = None,  # noqa: UP045
    ):
        super().__init__(error_handling)
        severity = SchemaSeverity(schema_mode, tuple(schema_warn or ()))  # type: ignore[arg-type]
        loaded_rules = () if rules is None else load_rules(rules)
        validate = ValidateRecords(load_schema(schema), loaded_rules, environment=environment, severity=severity)
        self._validate = self._with_errors(validate)

    def expand(self, rows: beam.PCollection[Any]) -> Any:
        """Checks."""
        return self._outputs(self._batches(rows) | "Validate" >> self._validate)


class PenstockAssignEventTime(_Rejecting):
    """Adds the event time of each row (`penstock.transforms.AssignEventTime`).

    Args:
      event_time: The column, or for a column of numbers `COLUMN:s`, `:ms`, `:us` or `:ns`.
      error_handling: Whether and where to output rows without one.
    """

    def __init__(self, event_time: str, error_handling: Optional[Mapping[str, str]] = None):  # noqa: UP045
        super().__init__(error_handling)
        self._assign = self._with_errors(AssignEventTime(event_time))

    def expand(self, rows: beam.PCollection[Any]) -> Any:
        """Assigns."""
        return self._outputs(self._batches(rows) | "AssignEventTime" >> self._assign)


class PenstockSplit(_Rejecting):
    """Assigns each row to a split (`penstock.transforms.AssignSplit`).

    Args:
      ratios: The splits and their ratios, such as `train=0.8,eval=0.1,test=0.1`, as `--split` has them.
      key: Columns whose values decide; without any, the whole row.
      seed: Another seed gives other splits.
      folds: Splits of one size, in place of ratios.
      time: In place of ratios, `train<2026-06-01, test`: by the event time (`PenstockAssignEventTime`).
      gap: How much before the end of a split by time belongs to none, such as `1d`.
      files: In place of ratios, `train=train/*,eval=eval/*`: by the file of a row.
      column: In place of ratios, `COLUMN` or `COLUMN:train=TRAINING,eval`: by the value of a column.
      hash_version: Of the hash of ratios and folds; 1 for the splits of older datasets.
      error_handling: Whether and where to output rows without a split.
    """

    def __init__(
        self,
        ratios: Optional[str] = None,  # noqa: UP045
        key: Optional[list[str]] = None,  # noqa: UP045
        seed: int = 0,
        folds: Optional[int] = None,  # noqa: UP045
        time: Optional[str] = None,  # noqa: UP045
        gap: Optional[str] = None,  # noqa: UP045
        files: Optional[str] = None,  # noqa: UP045
        column: Optional[str] = None,  # noqa: UP045
        hash_version: int = 2,
        error_handling: Optional[Mapping[str, str]] = None,  # noqa: UP045
    ):
        super().__init__(error_handling)
        flags = {"split": ratios, "split_key": key, "seed": seed, "folds": folds, "split_time": time, "split_gap": gap}
        flags |= {"split_from": files, "split_column": column, "split_hash": hash_version}
        kind = split_kind(flags)
        if error_handling is not None and not kind.may_reject:
            raise ConfigError("PenstockSplit rejects no rows by ratios or folds: leave error_handling out")
        self._assign = self._with_errors(AssignSplit(by=kind))

    def expand(self, rows: beam.PCollection[Any]) -> Any:
        """Assigns."""
        return self._outputs(self._batches(rows) | "AssignSplit" >> self._assign)


class PenstockWriteDataset(_Rejecting):
    """Writes a dataset (`penstock.io.WriteDataset`).

    Takes rows as its input, or as one of the name `input` beside rejected rows of earlier steps: `rejects`, or any
    other names. These become the dead letters of the dataset, and count. Its own rejects do so as well.

    Args:
      path: The folder.
      splits: All splits, as `PenstockSplit` names them; without it, `train`.
      num_shards: Shards of each split; without it, as many as the bytes need.
      format: tfrecord or arrayrecord.
      compression: One that the format has.
      schema: The features that there may be, a file of protobuf text; without it, those that the rows have.
      seed: Of the shuffle.
      window: Windows such as `fixed:60s`, or of a stream also `flush:100000/30s`, each published for itself.
      overwrite: Whether to replace the dataset that is there.
      max_reject_fraction: Publish nothing if more than this part of the rows was rejected.
    """

    def __init__(
        self,
        path: str,
        splits: Optional[list[str]] = None,  # noqa: UP045
        num_shards: Optional[int] = None,  # noqa: UP045
        format: str = "tfrecord",
        compression: Optional[str] = None,  # noqa: UP045
        schema: Optional[str] = None,  # noqa: UP045
        seed: int = 0,
        window: Optional[str] = None,  # noqa: UP045
        overwrite: bool = False,
        max_reject_fraction: float = 0.05,
    ):
        super().__init__(None)
        staging = Staging.new(path)
        self._handler = DeadLetterHandler(staging.dead_letters, staging.run_id)
        self._write = WriteDataset(
            path,
            splits=splits or ("train",),
            num_shards=num_shards,
            format=format,
            compression=compression,
            schema=None if schema is None else load_schema(schema),
            seed=seed,
            window=window,
            overwrite=overwrite,
            max_reject_fraction=max_reject_fraction,
            dead_letters=self._handler,
        )

    def expand(self, rows: beam.PCollection[Any] | Mapping[str, beam.PCollection[Any]]) -> beam.PCollection[Any]:
        """Writes."""
        inputs = {"input": rows} if isinstance(rows, beam.PCollection) else dict(rows)
        if "input" not in inputs:
            raise ConfigError(f"one of several inputs must be named 'input', got {', '.join(inputs)}")
        batches = self._batches(inputs.pop("input"))
        for name, rejects in inputs.items():
            if rejects.element_type is not RejectedBatch:
                raise ConfigError(
                    f"the input {name!r} must be what error_handling of a step of Penstock gave, got elements of "
                    f"{rejects.element_type}"
                )
            self._handler.add_error_pcollection(rejects)
        return batches | "Write" >> self._write


class PenstockRejectsToRows(beam.PTransform[Any, Any]):
    """Makes rows of Beam of what `error_handling` of a step of Penstock gave: the fields of a dead letter."""

    def expand(self, rejects: beam.PCollection[RejectedBatch]) -> beam.PCollection[Any]:
        """Converts."""
        return rejects | "Letters" >> beam.FlatMap(_letter_rows).with_output_types(_LetterRow)


class _LetterRow(typing.NamedTuple):
    reason: str
    detail: str
    stage: str
    uri: str
    position: int
    payload: str
    payload_encoding: str
    attempt: int
    event_time: Optional[str]  # noqa: UP045


def _letter_rows(rejects: RejectedBatch | DeadLetter) -> Iterator[_LetterRow]:
    for letter in rejected_batch(rejects):
        yield _LetterRow(
            "; ".join(reason.code for reason in letter.reasons),
            "; ".join(reason.detail for reason in letter.reasons),
            letter.stage,
            letter.uri,
            letter.position,
            letter.payload,
            letter.payload_encoding,
            letter.attempt,
            letter.event_time,
        )
