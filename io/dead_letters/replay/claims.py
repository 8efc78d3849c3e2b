"""Claims: each file of dead letters is replayed once, whoever replays it.

A claim is a small file beside the claimed one, named after both::

    dead_letters/part-00000-of-00002.jsonl
    dead_letters/part-00000-of-00002.jsonl.claim-20260101T000000Z-1a2b3c4d

The claimed file stays where it is, since the manifest of its dataset lists it, and `verify` knows the claims. They lie
beside the letters and not in the output of the replay, because two replays need not share one; and when the dataset is
overwritten they go with it, as they must.

Taking one needs nothing of the filesystem but that a file which was written is listed from then on, as all do that Beam
knows: write the claim, list the claims, and if there is another one withdraw. Of two replays that try at the same
moment at most one goes on, maybe none; then it can be tried again.

A claim is *taken* until the replay has published its rows, and *done* from then on, for ever. A replay that fails gives
its claims back. One that is killed cannot: its claims are settled by the next replay that meets them,

- as done, when the output that the claim names was published by the run that it names;
- as given back, when it ran on this machine, in a process that is gone, on a local runner;
- else not at all: whether the job still runs somewhere is more than anyone here can know, so that a person must say so
  (`--release RUN_ID`).
"""

import collections
import contextlib
import dataclasses
import datetime
import json
import os
import re
import socket
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal, Self

from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems

from penstock.io.dataset.manifest import read_manifest
from penstock.io.errors import DataError
from penstock.io.files.folders import delete_files, list_files
from penstock.io.files.inputs import InputFile
from penstock.io.files.paths import is_local

_CLAIM = re.compile(r"(?P<file>.+)\.claim-(?P<run_id>[^/]+)")


def is_claim(path: str) -> bool:
    """Whether a file is a claim on another one."""
    return _CLAIM.fullmatch(path) is not None


def _now() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclasses.dataclass(frozen=True)
class Claim:
    """What is known of a replay that has claimed a file.

    Attributes:
      run_id: of the replay.
      output: the folder that it writes to.
      status: taken, or done when its rows are published.
      host, pid: where it was started.
      is_local: whether it ends with that process.
      created: when the claim was made, UTC.
    """

    run_id: str
    output: str
    status: Literal["taken", "done"] = "taken"
    host: str = dataclasses.field(default_factory=socket.gethostname)
    pid: int = dataclasses.field(default_factory=os.getpid)
    is_local: bool = True
    created: str = dataclasses.field(default_factory=_now)

    def settled(self) -> Literal["taken", "done", "given back"]:
        """What has become of it."""
        if self.status == "done" or _is_published(self.output, self.run_id):
            return "done"
        return "given back" if self.is_local and self.host == socket.gethostname() and _is_gone(self.pid) else "taken"

    def to_json(self) -> str:
        """One line."""
        return json.dumps(dataclasses.asdict(self)) + "\n"

    @classmethod
    def read(cls, path: str) -> Self | None:
        """The claim in a file; None when it is gone or cannot be read, as while it is written."""
        try:
            with FileSystems.open(path, compression_type="uncompressed") as file:
                return cls(**json.loads(file.read()))
        except (OSError, BeamIOError, ValueError, TypeError):
            return None


def _is_published(output: str, run_id: str) -> bool:
    try:
        manifest = read_manifest(output)
    except (DataError, OSError):
        return False
    return manifest is not None and manifest.run_id == run_id


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


@dataclasses.dataclass(frozen=True)
class Claimed:
    """Files by what became of the wish to claim them.

    Attributes:
      taken: claimed now.
      done: replayed before, by some run.
      others: claimed by another run, whose claim is not settled: file to run id.
    """

    taken: tuple[InputFile, ...]
    done: tuple[InputFile, ...]
    others: dict[str, str]


