from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from penstock.io.kernel.native._columns import Columns

class Examples:
    def __init__(self, columns: Columns, names: Sequence[str]) -> None: ...
    def measure(self, offsets: npt.NDArray[np.int64]) -> int: ...
    def write(self, data: npt.NDArray[np.uint8]) -> None: ...
