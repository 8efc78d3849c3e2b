"""The dataset on disk: file names, the staging folder, and checks before overwriting.

::

    OUTPUT/
      manifest.json                 written last: if it exists, the dataset is complete
      README.md                     the card: for readers, written after the manifest; no manifest names it
      schema.pbtxt                  tensorflow_metadata Schema of the input rows
      transform/                    the fitted graph, when there is one
      statistics/                   of the rows that came in, went out and were rejected: `<name>.pb` and `.json`
      <split>/part-00000-of-00008.tfrecord.gz
      dead_letters/part-00000-of-00002.jsonl
      _index/<split>/part-00000-of-00008.tfrecord.index    where the records of a shard begin, with `--index`
      _history/                     metrics of this run, and of those before it; stays when the dataset is replaced
      .tmp-<run id>/                a run that has not finished, or that crashed; `owner.lock` tells which
      .replaced-<run id>/           the dataset before, while a run replaces it (`penstock.io.files.atomic.aside`)

What is added is in folders of its own, and earlier manifests are kept (`penstock.io.dataset.spans`)::

      run-<run id>/                 a span: shards, indexes, dead letters, statistics; of a first one schema and graph
      _versions/000001.json.gz      the manifest as it was before

With windows, each window has its own manifest, and its own folders for shards and dead letters::

      stream.json                   of a stream: how far it is read and published
      windows/<start>_<end>.json    in processing time <start>.json
      <split>/<start>/part-00000-of-00004.tfrecord.gz    rows that came on time
      <split>/<start>/late-00000-of-00004.tfrecord.gz    rows that came late, if there are any
      dead_letters/<start>/part-00000-of-00002.jsonl
      statistics/<start>_<end>.<version>.pb              of the rows, with the same as .json
      _compacted/<start>_<end>.json                      of windows that were put together: their shards are those of
      run-<run id>/<split>/part-00000-of-00008.tfrecord.gz    this manifest

In an object store, where a rename is a copy, the files of a run stay where they were written, and manifests name them
there. Manifests, `stream.json` and `_history/` are beside their folder, and so are schema and graph of a stream::

      run-<run id>/                 of a run that a manifest names; other such folders are of no dataset
        <split>/part-00000-of-00008.tfrecord.gz
        _index/  dead_letters/  schema.pbtxt  statistics/  transform/
        <split>/<start>/part-00000-of-00004-<attempt>.tfrecord.gz     with windows
        dead_letters/<any name>.jsonl
        statistics/<start>_<end>.<version>-<digest>.pb
      .tmp-<run id>/                files of open windows that no manifest will name
      .tmp-lock-dataset             of windows of bounded input: the run that published last
"""

import collections
import contextlib
import dataclasses
import datetime
import os
import re
import secrets
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, Self

from penstock.io.dataset.options import CARD as CARD
from penstock.io.dataset.options import COMPACTED as COMPACTED
from penstock.io.dataset.options import CROISSANT as CROISSANT
from penstock.io.dataset.options import DEAD_LETTERS as DEAD_LETTERS
from penstock.io.dataset.options import HISTORY as HISTORY
from penstock.io.dataset.options import INDEXES as INDEXES
from penstock.io.dataset.options import MANIFEST as MANIFEST
from penstock.io.dataset.options import RUN_PREFIX as RUN_PREFIX
from penstock.io.dataset.options import SCHEMA as SCHEMA
from penstock.io.dataset.options import STATISTICS as STATISTICS
from penstock.io.dataset.options import STREAM as STREAM
from penstock.io.dataset.options import TRANSFORM as TRANSFORM
from penstock.io.dataset.options import VERSIONS as VERSIONS
from penstock.io.dataset.options import WINDOWS as WINDOWS
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.atomic.aside import REPLACED_PREFIX as REPLACED_PREFIX
from penstock.io.files.atomic.aside import STAGING_PREFIX as STAGING_PREFIX
from penstock.io.files.atomic.aside import Aside, asides, sweep, told_of
from penstock.io.files.atomic.locks import alone
from penstock.io.files.extras import check_filesystem
from penstock.io.files.folders import delete_files, list_entries, list_files, move_files
from penstock.io.files.owned import is_abandoned, is_owned
from penstock.io.files.paths import is_local, is_local_directory
from penstock.io.files.system_errors import explained

