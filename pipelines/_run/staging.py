"""The staging folder of a run: removed when it ends, unless dead letters in it say why nothing is published."""

import contextlib
import glob
import logging
import os
import shutil
import uuid
from collections.abc import Iterator

from penstock.io.beam.windows import parse_time_name
from penstock.io.dataset.layout import (
    Staging,
    check_output,
    lock_path,
    put_back,
    put_back_ended,
    run_folders,
    staging_folders,
)
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.shuffle import spill_directory
from penstock.io.dataset.windowed.chunks import CHUNKS
from penstock.io.dataset.windowed.manifest import (
    WindowManifest,
    read_window_manifests,
    window_manifest_path,
)
from penstock.io.dataset.windowed.resume import StreamFile
from penstock.io.errors import ConfigError, DataError
from penstock.io.files.atomic.aside import Aside
from penstock.io.files.atomic.locks import alone
from penstock.io.files.folders import list_files, remove_folder
from penstock.io.files.owned import owning, remove_abandoned
from penstock.io.files.paths import is_local
from penstock.io.files.temporary import temporary_folder
from pipelines._report.printable import printable
from pipelines._report.process import say, tell_removed

_LOGGER = logging.getLogger(__name__)


@contextlib.contextmanager
def staging_folder(
    output: str, overwrite: bool, run_id: str, ends_with_us: bool = True, append: bool = False
) -> Iterator[Staging]:
    """The staging folder of a new run in an output that can take it; what killed runs staged there is removed.

    When the block fails, or the run published nothing, the output is left as it was found, except for dead letters.
    With `ends_with_us`, the run cannot go on without this process, and the folder says so.

    Raises:
      ConfigError: when the output cannot take a dataset.
    """
    is_new = is_local(output) and not os.path.exists(output)
    restore(output)
    check_output(output, overwrite, append=append)
    _remove_abandoned(output)
    staging = Staging(output, run_id)
    with contextlib.ExitStack() as stack:
        try:
            if ends_with_us and is_local(output):
                stack.enter_context(owning(staging.directory))
            yield staging
        except BaseException:
            remove_staged(staging, is_new)
            raise
        if not _is_dataset(staging) and not list_files(staging.dead_letters):
            remove_staged(staging, is_new)


@contextlib.contextmanager
def stream_folder(output: str, run_id: str, ends_with_us: bool) -> Iterator[Staging]:
    """The staging folder of a start of a stream; what killed ones staged is removed.

    With `ends_with_us`, the stream ends with this process, and the folder with it: rows of open windows are read again.
    Otherwise the folder stays, however this process ends: the job goes on, or may be resumed from a checkpoint.

    Raises:
      ConfigError: when another process of this machine writes a stream into the output.
    """
    staging = Staging(output, run_id)
    if not is_local(output):
        try:
            yield staging
        finally:
            if ends_with_us:
                _remove(staging.temporary())
        return
    running = staging_folders(output, "running")
    if running:
        raise ConfigError(f"--output {output}: another job writes into it ({running[0]}): stop that one first")
    _remove_abandoned(output)
    if not ends_with_us:
        yield staging
        return
    try:
        with owning(staging.directory):
            yield staging
    finally:
        remove_staged(staging)


def restore(output: str, since: float = 0.0) -> None:
    """Puts the dataset back that a killed run was to replace, and says so (`layout.put_back_ended`).

    Raises:
      ConfigError: when it cannot be done.
    """
    for run_id in put_back_ended(output, since):
        say(f"put back the dataset in {printable(output)}: the run {run_id} was killed as it replaced it")


def _remove_abandoned(output: str) -> None:
    tell_removed(remove_abandoned(os.path.join(output, name) for name in staging_folders(output, "ended")))


@contextlib.contextmanager
def fitting_folder(directory: str, runs_here: bool) -> Iterator[str | None]:
    """A folder for a fit to work in, which ends with it: in that of the graph, where what killed fits left is removed.

    For a graph in a store it is one of this machine's temporary folders, or None if the workers are elsewhere.
    """
    if not is_local(directory):
        with temporary_folder() if runs_here else contextlib.nullcontext() as folder:
            yield folder
        return
    prefix = os.path.join(directory, ".tmp-fit-")
    tell_removed(remove_abandoned(glob.glob(f"{glob.escape(prefix)}*")))
    folder = f"{prefix}{uuid.uuid4().hex[:8]}"
    try:
        with owning(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def telling_what_is_published(output: str, run_id: str) -> Iterator[None]:
    """Says of an interrupt what the run had published until then.

    Raises:
      KeyboardInterrupt: with a message if the interrupt came after something was published.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        published = _published(output, run_id)
        if published is None:
            raise
        raise KeyboardInterrupt(published) from interrupt


def _published(output: str, run_id: str) -> str | None:
    """What a run that was interrupted has published; None for nothing."""
    try:
        manifest = read_manifest(output)
        windows = sum(window.run_id == run_id for window in read_window_manifests(output))
    except DataError:  # of what was there before
        return None
    if manifest is not None and manifest.run_id == run_id:
        return f"interrupted after {output} was published; the dataset is whole"
    if windows:
        return f"interrupted; {output} has {windows} whole windows of this run, and the others are missing"
    return None


def pending_windows(staging: Staging) -> list[str]:
    """Returns the names of windows that have rows of this run and are not final yet, in the order of time.

    A window that has only rejected rows so far is not among them, nor one for which rows came too late.
    """
    names = {path.partition("/")[0] for path in list_files(staging.temporary(CHUNKS))}
    file = StreamFile.read(staging.output)
    passed = file.reached.clock if file is not None and file.reached is not None else None
    found = (name for name in names if _is_open(staging.output, name, passed))
    return sorted(found, key=lambda name: (parse_time_name(name.partition("_")[0]), name))


def _is_open(output: str, name: str, passed: int | None) -> bool:
    manifest = WindowManifest.read(window_manifest_path(output, name))
    if manifest is not None:
        return not manifest.final
    return passed is None or parse_time_name(name.partition("_")[2]) > passed


def remove_staged(staging: Staging, with_output: bool = False) -> None:
    """Removes what a run staged and spilled; and, where `with_output` says so, an output folder that is left empty.

    A dataset that the run had set aside is put back before that.
    """
    try:
        if is_local(staging.output) and Aside(staging.output, staging.run_id).is_begun:
            with alone(lock_path(staging.output)):
                put_back(staging.output, [staging.run_id])
    except (OSError, ConfigError) as error:
        _LOGGER.warning("%s: the dataset that was to be replaced is not put back yet: %s", staging.output, error)
    shutil.rmtree(spill_directory(staging), ignore_errors=True)
    _remove(staging.temporary())
    try:
        if staging.is_final and not _is_dataset(staging):
            _remove(staging.directory)
    except (OSError, DataError) as error:
        _LOGGER.warning("%s: cannot be removed: %s", staging.directory, error)
    if with_output:
        with contextlib.suppress(OSError):
            os.rmdir(staging.output)


def _remove(directory: str) -> None:
    try:
        remove_folder(directory)
    except OSError as error:
        _LOGGER.warning("%s: cannot be removed: %s", directory, error)


def _is_dataset(staging: Staging) -> bool:
    """Whether what is published has files in the folder: the dataset, or a window."""
    output = staging.output
    if not staging.is_final:
        return False
    whole = read_manifest(output)
    if whole is not None and whole.run_id == staging.run_id:
        return True
    return any(staging.name in run_folders(output, window.files()) for window in read_window_manifests(output))
