from typing import Final

import numpy as np
import numpy.typing as npt

from penstock.io.kernel.native._columns import Columns

GOOD: Final[int]
BAD: Final[int]
HARD: Final[int]

def ints(columns: Columns, boolean: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8] | None]: ...
def floats(columns: Columns) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8] | None]: ...
