import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

def crc32c(crc: int, data: bytes | memoryview | Bytes) -> int: ...
def discard(file: int, start: int, end: int) -> None: ...
def sort_order(
    splits: npt.NDArray[np.uint16], keys: npt.NDArray[np.uint64], data: Bytes, offsets: Ints
) -> Ints | None: ...
def gather(
    data: Bytes, offsets: Ints, order: Ints, index: int, skip: int, out: Bytes, filled: int
) -> tuple[int, int, int]: ...
