import pyarrow as pa

class Columns:
    rows: int
    size: int
    def __init__(self, batch: pa.RecordBatch) -> None: ...
