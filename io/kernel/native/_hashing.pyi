import numpy as np
import numpy.typing as npt

from penstock.io.kernel.native._columns import Columns

def hash_rows(columns: Columns, seed: int, hashes: npt.NDArray[np.uint64]) -> None: ...
