"""The families of flags that the jobs compose."""

import contextlib
import dataclasses
import datetime
from collections.abc import Iterator, Sequence
from typing import Any, Literal, TypeVar, get_args

from penstock.io.beam.durations import MAX_AHEAD, parse_duration
from penstock.io.beam.windows import AnyWindows, FlushWindows, parse_window
from penstock.io.dataset.options import Shuffle
from penstock.io.dataset.shard_formats import COMPRESSIONS, SHARD_FORMATS
from penstock.io.errors import ConfigError
from penstock.io.files.partitions import Partitioning
from penstock.io.files.system_errors import explained
from penstock.io.files.temporary import default_folder, process_folder, remove_abandoned_spill, spilling_to
from penstock.io.formats.registry import FormatOption, format_names
from penstock.io.messages.registry import DECODERS, flag_options
from penstock.io.sources.base import SourceRequest
from penstock.io.sources.lists.lines import kind_of_list, list_path
from penstock.io.sources.registry import kind_of
from penstock.transforms._named import AnyEngine, SchemaMode
from penstock.transforms.splits.registry import split_names
from penstock.transforms.splits.spelling import HASH_VERSION
from pipelines._cli.flags import (
    NONE,
    Options,
    byte_size,
    comma_list,
    duration,
    duration_or_none,
    flag,
    fraction,
    port,
    positive,
    seconds,
)
from pipelines._cli.named import CUSTOM_CONFIG, FEATURES, FILE, GRAPH, INPUT, OUTPUT, ROLLING, SPILL, TOPIC
from pipelines._report.metrics import serving_metrics
from pipelines._report.process import is_started_for_a_job, tell_removed

StopWith = Literal["savepoint", "cancel", "leave"]
OnRunning = Literal["cancel", "attach", "refuse"]

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
class StreamOptions(Options):
    """How time is cut into windows, and when a window of a stream closes."""

    title = "windows and streams"

    window: str | None = flag(
        "write one dataset for each window of event time; a stream needs it, or --flush_rows or --flush_every",
        metavar="fixed:60s|sliding:60s/10s",
    )
    flush_rows: int | None = flag(
        "a stream without event times: write one dataset for every N rows that come, good and rejected together; it "
        "has at least N, and at most those of one more bundle of the reader (about a second)",
        type=positive,
        metavar="N",
    )
    flush_every: str | None = flag(
        "a stream without event times: write one dataset of what comes, so long after the first row of it; beside "
        "--flush_rows, whichever comes first",
        type=duration,
        metavar="DURATION",
    )
    allowed_lateness: str = flag(
        "rows that come up to so long after their window closed are written as its late shards; later ones are "
        "dead letters",
        "0s",
        type=duration,
        metavar="DURATION",
    )
    empty_windows: bool = flag("write a manifest for windows without rows too", False, action="store_true")
    out_of_orderness: str = flag(
        "a window of a stream closes when rows so much younger than its end have come",
        "5s",
        type=duration,
        metavar="DURATION",
    )
    idle_timeout: str | None = flag(
        "without new data for so long, the clock closes windows; Kafka: a partition alone holds no window open "
        "(default: 60s for Kafka, files are waited for)",
        type=duration,
        metavar="DURATION",
    )
    max_ahead: str | None = flag(
        "a row whose event time is further ahead of the clock is a dead letter, future, and moves no watermark; none: "
        "no row is (default: 1h for a stream, none for input with an end)",
        type=duration_or_none,
        metavar="DURATION|none",
    )
    watch: float | None = flag(
        "read files as they come: look for new ones so often, and read each once when it no longer grows",
        type=seconds,
        metavar="SECONDS",
    )

    def guard(self, is_endless: bool) -> datetime.timedelta | None:
        """How far ahead of the clock a row may be; None if a row may have any time."""
        if self.max_ahead is None:
            return MAX_AHEAD if is_endless and not self.is_flushed else None
        return None if self.max_ahead == NONE else parse_duration(self.max_ahead)

    @property
    def is_flushed(self) -> bool:
        """Whether the stream is cut into windows of processing time."""
        return self.flush_rows is not None or self.flush_every is not None

    @property
    def windows(self) -> AnyWindows | None:
        """The windows that the flags ask for.

        Raises:
          ConfigError: for flags out of range.
        """
        if self.is_flushed:
            return FlushWindows(self.flush_rows, self.flush_every)
        return parse_window(self.window) if self.window else None

    def check(self, is_endless: bool) -> None:
        """Refuses flags that do not go together.

        Raises:
          ConfigError: says what to leave out, or to add.
        """
        if self.is_flushed:
            self._check_flushed(is_endless)
        elif self.window is None:
            self._refuse(("allowed_lateness", "empty_windows"), "is about windows: pass --window too")

    def _check_flushed(self, is_endless: bool) -> None:
        given = "flush_rows" if self.flush_rows is not None else "flush_every"
        if self.window is not None:
            raise ConfigError(
                f"--{given} cuts a stream by the time at which rows come, and --window by their event time: pass one "
                "of them"
            )
        if not is_endless:
            raise ConfigError(
                f"--{given} is for a stream, and this input has an end, so that it means nothing when its rows come: "
                "leave it out, or pass --window"
            )
        self._refuse(
            ("allowed_lateness", "empty_windows", "out_of_orderness", "idle_timeout", "max_ahead"),
            f"is about event time, and --{given} takes rows as they come, whatever their times are: leave it out",
        )

    def _refuse(self, names: Sequence[str], why: str) -> None:
        defaults = StreamOptions()
        for name in names:
            if getattr(self, name) != getattr(defaults, name):
                raise ConfigError(f"--{name} {why}")


