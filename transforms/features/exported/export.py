"""Exports features that Arrow fitted as a SavedModel: the layout that `tft.TFTransformOutput` loads.

Features of Arrow need no TensorFlow; a program that serves a model by `tft.TFTransformOutput` does. The SavedModel has
the operations of `features.json`, with what is fitted as constants and vocabularies as assets. A process of its own
writes it, so that the one that asks for it never imports TensorFlow.
"""

import os
import subprocess
import sys

from penstock.io.errors import ConfigError, RunnerError, StorageError
from penstock.io.files.extras import TFT, check_filesystem
from penstock.io.files.folders import copy_folder, local_copy, move_folder
from penstock.io.files.stores import join
from penstock.io.files.temporary import temporary_folder
from penstock.transforms._named import GRAPH_SCHEMA, RAW_SCHEMA
from penstock.transforms.features.entries.vocabulary import OPERATION as VOCABULARY
from penstock.transforms.features.exported.fitted import CALLS
from penstock.transforms.features.functions import FeatureFile

_PROCESS = "penstock.transforms.features.exported.process"
_WHAT = "a SavedModel (--export_saved_model)"


def check_exported(features: FeatureFile) -> None:
    """Checks, without a row, that what Arrow will fit can be exported.

    Raises:
      ConfigError: names the operations that cannot.
      MissingExtraError: without the extra `tft`.
    """
    TFT.require(_WHAT)
    names = {step.name for entry in features.entries for step in entry.steps if step.operation.fitted}
    if missing := sorted(names - CALLS.keys() - {VOCABULARY}):
        raise ConfigError(f"{_WHAT} has no {', '.join(missing)}; take --features_engine tft, or leave the flag out")


def export_saved_model(transform_dir: str, output_dir: str | None = None) -> None:
    """Writes the SavedModel of fitted features, and waits for it: about ten seconds.

    Args:
      transform_dir: a folder with `features.json`.
      output_dir: where `transform_fn/` goes, in place of one that is there; a folder of its own gets the schemas of
        inputs and outputs too. By default `transform_dir`.

    Raises:
      ConfigError: when the features cannot be read.
      MissingExtraError: without the extra `tft`.
      StorageError: when it cannot be written.
      RunnerError: when the process has died.
    """
    TFT.require(_WHAT)
    target = output_dir or transform_dir
    check_filesystem(target)
    with temporary_folder() as folder:
        _run([_PROCESS, local_copy(transform_dir), folder], transform_dir)
        if target != transform_dir:
            for name in (GRAPH_SCHEMA[0], RAW_SCHEMA[0]):
                copy_folder(join(transform_dir, name), join(target, name))
        move_folder(os.path.join(folder, "transform_fn"), join(target, "transform_fn"))


def _run(module: list[str], transform_dir: str) -> None:
    # What is imported here is imported there, wherever a program has it from.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-m", *module], env=environment, capture_output=True, text=True, errors="replace", check=False
    )
    if not done.returncode:
        return
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    match done.returncode:
        case 2:
            raise ConfigError(last)
        case 1 if done.stderr and "Traceback" not in done.stderr:
            raise StorageError(last)
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    raise RunnerError(
        f"{transform_dir}: the process that exports the SavedModel has ended ({how}: {last}); the features are fitted "
        "and can be applied; export them again with penstock export"
    )
