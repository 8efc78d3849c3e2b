"""Imports TensorFlow and tensorflow-transform when they are first needed: the core of Penstock runs without them."""

import contextlib
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator

from penstock.io.files.extras import TFT
from penstock.transforms.features.compute.modules import Tensorflow as Tensorflow

_PURPOSE = "feature transformation"
_STDERR = threading.Lock()


def import_tensorflow() -> Tensorflow:
    """Imports the modules, quietly.

    Raises:
      MissingExtraError: when the extra `tft` is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # oneDNN's kernels choose block sizes by the size of the batch, and with them the last bit of the result.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        with warnings.catch_warnings(), _quiet_start():
            warnings.simplefilter("ignore")  # deprecations inside these packages, which a user cannot act on
            import tensorflow as tf
            import tensorflow_transform as tft
            import tensorflow_transform.beam as tft_beam

            tf.config.list_physical_devices()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("tensorflow", "tensorflow_transform"):
            raise
        raise TFT.missing(_PURPOSE) from error
    return Tensorflow(tf, tft, tft_beam)


def check_tensorflow() -> None:
    """Checks, without importing anything, whether features can be fitted and applied.

    Raises:
      MissingExtraError: when the extra `tft` is not installed.
    """
    TFT.require(_PURPOSE)


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Holds back what TensorFlow's libraries print about CUDA and CPU features while they are loaded.

    They print before their log level can be set, straight to the file descriptor. If loading fails, it is shown.
    """
    if "tensorflow_transform.beam" in sys.modules or sys.stderr is None:
        yield
        return
    sys.stderr.flush()
    # Without the lock, the second of two threads would restore what the first had put there.
    with _STDERR, tempfile.TemporaryFile() as held, _replaced_stderr(held.fileno()) as stderr:
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise


@contextlib.contextmanager
def _replaced_stderr(replacement: int) -> Iterator[int]:
    """Replaces standard error's file descriptor meanwhile; yields a copy of the original."""
    stderr = os.dup(2)
    try:
        os.dup2(replacement, 2)
        yield stderr
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
