"""Runs `replay` after its command line is checked: claims dead letters, and prepares a dataset of their rows."""

import dataclasses
import datetime
import functools
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Self

from penstock.io.columns.event_times import letter_times
from penstock.io.dataset.layout import DEAD_LETTERS, PARKED, SCHEMA, TRANSFORM, dataset_of, new_run_id
from penstock.io.dataset.manifest import Manifest, PublishedDeadLetters, SpanFolders
from penstock.io.dataset.windowed.manifest import WindowManifest, read_manifests
from penstock.io.dead_letters.replay.claims import Claim, Claimed, claiming, is_claim
from penstock.io.dead_letters.replay.format import DeadLetterFormat, payload_decoder
from penstock.io.dead_letters.replay.named import NamedLetters
from penstock.io.dead_letters.replay.parking import ParkingHandler
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.apart import check_outside
from penstock.io.files.inputs import InputFile, match_files
from penstock.io.files.paths import is_local as is_local_path
from penstock.io.formats.registry import by_keyword
from penstock.io.messages.registry import AVRO_SCHEMA, decoder_options
from penstock.io.sources.files import FileSource
from penstock.io.sources.registry import kind_of, payload_settings
from penstock.io.sources.seen import Watched, look
from penstock.transforms.splits.registry import KIND_FLAGS, SPLIT_FLAGS
from pipelines._jobs.appending import Appending
from pipelines._jobs.prepare import describe, prepare
from pipelines._options.replay import DeadLetterOptions, ReplayOptions
from pipelines._report.printable import printable
from pipelines._report.process import beginning_now, job_started
from pipelines._report.result import DatasetResult, LettersResult
from pipelines._report.summary import tell
from pipelines._run.job import is_local
from pipelines._run.staging import restore

# Flags that say how the bytes of a dead letter are read.
_OF_ROWS = ("format", "partitioning", *decoder_options())

# What a replay that adds to a dataset has from there, and not from the run that wrote the dead letters.
_OF_DATASET = (
    "label",
    *SPLIT_FLAGS,
    "seed",
    "output_format",
    "sequence_features",
    "compression",
    "index",
    "keep_origin",
)

# Flags that a replay takes from the run that wrote the dead letters.
_INHERITED = (*_OF_ROWS, "event_time", "schema_mode", "schema_warn", "rules", *_OF_DATASET)

# Flags of the run that wrote a dataset which say nothing of a replay that adds to it.
_OF_REPLAY = ("dead_letters", "max_attempts", "reasons", "release", "max_reject_fraction", "watch", "format", "schema")


def run(options: ReplayOptions) -> int:
    """Runs the job, as `pipelines.replay.run` does."""
    _ = options.beam  # Beam refuses a wrong option here, before anything is read
    if options.stream.watch is not None and not options.run.is_described:
        return watch(options, datetime.timedelta(seconds=options.stream.watch))
    found = match_files(options.input.dead_letters)
    files = NamedLetters().of(found)
    if len(files) < len(found) and not options.run.json:
        print(f"{len(found) - len(files)} files are left out, since no window names them, or none does so yet")
    return replay(completed(options), files)


def completed(options: ReplayOptions) -> ReplayOptions:
    """The options; a flag that is not given has its value from the run that wrote the dead letters.

    Raises:
      ConfigError: when runs with different flags wrote them.
    """
    return options.with_flags(inherited_flags(letter_files(options.input.dead_letters), _given(options)))


def _given(options: ReplayOptions) -> set[str]:
    """The flags that are given, and those that what is given decides."""
    given = {*options.given, *(("transform",) if options.transform.features else ())}
    given |= {"compression", "sequence_features"} if "output_format" in given else set()
    given |= {"index"} if "compression" in given else set()
    given |= set(SPLIT_FLAGS) if given & set(KIND_FLAGS) else set()
    return given


def letter_files(patterns: Sequence[str]) -> tuple[InputFile, ...]:
    """The files that patterns match, without the files of claims. It is no error if there is none."""
    return tuple(file for file in match_files(patterns, may_be_none=True) if not is_claim(file.uri))


def inherited_flags(files: Sequence[InputFile], given: Collection[str]) -> dict[str, Any]:
    """The flags of the runs that wrote some files of dead letters, without those that are given.

    Raises:
      ConfigError: when two of the runs had different ones.
    """
    runs = [
        (source, _flags_of(dataset, manifest, has_schema="schema" in given))
        for source, dataset, manifest in _runs_of(files)
    ]
    found: dict[str, Any] = {}
    for name in dict.fromkeys(name for _, flags in runs for name in flags if name not in given):
        # Without a flag that says how a row is read, a run has read it in another way than one with it.
        had = [(source, flags) for source, flags in runs if name in flags or name in _OF_ROWS]
        values = [(source, *flags.get(name, (None, None))) for source, flags in had]
        first, found[name], identity = values[0]
        for source, _, other in values:
            if other != identity:
                raise ConfigError(
                    f"the runs that wrote {first} and {source} had a different --{name}: pass it, or replay their dead "
                    "letters apart"
                )
    return found


