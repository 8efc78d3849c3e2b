"""The staging folder of a run, while the run lasts: what it leaves behind, however it ends."""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator

from apache_beam.io.filesystem import BeamIOError

from penstock.io.folders import delete_files
from penstock.io.layout import WINDOWS, Staging, check_output, check_replaceable, list_files, remove_folder
from penstock.io.shuffle import spill_directory
from pipelines._options import OutputOptions

_LOGGER = logging.getLogger(__name__)


@contextlib.contextmanager
def staging_folder(output: str, overwrite: bool, run_id: str) -> Iterator[Staging]:
    """The staging folder of a new run in an output that can take it.

    When the block fails, or the run published nothing, the output is left as it was found, but for dead letters.

    Raises:
      ConfigError: when the output cannot take a dataset.
    """
    is_new = "://" not in output and not os.path.exists(output)
    check_output(output, overwrite)
    staging = Staging(output, run_id)
    try:
        yield staging
    except BaseException:
        remove_staged(staging, is_new)
        raise
    if not list_files(staging.dead_letters):
        remove_staged(staging, is_new)


@contextlib.contextmanager
def windows_folder(options: OutputOptions, run_id: str, is_bounded: bool) -> Iterator[Staging]:
    """The staging folder of a run that writes windows, in an output that takes them one by one.

    What is to be overwritten goes at once. When the block fails before a window is published, nothing stays of a run
    that has an end. A stream keeps its folders however the block ends: the job may run on without us, or be resumed.

    Raises:
      ConfigError: when the output cannot take a dataset.
    """
    output = str(options.output)
    if options.resume:
        check_replaceable(output)
    else:
        check_output(output, options.overwrite)
        delete_files(output, list(list_files(output)))
    staging = Staging(output, run_id)
    try:
        yield staging
    except BaseException:
        if is_bounded and not list_files(staging.published(staging.path(WINDOWS))):
            remove_folder(output)
        raise
    finally:
        if is_bounded:
            remove_staged(staging)


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