PARKED = "parked"
PROBE_PREFIX = f"{STAGING_PREFIX}probe-"
LOCK_PREFIX = f"{STAGING_PREFIX}lock-"

# Of a staging folder. `running`: a run on this machine is at work in it. `ended`: its run was killed, and the next one
# removes it. `unknown`: it lies in a store, or its workers are elsewhere, such as those of a stream on a cluster, whose
# job may go on.
Owner = Literal["running", "ended", "unknown"]

# Of the index of a shard, behind the name of the shard.
INDEX_SUFFIX = ".index"

# This file is staged once the old dataset is set aside. A second attempt sees it and does nothing of that again.
CLEARED = "cleared"

# As `new_run_id` names runs: a split may well begin with `run-`.
_LOCAL_RUN = re.compile(r"run-\d{8}T\d{6}Z-[0-9a-f]{8}")

_DATASET_FILE = re.compile(
    r"manifest\.json|README\.md|stream\.json|croissant\.json|schema\.pbtxt|\.(tmp|replaced)-.*"
    r"|(statistics|transform|dead_letters|windows|_compacted|_history|_index|_versions)/.*"
    r"|run-\d{8}T\d{6}Z-[0-9a-f]{8}/([^/]+/part-\d{5,}-of-\d{5,}\.[^/]*|[^/]+/index\.json|schema\.pbtxt|unpublished|(statistics|transform|dead_letters|_index)/.*)"
    r"|[^/]+/index\.json"
    r"|[^/]+/([^/]+/)?(part|late)-\d{5,}-of-\d{5,}\.[^/]*"
)


def part_name(index: int, total: int, suffix: str, prefix: str = "part") -> str:
    """Returns the name of one of `total` files, in the form that globs and tf.data expect.

    >>> part_name(3, 128, ".tfrecord.gz")
    'part-00003-of-00128.tfrecord.gz'

    Raises:
      ValueError: if index is not in [0, total).
    """
    if not 0 <= index < total:
        raise ValueError(f"index must be in [0, {total}), got {index}")
    return f"{prefix}-{index:05d}-of-{total:05d}{suffix}"


def reject_names(folder: str, staged: Sequence[str]) -> list[str]:
    """Returns relative paths below a folder for staged dead-letter files; parked files keep their own subfolder.

    >>> reject_names("dead_letters", ["tmp/b.jsonl", "tmp/parked/a.jsonl"])
    ['dead_letters/part-00000-of-00001.jsonl', 'dead_letters/parked/part-00000-of-00001.jsonl']
    """
    folders = [f"{folder}/{PARKED}" if path.split("/")[-2:-1] == [PARKED] else folder for path in staged]
    totals, taken = collections.Counter(folders), collections.Counter[str]()
    names = []
    for found in folders:
        names.append(f"{found}/{part_name(taken[found], totals[found], '.jsonl')}")
        taken[found] += 1
    return names


def lock_path(output: str, name: str = "dataset") -> str:
    """Returns the path of the lock under which the dataset, or the window of this name, is published."""
    return stores.join(output, LOCK_PREFIX + name)


def dataset_of(folder: str) -> str:
    """Returns the dataset that has its files in `folder`: the folder itself, or what is above that of a run.

    >>> dataset_of("s3://b/out/run-r1"), dataset_of("run-r1"), dataset_of("out/run-20261127T213300Z-0a1b2c3d")
    ('s3://b/out', 'run-r1', 'out')
    """
    above, _, name = folder.rpartition("/")
    is_run = name.startswith(RUN_PREFIX) if stores.is_object(folder) else _LOCAL_RUN.fullmatch(name)
    return above if is_run else folder


