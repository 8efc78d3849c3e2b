"""Replays dead letters: the rows that a job rejected, through the same job again, once what was wrong is put right.

::

    python -m pipelines.replay --dead_letters 'out/dead_letters/*.jsonl' --rules corrected.yaml --output repaired
    python -m pipelines.replay --dead_letters 'out/dead_letters/**.jsonl' --reasons 'rule.*,late' --output repaired
    python -m pipelines.replay --dead_letters 'out/dead_letters/*.jsonl' --watch 60 --output repaired

It takes the flags of `pipelines.prepare`; those of format, schema, rules, splits and features that are not given are
those of the run that wrote the letters, where they lie in its dataset, and its fitted graph is applied again. The
letters are those of any run, of files or a stream.

Letters in = rows out + rejected + parked. What is repaired goes to OUTPUT, a dataset of its own. What is rejected again
becomes a dead letter there, with one attempt more; what has failed `--max_attempts` times goes to a folder of its own,
`OUTPUT/dead_letters/parked/` (`OUTPUT/dead_letters/<start>/parked/` with `--window`), and is not tried again unless a
later replay allows more attempts. With `--reasons` only letters with one of these reasons are tried. The others are not
left behind, for a file is claimed as a whole: they move to `OUTPUT/dead_letters/` with the attempts that they had, for
the next replay.

Each file of letters is claimed, and replayed once, whoever replays (`penstock.io.claims`). It stays where it is: the
dataset that it lies in remains good. A run that fails gives its claims back.

`--watch` looks for new files so often, and replays each batch of them into a dataset of its own, `OUTPUT/<run id>/`.
It is no stream: the rows of dead letters are late by nature, so that a watermark would have nothing to say. It goes on
until it is interrupted, and can be started again at any time.
"""

import argparse
import dataclasses
import functools
import os
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Self

from apache_beam.io.filesystems import FileSystems

from penstock.io.claims import Claim, Claimed, claiming, is_claim
from penstock.io.dead_letter_read import DEFAULT_MAX_ATTEMPTS, DeadLetterFormat
from penstock.io.errors import ConfigError
from penstock.io.files import InputFile, format_suffix, match_files
from penstock.io.folders import is_local as is_local_path
from penstock.io.kafka.source import KafkaSource, is_kafka
from penstock.io.layout import DEAD_LETTERS, PARKED, SCHEMA, TRANSFORM, new_run_id
from penstock.io.manifest import Manifest, RejectsFile
from penstock.io.parking import ParkingHandler
from penstock.io.read import detect_format
from penstock.io.watch_state import Watched, look
from penstock.io.windowed.manifest import WindowManifest, read_manifests
from pipelines._flags import comma_list, flag, fraction, positive
from pipelines._job import DONE, is_local, main
from pipelines._options import CheckOptions, InputOptions
from pipelines._source import FileSource
from pipelines.prepare import PrepareOptions, prepare

_EXAMPLES = """examples:
  the rules were wrong: the rows that they rejected, with corrected ones
    python -m pipelines.replay --dead_letters 'out/dead_letters/*.jsonl' --rules corrected.yaml --output repaired

  only what came too late, into windows of its own
    python -m pipelines.replay --dead_letters 'out/dead_letters/*/*.jsonl' --reasons late --window fixed:60s \\
        --num_shards 4 --output late

  what nobody repaired in three attempts, once more
    python -m pipelines.replay --dead_letters 'repaired/dead_letters/parked/*.jsonl' --max_attempts 4 --output again

exit codes: 0 done; 1 the data failed; 2 wrong usage or configuration"""

# Flags that a replay takes from the run that wrote the letters.
_INHERITED = (
    "format",
    "csv_delimiter",
    "columns",
    "null_values",
    "avro_schema",
    "event_time",
    "rules",
    "label",
    "split",
    "split_key",
    "seed",
    "compression",
)


@dataclasses.dataclass(frozen=True)
class LetterOptions(InputOptions):
    """Which dead letters, and how their bytes are read."""

    title = "dead letters"

    input: tuple[str, ...] = flag(argparse.SUPPRESS, (), action="append")
    dead_letters: tuple[str, ...] = flag(
        "file of dead letters or quoted pattern; repeat it for several", (), action="append", metavar="PATTERN"
    )
    max_attempts: int = flag("park letters that failed so often", DEFAULT_MAX_ATTEMPTS, type=positive, metavar="N")
    reasons: tuple[str, ...] = flag(
        "try only letters with one of these reasons, such as rule.*; the others go to OUTPUT as they are",
        (),
        type=comma_list,
        metavar="CODE,CODE",
    )
    release: tuple[str, ...] = flag(
        "replays that were killed and run nowhere any more: what they had claimed is free again",
        (),
        type=comma_list,
        metavar="RUN_ID,RUN_ID",
    )


