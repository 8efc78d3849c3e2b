"""Columns that the folders of a file stand for (`penstock.io.files.partitions`), beside those that the file holds.

`PartitionedFormat` wraps the format of the files, so all that reads rows gets the columns: `ReadRecords`, a watcher
that looks for event times, the inference of a schema. `add_partitions` works on the `_origin` of rows, not on one file,
so the replay of dead letters, whose rows come from many files, gives them the same columns.

If a file holds a column of that name too, its own values are taken. A row without a value gets that of its folder. A
row with another value than its folder is rejected (`partition.differs`): one of the two is wrong, and nobody can tell
which.
"""

import dataclasses
import functools
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.batches import drop_rows, notes_of, set_column, with_notes
from penstock.io.columns.conform import conform_batch
from penstock.io.columns.values import is_list, is_mixed, mixed_column, split_mixed
from penstock.io.dead_letters.record import row_letters
from penstock.io.errors import ConfigError
from penstock.io.files.inputs import InputFile
from penstock.io.files.partitions import is_whole_number, number_text, partition_values
from penstock.io.formats.base import CheckedFormat, Format, Parsed, Part
from penstock.io.reasons import Note, Reason, merge_notes
from penstock.io.reserved import ORIGIN, SOURCE
from penstock.io.schema import Feature, Kind

PARTITION_DIFFERS = "partition.differs"

# The code of notes about columns whose values are those of folders.
FROM_FOLDERS = "column.from_folders"
_FROM_FOLDERS_DETAIL = "values are those of folders NAME=VALUE; --partitioning none leaves them out"

_values_of = functools.lru_cache(maxsize=1024)(partition_values)

_Mask = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class PartitionedFormat:
    """The files of a format whose folders stand for columns.

    Attributes:
      reader: the format of the files.
      whole: the columns that are integers without a schema; the others are texts then. A schema decides the type of
        each: under INT and FLOAT, leading zeros are no part of a number (`month=02`).
    """

    reader: Format
    whole: frozenset[str] = frozenset()

    @property
    def explode(self) -> str | None:
        """The list, each item of which becomes a row."""
        return getattr(self.reader, "explode", None)

    def columns(self, file: InputFile) -> Sequence[str] | None:
        """Returns the columns that the file declares, then those of its folders."""
        names = self.reader.columns(file)
        return None if names is None else list(dict.fromkeys([*names, *_values_of(file.uri)]))

    def check(self, file: InputFile) -> None:
        """Checks the file if its format does."""
        if isinstance(self.reader, CheckedFormat):
            self.reader.check(file)

    def look(self, file: InputFile) -> Sequence[str]:
        """Looks at the file if its format does."""
        return self.reader.look(file) if isinstance(self.reader, CheckedFormat) else ()

    def plan(self, file: InputFile) -> Iterator[Part]:
        """Plans the parts of the file."""
        return self.reader.plan(file)

    def read(self, file: InputFile, part: Part, features: Sequence[Feature] | None) -> Iterator[Parsed]:
        """Reads the rows of one part, with the columns of the file's folders."""
        for parsed in self.reader.read(file, part, without_demands(features, _values_of(file.uri))):
            yield from add_partitions(parsed, features, self.whole)

    def tail(self, file: InputFile) -> Part | None:
        """Returns the part with the last rows of the file."""
        return self.reader.tail(file)


def without_demands(features: Sequence[Feature] | None, names: Collection[str]) -> Sequence[Feature] | None:
    """Makes some features optional, so that a file may lack their columns."""
    if features is None:
        return None
    return [
        dataclasses.replace(feature, required=False, complete=False) if feature.name in names else feature
        for feature in features
    ]


def add_partitions(parsed: Parsed, features: Sequence[Feature] | None, whole: Collection[str] = ()) -> Iterator[Parsed]:
    """Adds to rows the columns that the folders in their `_origin` stand for.

    Args:
      parsed: rows of any files.
      features: the schema's features, of which columns are made; None makes all columns.
      whole: the columns that are integers without features.

    Yields:
      The rows; and before them, without rows, the dead letters of those whose value is not that of their folder.
    """
    columns = _partition_columns(parsed.batch, features, whole)
    if not columns:
        yield parsed
        return
    # What was read of a row has no columns of folders.
    parsed = dataclasses.replace(parsed, source=parsed.with_source().column(SOURCE))
    batch, faults, added = parsed.batch, dict[int, list[Reason]](), list[str]()
    for name, values in columns.items():
        index = batch.schema.get_field_index(name)
        if index < 0 or batch.column(index).null_count == batch.num_rows:
            batch = set_column(batch, name, values)
            added.append(name)
            continue
        column, differing = _agreed(name, batch.column(index), values)
        batch = batch.set_column(index, batch.schema.field(index), column)  # the field says more than its type
        for row in np.flatnonzero(differing).tolist():
            faults.setdefault(row, []).append(_differs(name, parsed.batch, row))
    parsed, read = dataclasses.replace(parsed, batch=batch), parsed
    if faults:
        yield Parsed(batch.slice(0, 0), row_letters(read.with_source(), faults, "read"))
        parsed = _without(parsed, faults)
    yield _noted(parsed, added)


