"""Inventories of buckets: CSV files that S3, Google Cloud Storage and Azure write, one object a line.

===========================================  ==============  ====================================================
what                                         of              as
===========================================  ==============  ====================================================
`Bucket`, `Key`                              S3              the key URL-encoded, in files without a header
`bucket`, `name`                             Google          as they are
`Name`                                       Azure           the container, a `/`, the name
`Size`, `size`, `Content-Length`             all             bytes
`LastModifiedDate`, `updated`, `Last-Modified`  all          ISO 8601, UTC without an offset
`ETag`, `generation`, `Etag`                 S3, Google, Azure   the version
`IsLatest`, `IsDeleteMarker`                 S3              other versions than the newest are left out
`timeDeleted`                                Google          what is deleted is left out
`IsCurrentVersion`, `Snapshot`, `Deleted`, `hdi_isfolder`  Azure  the same, and folders
===========================================  ==============  ====================================================

Sources: the user guide of Amazon S3 ("S3 Inventory"), the documentation of Storage Insights inventory reports, and that
of Azure Storage blob inventory.
"""

import csv
import dataclasses
import datetime
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import unquote_plus

from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import InputFile
from penstock.io.files.stores.base import object_key
from penstock.io.sources.lists.lines import MARK, text_of

# What the columns are called, by what they hold; names are compared without case, `-`, `_` and blanks.
_NAMES = {
    "bucket": ("bucket",),
    "key": ("key",),
    "name": ("name",),
    "size": ("size", "contentlength"),
    "modified": ("lastmodifieddate", "lastmodified", "updated"),
    "etag": ("etag",),
    "generation": ("generation",),
    "is_latest": ("islatest", "iscurrentversion"),
    "is_deleted": ("isdeletemarker", "deleted", "hdiisfolder"),
    "gone_at": ("timedeleted", "snapshot"),
}


@dataclasses.dataclass(frozen=True)
class Columns:
    """Where an inventory has what.

    Attributes:
      scheme: of the store whose inventory it is.
      places: for each thing, the numbers of its columns.
      width: how many columns there are.
    """

    scheme: str
    places: Mapping[str, tuple[int, ...]]
    width: int

    @classmethod
    def of(cls, names: Sequence[str]) -> "Columns | None":
        """The columns of these names; None if they do not say which object a line is of, and how large it is."""
        plain = [re.sub(r"[-_ ]", "", name.strip().lower()) for name in names]
        places = {
            what: tuple(index for index, name in enumerate(plain) if name in known) for what, known in _NAMES.items()
        }
        places = {what: found for what, found in places.items() if found}
        scheme = _SCHEMES.get((("bucket" in places), ("key" in places), ("name" in places)))
        if scheme is None or "size" not in places:
            return None
        return cls(scheme, places, len(names))

    def text(self, what: str, row: Sequence[str]) -> str:
        """The value of the first column of a kind; empty where there is none."""
        places = self.places.get(what, ())
        return row[places[0]].strip() if places else ""

    def flags(self, what: str, row: Sequence[str], where: str) -> list[bool]:
        """The values of all columns of a kind that say yes or no; one that says neither is left out.

        Raises:
          InputError: for another value.
        """
        texts = [row[place].strip().lower() for place in self.places.get(what, ())]
        for text in texts:
            if text not in ("true", "false", ""):
                raise InputError(f"{where}: must be true or false, got {text!r}; check the order of the columns")
        return [text == "true" for text in texts if text]


# By which of bucket, key and name there are.
_SCHEMES = {(True, True, False): "s3", (True, False, True): "gs", (False, False, True): "az"}

NEEDED = "Bucket,Key,Size (S3), bucket,name,size (Google) or Name,Content-Length (Azure)"


