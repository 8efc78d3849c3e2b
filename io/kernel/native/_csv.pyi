from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

def cut_records(data: bytes, delimiter: int, final: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]: ...

class Splitter:
    def __init__(
        self, delimiter: int, single_lines: bool, slots: Sequence[int], null_values: Sequence[bytes]
    ) -> None: ...
    def split(
        self, data: bytes, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]: ...
    def keep(self, rows: npt.NDArray[np.int64]) -> None: ...
    def texts(
        self, slot: int, start: int, stop: int, only: npt.NDArray[np.int64] | None = None
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]: ...
    def ints(
        self, slot: int, start: int, stop: int, boolean: bool
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8] | None, npt.NDArray[np.int64]]: ...
    def floats(
        self, slot: int, start: int, stop: int
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.uint8] | None, npt.NDArray[np.int64]]: ...
