"""The staging folder of a run: removed when it ends, unless dead letters in it say why nothing is published."""

import contextlib
import glob
import logging
import os
import shutil
import uuid
from collections.abc import Iterator

from apache_beam.io.filesystem import BeamIOError

from penstock.io.dataset.layout import Staging, abandoned_staging, check_output
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.shuffle import spill_directory
from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.errors import DataError
from penstock.io.files.folders import list_files, remove_folder
from penstock.io.files.owned import owning, remove_abandoned
from penstock.io.files.paths import is_local
from pipelines._report.process import tell_removed

_LOGGER = logging.getLogger(__name__)


@contextlib.contextmanager
def staging_folder(output: str, overwrite: bool, run_id: str, ends_with_us: bool = True) -> Iterator[Staging]:
    """The staging folder of a new run in an output that can take it; what killed runs staged there is removed.

    When the block fails, or the run published nothing, the output is left as it was found, except for dead letters.
    With `ends_with_us`, the run cannot go on without this process, and the folder says so.

    Raises:
      ConfigError: when the output cannot take a dataset.
    """
    is_new = is_local(output) and not os.path.exists(output)
    check_output(output, overwrite)
    tell_removed(remove_abandoned(os.path.join(output, name) for name in abandoned_staging(output)))
    staging = Staging(output, run_id)
    with contextlib.ExitStack() as stack:
        try:
            if ends_with_us and is_local(output):
                stack.enter_context(owning(staging.directory))
            yield staging
        except BaseException:
            remove_staged(staging, is_new)
            raise
        if not list_files(staging.dead_letters):
            remove_staged(staging, is_new)


@contextlib.contextmanager
def fitting_folder(directory: str) -> Iterator[str | None]:
    """A folder in that of the graph for a fit to work in, which ends with it; what killed fits left is removed.

    None if the graph is not on this machine.
    """
    if not is_local(directory):
        yield None
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


def remove_staged(staging: Staging, with_output: bool = False) -> None:
    """Removes what a run staged and spilled; and, where `with_output` says so, an output folder that is left empty."""
    shutil.rmtree(spill_directory(staging), ignore_errors=True)
    try:
        remove_folder(staging.directory)
    except (OSError, BeamIOError) as error:
        _LOGGER.warning("%s: cannot be removed: %s", staging.directory, error)
    if with_output:
        with contextlib.suppress(OSError):
            os.rmdir(staging.output)
