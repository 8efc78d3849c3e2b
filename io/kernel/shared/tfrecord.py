"""Sizes and CRCs of TFRecord frames; `penstock.io.examples.frames` shows their layout."""

import numpy as np
import numpy.typing as npt

HEADER_BYTES = 12
FOOTER_BYTES = 4

_CRC_MASK_DELTA = np.uint32(0xA282EAD8)


def mask_crcs(crcs: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Masks CRC32C values as TFRecord files store them: rotated, plus a constant."""
    rotated = (crcs >> np.uint32(15)) | (crcs << np.uint32(17))
    return rotated + _CRC_MASK_DELTA


def unmask_crcs(crcs: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """Restores CRC32C values from the masked ones that a TFRecord file stores."""
    rotated = crcs - _CRC_MASK_DELTA
    return (rotated >> np.uint32(17)) | (rotated << np.uint32(15))
