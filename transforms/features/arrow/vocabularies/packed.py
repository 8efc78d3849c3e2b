"""Terms on their way from one worker to another, compressed: a runner copies them several times."""

from typing import Any

import pyarrow as pa


def pack(*arrays: Any) -> pa.Buffer:
    """Packs arrays of one length."""
    batch = pa.record_batch(list(arrays), [str(at) for at in range(len(arrays))])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as stream:
        stream.write_batch(batch)
    return sink.getvalue()


def unpack(buffer: pa.Buffer) -> Any:
    """Returns what `pack` took: an Arrow array, or a list of several."""
    columns = pa.ipc.open_stream(buffer).read_next_batch().columns
    return columns if len(columns) > 1 else columns[0]