def _runs_of(files: Sequence[InputFile]) -> Iterator[tuple[str, str, Manifest | WindowManifest]]:
    """The runs that wrote files of dead letters: how messages name each, the folder of its dataset, and its manifest.

    Of a dataset with spans these are the runs of the spans that the files lie in.
    """
    for dataset in _datasets_of(files):
        manifest = next(read_manifests(dataset), None)
        if not isinstance(manifest, Manifest) or not manifest.spans:
            if manifest is not None:
                yield dataset, dataset, manifest
            continue
        folder_of = SpanFolders(manifest.spans)
        folders = {folder_of(file.uri.removeprefix(f"{dataset}/")) for file in files if _dataset_of(file) == dataset}
        for span in manifest.spans:
            if span.folder not in folders:
                continue
            part = manifest.part_of(span)
            for run, options in manifest.options_of(span).items():
                provenance = {**part.provenance, "options": options}
                source = f"{dataset}, span {span.name}" + (f" ({run})" if run != span.run_id else "")
                yield source, dataset, dataclasses.replace(part, provenance=provenance)


def _dataset_of(file: InputFile) -> str:
    """The folder of the dataset that a file of dead letters lies in; "" when it lies elsewhere."""
    return dataset_of(file.uri.rpartition(f"/{DEAD_LETTERS}/")[0])


def _datasets_of(files: Iterable[InputFile]) -> list[str]:
    """The folders of the datasets that files of dead letters lie in, sorted."""
    return sorted({_dataset_of(file) for file in files} - {""})


def _flags_of(dataset: str, manifest: Manifest | WindowManifest, has_schema: bool) -> dict[str, tuple[Any, Any]]:
    """The flags of a run: for each its value, and its identity, which must be equal in all runs that have the flag.

    Args:
      dataset: the folder of the run.
      manifest: of the run.
      has_schema: whether the replay has a schema of its own.
    """
    options: Mapping[str, Any] = manifest.provenance.get("options", {})
    # The schema of a dataset is what its environment saw; only another schema is looked at from there.
    names = (*_INHERITED, "environment") if has_schema else _INHERITED
    # Manifests from before there was a second hash do not name its version.
    options = {"split_hash": 1, **options} if options else options
    flags = {name: options[name] for name in names if options.get(name) not in (None, [], "")}
    # A folder does not tell the format, its files do.
    named = (options.get("input", ()), [entry["uri"] for entry in manifest.provenance.get("inputs", ())])
    formats = (found for found in map(_format_of, named) if found[0] is not None)
    format_name, format_options = next(formats, (None, {}))
    flags = {"format": format_name, **format_options, **flags}
    found = {name: (value, value) for name, value in flags.items() if value is not None}
    for name, path in (("schema", SCHEMA), ("transform", TRANSFORM)):
        if (place := manifest.extra(path)) is not None:
            identity = manifest.provenance.get(f"{name}_fingerprint")
            found[name] = (stores.join(dataset, place), identity)
    return found


def _format_of(inputs: Sequence[str]) -> tuple[str | None, Mapping[str, Any]]:
    """The format of a run without --format, and options of it by flag."""
    return kind_of(*inputs).replay_format(inputs) if inputs else (None, {})


@dataclasses.dataclass(frozen=True)
class DeadLetterSource(FileSource):
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
            {**_payload_options(flags), **_registry(files, flags)},
            flags.max_attempts,
            flags.reasons,
            event_times=options.stream.windows is not None and not flags.event_time,
            inputs=_inputs(files),
            partitioning=flags.partitioning,
        )
        return cls(tuple(files), reader, letter_times(flags.event_time, options.stream.guard(is_endless=False)))

    @property
    def has_event_times(self) -> bool:  # type: ignore[override]
        """Whether the letters give the rows their event times."""
        return isinstance(self.reader, DeadLetterFormat) and self.reader.event_times


def _payload_options(options: DeadLetterOptions) -> dict[str, Any]:
    """Options of what decodes the bytes of rows, by keyword.

    Raises:
      ConfigError: for one that it does not have.
    """
    decoder = payload_decoder(options.format)
    what = f"dead letters of {options.format} rows" if options.format else "dead letters without --format"
    known = (*decoder.options, *decoder.of_headers) if decoder else ()
    return by_keyword(options.format_options(), known, what)


