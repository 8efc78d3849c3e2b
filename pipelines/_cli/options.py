"""The families of flags that the jobs compose."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, TypeVar, get_args

from penstock.io.dataset.options import Shuffle
from penstock.io.dataset.shard_formats import COMPRESSIONS, SHARD_FORMATS
from penstock.io.errors import ConfigError
from penstock.io.files.partitions import Partitioning
from penstock.io.files.system_errors import explained
from penstock.io.files.temporary import default_folder, process_folder, remove_abandoned_spill, spilling_to
from penstock.io.formats.registry import FormatOption, format_names
from penstock.io.messages.registry import DECODERS, flag_options
from penstock.transforms._named import AnyEngine, SchemaMode
from penstock.transforms.splits.registry import split_names
from penstock.transforms.splits.spelling import HASH_VERSION
from pipelines._cli.flags import (
    Options,
    byte_size,
    comma_list,
    duration,
    flag,
    fraction,
    port,
    positive,
)
from pipelines._cli.named import CUSTOM_CONFIG, FEATURES, FILE, GRAPH, INPUT, OUTPUT, ROLLING, SPILL, TOPIC
from pipelines._report.metrics import serving_metrics
from pipelines._report.process import is_started_for_a_job, tell_removed

_Family = TypeVar("_Family", bound=type)


def _option_flag(option: FormatOption) -> Any:
    """The flag of a format's option."""
    match option.kind:
        case "switch":
            return flag(option.help, False, action="store_true")
        case "names":
            return flag(option.help, (), type=comma_list, metavar=option.metavar)
        case "file":
            return flag(option.help, metavar=option.metavar, names=FILE)
        case "text":
            return flag(option.help, metavar=option.metavar)
        case "choice":
            return flag(option.help, choices=option.choices)


def _with_format_flags(family: _Family) -> _Family:
    """A family of flags with those of all formats at its end, before it becomes a dataclass."""
    for option in flag_options().values():
        family.__annotations__[option.flag] = Any
        setattr(family, option.flag, _option_flag(option))
    return family


@dataclasses.dataclass(frozen=True)
@_with_format_flags
class ReadingOptions(Options):
    """How the bytes of the input become rows."""

    title = "input"

    format: str | None = flag(
        "format of the input; without it, the suffix tells (Kafka: of each message, json without it; raw is bytes)",
        choices=tuple(dict.fromkeys([*format_names(), *DECODERS])),
    )
    event_time: str | None = flag(
        "column with the time of the event: ISO 8601 text, or a number with its unit (Kafka: the record's timestamp "
        "without it)",
        metavar="COLUMN[:s|ms|us|ns]",
    )
    partitioning: Partitioning = flag(
        "auto: folders such as year=2014 directly above the files are columns; none: they are not",
        "auto",
        choices=get_args(Partitioning),
    )

    def format_options(self) -> dict[str, Any]:
        """The options of formats that were given, by flag."""
        values = {name: getattr(self, name) for name in flag_options()}
        return {name: value for name, value in values.items() if value}


@dataclasses.dataclass(frozen=True)
class InputOptions(ReadingOptions):
    """What is read, and how."""

    input: tuple[str, ...] = flag(
        "file, folder or quoted pattern, local or of any filesystem that Beam knows; repeat it for several; @FILE for "
        "what a list names: paths, a line each, the inventory of a bucket (.csv), or the manifest.json of a dataset or "
        "an inventory (docs/inputs.md); or kafka://HOST:PORT/TOPIC[,TOPIC]?start=earliest (docs/kafka.md has its "
        "parameters)",
        (),
        action="append",
        metavar="PATTERN",
        names=INPUT,
    )
    inventory_columns: tuple[str, ...] = flag(
        "names of the columns of an --input @inventory.csv whose first line does not have them, such as "
        "Bucket,Key,Size,LastModifiedDate,ETag",
        (),
        type=comma_list,
        metavar="NAME,NAME",
    )

    def check_given(self) -> None:
        """Refuses a job without input.

        Raises:
          ConfigError: says what to give.
        """
        if not self.input:
            raise ConfigError("--input is required: a file, a folder, or a quoted pattern such as --input 'data/*.csv'")