def claim_files(files: Iterable[InputFile], claim: Claim, release: Collection[str] = ()) -> Claimed:
    """Claims what is not claimed; claims of the runs in `release` are removed first.

    Raises:
      DataError: when a claim cannot be written; none is left then.
    """
    files = list(files)
    owners = {}
    try:
        for file, run_ids in _claims_on(files):
            owner = _owner(file, run_ids, release)
            if owner is not None:
                owners[file] = owner
        wanted = [file for file in files if file not in owners]
        owners |= _take(wanted, claim)
    except (OSError, BeamIOError) as error:
        raise DataError(f"the dead letters cannot be claimed, which takes a file beside each: {error}") from error
    return Claimed(
        taken=tuple(file for file in files if file not in owners),
        done=tuple(file for file, owner in owners.items() if owner.status == "done"),
        others={file.uri: owner.run_id for file, owner in owners.items() if owner.status != "done"},
    )


def _owner(file: InputFile, run_ids: Iterable[str], release: Collection[str]) -> Claim | None:
    """The claim that stands, after those that do not are gone."""
    for run_id in run_ids:
        claim = Claim.read(_path(file, run_id)) or Claim(run_id, output="", is_local=False)
        status = "given back" if run_id in release else claim.settled()
        if status == "given back":
            give_back([file], claim)
            continue
        if status != claim.status:
            finish([file], claim)
        return dataclasses.replace(claim, status=status)
    return None


def _take(files: Sequence[InputFile], claim: Claim) -> dict[InputFile, Claim]:
    """Claims files, and gives those back that turn out to be claimed by another run too."""
    owners = {}
    try:
        for file in files:
            _write(file, claim)
        for file, run_ids in _claims_on(files):
            rivals = [run_id for run_id in run_ids if run_id != claim.run_id]
            if rivals:
                give_back([file], claim)
                owners[file] = Claim(rivals[0], output="", is_local=False)
    except BaseException:
        give_back(files, claim)
        raise
    return owners


@contextlib.contextmanager
def claiming(files: Iterable[InputFile], claim: Claim, release: Collection[str] = ()) -> Iterator[Claimed]:
    """Claims files for the block that replays them; afterwards they are done, or given back when it failed.

    A job that runs elsewhere goes on when it is interrupted here, so that its claims stay.

    Raises:
      DataError: when they cannot be claimed.
    """
    claimed = claim_files(files, claim, release)
    try:
        yield claimed
    except BaseException as error:
        if _is_published(claim.output, claim.run_id):
            finish(claimed.taken, claim)
        elif claim.is_local or not isinstance(error, KeyboardInterrupt):
            give_back(claimed.taken, claim)
        raise
    finish(claimed.taken, claim)


def finish(files: Iterable[InputFile], claim: Claim) -> None:
    """Marks claimed files as done."""
    for file in files:
        _write(file, dataclasses.replace(claim, status="done"))


def give_back(files: Iterable[InputFile], claim: Claim) -> None:
    """Removes claims."""
    for file in files:
        directory, name = FileSystems.split(_path(file, claim.run_id))
        with contextlib.suppress(OSError, BeamIOError):
            delete_files(directory, [name])


def _claims_on(files: Iterable[InputFile]) -> Iterator[tuple[InputFile, list[str]]]:
    """Each file and the runs that claim it, in order; each folder is listed once."""
    folders: dict[str, dict[str, list[str]]] = {}
    for file in files:
        directory, name = FileSystems.split(file.uri)
        if directory not in folders:
            claims: dict[str, list[str]] = collections.defaultdict(list)
            folders[directory] = claims
            for match in filter(None, map(_CLAIM.fullmatch, sorted(list_files(directory or ".")))):
                claims[match["file"]].append(match["run_id"])
        yield file, folders[directory].get(name, [])


def _path(file: InputFile, run_id: str) -> str:
    return f"{file.uri}.claim-{run_id}"


def _write(file: InputFile, claim: Claim) -> None:
    """Writes a claim in one step: who reads it finds all of it."""
    path = _path(file, claim.run_id)
    written = f"{file.uri}.claiming-{claim.run_id}" if is_local(path) else path
    with FileSystems.create(written, "application/json", compression_type="uncompressed") as stream:
        stream.write(claim.to_json().encode())
    if written != path:
        os.replace(written, path)
