"""Reading ORC files.

A part is a run of stripes. The position of a row is its index in the file. Only the columns that the schema names are
read. Nested structs become columns with dotted names.

Arrow decodes a stripe as a whole, so memory holds the wanted columns of one stripe at a time; writers make stripes of
64 to 256 MiB. A few bytes may stand for much more, where values repeat. So a stripe is refused if, by the statistics of
the file, its columns would be far larger. ORC has no checksums: damage is detected only if the bytes cannot be decoded.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.orc
from google.protobuf import descriptor_pb2, message_factory, text_format
from google.protobuf.descriptor_pool import DescriptorPool

from penstock.io.batches import origin_array, split_batch
from penstock.io.columns.explode import stored_names
from penstock.io.columns.flatten import flatten_batch
from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile
from penstock.io.formats.base import PART_BYTES, Parsed, Part, open_uncompressed, select_names
from penstock.io.formats.columnar import (
    explode_rows,
    flat_schema,
    is_part_of,
    not_utf8_name,
    refusable,
    reject_non_utf8,
    runs,
)
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature

# The needed part of the messages in https://orc.apache.org/specification/ORCv1/
_TAIL = """
name: "orc_tail.proto" package: "orc"
message_type {
  name: "FileTail"
  field { name: "footer" number: 2 type: TYPE_MESSAGE label: LABEL_OPTIONAL type_name: ".orc.Footer" }
}
message_type {
  name: "Footer"
  field { name: "stripes" number: 3 type: TYPE_MESSAGE label: LABEL_REPEATED type_name: ".orc.Stripe" }
  field { name: "types" number: 4 type: TYPE_MESSAGE label: LABEL_REPEATED type_name: ".orc.Type" }
  field { name: "statistics" number: 7 type: TYPE_MESSAGE label: LABEL_REPEATED type_name: ".orc.Statistics" }
}
message_type {
  name: "Type"
  field { name: "subtypes" number: 2 type: TYPE_UINT32 label: LABEL_REPEATED options { packed: true } }
  field { name: "names" number: 3 type: TYPE_BYTES label: LABEL_REPEATED }
}
message_type {
  name: "Statistics"
  field { name: "values" number: 1 type: TYPE_UINT64 label: LABEL_OPTIONAL }
  field { name: "texts" number: 4 type: TYPE_MESSAGE label: LABEL_OPTIONAL type_name: ".orc.Texts" }
  field { name: "binaries" number: 8 type: TYPE_MESSAGE label: LABEL_OPTIONAL type_name: ".orc.Binaries" }
}
message_type {
  name: "Texts"
  field { name: "bytes" number: 3 type: TYPE_SINT64 label: LABEL_OPTIONAL }
}
message_type {
  name: "Binaries"
  field { name: "bytes" number: 1 type: TYPE_SINT64 label: LABEL_OPTIONAL }
}
message_type {
  name: "Stripe"
  field { name: "index_bytes" number: 2 type: TYPE_UINT64 label: LABEL_OPTIONAL }
  field { name: "data_bytes" number: 3 type: TYPE_UINT64 label: LABEL_OPTIONAL }
  field { name: "footer_bytes" number: 4 type: TYPE_UINT64 label: LABEL_OPTIONAL }
  field { name: "rows" number: 5 type: TYPE_UINT64 label: LABEL_OPTIONAL }
}
"""


# Writers make stripes of 256 MiB at most, which are rarely compressed more than eightfold.
_MAX_STRIPE_BYTES = 2 << 30

_NUMBER_BYTES = 8


@dataclasses.dataclass(frozen=True)
class OrcFormat:
    """ORC files.

    ORC compresses inside the file, so a file such as a.orc.gz is rejected. A row is rejected when a text is not UTF-8
    (`orc.utf8`). A timestamp before 1677 or after 2262, which nanoseconds since 1970 in 64 bits cannot hold, is a fault
    of the file: Arrow cannot read its stripe.

    Attributes:
      part_bytes: about how many bytes of a file one worker reads at a time; at least one stripe.
      max_stripe_bytes: the most bytes of the wanted columns of a stripe, when they are decoded.
      explode: the name of a list, each item of which becomes a row.
    """

    part_bytes: int = PART_BYTES
    explode: str | None = None
    max_stripe_bytes: int = _MAX_STRIPE_BYTES

    def columns(self, file: InputFile) -> list[str]:
        """Returns the names of the file's schema, nested ones dotted."""
        with _open(file) as orc:
            return list(flat_schema(orc.schema, file.uri, self.explode).names)

    def plan(self, file: InputFile) -> Iterator[Part]:
        """Plans runs of stripes; a file without rows has one empty part, so its columns are still checked."""
        with _open(file) as orc:
            stripes = _stripes(orc)
        yield from runs([stripe.bytes for stripe in stripes], self.part_bytes)

    def read(self, file: InputFile, part: Part, features: Sequence[Feature] | None) -> Iterator[Parsed]:
        """Reads the rows of some stripes, in order.

        Raises:
          InputError: when the file is damaged or not ORC, lacks a required column, or has a stripe over
            `max_stripe_bytes`.
          ConfigError: when the column to explode is missing, or no list.
        """
        with _open(file) as orc:
            stripes = _stripes(orc)
            schema = flat_schema(orc.schema, file.uri, self.explode)
            names = select_names(schema.names, features, file.uri)
            stored = stored_names(flat_schema(orc.schema, file.uri).names, names, self.explode)
            yield from refusable(schema, names)
            row_bytes = _row_bytes(orc, stored)
            row = sum(stripe.rows for stripe in stripes[: part.start])
            for index in range(part.start, len(stripes) if part.end is None else part.end):
                rows = stripes[index].rows
                _check_size(index, rows, row_bytes, self.max_stripe_bytes, file.uri)
                columns = _read_stripe(orc, index, rows, stored, file.uri)
                origin = origin_array(file.uri, np.arange(row, row + rows))
                row += rows
                batch = pa.RecordBatch.from_arrays([*columns, origin], names=[*stored, ORIGIN])
                for piece in explode_rows(split_batch(batch), self.explode, names, file.uri):
                    yield reject_non_utf8(piece, "orc.utf8")

    def tail(self, file: InputFile) -> Part:
        """Returns the last stripe."""
        with _open(file) as orc:
            return Part(max(orc.nstripes - 1, 0), orc.nstripes)


