"""The flags of every job that writes a dataset, whatever its rows come from."""

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from penstock.io.dataset.options import (
    DEAD_LETTERS,
    DEFAULT_SHARD_BYTES,
    MANIFEST,
    OUT_STATISTICS,
    RUN_PREFIX,
    SCHEMA,
    STATISTICS,
    TRANSFORM,
    WINDOWS,
    Addition,
)
from penstock.io.dataset.shard_formats import SHARD_FORMATS
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.apart import check_apart, check_outside
from penstock.io.kafka.target import KafkaTarget
from penstock.io.sources.lists.lines import named_by
from penstock.transforms._named import check_custom_config
from pipelines._cli.command import JobOptions
from pipelines._cli.options import (
    CheckOptions,
    MetricsOptions,
    OutputOptions,
    ReadingOptions,
    RunOptions,
    SplitOptions,
    TransformOptions,
    resolved,
)
from pipelines._cli.streams import StopOptions, StreamOptions
from pipelines._options.lineage import LineageOptions
from pipelines._options.statistics import DatasetStatisticsFlags, check_report_outside


@dataclasses.dataclass(frozen=True)
class DatasetJobOptions(JobOptions, abc.ABC):
    """The flags that `prepare` and `replay` share; each job says what its input is."""

    input: ReadingOptions
    stream: StreamOptions
    stop: StopOptions
    checks: CheckOptions
    split: SplitOptions
    transform: TransformOptions
    output: OutputOptions
    statistics: DatasetStatisticsFlags
    metrics: MetricsOptions
    lineage: LineageOptions
    run: RunOptions

    @abc.abstractmethod
    def check_input(self) -> None:
        """Refuses a job without input.

        Raises:
          ConfigError: says what to give.
        """

    def check(self) -> None:
        """Refuses flags that do not go together.

        Raises:
          ConfigError: names them.
        """
        self.check_input()
        if not self.output.output:
            raise ConfigError("--output is required: the folder of the dataset")
        self._check_append()
        if self.transform.features and self.transform.transform:
            raise ConfigError("--features fits a graph and --transform applies a fitted one: pass one of them")
        if self.transform.export_saved_model and not self.transform.features:
            raise ConfigError("--export_saved_model exports what --features fits: pass it, or run penstock export")
        check_custom_config(self.transform.custom_config, self.transform.features)
        if self.output.num_shards and self.output.shard_bytes:
            raise ConfigError("--num_shards and --shard_bytes both set the number of shards: pass one of them")
        if self.output.sequence_features and self.output.output_format != "sequence_example":
            raise ConfigError(
                "--sequence_features are for --output_format sequence_example: pass it too, or leave them out"
            )
        for uri in filter(None, (self.output.also_to, self.output.rejects_to)):
            KafkaTarget.parse(uri)
        self.split.names()
        self.stop.check(self.is_endless, self.beam_flags.may_be_flink, self.beam_flags.savepoint_path is not None)
        self.stream.check(self.is_endless)
        self.statistics.check(self.stream.windows is not None, self.is_endless)
        if self.output.resume and self.stream.windows is None:
            raise ConfigError("--resume goes on with a stream, which needs --window, or --flush_rows or --flush_every")
        self.dataset_spec().check_input(not self.is_endless, self.stream.windows is not None)
        self.metrics.check(self.beam_flags.runner)
        self.lineage.check()
        if self.run.is_translated:
            self._check_translation()
        if self.is_endless:
            self._check_stream()
        elif self.output.resume:
            raise ConfigError("--resume goes on with a stream, and this input has an end; name another folder")

    def _check_append(self) -> None:
        if self.output.span is not None and not self.output.append:
            raise ConfigError(f"--span {self.output.span}: names what --append adds: pass --append too")
        if self.output.append and not self.may_append:
            raise ConfigError(
                f"--append is of prepare and replay; {self.name} writes a dataset of its own: leave it out"
            )
        if self.output.append and self.run.is_translated:
            raise ConfigError("--append looks at the dataset and at the inputs, and this reads nothing: leave it out")

    # Whether the job can add to a dataset.
    may_append: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def is_endless(self) -> bool:
        """Whether the input has no end, as far as the flags tell."""

    # Of the output, what is published again when it is given.
    _kept: ClassVar[Mapping[str, str]] = {
        "schema": SCHEMA,
        "transform": TRANSFORM,
        "check_against": f"{STATISTICS}/{OUT_STATISTICS}",
    }

    def check_apart(self) -> None:
        """Refuses inputs, and files that flags name, in the output; and an output among the inputs.

        The schema and the graph of the dataset that is in the output may be given: they become those of the new one.
        So may its statistics, which are read before they are replaced.

        Raises:
          ConfigError: names both.
        """
        output = str(self.output.output)
        for name, kind, value in self.named():
            if name == "dead_letters" and self.output.append:
                continue  # those of the dataset that is added to
            if kind.holds == "rows":
                for rows, what in named_by(value) if name == "input" else [(value, f"--{name} {value}")]:
                    check_apart(rows, what, output, self._written())
            elif kind.holds == "file" and (path := kind.file(value)) is not None:
                check_outside([path], f"--{name}", output, kept=_kept_at(path, output, self._kept.get(name)))
        check_report_outside(self.statistics.report, "output", output)

    def _written(self) -> list[str]:
        """Examples of all files that the job writes, relative to the output."""
        spec = self.dataset_spec()
        suffix = SHARD_FORMATS[spec.format].suffixes[str(spec.compression)]
        shard, letters = f"part-00000-of-00001{suffix}", f"{DEAD_LETTERS}/part-00000-of-00001.jsonl"
        splits = self.split.names()
        if self.stream.windows is None:
            return [MANIFEST, SCHEMA, letters, *(f"{split}/{shard}" for split in splits)]
        start = "20260101T000000Z"
        letters = letters.replace("/", f"/{start}/", 1)
        return [f"{WINDOWS}/{start}_{start}.json", SCHEMA, letters, *(f"{split}/{start}/{shard}" for split in splits)]

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
            window=stream.windows,
            allowed_lateness=stream.allowed_lateness,
            empty_windows=stream.empty_windows,
            resume=output.resume,
            append=Addition(output.span) if output.append else None,
            keep_origin=output.keep_origin,
            index=output.index,
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
        if self.statistics.report:
            raise ConfigError(f"{given} reads nothing, so that there is nothing to report on: leave out --report")
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

    def resolved(self) -> dict[str, Any]:
        """All flags of the job by name, as they were given or by default."""
        flags = resolved(self.input, self.stream, self.checks, self.split, self.transform, self.output, self.statistics)
        return {**flags, "compression": self.dataset_spec().compression}


def _kept_at(path: str, output: str, kept: str | None) -> str | None:
    """Where in the output the file lies that may be given: in a store it is in the folder of a run."""
    inner = path.removeprefix(f"{output.rstrip('/')}/")
    run, _, name = inner.partition("/")
    return inner if stores.is_object(path) and run.startswith(RUN_PREFIX) and name == kept else kept