@dataclasses.dataclass(frozen=True)
class LetterCheckOptions(CheckOptions):
    """What a good row is; that many are not is nothing special here."""

    max_reject_fraction: float = flag(
        "fail, and publish nothing, when more than this part of the letters is rejected again",
        1.0,
        type=fraction,
        metavar="F",
    )


@dataclasses.dataclass(frozen=True)
class ReplayOptions(PrepareOptions):
    """All flags of the job: those of `prepare`, with dead letters for input."""

    name: ClassVar[str] = "replay"
    description: ClassVar[str] = "Sends dead letters through the job again that rejected them."
    examples: ClassVar[str] = _EXAMPLES

    input: LetterOptions
    checks: LetterCheckOptions

    @classmethod
    def complete(cls, namespace: argparse.Namespace) -> None:
        """Takes what is not given from the run that wrote the letters.

        Raises:
          ConfigError: when the letters are of runs with different flags.
        """
        given = set(vars(namespace)) | ({"transform"} if hasattr(namespace, "features") else set())
        files = letter_files(getattr(namespace, "dead_letters", ()))
        for name, value in inherited_flags(files, given).items():
            setattr(namespace, name, value)

    @property
    def is_endless(self) -> bool:
        """Never: with --watch, files are replayed one batch after the other."""
        return False

    def check_input(self) -> None:
        """Refuses a replay without dead letters.

        Raises:
          ConfigError: says what to give.
        """
        self.run.check_runs()
        if self.input.input:
            raise ConfigError("--input is what prepare reads; a replay reads --dead_letters")
        if not self.input.dead_letters:
            raise ConfigError(
                "--dead_letters is required: a file or a quoted pattern such as 'out/dead_letters/*.jsonl'"
            )


def letter_files(patterns: Sequence[str]) -> tuple[InputFile, ...]:
    """The files that patterns match, without claims; none is no error here."""
    return tuple(file for file in match_files(patterns, may_be_none=True) if not is_claim(file.uri))


def inherited_flags(files: Sequence[InputFile], given: Collection[str]) -> dict[str, Any]:
    """Flags, but those that are given, as the runs had them that wrote some files of dead letters.

    Raises:
      ConfigError: when two of the runs had different ones.
    """
    found: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for dataset in sorted({_dataset_of(file) for file in files} - {""}):
        manifest = next(read_manifests(dataset), None)
        flags = {} if manifest is None else _flags_of(dataset, manifest)
        for name, (value, identity) in flags.items():
            if name in given:
                continue
            if name in found and found[name][1] != identity:
                raise ConfigError(
                    f"the runs that wrote {sources[name]} and {dataset} had a different --{name}: pass it, or replay "
                    "their dead letters apart"
                )
            found[name], sources[name] = (value, identity), dataset
    return {name: value for name, (value, _) in found.items()}


def _dataset_of(file: InputFile) -> str:
    """The folder of the dataset that a file of dead letters lies in; "" when it lies elsewhere."""
    return file.uri.rpartition(f"/{DEAD_LETTERS}/")[0]


def _flags_of(dataset: str, manifest: Manifest | WindowManifest) -> dict[str, tuple[Any, Any]]:
    """Flags of a run, each with what must be equal where two runs have the same flag."""
    options: Mapping[str, Any] = manifest.provenance.get("options", {})
    flags = {name: options[name] for name in _INHERITED if options.get(name) not in (None, [], "")}
    inputs = options.get("input", ())
    flags.setdefault("format", _format_of(inputs))
    if flags["format"] == "csv" and {format_suffix(uri) for uri in inputs} == {"tsv"}:
        flags.setdefault("csv_delimiter", "\t")
    found = {name: (value, value) for name, value in flags.items() if value is not None}
    for name, path in (("schema", SCHEMA), ("transform", TRANSFORM)):
        if path in manifest.extras:
            identity = manifest.provenance.get(f"{name}_fingerprint")
            found[name] = (FileSystems.join(dataset, path), identity)
    return found


def _format_of(patterns: Sequence[str]) -> str | None:
    """The format of a run that was not told it."""
    if any(map(is_kafka, patterns)):
        return "json"
    try:
        return detect_format([InputFile(pattern, 0, 0.0) for pattern in patterns]) if patterns else None
    except ConfigError:
        return None


