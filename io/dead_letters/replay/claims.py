"""Claims: they make sure that each dead-letter file is replayed once, by whichever run.

A claim is a small file beside the claimed file. Its name has the file's name and the id of the run::

    dead_letters/part-00000-of-00002.jsonl
    dead_letters/part-00000-of-00002.jsonl.claim-20260101T000000Z-1a2b3c4d

The claimed file stays in place, since the manifest of its dataset lists it; `verify` knows about claims. Claims lie
beside the letters and not in the output of the replay, because two replays need not share an output. And when the
dataset is overwritten, its claims must be deleted with it.

To take a claim, a replay writes it, lists all claims, and withdraws if there is another one. This needs only that the
filesystem lists a file once it is written, as all filesystems of Beam do. If two replays try at the same moment, at
most one continues. Maybe none does; then either can try again.

A claim is *taken* until the replay has published its rows, and *done* from then on, for ever. A replay that fails gives
its claims back. A replay that is killed cannot do so. The next replay that finds its claims settles them,

- as done, if the run that the claim names has published the output that the claim names;
- as given back, if the replay ran on this machine, on a local runner, in a process that is gone;
- else not at all: nothing here can tell whether the job still runs somewhere, so a person must release the claims
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

from penstock.io.dataset.manifest import read_manifest
from penstock.io.errors import DataError
from penstock.io.files import stores
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
    """The claim of a replay on a file.

    Attributes:
      run_id: id of the replay.
      output: the folder that the replay writes to.
      status: `taken`, or `done` once its rows are published.
      host, pid: machine and process that started the replay.
      is_local: whether the replay ends with that process.
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
        """Returns the present status: whether the rows were published since, or the replay is gone."""
        if self.status == "done" or _is_published(self.output, self.run_id):
            return "done"
        return "given back" if self.is_local and self.host == socket.gethostname() and _is_gone(self.pid) else "taken"

    def to_json(self) -> str:
        """Returns one line of JSON."""
        return json.dumps(dataclasses.asdict(self)) + "\n"

    @classmethod
    def read(cls, path: str) -> Self | None:
        """Reads a claim; returns None if the file is gone or unreadable, for example while it is being written."""
        try:
            with stores.open_file(path) as file:
                return cls(**json.loads(file.read()))
        except (OSError, ValueError, TypeError):
            return None


def _is_published(output: str, run_id: str) -> bool:
    try:
        manifest = read_manifest(output)
    except (DataError, OSError):
        return False
    if manifest is None:
        return False
    parts = (part["run_id"] for span in manifest.spans for part in span.provenance.get("parts", ()))
    return run_id in {manifest.run_id, *(span.run_id for span in manifest.spans), *parts}


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
    """The result of claiming files.

    Attributes:
      taken: files that are claimed now.
      done: files that some run has replayed before.
      others: files that another run claims, and whose claim is not settled: file -> run id.
    """

    taken: tuple[InputFile, ...]
    done: tuple[InputFile, ...]
    others: dict[str, str]


def claim_files(files: Iterable[InputFile], claim: Claim, release: Collection[str] = ()) -> Claimed:
    """Claims all files that are not claimed, after removing the claims of the runs in `release`.

    Raises:
      DataError: if a claim cannot be written; no claim of this run is left then.
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
    except OSError as error:
        raise DataError(f"the dead letters cannot be claimed, which takes a file beside each: {error}") from error
    return Claimed(
        taken=tuple(file for file in files if file not in owners),
        done=tuple(file for file, owner in owners.items() if owner.status == "done"),
        others={file.uri: owner.run_id for file, owner in owners.items() if owner.status != "done"},
    )


def _owner(file: InputFile, run_ids: Iterable[str], release: Collection[str]) -> Claim | None:
    """Returns the valid claim on a file, if any, and removes claims that were given back."""
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
    """Claims files, and gives back those that another run claims too."""
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
    """Claims files for a `with` block that replays them. Afterwards they are done, or given back if the block failed.

    A job that runs elsewhere continues when it is interrupted here, so its claims stay.

    Raises:
      DataError: if the files cannot be claimed.
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
        directory, name = stores.split(_path(file, claim.run_id))
        with contextlib.suppress(OSError):
            delete_files(directory, [name])


def _claims_on(files: Iterable[InputFile]) -> Iterator[tuple[InputFile, list[str]]]:
    """Yields each file with the runs that claim it, sorted; lists each folder once."""
    folders: dict[str, dict[str, list[str]]] = {}
    for file in files:
        directory, name = stores.split(file.uri)
        if directory not in folders:
            claims: dict[str, list[str]] = collections.defaultdict(list)
            folders[directory] = claims
            for match in filter(None, map(_CLAIM.fullmatch, sorted(list_files(directory or ".")))):
                claims[match["file"]].append(match["run_id"])
        yield file, folders[directory].get(name, [])


def _path(file: InputFile, run_id: str) -> str:
    return f"{file.uri}.claim-{run_id}"


def _write(file: InputFile, claim: Claim) -> None:
    """Writes a claim atomically, so that nobody reads half of it."""
    path = _path(file, claim.run_id)
    written = f"{file.uri}.claiming-{claim.run_id}" if is_local(path) else path
    with stores.create_file(written, "application/json") as stream:
        stream.write(claim.to_json().encode())
    if written != path:
        os.replace(written, path)