@dataclasses.dataclass(frozen=True)
class CheckOptions(Options):
    """What a good row is."""

    title = "schema and rules"

    schema: str | None = flag(
        "tensorflow_metadata Schema in text format; without one it is inferred from the whole input and written to "
        "OUTPUT",
        metavar="FILE",
        names=FILE,
    )
    environment: str | None = flag(
        "where the rows come from, such as SERVING, where the schema may expect no label (default: it expects all)",
        metavar="NAME",
    )
    schema_mode: SchemaMode = flag(
        "enforce: a row that breaks the schema is rejected; warn: it passes and is counted, unless it cannot be "
        "encoded; off: only that is looked for",
        "enforce",
        choices=get_args(SchemaMode),
    )
    schema_warn: tuple[str, ...] = flag(
        "what only warns of a schema that is enforced, such as company.presence,fare.domain: a feature and a reason, a "
        "feature, or *.REASON; repeat it for more",
        (),
        type=comma_list,
        action="extend",
        metavar="FEATURE.REASON,...",
    )
    rules: str | None = flag(
        "YAML file of SQL predicates that every row must meet, and of keys that are unique", metavar="FILE", names=FILE
    )
    label: str | None = flag("the column to learn: a row without it is rejected", metavar="COLUMN")
    max_reject_fraction: float = flag(
        "fail, and publish nothing, when more than this part of the rows is rejected", 0.05, type=fraction, metavar="F"
    )


@dataclasses.dataclass(frozen=True)
class SplitOptions(Options):
    """Which rows train and which evaluate."""

    title = "splits"

    split: str | None = flag(
        "named splits and their parts: decimals, percentages or fractions that sum to 1, or whole numbers as weights; "
        "8,1,1 are train, eval and test (default: one split, train)",
        metavar="train=0.8,eval=0.1,test=0.1",
    )
    split_key: tuple[str, ...] = flag(
        "columns whose hash chooses the split, so that rows with one key stay together (default: the whole row)",
        (),
        type=comma_list,
        metavar="COLUMN,COLUMN",
    )
    split_stratify: str | None = flag(
        "column of which each value shall be in all splits: they hold their parts of each up to chance, and the "
        "summary tells where one has none or far from its part",
        metavar="COLUMN",
    )
    folds: int | None = flag("splits of one size for cross-validation, fold_0 and so on", type=positive, metavar="K")
    split_time: str | None = flag(
        "split by event time: each split with the time at which it ends, and the last one (needs --event_time)",
        metavar="'train<2026-06-01, eval<2026-07-01, test'",
    )
    split_gap: str | None = flag(
        "rows that lie by so little before the end of a split of --split_time are in none, lest labels or features of "
        "one overlap the next; they are dead letters",
        type=duration,
        metavar="DURATION",
    )
    split_from: str | None = flag(
        "split by the path of the file that a row is from; * is any part of a name, the first pattern that fits counts",
        metavar="'train=train/*,eval=eval/*'",
    )
    split_column: str | None = flag(
        "split by a column whose values are the names train, eval and test, or those that are given; the column stays",
        metavar="COLUMN[:train=TRAINING,eval]",
    )
    split_hash: int = flag(
        "version of the hash that chooses splits; 1 is that of datasets whose manifest names none",
        HASH_VERSION,
        type=int,
        choices=(1, 2),
    )
    seed: int = flag("seed of split and shuffle", 0, type=int, metavar="N")

    def names(self) -> tuple[str, ...]:
        """The splits that the flags ask for, in order.

        Raises:
          ConfigError: for flags that are wrong, or do not go together.
        """
        return split_names(self.values())


# The help of `--export_saved_model`, and of `--features_engine`.
EXPORT_SAVED_MODEL = (
    "also write the features that Arrow fits as a SavedModel, which tft.TFTransformOutput loads (needs the extra tft, "
    "and some seconds; penstock export does it later)"
)