@dataclasses.dataclass(frozen=True)
class LetterSource(FileSource):
    """Claimed files of dead letters."""

    @classmethod
    def of(cls, files: Sequence[InputFile], options: ReplayOptions) -> Self:
        """The files, read as the flags say.

        Raises:
          ConfigError: for options that the format does not have.
        """
        flags = options.input
        reader = DeadLetterFormat(
            flags.format,
            {**flags.message_options(), **_registry(files, flags)},
            flags.max_attempts,
            flags.reasons,
            event_times=bool(options.stream.window) and not flags.event_time,
        )
        return cls(tuple(files), reader)

    @property
    def has_event_times(self) -> bool:  # type: ignore[override]
        """Whether the letters give the rows their event times."""
        return isinstance(self.reader, DeadLetterFormat) and self.reader.event_times


def _registry(files: Sequence[InputFile], options: LetterOptions) -> dict[str, Any]:
    """Where the schemas of messages in Avro are, as the run had it that wrote the letters."""
    if options.format != "avro" or options.avro_schema:
        return {}
    for dataset in sorted({_dataset_of(file) for file in files} - {""}):
        manifest = next(read_manifests(dataset), None)
        inputs = manifest.provenance.get("options", {}).get("input", ()) if manifest else ()
        for uri in filter(is_kafka, inputs):
            source = KafkaSource.parse(uri)
            return {"schema_registry": source.schema_registry, "config": source.config}
    return {}


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Raises:
      ConfigError: wrong usage or configuration.
      DataError: dead letters that cannot be used, or are claimed by other replays.
    """
    argv = sys.argv[1:] if argv is None else argv
    options = ReplayOptions.parse(argv)
    if options.stream.watch is not None and not options.run.is_described:
        return watch(argv, options.stream.watch)
    return replay(options, match_files(options.input.dead_letters))


def replay(options: ReplayOptions, files: Sequence[InputFile], run_id: str | None = None) -> int:
    """Replays what is not claimed of some files."""
    if not options.checks.schema:
        raise ConfigError("--schema is required: these dead letters do not lie in a dataset that has one")
    files = [file for file in files if not is_claim(file.uri)]
    if options.run.is_described:
        return prepare(options, LetterSource.of(files, options))
    run_id, output = run_id or new_run_id(), str(options.output.output)
    claim = Claim(run_id, os.path.abspath(output) if is_local_path(output) else output, is_local=is_local(options.beam))
    with claiming(files, claim, options.input.release) as claimed:
        _print_claimed(claimed)
        if not claimed.taken:
            return DONE
        handler = functools.partial(ParkingHandler, max_attempts=options.input.max_attempts)
        code = prepare(options, LetterSource.of(claimed.taken, options), run_id, handler)
    _print_sum(output)
    return code


def watch(argv: Sequence[str], interval: float, sleep: Callable[[float], None] = time.sleep) -> int:
    """Replays files as they are finished, for ever; the flags are resolved for each batch of them."""
    watched = Watched()
    while True:
        patterns = ReplayOptions.parse(argv).input.dead_letters
        found = look(watched, letter_files(patterns), int(time.time() * 1_000_000))
        watched = found.watched
        if found.finished:
            options, run_id = ReplayOptions.parse(argv), new_run_id()
            output = FileSystems.join(str(options.output.output), run_id)
            replay(
                dataclasses.replace(options, output=dataclasses.replace(options.output, output=output)),
                found.finished,
                run_id,
            )
        sleep(interval)


def _print_claimed(claimed: Claimed) -> None:
    if claimed.done:
        print(f"{len(claimed.done)} files were replayed before")
    for uri, run_id in claimed.others.items():
        print(f"{uri} is claimed by {run_id}; if that replay was killed: --release {run_id}")
    if not claimed.taken:
        print("nothing to replay")


def _print_sum(output: str) -> None:
    """What became of the letters."""
    manifests = list(read_manifests(output))
    files: list[RejectsFile] = [file for found in manifests for file in found.dead_letters]
    parked = sum(file.records for file in files if f"/{PARKED}/" in file.path)
    rejected = sum(file.records for file in files) - parked
    out = sum(found.rows_out for found in manifests)
    print(f"{out + rejected + parked:,} letters: {out:,} repaired, {rejected:,} rejected, {parked:,} parked")


if __name__ == "__main__":
    sys.exit(main("replay", run))
