"""The dataset on disk: file names, the staging folder, and checks before overwriting.

::

    OUTPUT/
      manifest.json                 written last: if it exists, the dataset is complete
      schema.pbtxt                  tensorflow_metadata Schema of the input rows
      transform/                    the fitted graph, when there is one
      <split>/part-00000-of-00008.tfrecord.gz
      dead_letters/part-00000-of-00002.jsonl
      .tmp-<run id>/                a run that has not finished, or that crashed; `owner.lock` tells which

With windows, each window has its own manifest, and its own folders for shards and dead letters::

      windows/<start>_<end>.json
      <split>/<start>/part-00000-of-00004.tfrecord.gz    rows that came on time
      <split>/<start>/late-00000-of-00004.tfrecord.gz    rows that came late, if there are any
      dead_letters/<start>/part-00000-of-00002.jsonl
"""

import collections
import dataclasses
import datetime
import os
import re
import secrets
from collections.abc import Sequence
from typing import Self

from apache_beam.io.filesystems import FileSystems

from penstock.io.dataset.options import DEAD_LETTERS as DEAD_LETTERS
from penstock.io.dataset.options import MANIFEST as MANIFEST
from penstock.io.dataset.options import SCHEMA as SCHEMA
from penstock.io.dataset.options import TRANSFORM as TRANSFORM
from penstock.io.dataset.options import WINDOWS as WINDOWS
from penstock.io.errors import ConfigError
from penstock.io.files.extras import check_filesystem
from penstock.io.files.folders import delete_files, list_files
from penstock.io.files.owned import is_abandoned
from penstock.io.files.paths import is_local, is_local_directory
from penstock.io.files.system_errors import explained

PARKED = "parked"
STAGING_PREFIX = ".tmp-"
PROBE_PREFIX = f"{STAGING_PREFIX}probe-"

# This file is staged once the old dataset is deleted. A second attempt sees it and deletes nothing.
CLEARED = "cleared"

_DATASET_FILE = re.compile(
    r"manifest\.json|schema\.pbtxt|(statistics|transform|dead_letters|windows)/.*|\.tmp-.*"
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


def new_run_id() -> str:
    """Returns a new name for a run: its start in UTC and eight random hex digits."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


@dataclasses.dataclass(frozen=True)
class Staging:
    """The folder of one run, where everything lies until it is published.

    A file staged under a relative path (`path("train", ...)`) is published under the same path below the output.
    """

    output: str
    run_id: str

    @classmethod
    def new(cls, output: str) -> Self:
        """Names the folder of a new run."""
        return cls(output, new_run_id())

    @property
    def directory(self) -> str:
        """The staging folder."""
        return FileSystems.join(self.output, STAGING_PREFIX + self.run_id)

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
        return FileSystems.join(self.directory, *parts)

    def published(self, path: str) -> str:
        """Returns the path at which a staged file is published."""
        return FileSystems.join(self.output, path.removeprefix(self.directory).lstrip("/"))


def check_output(output: str, overwrite: bool, run_id: str = "", dry_run: bool = False, resume: bool = False) -> None:
    """Rejects an output that cannot take a dataset, before any work is done. It ignores what `run_id` staged.

    With `dry_run` nothing is written, and the check does not find out whether the folder is writable. With `resume`
    the output may already hold windows. What a killed run left counts for nothing.

    Raises:
      ConfigError: if the output is unreachable, is a file, is not writable, is not empty while `overwrite` is not set,
        or holds files that do not belong to a dataset.
    """
    check_filesystem(output, f"--output {output}")
    if is_local(output) and os.path.exists(output) and not os.path.isdir(output):
        raise ConfigError(f"--output {output}: is a file; name a folder")
    if not is_local(output) and any(character in output for character in "*?["):
        raise ConfigError(f"--output {output}: must not contain '*', '?' or '[', which stand for patterns")
    own = f"{STAGING_PREFIX}{run_id}/"
    try:
        ignored = (own, PROBE_PREFIX, *(f"{name}/" for name in abandoned_staging(output)))
        found = [path for path in list_files(output) if not path.startswith(ignored)]
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be listed: {error}") from error
    if found and not overwrite and not resume:
        examples = ", ".join(sorted({path.split("/")[0] for path in found})[:3])
        raise ConfigError(f"--output {output}: is not empty ({examples}); pass --overwrite to replace what is there")
    check_replaceable(output)
    if not dry_run:
        _probe(output)


def abandoned_staging(output: str) -> list[str]:
    """Returns the names of staging folders of killed runs in a local output.

    It cannot tell them in a store. The staging of a stream is never one: its job may be resumed.
    """
    if not is_local_directory(output):
        return []
    staged = (entry.name for entry in os.scandir(output) if entry.name.startswith(STAGING_PREFIX))
    return sorted(name for name in staged if is_abandoned(os.path.join(output, name)))


def check_replaceable(output: str) -> None:
    """Refuses to overwrite a folder that holds files other than a dataset's.

    Raises:
      ConfigError: for such files; the message names them.
    """
    foreign = sorted(path for path in list_files(output) if not _DATASET_FILE.fullmatch(path))
    if foreign:
        raise ConfigError(
            f"--output {output}: holds files that are no part of a dataset ({', '.join(foreign[:3])}); --overwrite "
            "would delete them: move them away, or name another folder"
        )


def clear_once(staging: Staging, overwrite: bool) -> None:
    """Deletes the existing dataset, manifests first, and leftovers of crashed runs; keeps what this run staged.

    A second attempt deletes nothing.

    Raises:
      ConfigError: if the output is not empty and `overwrite` is not set, or if it holds files that do not belong to a
        dataset.
    """
    cleared = staging.path(CLEARED)
    if FileSystems.exists(cleared):
        return
    own = f"{STAGING_PREFIX}{staging.run_id}/"
    old = [path for path in list_files(staging.output) if not path.startswith(own)]
    filled = [path for path in old if not path.startswith(PROBE_PREFIX)]
    if filled and not overwrite:
        raise ConfigError(f"{staging.output}: was filled while the job ran ({filled[0]}); nothing is published")
    check_replaceable(staging.output)
    manifests = [path for path in old if path == MANIFEST or path.startswith(f"{WINDOWS}/")]
    delete_files(staging.output, manifests)
    delete_files(staging.output, sorted({*old} - {*manifests}))
    _mark(cleared)


def _mark(path: str) -> None:
    with FileSystems.create(path, compression_type="uncompressed") as file:
        file.write(b"")


def _probe(output: str) -> None:
    probe = f"{PROBE_PREFIX}{secrets.token_hex(4)}"
    try:
        _mark(FileSystems.join(output, probe))
        delete_files(output, [probe])
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {explained(error)}") from error
