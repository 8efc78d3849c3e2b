"""What functions that build graphs take first: the modules of TensorFlow, which nothing here imports."""

from typing import Any, NamedTuple


class Tensorflow(NamedTuple):
    """The modules `tensorflow`, `tensorflow_transform` and `tensorflow_transform.beam`."""

    tf: Any
    tft: Any
    tft_beam: Any
