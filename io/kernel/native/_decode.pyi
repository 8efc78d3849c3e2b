from collections.abc import Sequence

import numpy as np

_ByKind = dict[int, tuple[memoryview, memoryview, memoryview, memoryview, bool]]

def read(
    data: bytes | memoryview, starts: np.ndarray, lengths: np.ndarray, names: Sequence[str] | None
) -> tuple[dict[str, _ByKind], dict[str, memoryview], list[tuple[int, int, int]]]: ...