def _noted(parsed: Parsed, added: Iterable[str]) -> Parsed:
    """Adds notes of the columns that the files do not hold."""
    notes = [Note(FROM_FOLDERS, name, parsed.batch.num_rows, _FROM_FOLDERS_DETAIL) for name in added]
    return dataclasses.replace(parsed, batch=with_notes(parsed.batch, merge_notes([*notes_of(parsed.batch), *notes])))


def _without(parsed: Parsed, rows: Collection[int]) -> Parsed:
    """Drops rows; the others keep what they were read from."""
    kept = np.setdiff1d(np.arange(parsed.batch.num_rows), list(rows))
    source = None if parsed.source is None else parsed.source.take(pa.array(kept))
    return dataclasses.replace(parsed, batch=drop_rows(parsed.batch, rows), source=source)


def _partition_columns(
    batch: pa.RecordBatch, features: Sequence[Feature] | None, whole: Collection[str]
) -> dict[str, pa.Array]:
    uris = batch.column(ORIGIN).field("uri")
    folders = [_values_of(uri) for uri in uris.dictionary.to_pylist()]
    kinds = None if features is None else {feature.name: feature.kind for feature in features}
    columns = {}
    for name in dict.fromkeys(name for values in folders for name in values):
        if kinds is None or name in kinds:
            kind = (Kind.INT if name in whole else Kind.BYTES) if kinds is None else kinds[name]
            values = _typed([found.get(name) for found in folders], kind)
            columns[name] = pa.repeat(values[0], len(uris)) if len(values) == 1 else values.take(uris.indices)
    return columns


def _typed(texts: Sequence[str | None], kind: Kind) -> pa.Array:
    """Makes int64 of whole numbers under INT, else texts, for `conform_batch` to judge."""
    if kind is Kind.BYTES:
        return pa.array(texts, pa.string())
    numbers = [None if text is None else number_text(text) for text in texts]
    if kind is Kind.INT and all(text is None or is_whole_number(text) for text in numbers):
        return pa.array([None if text is None else int(text) for text in numbers], pa.int64())
    return pa.array(numbers, pa.string())


def _agreed(name: str, column: pa.Array, folders: pa.Array) -> tuple[pa.Array, _Mask]:
    """Returns a file's own column, completed from the folders; and a mask of the rows whose values differ."""
    own = _without_mixture(column)
    missing = own.is_null().to_numpy(zero_copy_only=False)
    differing = ~missing & ~_is_equal(name, own, folders)
    if missing.any():
        try:
            column = _completed(column, pa.array(missing), folders)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            differing |= missing  # no value of the folder fits into the column
    return column, differing


def _without_mixture(column: pa.Array) -> pa.Array:
    if not is_mixed(column.type):
        return column
    numbers, rows, texts = split_mixed(column)
    mask = np.zeros(len(column), bool)
    mask[rows] = True
    return pc.replace_with_mask(numbers.cast(pa.string()), pa.array(mask), texts)


def _completed(column: pa.Array, missing: pa.Array, folders: pa.Array) -> pa.Array:
    if not is_mixed(column.type):
        return pc.if_else(missing, folders.cast(column.type), column)
    numbers, rows, texts = split_mixed(column)
    return mixed_column(_completed(numbers, missing, folders), rows, texts)


def _is_equal(name: str, column: pa.Array, folders: pa.Array) -> _Mask:
    """Marks the rows whose two values are equal as a text or as a number: bool[n]."""
    equal = np.zeros(len(column), bool)
    for kind in Kind:
        if equal.all():
            break
        try:
            first, second = (_scalars(name, values, kind) for values in (column, folders))
        except ConfigError:
            continue  # the column has a type without a form of that kind
        equal |= pc.equal(first, second).fill_null(False).to_numpy(zero_copy_only=False)
    return equal


def _scalars(name: str, values: pa.Array, kind: Kind) -> pa.Array:
    """Converts values to a kind, null where they have no form in it, or are several."""
    if kind is not Kind.BYTES and pa.types.is_string(values.type):
        values = pc.replace_substring_regex(values, "^(-?)0+([0-9])", "\\1\\2")
    typed = conform_batch(pa.RecordBatch.from_arrays([values], [name]), [Feature(name, kind)])[0].column(0)
    if is_list(typed.type):
        lengths = pc.list_value_length(typed).fill_null(0).to_numpy()
        starts = np.cumsum(lengths) - lengths
        typed = typed.flatten().take(pa.array(starts, mask=lengths != 1))
    return typed.cast(pa.binary()) if kind is Kind.BYTES else typed


def _differs(name: str, batch: pa.RecordBatch, row: int) -> Reason:
    uri = batch.column(ORIGIN).field("uri")[row].as_py()
    value, folder = batch.column(name)[row].as_py(), _values_of(uri)[name]
    own = "is missing" if value is None else f"is {str(value)[:80]!r}"
    above = "null" if folder is None else repr(folder)
    detail = f"column {name!r} {own} in the file, and {above} by its folder; correct one of them"
    return Reason(PARTITION_DIFFERS, f"{detail}, or pass --partitioning none, which takes the file's alone")
