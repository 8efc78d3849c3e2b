"""TensorFlow and tensorflow-transform, imported when first needed: the core of Penstock runs without them."""

import os
import warnings
from typing import Any, NamedTuple


class Tensorflow(NamedTuple):
    """The modules `tensorflow`, `tensorflow_transform` and `tensorflow_transform.beam`."""

    tf: Any
    tft: Any
    tft_beam: Any


def import_tensorflow() -> Tensorflow:
    """Imports them, quietly.

    Raises:
      ImportError: when the extra `tft` is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Its kernels choose their block sizes by the size of the batch, and with them the last bit of the result.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside these packages, which a user cannot act on
            import tensorflow as tf
            import tensorflow_transform as tft
            import tensorflow_transform.beam as tft_beam
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("tensorflow", "tensorflow_transform"):
            raise
        raise ImportError("feature transformation needs tensorflow-transform: pip install 'penstock[tft]'") from error
    return Tensorflow(tf, tft, tft_beam)