def run_folders(output: str, paths: Iterable[str]) -> set[str]:
    """Returns the names of the folders of runs in a dataset that some of its files are in.

    On a disk they are those of runs that added to it.

    >>> run_folders("s3://b/out", ["run-r1/train/x", "manifest.json"]), run_folders("out", ["run-r1/x"])
    ({'run-r1'}, set())
    >>> run_folders("out", ["run-20261127T213300Z-0a1b2c3d/train/x"])
    {'run-20261127T213300Z-0a1b2c3d'}
    """
    found = {path.partition("/")[0] for path in paths if path.startswith(RUN_PREFIX)}
    return found if stores.is_object(output) else {name for name in found if _LOCAL_RUN.fullmatch(name)}


def new_run_id() -> str:
    """Returns a new name for a run: its start in UTC and eight random hex digits."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


@dataclasses.dataclass(frozen=True)
class Staging:
    """The folder of one run, where everything lies until it is published.

    A file staged under a relative path (`path("train", ...)`) is published under the same path below the output. In an
    object store the folder is final: the manifest names the file where it is.
    """

    output: str
    run_id: str

    @classmethod
    def new(cls, output: str) -> Self:
        """Names the folder of a new run."""
        return cls(output, new_run_id())

    @property
    def is_final(self) -> bool:
        """Whether the files of the run stay in this folder when it is published."""
        return stores.is_object(self.output)

    @property
    def name(self) -> str:
        """The name of the folder."""
        return (RUN_PREFIX if self.is_final else STAGING_PREFIX) + self.run_id

    @property
    def directory(self) -> str:
        """The staging folder."""
        return stores.join(self.output, self.name)

    @property
    def dead_letters(self) -> str:
        """The folder that dead letters are written to."""
        return self.path(DEAD_LETTERS)

    @property
    def outcome(self) -> str:
        """The file in which publication records its outcome."""
        return self.path("outcome.json")

    def path(self, *parts: str) -> str:
        """Returns a path inside the staging folder."""
        return stores.join(self.directory, *parts)

    def index_path(self, shard: str) -> str:
        """Returns the path of the index of a shard, both relative to the output.

        >>> Staging("out", "r1").index_path("train/part-00000-of-00001.tfrecord")
        '_index/train/part-00000-of-00001.tfrecord.index'
        """
        own = f"{self.name}/"
        folder, path = (own, shard.removeprefix(own)) if shard.startswith(own) else ("", shard)
        return f"{folder}{INDEXES}/{path}{INDEX_SUFFIX}"

    def temporary(self, *parts: str) -> str:
        """Returns the path of a file that is never published, in a folder that is deleted in the end."""
        return stores.join(self.output, STAGING_PREFIX + self.run_id, *parts)

    def final_name(self, path: str) -> str | None:
        """Returns the path, relative to the output, of a file that stays where a run wrote it; None if it does not.

        The run may be another one: a stream that goes on from a savepoint has files of the one before.
        """
        name = path.removeprefix(f"{self.output.rstrip('/')}/")
        return name if self.is_final and name != path and name.startswith(RUN_PREFIX) else None


def check_output(
    output: str, overwrite: bool, run_id: str = "", dry_run: bool = False, resume: bool = False, append: bool = False
) -> None:
    """Rejects an output that cannot take a dataset, before any work is done. It ignores what `run_id` staged.

    With `dry_run` nothing is written, and the check does not find out whether the folder is writable. With `resume`
    the output may already hold windows, and with `append` a dataset. What a killed run left counts for nothing.

    Raises:
      ConfigError: if the output is unreachable, is a file, is not writable, is not empty while `overwrite` is not set,
        holds files that do not belong to a dataset, or lacks those that a run without end has set aside.
    """
    check_filesystem(output, f"--output {output}")
    if is_local(output) and os.path.exists(output) and not os.path.isdir(output):
        raise ConfigError(f"--output {output}: is a file; name a folder")
    if not is_local(output) and any(character in output for character in "*?["):
        raise ConfigError(f"--output {output}: must not contain '*', '?' or '[', which stand for patterns")
    own = f"{STAGING_PREFIX}{run_id}/"
    try:
        ignored = (
            own,
            PROBE_PREFIX,
            LOCK_PREFIX,
            f"{HISTORY}/",
            REPLACED_PREFIX,
            *((RUN_PREFIX,) if stores.is_object(output) else ()),
            *(f"{name}/" for name in staging_folders(output, "ended")),
        )
        present = list_files(output)
        if append:  # a folder that nothing names is of a run that was killed while it published
            ignored += tuple(f"{name}/" for name in run_folders(output, present))
        found = [path for path in present if path != CARD and not path.startswith(ignored)]
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be listed: {error}") from error
    if not overwrite and MANIFEST not in present and (told := told_of(output)):
        raise ConfigError(f"--output {output}: {told}")
    if found and not (overwrite or resume or (append and MANIFEST in present)):
        examples = ", ".join(sorted({path.split("/")[0] for path in found})[:3])
        raise ConfigError(f"--output {output}: is not empty ({examples}); pass --overwrite to replace what is there")
    if not append:
        check_replaceable(output, present)
    # A run that has staged something has shown that it can write.
    if not dry_run and not any(path.startswith((own, f"{RUN_PREFIX}{run_id}/")) for path in present):
        _probe(output)


def staging_owner(output: str, name: str) -> Owner:
    """Returns whose a staging folder of a dataset is, by its name."""
    folder = os.path.join(output, name)
    if is_local(output):
        with contextlib.suppress(OSError):
            if is_owned(folder):
                return "running"
            if is_abandoned(folder):
                return "ended"
    return "unknown"


def staging_folders(output: str, owner: Owner) -> list[str]:
    """Returns the names of the staging folders in a local output that have such an owner; none for a store."""
    if not is_local_directory(output):
        return []
    names = sorted(entry.name for entry in os.scandir(output) if entry.name.startswith(STAGING_PREFIX))
    return [name for name in names if staging_owner(output, name) == owner]


def check_replaceable(output: str, present: Iterable[str]) -> None:
    """Refuses to overwrite a folder whose files, which are `present`, include others than a dataset's.

    Raises:
      ConfigError: for such files; the message names them.
    """
    runs = (RUN_PREFIX,) if stores.is_object(output) else ()
    foreign = sorted(path for path in present if not _DATASET_FILE.fullmatch(path) and not path.startswith(runs))
    if foreign:
        raise ConfigError(
            f"--output {output}: holds files that are no part of a dataset ({', '.join(foreign[:3])}); --overwrite "
            "would delete them: move them away, or name another folder"
        )


def clear_once(staging: Staging, overwrite: bool) -> None:
    """Sets the existing dataset aside, manifests first, and deletes leftovers of crashed runs.

    It keeps what this run staged, the card, and the history, which goes on with the next dataset. On what else Beam
    knows than a disk of this machine, the dataset is deleted. A second attempt does nothing.

    Raises:
      ConfigError: if the output is not empty and `overwrite` is not set, or if it holds files that do not belong to a
        dataset.
    """
    cleared = staging.path(CLEARED)
    if stores.exists(cleared):
        return
    aside = _aside(staging)
    if aside is None or not aside.is_whole:
        if overwrite:
            put_back(staging.output, but=staging.run_id)
        present = list_files(staging.output)
        own, old = f"{STAGING_PREFIX}{staging.run_id}/", _own_files(present)
        others = [
            path for path in present if path.startswith(STAGING_PREFIX) and not path.startswith((own, LOCK_PREFIX))
        ]
        kept = [one.place for one in asides(staging.output) if one.run != staging.run_id]
        filled = [*old, *(path for path in others if not path.startswith(PROBE_PREFIX)), *kept]
        if filled and not overwrite:
            raise ConfigError(f"{staging.output}: was filled while the job ran ({filled[0]}); nothing is published")
        check_replaceable(staging.output, present)
        manifests = sorted(filter(is_a_manifest, old))
        rest = sorted({*old} - {*manifests})
        if aside is None:
            delete_files(staging.output, manifests)
            delete_files(staging.output, [*rest, *others])
        else:
            delete_files(staging.output, others)
            aside.set_aside([*manifests, *rest])
    _mark(cleared)


def is_a_manifest(path: str) -> bool:
    """Whether a relative path is that of the manifest of a dataset, a window, or windows that were put together."""
    return path == MANIFEST or path.startswith((f"{WINDOWS}/", f"{COMPACTED}/"))


def _own_files(present: Iterable[str]) -> list[str]:
    """Those of some files that a dataset comes and goes with: all but card and history, and what is of jobs."""
    kept = (STAGING_PREFIX, REPLACED_PREFIX, f"{HISTORY}/")
    return [path for path in present if path != CARD and not path.startswith(kept)]


def _aside(staging: Staging) -> Aside | None:
    return Aside(staging.output, staging.run_id) if is_local(staging.output) else None


def finish_replacing(staging: Staging, is_published: bool = True) -> None:
    """Deletes what a run on a disk has replaced, and adds the run to the history if it `is_published`.

    The caller holds the lock of the dataset. May be called again.
    """
    folder = staging.path(HISTORY)
    if is_published:
        names = [path.split("/") for path in list_files(folder)]
        move_files({stores.join(folder, *name): stores.join(staging.output, HISTORY, *name) for name in names})
    if (aside := _aside(staging)) is not None:
        aside.drop()


def put_back(output: str, runs: Collection[str] | None = None, but: str = "") -> list[str]:
    """Ends what runs on a disk began that were killed as they replaced a dataset: old or new, it is whole then.

    The caller holds the lock of the dataset. May be called again after it was stopped.

    Args:
      output: the folder of the dataset.
      runs: their ids; None for all.
      but: a run that is left alone.

    Returns:
      The runs whose old dataset was put back.

    Raises:
      ConfigError: when files have come that are no part of a dataset.
      OSError: when a file cannot be moved or deleted.
    """
    back = []
    for aside in asides(output):
        if aside.run == but or (runs is not None and aside.run not in runs):
            continue
        present = list_files(output)
        if aside.is_whole and MANIFEST in present:
            finish_replacing(Staging(output, aside.run))
            continue
        check_replaceable(output, present)
        aside.put_back(_own_files(present), is_a_manifest)
        back.append(aside.run)
    return back


def put_back_ended(output: str, since: float = 0.0) -> list[str]:
    """Does so for the runs that have ended, and for those of which that is not known and that wrote nothing since.

    Args:
      output: the folder of the dataset.
      since: seconds since 1970.

    Raises:
      ConfigError: when it cannot be done; the message names the file.
    """
    if not is_local_directory(output):
        return []
    try:
        sweep(output)
        runs = [aside.run for aside in asides(output) if _has_ended(aside, since)]
        if not runs:
            return []
        with alone(lock_path(output)):
            return put_back(output, runs)
    except OSError as error:
        raise ConfigError(
            f"{output}: the dataset that a killed run has set aside cannot be put back: {explained(error)}"
        ) from error


def _has_ended(aside: Aside, since: float) -> bool:
    staging = STAGING_PREFIX + aside.run
    owner = staging_owner(aside.folder, staging)
    if owner != "unknown" or not os.path.isdir(os.path.join(aside.folder, staging)):
        return owner != "running"
    written = (file.modified for file in list_entries(aside.folder) if not file.path.startswith(REPLACED_PREFIX))
    return max(aside.modified, *written, 0.0) < since


def _mark(path: str) -> None:
    with stores.create_file(path) as file:
        file.write(b"\n")  # an empty object may be what a console makes for a folder, and is looked at again


def _probe(output: str) -> None:
    probe = f"{PROBE_PREFIX}{secrets.token_hex(4)}"
    try:
        _mark(stores.join(output, probe))
        delete_files(output, [probe])
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {explained(error)}") from error
