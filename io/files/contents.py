"""What the first bytes of a file say it is, where that is not what its name says."""

import contextlib
import dataclasses
import re
from collections.abc import Iterator

from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile, open_raw

# How many bytes tell what a file is.
HEAD_BYTES = 512


@dataclasses.dataclass(frozen=True)
class Content:
    """What a file is.

    Attributes:
      title: its name in prose.
      remedy: what to do when it is not expected.
      codec: Arrow's name of the compression, if it is one.
      format_name: the name in `--format`, if it is a format that Penstock reads.
    """

    title: str
    remedy: str
    codec: str | None = None
    format_name: str | None = None


def _compressed(title: str, suffix: str, codec: str) -> Content:
    return Content(title, f"let its name end in {suffix}, which tells that it is compressed", codec)


def _of_format(title: str, name: str) -> Content:
    return Content(title, f"pass --format {name}", format_name=name)


_UTF16 = Content("UTF-16", "convert it to UTF-8, for example with iconv -f UTF-16LE -t UTF-8")

# The first bytes of what is compressed; those of zlib differ.
_MAGIC_BYTES = {"gzip": b"\x1f\x8b\x08", "bz2": b"BZh", "zstd": b"\x28\xb5\x2f\xfd"}

# Patterns of the first bytes. None of them begins a text that somebody may mean.
_CONTENTS: tuple[tuple[re.Pattern[bytes], Content], ...] = tuple(
    (re.compile(pattern, re.DOTALL), content)
    for pattern, content in (
        (re.escape(_MAGIC_BYTES["gzip"]), _compressed("gzip", ".gz", "gzip")),
        (re.escape(_MAGIC_BYTES["bz2"]) + rb"[1-9]1AY&SY", _compressed("bzip2", ".bz2", "bz2")),
        (re.escape(_MAGIC_BYTES["zstd"]), _compressed("zstd", ".zst", "zstd")),
        (rb"\xfd7zXZ\x00", Content("xz", "unpack it")),
        (rb"PK\x03\x04.*(?:\[Content_Types\]|xl/)", Content("an Excel workbook", "export its sheet as CSV")),
        (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", Content("an Excel workbook", "export its sheet as CSV")),
        (rb"PK\x03\x04", Content("a zip archive", "unpack it")),
        (rb"PAR1[\x00-\x1f]", _of_format("Parquet", "parquet")),
        (rb"Obj\x01", _of_format("Avro", "avro")),
        (rb"ORC.{0,8}[\x00-\x08]", _of_format("ORC", "orc")),
        (rb"ARROW1\x00\x00", Content("an Arrow file (Feather)", "write it as Parquet")),
        (rb"SQLite format 3\x00", Content("an SQLite database", "export its tables as CSV")),
        (rb"\x89HDF\r\n\x1a\n", Content("HDF5", "write it as Parquet")),
        (rb"%PDF-", Content("a PDF document", "ask for its tables as CSV")),
        (rb"(?:[^\x00]\x00){4}", _UTF16),
        (rb"(?:\x00[^\x00]){4}", dataclasses.replace(_UTF16, remedy=_UTF16.remedy.replace("16LE", "16BE"))),
    )
)


def content_of(head: bytes) -> Content | None:
    """Tells what a file is from its first bytes; None for text, and what is not known.

    >>> content_of(b"PAR1\\x15\\x04").title, content_of(b"PAR1,PAR2\\n1,2\\n")
    ('Parquet', None)
    """
    return next((content for pattern, content in _CONTENTS if pattern.match(head)), None)


def check_text(head: bytes, uri: str) -> None:
    """Refuses a file that should be text.

    Raises:
      InputError: says what it is, and what to do.
    """
    content = content_of(head[:HEAD_BYTES])
    if content is not None:
        raise InputError(f"{uri}: the file is {content.title}, not text; {content.remedy}")


@contextlib.contextmanager
def telling_content(file: InputFile, format_name: str) -> Iterator[None]:
    """Adds to an `InputError` of a file what the file is, if that is not what it is read as."""
    try:
        yield
    except InputError as error:
        hint = _hint(file, format_name)
        if not hint or hint.partition(":")[0] in str(error):  # the error says it already
            raise
        raise InputError(f"{error}; {hint}") from error


def _hint(file: InputFile, format_name: str) -> str:
    try:
        with open_raw(file) as raw:
            head = raw.read(HEAD_BYTES)
    except (OSError, InputError):
        return ""
    content = content_of(head)
    if content is None:
        is_plain = file.codec is not None and head and b"\x00" not in head and not _is_cut_off(head, file.codec)
        return "the file is plain text, not compressed: correct its name" if is_plain else ""
    is_expected = content.format_name == format_name or (content.codec is not None and content.codec == file.codec)
    return "" if is_expected else f"the file is {content.title}: {content.remedy}"


def _is_cut_off(head: bytes, codec: str) -> bool:
    """Whether a file has no more than the first bytes that tell of its compression."""
    return _MAGIC_BYTES.get(codec, b"").startswith(head)