def read_inventory(content: bytes, path: str, names: Sequence[str] = (), delimiter: str = ",") -> list[InputFile]:
    """Returns the objects that an inventory names, each once, in its order.

    Args:
      content: of the file, unpacked.
      path: of the file, for messages.
      names: of its columns; without them, the first line has them.
      delimiter: between the fields of a line.

    Raises:
      ConfigError: when the names do not tell what a line is of.
      InputError: for a line that is no object, and two lines that tell different things of one; names file and line.
    """
    columns = Columns.of(names) if names else None
    if names and columns is None:
        raise ConfigError(f"--inventory_columns {','.join(names)}: must name {NEEDED}")
    found: dict[str, InputFile] = {}
    for where, row in _rows(text_of(content, path), path, delimiter):
        if columns is None:
            columns = _of_header(row, path)
            continue
        if names and Columns.of(row) == columns:
            continue  # a header beside the flag
        file = _object(row, columns, where)
        if file is not None and found.setdefault(file.uri, file) != file:
            raise InputError(
                f"{where}: {file.uri} stands in the inventory with another size, time or version before: let it be of "
                "current versions alone, or have the column IsLatest"
            )
    return list(found.values())


def _rows(text: str, path: str, delimiter: str) -> Iterator[tuple[str, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for row in reader:
            if row:
                yield f"{path}:{line}", row
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{line}: the line is not CSV: {error}") from error


def _of_header(row: Sequence[str], path: str) -> Columns:
    columns = Columns.of(row)
    if columns is None:
        raise InputError(
            f"{path}:1: the first line does not name the columns of an inventory ({NEEDED}): pass --inventory_columns, "
            f"or, of S3 and Google, the manifest.json of the inventory, which names them; a list of paths is a file of "
            "another suffix, such as .txt"
        )
    return columns


def _object(row: Sequence[str], columns: Columns, where: str) -> InputFile | None:
    """The object of a line; None for a folder, and what is no longer there or no newest version."""
    if len(row) != columns.width:
        raise InputError(f"{where}: must have {columns.width} fields, as there are columns, got {len(row)}")
    is_current = all(columns.flags("is_latest", row, where)) and not any(columns.flags("is_deleted", row, where))
    gone = any(row[place].strip() for place in columns.places.get("gone_at", ()))
    uri = _uri(row, columns, where)
    if not is_current or gone or uri.endswith("/"):
        return None
    bucket_and_key = uri.partition("://")[2]
    if "/".join(object_key(uri)) != bucket_and_key:
        raise InputError(f"{where}: {uri} has an empty part, which no path here can name: copy the object to another")
    size = columns.text("size", row)
    if not size.isdecimal():
        raise InputError(f"{where}: the size must be a number of bytes, got {size!r}; check the order of the columns")
    return InputFile(uri, int(size), _modified(columns.text("modified", row), where), _version(columns, row, where))


def _uri(row: Sequence[str], columns: Columns, where: str) -> str:
    bucket, key = columns.text("bucket", row), columns.text("key", row) or columns.text("name", row)
    if "key" in columns.places:
        try:
            key = unquote_plus(key, errors="strict")
        except UnicodeDecodeError as error:
            raise InputError(f"{where}: the key {key!r} is not URL-encoded UTF-8") from error
    if not key or ("bucket" in columns.places and not bucket):
        raise InputError(f"{where}: the line names no object; check the order of the columns")
    return f"{columns.scheme}://{bucket}/{key}" if bucket else f"{columns.scheme}://{key}"


def _modified(text: str, where: str) -> float:
    if not text:
        return 0.0
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{where}: the time must be ISO 8601, got {text!r}; check the order of the columns") from error
    return (time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp()


def _version(columns: Columns, row: Sequence[str], where: str) -> str:
    """The version as the store's client has it: Google's generation, else the entity tag in its quotes."""
    if columns.scheme == "gs":
        generation = columns.text("generation", row)
        if generation and not generation.isdecimal():
            raise InputError(f"{where}: the generation must be a number, got {generation!r}; check the columns")
        return generation
    tag = columns.text("etag", row)
    return tag if not tag or tag.endswith('"') else f'"{tag}"'


def check_not_empty(files: Sequence[InputFile], path: str) -> None:
    """Refuses an inventory that names no object.

    Raises:
      InputError: names it.
    """
    if not files:
        raise InputError(f"{MARK}{path}: the inventory names no object that is there")