@contextlib.contextmanager
def _open(file: InputFile) -> Iterator[pa.orc.ORCFile]:
    with open_uncompressed(file, "ORC") as plain:
        try:
            orc = pa.orc.ORCFile(plain)
            _ = orc.schema.names
        except UnicodeDecodeError as error:
            raise not_utf8_name(file.uri, error) from error
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file.uri}: not an ORC file, or its footer is damaged or cut off: {error}") from error
        yield orc


def _check_size(index: int, rows: int, row_bytes: float, limit: int, uri: str) -> None:
    if (size := int(rows * row_bytes)) > limit:
        raise InputError(
            f"{uri}: stripe {index} has {rows} rows, of about {size} bytes when they are decoded, over the limit of "
            f"{limit}; pass a schema of fewer columns, or write the file with smaller stripes"
        )


def _row_bytes(orc: pa.orc.ORCFile, names: Sequence[str]) -> float:
    """Returns about how many bytes the named columns of a row have when they are decoded, on average over the file."""
    footer = _tail_message().FromString(orc.reader.serialized_file_tail()).footer
    paths = _paths(footer.types)
    wanted = [index for index, path in enumerate(paths) if is_part_of(path, names)]
    size = 0
    for index in wanted:
        known = footer.statistics[index] if index < len(footer.statistics) else None
        size += _NUMBER_BYTES * max(known.values if known else 0, orc.nrows)
        size += known.texts.bytes + known.binaries.bytes if known else 0
    return size / max(orc.nrows, 1)


def _paths(types: Sequence[Any]) -> list[str]:
    """Returns the dotted name of each type of the footer; those inside lists have that of the list and a number."""
    paths = [""] * len(types)
    for index, node in enumerate(types):
        for place, child in enumerate(node.subtypes):
            if index < child < len(types):  # a type comes before those inside it
                name = node.names[place].decode(errors="replace") if place < len(node.names) else str(place)
                paths[child] = f"{paths[index]}.{name}" if paths[index] else name
    return paths


def _read_stripe(orc: pa.orc.ORCFile, index: int, rows: int, names: Sequence[str], uri: str) -> list[pa.Array]:
    """Reads the named columns of one stripe."""
    if not names:
        return []  # without columns, Arrow reports no rows of the stripe
    try:
        batch = orc.read_stripe(index, columns=list(names))
    except (pa.ArrowException, OSError) as error:
        message = f"{uri}: stripe {index} cannot be read: {error}; correct the file, or write it anew"
        raise InputError(message) from error
    if batch.num_rows != rows:
        raise InputError(
            f"{uri}: stripe {index} holds {batch.num_rows} rows, but the footer says {rows}; it is damaged"
        )
    return flatten_batch(batch, uri).select(names).columns


@dataclasses.dataclass(frozen=True)
class _Stripe:
    """The size of a stripe in the file, and its number of rows."""

    bytes: int
    rows: int


def _stripes(orc: pa.orc.ORCFile) -> list[_Stripe]:
    """Lists the stripes in the footer; Arrow has no API for them, but gives the raw footer."""
    tail = _tail_message().FromString(orc.reader.serialized_file_tail())
    return [
        _Stripe(stripe.index_bytes + stripe.data_bytes + stripe.footer_bytes, stripe.rows)
        for stripe in tail.footer.stripes
    ]


@functools.cache
def _tail_message() -> Any:
    """Makes the message class of the tail, in a separate pool: other code may have loaded ORC's full messages."""
    pool = DescriptorPool()
    pool.Add(text_format.Parse(_TAIL, descriptor_pb2.FileDescriptorProto()))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("orc.FileTail"))