def _inputs(files: Sequence[InputFile]) -> frozenset[str]:
    """The inputs of the runs that wrote the dead letters, as far as their manifests name them."""
    manifests = [manifest for dataset in _datasets_of(files) for manifest in read_manifests(dataset)]
    named = {entry["uri"] for manifest in manifests for entry in manifest.provenance.get("inputs", ())}
    of_windows = {
        found.uri for manifest in manifests if isinstance(manifest, WindowManifest) for found in manifest.inputs
    }
    return frozenset(named | of_windows)


def _registry(files: Sequence[InputFile], options: DeadLetterOptions) -> Mapping[str, Any]:
    """The schema registry of the run that wrote the dead letters, for messages in Avro."""
    if options.format != "avro" or AVRO_SCHEMA.flag in options.format_options():
        return {}
    for dataset in _datasets_of(files):
        manifest = next(read_manifests(dataset), None)
        inputs = manifest.provenance.get("options", {}).get("input", ()) if manifest else ()
        if settings := payload_settings(inputs):
            return settings
    return {}


def replay(options: ReplayOptions, files: Sequence[InputFile], run_id: str | None = None) -> int:
    """Replays the files that no other replay has claimed, and reports how that ended."""
    started = job_started()
    if not options.run.is_described:
        restore(str(options.output.output))
    appending = Appending.begin(str(options.output.output)) if options.output.append else None
    if appending is not None:
        inherited = inherited_flags(files, _given(options))
        options = appending.completed(options, {*_OF_REPLAY, *inherited} - {*_OF_DATASET})
    if not options.checks.schema:
        raise ConfigError("--schema is required: these dead letters do not lie in a dataset that has one")
    files = [file for file in files if not is_claim(file.uri)]
    options.check_apart()  # with the schema and the graph of the dataset that the letters lie in
    if appending is None:  # a span takes the place of no file
        check_outside((file.uri for file in files), "--dead_letters", str(options.output.output))
    if options.run.is_described:
        return tell(describe(options, DeadLetterSource.of(files, options)), options.run.json)
    run_id, output = run_id or new_run_id(), str(options.output.output)
    claim = Claim(run_id, os.path.abspath(output) if is_local_path(output) else output, is_local=is_local(options.beam))
    with claiming(files, claim, options.input.release) as claimed:
        letters = LettersResult(len(claimed.taken), len(claimed.done), claimed.others)
        if not options.run.json:
            _print_claimed(claimed)
        if not claimed.taken:
            seconds = time.monotonic() - started
            result = DatasetResult(
                job=options.name, status="nothing_to_do", seconds=seconds, output=output, letters=letters
            )
            return tell(result, options.run.json)
        handler = functools.partial(ParkingHandler, max_attempts=options.input.max_attempts)
        result = prepare(options, DeadLetterSource.of(claimed.taken, options), run_id, handler, appending)
    return tell(dataclasses.replace(result, letters=_counted(letters, output, run_id)), options.run.json)


def watch(options: ReplayOptions, interval: datetime.timedelta, sleep: Callable[[float], None] = time.sleep) -> int:
    """Replays files as they are finished, for ever; each batch inherits the flags of the runs that wrote it."""
    watched, named = Watched(), NamedLetters()
    while True:
        files = named.of(letter_files(options.input.dead_letters))
        found = look(watched, files, int(time.time() * 1_000_000))
        watched = found.watched
        if found.finished:
            run_id = new_run_id()
            output = stores.join(str(options.output.output), run_id)
            with beginning_now():
                replay(completed(options).with_flags({"output": output}), found.finished, run_id)
        sleep(interval.total_seconds())


def _print_claimed(claimed: Claimed) -> None:
    if claimed.done:
        print(f"{len(claimed.done)} files were replayed before")
    for uri, run_id in claimed.others.items():
        print(printable(f"{uri} is claimed by {run_id}; if that replay was killed: --release {run_id}"))


def _counted(letters: LettersResult, output: str, run_id: str) -> LettersResult:
    """The result with the numbers of letters that a run has repaired, rejected and parked."""
    found = list(read_manifests(output))
    manifests = [one.part_of_run(run_id) if isinstance(one, Manifest) else one for one in found]
    files: list[PublishedDeadLetters] = [file for one in manifests for file in one.dead_letters]
    parked = sum(file.records for file in files if f"/{PARKED}/" in file.path)
    rejected = sum(file.records for file in files) - parked
    repaired = sum(one.rows_out for one in manifests)
    return dataclasses.replace(letters, repaired=repaired, rejected=rejected, parked=parked)
