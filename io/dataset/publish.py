"""Publication: a staged run becomes the dataset, as a whole or not at all.

In an object store nothing is moved (`penstock.io.dataset.run_folder`). Elsewhere the order makes this safe. The old
manifest is set aside first, then the old files (`penstock.io.files.atomic.aside`). Then the staged files are renamed to
their final names. The new manifest is moved last, so a reader who finds a manifest finds a complete dataset. Then what
was set aside is deleted. If the runner retries the step, it continues where the first attempt stopped. If nobody does,
the next run puts the old dataset back (`penstock.io.dataset.layout.put_back`).

If the data is the reason that nothing is published (no rows, too many rejects, what an observer found), no exception is
raised, since a runner would retry it. Instead, `outcome.json` in the staging folder records it. What was found of the
rows is kept: their dead letters, and their statistics. The staging folder of a published run is removed.
"""

import dataclasses
import datetime
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, Protocol

from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.dataset.layout import (
    CARD,
    CLEARED,
    DEAD_LETTERS,
    HISTORY,
    MANIFEST,
    REPLACED_PREFIX,
    SCHEMA,
    STAGING_PREFIX,
    STATISTICS,
    Staging,
    clear_once,
    finish_replacing,
    is_a_manifest,
    lock_path,
    reject_names,
)
from penstock.io.dataset.manifest import Manifest, PublishedDeadLetters, Shard, dataset_id, read_manifest, sum_counts
from penstock.io.dataset.observer import Anomaly
from penstock.io.dataset.run_folder import RunFolder
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.errors import DataError
from penstock.io.files import stores
from penstock.io.files.atomic.aside import asides
from penstock.io.files.atomic.locks import alone
from penstock.io.files.folders import delete_files, list_files, move_files, remove_folder
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from penstock.io.reasons import Note
from penstock.io.schema import schema_fingerprint, write_schema

