"""Runs `trace` after its command line is checked: reads the origin of a record, and the row that is there."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from penstock.io.dataset.load.shards.choose import open_reader
from penstock.io.dataset.load.shards.contents import Contents, StoredShard, read_contents
from penstock.io.dataset.load.shards.records import find_shard, number_at, read_record
from penstock.io.dataset.manifest import Manifest, SpanFolders
from penstock.io.dataset.windowed.manifest import WindowManifest, read_manifests
from penstock.io.errors import ConfigError, PenstockError
from penstock.io.files.inputs import InputFile, check_unchanged, stat_file
from penstock.io.reserved import ORIGIN_NAMES
from penstock.io.sources.registry import scheme_of
from penstock.io.sources.row import RowFinder, origin_unit
from pipelines._cli.options import ReadingOptions
from pipelines._options.trace import TraceOptions
from pipelines._report.process import job_started
from pipelines._report.result import TraceResult
from pipelines._report.summary import tell


def run(options: TraceOptions) -> int:
    """Runs the job, as `pipelines.trace.run` does."""
    started = job_started()
    contents = read_contents(options.dataset)
    if not contents.has_origins:
        raise ConfigError(
            f"{options.dataset}: its records do not say where they came from: prepare it with --keep_origin"
        )
    shard = find_shard(contents, options.shard)
    number = options.traced.record
    if options.offset is not None:
        number = number_at(contents, shard, options.offset)
    result = trace(contents, shard, number or 0)
    return tell(dataclasses.replace(result, seconds=time.monotonic() - started), options.traced.json)


def trace(contents: Contents, shard: StoredShard, number: int) -> TraceResult:
    """Reads the origin of a record, and the row there.

    Raises:
      ConfigError: for a number that the shard does not have.
      InputError: when the record is damaged.
    """
    batch = read_record(open_reader(contents, ORIGIN_NAMES, None), shard, number)
    uri, position = (batch.column(name)[0].as_py() for name in ORIGIN_NAMES)
    found = TraceResult(job="trace", dataset=contents.directory, shard=shard.path, record=number)
    if uri is None or position is None:
        return dataclasses.replace(found, why="the row had no origin when it was written")
    uri = uri.decode("utf-8", "surrogateescape") if isinstance(uri, bytes) else uri
    manifest = _manifest_of(contents.directory, shard)
    flags = _reading(_options_of(manifest, uri))
    found = dataclasses.replace(found, uri=uri, position=position, unit=origin_unit(uri, flags.format))
    if scheme_of(uri) is not None:
        return dataclasses.replace(found, why="messages of a topic are not fetched: read it there with its own tools")
    try:
        file, is_known = _input_file(manifest, uri)
        row = RowFinder.of(uri, flags.format, flags.format_options()).find(file, position)
    except (PenstockError, OSError) as error:
        return dataclasses.replace(found, why=str(error))
    why = None if is_known else "the manifest does not tell whether the file is as it was"
    return dataclasses.replace(found, text=row.text, encoding=row.encoding, line=row.line, why=why)


def _manifest_of(directory: str, shard: StoredShard) -> Manifest | WindowManifest:
    """The manifest that has a shard: of a window, or of a span alone."""
    manifest = next(one for one in read_manifests(directory) if any(each.path == shard.path for each in one.shards))
    if isinstance(manifest, Manifest):
        folder = SpanFolders(manifest.spans)(shard.path)
        return next((manifest.part_of(span) for span in manifest.spans if span.folder == folder), manifest)
    return manifest


def _options_of(manifest: Manifest | WindowManifest, uri: str) -> Mapping[str, Any]:
    """The options of the run that read an input: a span may have been put together of those of several runs."""
    options: Mapping[str, Any] = manifest.provenance.get("options", {})
    if not isinstance(manifest, Manifest) or not manifest.spans:
        return options
    run = next((one.get("part") for one in manifest.provenance.get("inputs", ()) if one.get("uri") == uri), None)
    return manifest.options_of(manifest.spans[0]).get(str(run), options)


def _reading(flags: Mapping[str, Any]) -> ReadingOptions:
    """How the run read its inputs."""
    return ReadingOptions().with_flags(flags)


def _input_file(manifest: Manifest | WindowManifest, uri: str) -> tuple[InputFile, bool]:
    """The file as it was, and whether that is known.

    Raises:
      InputError: when it is not there any more, or has changed.
    """
    names = {field.name for field in dataclasses.fields(InputFile)}
    for one in manifest.provenance.get("inputs", ()):
        if one.get("uri") == uri and "size" in one:
            file = InputFile(**{name: value for name, value in one.items() if name in names})
            check_unchanged(file)
            return file, True
    return stat_file(uri), False