FEATURES_ENGINE = (
    "what fits the features: arrow (needs no extra), tft (tensorflow-transform: writes a SavedModel), or auto: arrow "
    "for a YAML file, else tft"
)


@dataclasses.dataclass(frozen=True)
class TransformOptions(Options):
    """How rows become features."""

    title = "features"

    features: str | None = flag(
        "features to compute, fitted on the train split: a YAML file, or a Python function (needs the extra tft)",
        metavar="FILE|FILE.py[:FUNCTION]|MODULE:FUNCTION",
        names=FEATURES,
    )
    custom_config: str | None = flag(
        "what the function of --features gets as custom_config: an object in JSON, or a JSON file",
        metavar="JSON|FILE",
        names=CUSTOM_CONFIG,
    )
    features_engine: AnyEngine = flag(FEATURES_ENGINE, "auto", choices=get_args(AnyEngine))
    export_saved_model: bool = flag(EXPORT_SAVED_MODEL, False, action="store_true")
    transform: str | None = flag(
        "folder of features fitted before, by any engine: apply them, fit nothing", metavar="DIR", names=GRAPH
    )
    rolling: str | None = flag(
        "YAML file of features over the last minutes of a key, computed before the others (needs no extra)",
        metavar="FILE",
        names=ROLLING,
    )


@dataclasses.dataclass(frozen=True)
class OutputOptions(Options):
    """How the dataset is written."""

    title = "output"

    output: str | None = flag("folder of the dataset; must be empty, or see --overwrite", metavar="DIR", names=OUTPUT)
    num_shards: int | None = flag(
        "shards of each split (default: as many as --shard_bytes asks for)", type=positive, metavar="N"
    )
    shard_bytes: int | None = flag(
        "aimed size of a shard, uncompressed (default: 128MiB)", type=byte_size, metavar="SIZE"
    )
    output_format: str = flag("format of the shards", "tfrecord", choices=tuple(SHARD_FORMATS))
    sequence_features: tuple[str, ...] = flag(
        "the columns that --output_format sequence_example writes as feature lists; the others are features of the "
        "context (default: those that may have other than one value, by the schema)",
        (),
        type=comma_list,
        metavar="COLUMN,COLUMN",
    )
    compression: str | None = flag(
        "compression of the shards, one that their format has (default: gzip for tfrecord and sequence_example, else "
        "zstd; none with --index)",
        choices=COMPRESSIONS,
    )
    index: bool = flag(
        "write where the records of each shard begin, to OUTPUT/_index/, so that source() of penstock.load finds a "
        "record without reading the shard; for tfrecord and sequence_example that are not compressed",
        False,
        action="store_true",
    )
    shuffle: Shuffle = flag(
        "global: a seeded shuffle of each split; none: the order of the input", "global", choices=get_args(Shuffle)
    )
    keep_origin: bool = flag(
        "keep in each record where it came from, in two columns that loaders leave out, for penstock trace "
        "(docs/lineage.md)",
        False,
        action="store_true",
    )
    also_to: str | None = flag(
        "a Kafka topic that gets each row of the dataset too, at least once: "
        "kafka://HOST:PORT/TOPIC?format=json|tfexample&key=COLUMN",
        metavar="URI",
        names=TOPIC,
    )
    rejects_to: str | None = flag(
        "a Kafka topic that gets each dead letter too, at least once", metavar="URI", names=TOPIC
    )
    overwrite: bool = flag("replace what is in OUTPUT, once the new dataset is whole", False, action="store_true")
    resume: bool = flag(
        "go on with the stream that OUTPUT holds; needless, since a stream that is started again does",
        False,
        action="store_true",
    )
    append: bool = flag(
        "add the rows to the dataset that OUTPUT holds, as a span; flags that are not given are those of the dataset, "
        "and inputs that are in it are left out",
        False,
        action="store_true",
    )
    span: str | None = flag(
        "name of what --append adds, such as its date, 2026-11-27 (default: the next number)", metavar="NAME"
    )


