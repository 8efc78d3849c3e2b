"""The main job: raw files in, a verified dataset of TFRecord shards out.

::

    penstock prepare --input 'data/*.csv' --output out
    penstock prepare --config examples/flights/job.yaml --input flights.csv --output out

A run is up to three pipelines, one after the other, so that no runner has to hold rows between them: infer the schema
(if none is given), fit the features (if there are any, and no fitted graph), write. Each reads the input again; a
file that changes in between fails the job. Only the last one writes dead letters.

The same job reads a stream, from Kafka or a folder that files come into, and writes a dataset for each window of event
time. There the schema is given, and the graph of the features was fitted before::

    penstock prepare --input 'kafka://localhost:9092/events' --schema schema.pbtxt --transform graph \\
        --window fixed:60s --allowed_lateness 30s --num_shards 4 --output out --runner FlinkRunner
"""

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any, ClassVar

from penstock.io.dataset.options import DEFAULT_SHARD_BYTES
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.errors import ConfigError
from penstock.io.kafka.target import KafkaTarget
from pipelines._cli.command import JobOptions, announce, command, shown
from pipelines._cli.options import (
    CheckOptions,
    InputOptions,
    OutputOptions,
    RunOptions,
    SplitOptions,
    StreamOptions,
    TransformOptions,
    is_endless,
    resolved,
)

_EXAMPLES = """examples:
  every CSV file of a folder; the schema is inferred and written to out/schema.pbtxt
    penstock prepare --input 'data/*.csv' --output out

  a curated schema, rules, features and splits
    penstock prepare --input 'data/*.parquet' --schema schema.pbtxt --rules rules.yaml \\
        --features features.yaml --label fare --split train=0.8,eval=0.1,test=0.1 --split_key user_id --output out

  the same, from a file; a flag wins over the file
    penstock prepare --config job.yaml --overwrite

  a stream: one dataset for each minute, with rows that come up to 30 seconds late
    penstock prepare --input 'kafka://localhost:9092/events' --schema schema.pbtxt --transform graph \\
        --window fixed:60s --allowed_lateness 30s --num_shards 4 --output out --runner FlinkRunner

exit codes: 0 done; 1 the data failed (too many rejects, a truncated file); 2 wrong usage or configuration"""


@dataclasses.dataclass(frozen=True)
class PrepareOptions(JobOptions):
    """All flags of the job, by family, and Beam's; `pipelines.replay` adds its own to them."""

    name: ClassVar[str] = "prepare"
    description: ClassVar[str] = "Turns raw files into a verified TFRecord dataset."
    examples: ClassVar[str] = _EXAMPLES

    input: InputOptions
    stream: StreamOptions
    checks: CheckOptions
    split: SplitOptions
    transform: TransformOptions
    output: OutputOptions
    run: RunOptions

    def check_input(self) -> None:
        """Refuses a job without input.

        Raises:
          ConfigError: says what to give.
        """
        self.input.check_given()

    def check(self) -> None:
        """Refuses flags that do not go together.

        Raises:
          ConfigError: names them.
        """
        self.check_input()
        if not self.output.output:
            raise ConfigError("--output is required: the folder of the dataset")
        if self.output.append:
            raise ConfigError(
                "--append is reserved for adding to a dataset and not supported yet; use another --output"
            )
        if self.transform.features and self.transform.transform:
            raise ConfigError("--features fits a graph and --transform applies a fitted one: pass one of them")
        if self.output.num_shards and self.output.shard_bytes:
            raise ConfigError("--num_shards and --shard_bytes both set the number of shards: pass one of them")
        for uri in filter(None, (self.output.also_to, self.output.rejects_to)):
            KafkaTarget.parse(uri)
        self._check_windows()
        self.dataset_spec().check_input(not self.is_endless, self.stream.window is not None)
        if self.run.is_translated:
            self._check_translation()
        if self.is_endless:
            self._check_stream()
        elif self.output.resume:
            raise ConfigError("--resume goes on with a stream, and this input has an end; name another folder")

    @property
    def is_endless(self) -> bool:
        """Whether the input has no end, as far as the flags tell."""
        return is_endless(self.input, self.stream)

    def _check_windows(self) -> None:
        if self.stream.window is None:
            defaults = StreamOptions()
            for name in ("allowed_lateness", "empty_windows"):
                if getattr(self.stream, name) != getattr(defaults, name):
                    raise ConfigError(f"--{name} is about windows: pass --window too")
            if self.output.resume:
                raise ConfigError("--resume goes on with a stream, which needs --window")

    def dataset_spec(self) -> DatasetSpec:
        """The dataset that the flags ask for, before its splits, columns and provenance are known.

        Raises:
          ConfigError: for flags out of range.
        """
        output, stream = self.output, self.stream
        return DatasetSpec(
            str(output.output),
            num_shards=output.num_shards,
            shard_bytes=output.shard_bytes or DEFAULT_SHARD_BYTES,
            format=output.output_format,
            compression=output.compression,
            shuffle=output.shuffle,
            seed=self.split.seed,
            overwrite=output.overwrite,
            max_reject_fraction=self.checks.max_reject_fraction,
            window=stream.window,
            allowed_lateness=stream.allowed_lateness,
            empty_windows=stream.empty_windows,
            resume=output.resume,
        )

    def _check_translation(self) -> None:
        given = f"--dry_run={self.run.dry_run}"
        if self.beam_flags.runner != "DataflowRunner":
            raise ConfigError(
                f"{given} is known to DataflowRunner, and all others would run the job; --dry_run alone shows what "
                "would be done"
            )
        if not self.checks.schema:
            raise ConfigError(f"{given} reads nothing, so that no schema can be inferred: pass --schema")
        if self.transform.features:
            raise ConfigError(f"{given} reads nothing, so that no features can be fitted: pass --transform")

    def _check_stream(self) -> None:
        if not self.checks.schema:
            raise ConfigError(
                "a stream needs --schema: infer one from what is there (for Kafka, with stop=latest in the URI and "
                "without --window), and curate it"
            )
        if self.transform.features:
            raise ConfigError(
                "features cannot be fitted on a stream: fit them on what is there (penstock fit), and apply "
                "them with --transform"
            )
        if self.output.resume and self.beam_flags.may_be_flink and not self.beam_flags.savepoint_path:
            raise ConfigError("--resume on Flink needs --savepoint_path, or what was read before is read again")

    def resolved(self) -> dict[str, Any]:
        """All flags of the job by name, as they were given or by default."""
        return resolved(self.input, self.stream, self.checks, self.split, self.transform, self.output)


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Returns:
      0 when the dataset is published, 1 when too many rows were rejected.

    Raises:
      ConfigError: wrong usage or configuration.
      DataError: an input that cannot be used.
    """
    options = PrepareOptions.parse(argv)
    options.find(may_be_missing=() if options.stream.watch is None else ("input",))
    if options.run.is_announced:
        announce("prepare", f"{shown(options.input.input)} -> {options.output.output}")

    from pipelines import _prepare

    return _prepare.run(options)


if __name__ == "__main__":
    sys.exit(command("prepare", run))
