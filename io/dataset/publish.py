"""Publication: a staged run becomes the dataset, as a whole or not at all.

The order is what makes it safe: the old manifest goes first, then the old files, then the staged files are renamed to
their final names, and the manifest comes last. Whoever finds a manifest finds a whole dataset. A step that is tried
again, by a runner that retries, goes on where the first attempt ended.

A run that published nothing for a reason in the data (no rows, too many rejects) is not an exception, which a runner
would retry: `outcome.json` in the staging folder says so. The staging folder of a published run is removed.
"""

import dataclasses
import datetime
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from apache_beam.io.filesystems import FileSystems

from penstock.io.dataset.layout import (
    CLEARED,
    DEAD_LETTERS,
    MANIFEST,
    STAGING_PREFIX,
    Staging,
    clear_once,
    reject_names,
)
from penstock.io.dataset.manifest import Manifest, PublishedDeadLetters, Shard, dataset_id, read_manifest, sum_counts
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.errors import DataError
from penstock.io.files.folders import delete_files, list_files, move_files, remove_folder

Status = Literal["published", "no_rows", "too_many_rejects"]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended: whether it was published, and with which counts.

    Attributes:
      status: published; or nothing was, since there was no row, or too many were rejected.
      manifest: of the dataset; of a run that was not published, what it would have been.
      dead_letters: the folder of this run's dead letters.
    """

    status: Status
    manifest: Manifest
    dead_letters: str

    def to_json(self) -> str:
        """JSON, with the manifest inside."""
        manifest = json.loads(self.manifest.to_json())
        return json.dumps({"status": self.status, "manifest": manifest, "dead_letters": self.dead_letters})


def read_outcome(staging: Staging) -> Outcome:
    """How the run ended: published if the dataset is its own, else as its staging folder says.

    Raises:
      DataError: when nothing says so: the run did not come to its end.
    """
    manifest = read_manifest(staging.output)
    if manifest is not None and manifest.run_id == staging.run_id:
        return _published(staging, manifest)
    if not FileSystems.exists(staging.outcome):
        raise DataError(f"{staging.output}: the run {staging.run_id} ended without an outcome; nothing was published")
    with FileSystems.open(staging.outcome, compression_type="uncompressed") as file:
        fields = json.loads(file.read())
    return Outcome(fields["status"], Manifest.from_json(json.dumps(fields["manifest"])), fields["dead_letters"])


def _published(staging: Staging, manifest: Manifest) -> Outcome:
    return Outcome("published", manifest, FileSystems.join(staging.output, DEAD_LETTERS))


@dataclasses.dataclass(frozen=True)
class Publisher:
    """All that publication needs to know before the run.

    Attributes:
      staging: the run's folder.
      spec: the dataset.
    """

    staging: Staging
    spec: DatasetSpec

    def publish(self, shards: Iterable[Shard], rejects: Iterable[DeadLetterFile], rows_read: int) -> Outcome:
        """Publishes the staged run, or says why not; may be called again after it failed half-way.

        Args:
          shards: the staged shards.
          rejects: the staged files of dead letters.
          rows_read: rows that the source gave, without those that it rejected itself (stage `read`).

        Raises:
          DataError: when rows are unaccounted for.
        """
        current = self._current()
        if current is not None and current.run_id == self.staging.run_id:
            remove_folder(self.staging.directory)
            return _published(self.staging, current)
        manifest, renames = self._manifest(list(shards), sorted(rejects, key=lambda file: file.path), rows_read)
        outcome = self._judge(manifest, replaces=current is not None)
        if outcome.status == "published":
            try:
                self._replace(manifest, renames)
            except (DataError, OSError):
                # Another attempt may have been faster.
                if not self._is_published():
                    raise
            remove_folder(self.staging.directory)
            return outcome
        if current is None:
            clear_once(self.staging, self.spec.overwrite)
            self._rename(renames)
        self._discard(manifest)
        _write(self.staging.outcome, outcome.to_json())
        return outcome

    def _is_published(self) -> bool:
        current = self._current()
        return current is not None and current.run_id == self.staging.run_id

    def _current(self) -> Manifest | None:
        """What is published now; a manifest that cannot be read does not count, and goes when the output is cleared."""
        try:
            return read_manifest(self.staging.output)
        except DataError:
            return None

    def _manifest(
        self, shards: list[Shard], rejects: Sequence[DeadLetterFile], rows_read: int
    ) -> tuple[Manifest, dict[str, str]]:
        """The manifest, and the renames of dead letters (staged path -> relative path)."""
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
            **self.spec.manifest_fields(),
        )
        return manifest, {file.path: name for name, file in zip(names, rejects, strict=True)}

    def _judge(self, manifest: Manifest, replaces: bool) -> Outcome:
        """What becomes of the run; without publication an old dataset that it would replace stays untouched."""
        status: Status = "published"
        if manifest.rows_in != manifest.rows_out + manifest.rows_rejected:
            raise DataError(
                f"rows are unaccounted for: {manifest.rows_in} in, {manifest.rows_out} out, "
                f"{manifest.rows_rejected} rejected; nothing is published, please report this"
            )
        if manifest.rows_in == 0:
            status = "no_rows"
        elif manifest.rows_rejected > self.spec.max_reject_fraction * manifest.rows_in:
            status = "too_many_rejects"
        if status != "published" and replaces:
            return Outcome(status, manifest, self.staging.dead_letters)
        return dataclasses.replace(_published(self.staging, manifest), status=status)

    def _replace(self, manifest: Manifest, rejects: Mapping[str, str]) -> None:
        """Puts the staged run in the place of what is there.

        Whether it is whole is looked at before anything is deleted and again before the manifest makes it a dataset:
        an attempt that was thought dead, or another run into the same folder, must not make one that is not.
        """
        staged = self.staging.path(MANIFEST)
        _write(staged, manifest.to_json())
        self._check(self._not_staged(manifest))
        clear_once(self.staging, self.spec.overwrite)
        moves = {self.staging.path(*path.split("/")): path for path in self._staged_files(manifest)}
        self._rename({**moves, **rejects})
        self._check(self._not_published(manifest))
        move_files({staged: FileSystems.join(self.staging.output, MANIFEST)})

    def _check(self, wrong: Iterable[str]) -> None:
        for path in wrong:
            raise DataError(
                f"{self.staging.output}: {path} is not as this run wrote it; does another run write into the same "
                "folder? nothing is published"
            )

    def _not_staged(self, manifest: Manifest) -> Iterator[str]:
        """What is not there as it was staged; of an attempt that failed half-way some files have their places."""
        staged = list_files(self.staging.directory)
        return self._damaged(manifest, {**list_files(self.staging.output), **staged} if CLEARED in staged else staged)

    def _not_published(self, manifest: Manifest) -> Iterator[str]:
        """What is not as the manifest is going to say."""
        found = list_files(self.staging.output)
        yield from self._damaged(manifest, found)
        yield from (file.path for file in manifest.dead_letters if file.path not in found)
        folders = (STAGING_PREFIX, *(f"{extra}/" for extra in self.spec.extras))
        yield from (path for path in set(found) - set(manifest.files()) if not path.startswith(folders))

    def _damaged(self, manifest: Manifest, found: Mapping[str, int]) -> Iterator[str]:
        yield from (shard.path for shard in manifest.shards if found.get(shard.path) != shard.bytes)
        for extra in self.spec.extras:
            if not any(f"{path}/".startswith(f"{extra}/") for path in found):
                yield extra

    def _rename(self, moves: Mapping[str, str]) -> None:
        """Renames what is still there; what an earlier attempt moved is left alone."""
        output, staging = self.staging.output, self.staging.directory
        staged = {FileSystems.join(staging, *path.split("/")) for path in list_files(staging)}
        move_files(
            {
                source: FileSystems.join(output, *path.split("/"))
                for source, path in moves.items()
                if source in staged or (not source.startswith(staging) and FileSystems.exists(source))
            }
        )

    def _staged_files(self, manifest: Manifest) -> Iterable[str]:
        yield from (shard.path for shard in manifest.shards)
        staged = list_files(self.staging.directory)
        for extra in self.spec.extras:
            yield from (path for path in staged if path == extra or path.startswith(f"{extra}/"))

    def _discard(self, manifest: Manifest) -> None:
        """Deletes what was staged for the dataset, but not the dead letters."""
        staged = list_files(self.staging.directory)
        delete_files(self.staging.directory, sorted({*self._staged_files(manifest)} & {*staged}))


def _write(path: str, text: str) -> None:
    with FileSystems.create(path, "application/json", compression_type="uncompressed") as file:
        file.write(text.encode())