@dataclasses.dataclass(frozen=True)
class MetricsOptions(Options):
    """What other programs can see of the job while it runs."""

    title = "metrics"

    metrics_port: int | None = flag(
        "serve metrics for Prometheus on this port while the job runs on this machine; 0: on any free one "
        "(docs/metrics.md)",
        type=port,
        metavar="PORT",
    )
    metrics_host: str = flag("the address that --metrics_port listens on", "127.0.0.1", metavar="ADDRESS")

    def check(self, runner: str | None) -> None:
        """Refuses metrics of a job whose workers are elsewhere, and an address without a port.

        Raises:
          ConfigError: says what to do.
        """
        if self.metrics_port is None:
            if self.metrics_host != MetricsOptions.metrics_host:
                raise ConfigError("--metrics_host is the address of --metrics_port: pass that too")
        elif runner is not None and runner.rpartition(".")[2] not in ("DirectRunner", "FnApiRunner", "PrismRunner"):
            raise ConfigError(
                "--metrics_port serves what this process counts, and the workers of "
                f"--runner={runner} are elsewhere: leave it out (docs/metrics.md says what to do on Flink)"
            )

    @contextlib.contextmanager
    def serving(self, is_described: bool) -> Iterator[None]:
        """Serves metrics for the block, where the flags ask for that and the job does not only say what it would do.

        Raises:
          ConfigError: when nothing can listen there.
        """
        with serving_metrics(self.metrics_host, None if is_described else self.metrics_port):
            yield


@dataclasses.dataclass(frozen=True)
class RunOptions(Options):
    """How the job runs."""

    title = "running"

    dry_run: str | None = flag(
        "print the resolved configuration and the stages, read nothing (with a value, as in --dry_run=True: Beam's own "
        "flag of that name, with which DataflowRunner translates the job and does not submit it)",
        nargs="?",
        const="",
        metavar="BEAM_VALUE",
    )

    json: bool = flag("print how the job ended as one line of JSON (docs/jobs.md)", False, action="store_true")
    verbose: bool = flag("show the traceback of a failure, and all that is logged of it", False, action="store_true")
    spill_dir: str | None = flag(
        "folder on this machine for what the job writes for a while: runs to sort, rows by key (default: runs in "
        "OUTPUT, all else in TMPDIR)",
        metavar="DIR",
        names=SPILL,
    )

    @contextlib.contextmanager
    def temporary_files(self) -> Iterator[None]:
        """Runs the block with its temporary files where the flags say; first removes those of killed runs.

        Raises:
          ConfigError: when they cannot be written there.
        """
        if self.is_described:
            yield
            return
        with spilling_to(self.spill_dir):
            try:
                tell_removed(remove_abandoned_spill())
                folder = process_folder()
            except OSError as error:
                where = f"--spill_dir {self.spill_dir}" if self.spill_dir else "the folder for temporary files"
                raise ConfigError(f"{where}: {explained(error)}") from error
            # The rest of a program that only calls a job has temporary files of its own. The folder goes when the
            # process ends, and not before: job servers that end then still have files in it.
            with default_folder(folder) if is_started_for_a_job() else contextlib.nullcontext():
                yield

    @property
    def is_announced(self) -> bool:
        """Whether the job announces at once what it will do, for a person to read."""
        return not self.is_described and not self.json

    @property
    def is_described(self) -> bool:
        """Whether the job only says what it would do."""
        return self.dry_run == ""

    @property
    def is_translated(self) -> bool:
        """Whether the runner translates the job, and does not run it."""
        return bool(self.dry_run)

    def check_runs(self) -> None:
        """Refuses Beam's dry run in a job that goes on with what its pipeline did.

        Raises:
          ConfigError: says what to pass instead.
        """
        if self.is_translated:
            raise ConfigError(f"--dry_run={self.dry_run} is for prepare; --dry_run alone shows what would be done")


def resolved(*families: Options) -> dict[str, Any]:
    """All flags of some families by name, as they were given or by default."""
    merged = {name: value for family in families for name, value in family.values().items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in merged.items()}
