"""What was read of each row: the column `_source`, from which a dead letter gets its payload, wherever it is rejected.

`_source` is a struct. Its first field says what it holds:

=======  =======================================================================  ============================
field    what                                                                     encoding of the payload
=======  =======================================================================  ============================
`bytes`  the bytes of the row: a line, a record, a message                        `text`, or `base64`
`json`   the payload of a dead letter that is replayed, which was JSON            `json`
`row`    a struct of the columns as they were read, for sources that have types   `json`
=======  =======================================================================  ============================

`bytes` may have a field `unused` beside it: how many bytes at the end of the value do not belong to the row. `bytes`
and `json` may have a field `columns`: the `payload_columns` of the dead letter, if the payload does not name its
columns (CSV) or they are of types that JSON does not have. Those of `row` follow from its types.

Nothing here copies what was read: the bytes are those of the block that was read, the columns those of the batch.
"""

import base64
import dataclasses
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.batches import feature_names, set_column
from penstock.io.columns.lists import without_views
from penstock.io.dead_letters.column_types import column_types
from penstock.io.dead_letters.payloads import row_payloads
from penstock.io.reserved import SOURCE

PayloadEncoding = Literal["text", "base64", "json"]

_BYTES, _UNUSED, _JSON, _ROW, _COLUMNS = "bytes", "unused", "json", "row", "columns"

_MAX_INT32 = (1 << 31) - 1


@dataclasses.dataclass(frozen=True)
class Payloads:
    """The payloads of some rows, as `DeadLetter` has them: one value of each list for each row."""

    texts: list[str]
    encodings: list[PayloadEncoding]
    columns: list[str | None]


def span_source(
    data: bytes | memoryview, starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], columns: str | None = None
) -> pa.StructArray:
    r"""Makes `_source` of rows that lie in a block one behind the other; does not copy them.

    Arrow's values have nothing between them. So a value reaches to the next one, and `unused` says by how much too
    far::

        block     a b \n c d e \r \n f
        starts    0      3           8
        ends          2        6     9
        values    a b \n|c d e \r \n|f
        unused    1      2           0

    Args:
      data: the block.
      starts, ends: int64[n], where each row starts and ends; ascending.
      columns: the `payload_columns` of all rows.
    """
    width = np.int32 if len(data) <= _MAX_INT32 else np.int64
    bounds = np.zeros(len(starts) + 1, width)
    bounds[:-1] = starts
    bounds[len(starts) :] = ends[-1:] if len(ends) else 0
    kind = pa.binary() if width is np.int32 else pa.large_binary()
    values = pa.Array.from_buffers(kind, len(starts), [None, pa.py_buffer(bounds), pa.py_buffer(data)])
    unused = pa.array((bounds[1:].astype(np.int64) - ends).astype(width))
    return _struct({_BYTES: values, _UNUSED: unused, _COLUMNS: _repeated(columns, len(starts))})


def bytes_source(values: pa.Array, columns: pa.Array | None = None) -> pa.StructArray:
    """Makes `_source` of the bytes of rows.

    Args:
      values: binary or large_binary[n], without nulls.
      columns: string[n], the `payload_columns` of each row.
    """
    return _struct({_BYTES: values, _COLUMNS: columns})


def json_source(texts: pa.StringArray, columns: pa.Array | None = None) -> pa.StructArray:
    """Makes `_source` of payloads that are JSON; `columns` as in `bytes_source`."""
    return _struct({_JSON: texts, _COLUMNS: columns})


def keep_source(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Adds `_source` with the data columns as they are now; leaves the `_source` of a batch that has one."""
    if SOURCE in batch.schema.names:
        return batch
    columns = without_views(batch.select(feature_names(batch)))  # Arrow has no `take` for views
    if columns.num_columns:
        rows = pa.StructArray.from_arrays(columns.columns, fields=list(columns.schema))
    else:
        rows = pa.array([{}] * batch.num_rows, pa.struct([]))
    return set_column(batch, SOURCE, _struct({_ROW: rows}))


def payloads_of(source: pa.StructArray) -> Payloads:
    """Returns the payloads of rows, given their `_source`."""
    fields = {field.name: source.field(index) for index, field in enumerate(source.type)}
    if _ROW in fields:
        rows = pa.RecordBatch.from_struct_array(fields[_ROW])
        return Payloads(row_payloads(rows), ["json"] * len(source), [column_types(rows.schema)] * len(source))
    columns = _texts(fields.get(_COLUMNS), len(source))
    if _JSON in fields:
        return Payloads(fields[_JSON].to_pylist(), ["json"] * len(source), columns)
    unused = fields[_UNUSED].to_pylist() if _UNUSED in fields else [0] * len(source)
    pairs = zip(fields[_BYTES].to_pylist(), unused, strict=True)
    texts = [payload_text(value[: len(value) - count]) for value, count in pairs]
    return Payloads([text for text, _ in texts], [encoding for _, encoding in texts], columns)


def _texts(column: pa.Array | None, rows: int) -> list[str | None]:
    """Returns a text for each row; those of a dictionary are shared by the rows that have them (`_repeated`)."""
    if column is None:
        return [None] * rows
    if not pa.types.is_dictionary(column.type):
        return column.to_pylist()
    texts = column.dictionary.to_pylist()
    return [None if code is None else texts[code] for code in column.indices.to_pylist()]


def payload_text(payload: bytes) -> tuple[str, PayloadEncoding]:
    """Returns the bytes of a row as a payload has them: as text if they are UTF-8, else as base64."""
    try:
        return payload.decode(), "text"
    except UnicodeDecodeError:
        return base64.b64encode(payload).decode(), "base64"


def _struct(fields: dict[str, pa.Array | None]) -> pa.StructArray:
    there = {name: values for name, values in fields.items() if values is not None}
    return pa.StructArray.from_arrays(list(there.values()), names=list(there))


def _repeated(text: str | None, rows: int) -> pa.DictionaryArray | None:
    """Returns a column with the same text in each row, which is stored once."""
    if text is None:
        return None
    codes = pa.array(np.zeros(rows, np.int32))
    return pa.DictionaryArray.from_arrays(codes, pa.array([text], pa.string()), safe=False)