@dataclasses.dataclass(frozen=True)
class StopOptions(Options):
    """What becomes of the job of a stream on a cluster when its user stops it, or starts it once more."""

    title = "a stream on Flink"

    stop_with: StopWith | None = flag(
        "what Ctrl-C and SIGTERM do to a stream on Flink: end it with a savepoint, cancel it, or leave it running "
        "(default: leave); a stream on this machine is finished and ends",
        choices=get_args(StopWith),
    )
    savepoint_dir: str | None = flag(
        "where --stop_with savepoint writes, as the cluster sees it (default: the cluster's folder for savepoints)",
        metavar="DIR",
    )
    on_running: OnRunning | None = flag(
        "where a job of the same dataset still runs on the cluster: cancel it and go on from its windows, attach to it "
        "and start none, or refuse (default: cancel)",
        choices=get_args(OnRunning),
    )

    def check(self, is_endless: bool, may_be_flink: bool, has_savepoint: bool) -> None:
        """Refuses flags that the job has no use for.

        Raises:
          ConfigError: says what to leave out, or to add.
        """
        if self.on_running is not None and not (is_endless and may_be_flink):
            raise ConfigError("--on_running is for a stream on Flink (--runner FlinkRunner): leave it out")
        if self.on_running == "attach" and has_savepoint:
            raise ConfigError(
                "--on_running attach goes on with the job that runs, and --savepoint_path starts one: leave out one of "
                "them"
            )
        if self.stop_with is not None and not is_endless:
            raise ConfigError("--stop_with is for a stream, and this input has an end: leave it out")
        if self.stop_with is not None and not may_be_flink:
            raise ConfigError(
                "--stop_with is for a stream on Flink (--runner FlinkRunner): leave it out; on this machine, Ctrl-C "
                "finishes what was read and ends the job"
            )
        if self.savepoint_dir is not None and self.stop_with != "savepoint":
            raise ConfigError("--savepoint_dir is where --stop_with savepoint writes: pass that too, or leave it out")


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


# The help of `--features_engine`.
FEATURES_ENGINE = (
    "what fits the features: arrow (needs no extra), tft (tensorflow-transform: writes a SavedModel), or auto: arrow "
    "where it has all their operations"
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
        "zstd)",
        choices=COMPRESSIONS,
    )
    shuffle: Shuffle = flag(
        "global: a seeded shuffle of each split; none: the order of the input", "global", choices=get_args(Shuffle)
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
    append: bool = flag("reserved for adding to a dataset; refused for now", False, action="store_true")


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


def source_request(options: InputOptions, stream: StreamOptions) -> SourceRequest:
    """What the flags say of the source.

    Raises:
      ConfigError: when its URI is wrong, or flags are for another kind of source.
    """
    lists = (path for path in map(list_path, options.input) if path is not None)
    if options.inventory_columns and not any(kind_of_list(path) == "inventory" for path in lists):
        raise ConfigError("--inventory_columns names those of a CSV file: pass it with --input @FILE.csv")
    request = SourceRequest(
        inputs=options.input,
        format=options.format,
        options=options.format_options(),
        event_time=options.event_time,
        watch=None if stream.watch is None else datetime.timedelta(seconds=stream.watch),
        out_of_orderness=parse_duration(stream.out_of_orderness),
        idle_timeout=None if stream.idle_timeout is None else parse_duration(stream.idle_timeout),
        partitioning=options.partitioning,
        inventory_columns=options.inventory_columns,
    )
    return dataclasses.replace(request, max_ahead=stream.guard(kind_of(*request.inputs).is_endless(request)))


def is_endless(options: InputOptions, stream: StreamOptions) -> bool:
    """Whether the source that the flags name has no end, as far as the flags say.

    Raises:
      ConfigError: when its URI is wrong, or flags are for another kind of source.
    """
    request = source_request(options, stream)
    return kind_of(*request.inputs).is_endless(request)
