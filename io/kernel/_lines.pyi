import numpy as np
import numpy.typing as npt

Index = npt.NDArray[np.int64]

def index_lines(data: bytes) -> tuple[Index, Index, Index]: ...
def has_lone_cr(data: bytes) -> bool: ...