Status = Literal["published", "no_rows", "too_many_rejects", "refused"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended: whether it was published, and with which counts.

    Attributes:
      status: `published`, or why nothing was: there were no rows, too many were rejected, or an observer refused.
      manifest: the manifest of the dataset, or of the span that the run added to it; if nothing was published, the
        manifest that it would have had.
      dead_letters: the folder of this run's dead letters.
      refused: why an observer refused to publish, one sentence for each reason.
    """

    status: Status
    manifest: Manifest
    dead_letters: str
    refused: tuple[str, ...] = ()

    @property
    def statistics(self) -> str | None:
        """The folder of this run's statistics; None if there are none."""
        if self.manifest.extra(STATISTICS) is None or self.status == "no_rows":
            return None
        return self.dead_letters.removesuffix(DEAD_LETTERS) + STATISTICS

    def to_json(self) -> str:
        """Returns JSON that includes the manifest."""
        return json.dumps({**dataclasses.asdict(self), "manifest": json.loads(self.manifest.to_json())})


def read_outcome(staging: Staging) -> Outcome:
    """Reads how the run ended, from the dataset if this run published it, else from the staging folder.

    Raises:
      DataError: if there is no outcome, because the run did not finish.
    """
    manifest = read_manifest(staging.output)
    if manifest is not None and manifest.run_id == staging.run_id:
        return _published(staging, manifest)
    if not stores.exists(staging.outcome):
        raise DataError(f"{staging.output}: the run {staging.run_id} ended without an outcome; nothing was published")
    with stores.open_file(staging.outcome) as file:
        fields = json.loads(file.read())
    fields["manifest"] = Manifest.from_json(json.dumps(fields["manifest"]))
    return Outcome(**{**fields, "refused": tuple(fields["refused"])})


def _published(staging: Staging, manifest: Manifest) -> Outcome:
    own = manifest.part_of_run(staging.run_id)
    places = [staging.output, *(own.spans[0].folder.split("/") if own.spans and own.spans[0].folder else [])]
    folder = staging.dead_letters if staging.is_final else stores.join(*places, DEAD_LETTERS)
    return Outcome("published", own, folder)


class Adds(Protocol):
    """Adds a run to a dataset, as a span of it (`penstock.io.dataset.spans.append`)."""

    @property
    def base(self) -> str:
        """The run id of the dataset that is added to; empty where there is none yet."""

    def first(self, manifest: Manifest) -> Manifest:
        """Returns the manifest of a new dataset as one of a first span."""

    def publish(self, staging: Staging, manifest: Manifest, letters: Mapping[str, str]) -> Manifest:
        """Publishes a run, and returns the manifest of the dataset.

        Args:
          staging: of the run.
          manifest: of the run; in a store, with the places of its files.
          letters: files of dead letters on a disk: where they are staged to their names.

        Raises:
          DataError: when another run has published since this one began, or the rows are not like those there.
        """

    def finish(self, staging: Staging) -> None:
        """Does on a disk what follows the manifest; may be called again."""


@dataclasses.dataclass(frozen=True)
class Publisher:
    """Publishes a run. It holds all that is known before the run starts.

    Attributes:
      staging: the staging folder of the run.
      spec: the options of the dataset.
      replaces: as in `RunFolder`, when the run began.
      adds: what adds the run to a dataset; None where it writes one.
    """

    staging: Staging
    spec: DatasetSpec
    replaces: str = ""
    adds: Adds | None = None

    def publish(
        self,
        shards: Iterable[Shard],
        rejects: Iterable[DeadLetterFile],
        rows_read: int,
        notes: Iterable[Note] = (),
        schema: schema_pb2.Schema | None = None,
        refused: Iterable[str] = (),
        anomalies: Iterable[Anomaly] = (),
    ) -> Outcome:
        """Publishes the staged run, or reports why not; may be called again after it failed half-way.

        Args:
          shards: the staged shards.
          rejects: the staged dead-letter files.
          rows_read: rows that the source produced, without the rows that it rejected itself (stage `read`).
          notes: what became of values of the rows, in any number of parts.
          schema: what is published as the dataset's schema, one of the extras; None if it is staged, or there is none.
          refused: why observers refuse, if they do.
          anomalies: what they found, for the manifest.

        Raises:
          DataError: if rows are unaccounted for, or another run has published into the same folder meanwhile.
        """
        # Another run that ends at this moment waits, and then finds that its staged files were cleared away.
        lock = lock_path(self.staging.output)
        with alone(lock):
            return self._publish(list(shards), rejects, rows_read, notes, schema, tuple(refused), tuple(anomalies))

    def _publish(
        self,
        shards: list[Shard],
        rejects: Iterable[DeadLetterFile],
        rows_read: int,
        notes: Iterable[Note],
        schema: schema_pb2.Schema | None,
        refused: tuple[str, ...],
        anomalies: tuple[Anomaly, ...],
    ) -> Outcome:
        current = self._current()
        folder = RunFolder(self.staging, self.spec.overwrite, self.replaces) if self.staging.is_final else None
        # What is there stays if this run is refused: windows too, and what cannot be read.
        stays = current is not None or (folder is None and self._is_dataset_there())
        if current is not None and current.run_id == self.staging.run_id:
            self._finish(current, folder)
            return _published(self.staging, current)
        files = sorted(rejects, key=lambda file: file.path)
        manifest, renames = self._manifest(shards, files, rows_read, notes)
        indexes = self.spec.shard_format().indexes(manifest.shards)
        manifest = dataclasses.replace(manifest, extras=(*manifest.extras, *indexes))
        if folder is not None:
            manifest = folder.placed(manifest, files)
        manifest = dataclasses.replace(manifest, anomalies=anomalies)
        if schema is not None:
            provenance = {"schema_fingerprint": schema_fingerprint(schema), **manifest.provenance}
            manifest = dataclasses.replace(manifest, provenance=provenance)
        outcome = self._judge(manifest, refused, replaces=stays)
        if outcome.status == "published":
            if schema is not None:
                write_schema(schema, self.staging.path(SCHEMA))
            for path, content in indexes.items():
                _write(self.staging.path(*path.split("/")), content.decode())
            return self._commit(manifest, renames, current, folder)
        if folder is not None:
            folder.discard(self._kept(outcome))
        else:
            if not stays:
                clear_once(self.staging, self.spec.overwrite)
                self._rename({**self._moves(self._kept(outcome)), **renames})
                finish_replacing(self.staging, is_published=False)
            self._discard(manifest, self._kept(outcome))
        _write(self.staging.outcome, outcome.to_json())
        return outcome

    def _commit(
        self, manifest: Manifest, renames: Mapping[str, str], current: Manifest | None, folder: RunFolder | None
    ) -> Outcome:
        """Makes the manifest that of the dataset, or of its new span, and the files of both final."""
        if self.adds is not None and (self.adds.base or folder is None):
            if folder is not None:
                folder.check(manifest)
            manifest = self.adds.publish(self.staging, manifest, renames)
        else:
            if self.adds is not None:
                manifest = self.adds.first(manifest)
            if folder is not None:
                folder.publish(manifest, current)
                return _published(self.staging, manifest)
            try:
                self._replace(manifest, renames)
            except (DataError, OSError):
                # Another attempt may have published first.
                if not self._is_published():
                    raise
        self._finish(manifest, folder)
        return _published(self.staging, manifest)

    def _finish(self, published: Manifest, folder: RunFolder | None) -> None:
        """Does what follows the manifest; may be called again."""
        if folder is not None:
            folder.finish(published.part_of_run(self.staging.run_id))
        elif self.adds is not None:
            self.adds.finish(self.staging)
        else:
            finish_replacing(self.staging)
            remove_folder(self.staging.directory)

    def _is_dataset_there(self) -> bool:
        """Whether a folder on a disk holds a dataset, or one that another run has set aside."""
        others = any(aside.run != self.staging.run_id for aside in asides(self.staging.output))
        return others or any(map(is_a_manifest, list_files(self.staging.output)))

    def _is_published(self) -> bool:
        current = self._current()
        return current is not None and current.run_id == self.staging.run_id

    def _current(self) -> Manifest | None:
        """Returns the published manifest. It ignores one that cannot be read: a run that is published replaces it."""
        try:
            return read_manifest(self.staging.output)
        except DataError:
            return None

    def _manifest(
        self, shards: list[Shard], rejects: Sequence[DeadLetterFile], rows_read: int, notes: Iterable[Note]
    ) -> tuple[Manifest, dict[str, str]]:
        """Returns the manifest, and the renames of dead-letter files (staged path -> relative path)."""
        shards.sort(key=lambda shard: (self.spec.splits.index(shard.split), shard.path))
        reasons, stages = sum_counts(file.reasons for file in rejects), sum_counts(file.stages for file in rejects)
        names = reject_names(DEAD_LETTERS, [file.path for file in rejects])
        records = sum_counts({shard.split: shard.records} for shard in shards)
        manifest = Manifest(
            run_id=self.staging.run_id,
            dataset_id=dataset_id(shards),
            created=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}",
            rows_in=rows_read + stages.get("read", 0),
            rows_out=sum(records.values()),
            rows_rejected=sum(file.records for file in rejects),
            splits={split: records.get(split, 0) for split in self.spec.splits},
            shards=tuple(shards),
            dead_letters=tuple(
                PublishedDeadLetters(name, file.records) for name, file in zip(names, rejects, strict=True)
            ),
            rejected_by_reason=reasons,
            rejected_by_stage=stages,
            **self.spec.manifest_fields(notes),
        )
        return manifest, {file.path: name for name, file in zip(names, rejects, strict=True)}

    def _judge(self, manifest: Manifest, refused: tuple[str, ...], replaces: bool) -> Outcome:
        """Decides whether to publish. If not, an old dataset that the run would replace stays untouched."""
        status: Status = "published"
        if manifest.rows_in != manifest.rows_out + manifest.rows_rejected:
            raise DataError(
                f"rows are unaccounted for: {manifest.rows_in} in, {manifest.rows_out} out, "
                f"{manifest.rows_rejected} rejected; nothing is published, please report this"
            )
        if manifest.rows_in == 0:
            status = "no_rows"
        elif self.spec.has_too_many_rejects(manifest.rows_in, manifest.rejected_by_stage):
            status = "too_many_rejects"
        elif refused:
            status = "refused"
        reasons = refused if status == "refused" else ()
        if status != "published" and replaces:
            return Outcome(status, manifest, self.staging.dead_letters, reasons)
        return dataclasses.replace(_published(self.staging, manifest), status=status, refused=reasons)

    def _replace(self, manifest: Manifest, rejects: Mapping[str, str]) -> None:
        """Replaces the current content of the output with the staged run.

        It checks that the run is complete twice: before it deletes anything, and again before it moves the manifest.
        Otherwise an attempt that was believed dead, or another run into the same folder, could publish an incomplete
        dataset.
        """
        staged = self.staging.path(MANIFEST)
        _write(staged, manifest.to_json())
        self._check(self._not_staged(manifest))
        clear_once(self.staging, self.spec.overwrite)
        self._rename({**self._moves(self._staged_files(manifest)), **rejects})
        self._check(self._not_published(manifest))
        move_files({staged: stores.join(self.staging.output, MANIFEST)})

    def _check(self, wrong: Iterable[str]) -> None:
        for path in wrong:
            raise DataError(
                f"{self.staging.output}: {path} is not as this run wrote it; does another run write into the same "
                "folder? nothing is published"
            )

    def _not_staged(self, manifest: Manifest) -> Iterator[str]:
        """Yields files that are not as they were staged. An earlier attempt may have moved some of them already."""
        staged = list_files(self.staging.directory)
        return self._damaged(manifest, {**list_files(self.staging.output), **staged} if CLEARED in staged else staged)

    def _not_published(self, manifest: Manifest) -> Iterator[str]:
        """Yields files of the output that differ from the manifest to be published."""
        found = list_files(self.staging.output)
        yield from self._damaged(manifest, found)
        yield from (file.path for file in manifest.dead_letters if file.path not in found)
        folders = (STAGING_PREFIX, REPLACED_PREFIX, f"{HISTORY}/", *(f"{extra}/" for extra in manifest.extras))
        yield from (path for path in set(found) - {CARD, *manifest.files()} if not path.startswith(folders))

    def _damaged(self, manifest: Manifest, found: Mapping[str, int]) -> Iterator[str]:
        for shard in manifest.shards:
            yield from (path for path, (size, _) in shard.stored().items() if found.get(path) != size)
        for extra in manifest.extras:
            if not any(f"{path}/".startswith(f"{extra}/") for path in found):
                yield extra

    def _moves(self, paths: Iterable[str]) -> dict[str, str]:
        """Returns the renames that publish staged files (staged path -> relative path)."""
        return {self.staging.path(*path.split("/")): path for path in paths}

    def _rename(self, moves: Mapping[str, str]) -> None:
        """Renames the files that are still staged; skips those that an earlier attempt moved."""
        output, staging = self.staging.output, self.staging.directory
        staged = {stores.join(staging, *path.split("/")) for path in list_files(staging)}
        move_files(
            {
                source: stores.join(output, *path.split("/"))
                for source, path in moves.items()
                if source in staged or (not source.startswith(staging) and stores.exists(source))
            }
        )

    def _staged_files(self, manifest: Manifest) -> Iterable[str]:
        for shard in manifest.shards:
            yield from shard.stored()
        staged = list_files(self.staging.directory)
        for extra in manifest.extras:
            yield from (path for path in staged if path == extra or path.startswith(f"{extra}/"))

    def _kept(self, outcome: Outcome) -> list[str]:
        """Returns the staged files that tell of a run that is not published, beside its dead letters."""
        if outcome.statistics is None:
            return []
        return [path for path in list_files(self.staging.directory) if path.startswith(f"{STATISTICS}/")]

    def _discard(self, manifest: Manifest, kept: Iterable[str]) -> None:
        """Deletes the staged files of the dataset, but keeps the dead letters and these."""
        staged = list_files(self.staging.directory)
        gone = {*self._staged_files(manifest), *(path for path in staged if path.startswith(f"{HISTORY}/"))}
        delete_files(self.staging.directory, sorted(gone & {*staged} - {*kept}))


def _write(path: str, text: str) -> None:
    with (
        writing(path, OUTPUT_REMEDY),
        stores.create_file(path, "application/json") as file,
    ):
        file.write(text.encode())
