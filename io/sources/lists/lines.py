"""Which inputs are lists, and lists of paths; nothing heavy is imported."""

import dataclasses
import gzip
import os
import posixpath
import zlib
from collections.abc import Iterator
from typing import Literal

from penstock.io.dataset.options import MANIFEST
from penstock.io.errors import InputError
from penstock.io.files import stores
from penstock.io.files.paths import check_matches, is_local, is_local_directory
from penstock.io.files.suffixes import format_suffix

# Before the name of a list; a file whose own name begins so is ./@name.
MARK = "@"

ListKind = Literal["paths", "inventory", "manifest", "folder"]


def list_path(value: str) -> str | None:
    """Returns the path of the list that an input is; None for an input that is none.

    >>> list_path("@s3://b/files.txt"), list_path("./@x.csv")
    ('s3://b/files.txt', None)
    """
    return value[len(MARK) :] if value.startswith(MARK) else None


def kind_of_list(path: str) -> ListKind:
    """Tells by its name what a list is; of one without a suffix in a store, by what is there.

    >>> kind_of_list("files.txt"), kind_of_list("inventory.CSV.gz"), kind_of_list("dataset/manifest.json")
    ('paths', 'inventory', 'manifest')
    """
    suffix = format_suffix(path)
    if path.endswith("/") or is_local_directory(path):
        return "folder"
    if not suffix and stores.is_object(path) and stores.exists(stores.join(path, MANIFEST)):
        return "folder"
    return "manifest" if suffix == "json" else "inventory" if suffix == "csv" else "paths"


def read_content(path: str) -> bytes:
    """Returns the bytes of a list, unpacked if its name ends in `.gz`.

    Raises:
      InputError: when it is not there, cannot be read, or is no gzip file.
    """
    try:
        if is_local(path):
            with open(path, "rb") as file:
                content = file.read()
        else:
            content = stores.read_file(path)
        return gzip.decompress(content) if path.lower().endswith(".gz") else content
    except (OSError, EOFError, zlib.error) as error:
        hint = f"; a file of that name is ./{MARK}{path}" if os.path.exists(MARK + path) else ""
        raise InputError(f"{MARK}{path}: the list cannot be read: {error}{hint}") from error


def text_of(content: bytes, path: str) -> str:
    """Returns the text of a list without a byte order mark.

    Raises:
      InputError: when it is not UTF-8; names the line.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: the list is not UTF-8; convert it, for example with iconv") from error


@dataclasses.dataclass(frozen=True)
class Line:
    """A path or pattern of a list.

    Attributes:
      pattern: as a job takes it.
      text: as it is written.
      where: the list and the line, for messages.
    """

    pattern: str
    text: str
    where: str

    def told(self, error: InputError) -> InputError:
        """An error of this line, which says where it stands, and what to do about a path of the working folder."""
        hint = ""
        if self.pattern != self.text and is_local(self.pattern) and os.path.exists(self.text):
            hint = f"; {self.text} is there, but a relative path is relative to the folder of its list"
        return InputError(f"{self.where}: {error}{hint}")


def parse_lines(content: bytes, path: str) -> Iterator[Line]:
    """Yields the paths and patterns of a list, one a line; without empty lines and those that begin with a `#`.

    A relative path is relative to the folder of the list, wherever the job is started and the list lies.

    Raises:
      InputError: for a line that cannot be a path, and for a list without any.
    """
    is_empty = True
    for number, line in enumerate(text_of(content, path).split("\n"), 1):
        text = line.strip(" \t\r")
        if text and not text.startswith("#"):
            where = f"{path}:{number}"
            _check(text, where)
            yield Line(_resolved(text, path), text, where)
            is_empty = False
    if is_empty:
        raise InputError(f"{MARK}{path}: the list names no file: write one path or pattern on each line")


def check_list(path: str) -> None:
    """Refuses a local list that cannot be read, and a line of it that certainly matches no file.

    Raises:
      InputError: names the list and the line.
    """
    content = read_content(path)
    for line in parse_lines(content, path) if kind_of_list(path) == "paths" else ():
        try:
            check_matches(line.pattern, folders=True)
        except InputError as error:
            raise line.told(error) from error


def named_by(value: str) -> Iterator[tuple[str, str]]:
    """Yields what an input names, with the same for messages: itself, or a list and what the lines of it name.

    What a manifest or an inventory names is known once it is read.

    Raises:
      InputError: when a list of paths cannot be read.
    """
    path = list_path(value)
    if path is None:
        yield value, f"--input {value}"
        return
    yield path, f"--input {value}"
    if kind_of_list(path) == "paths":
        for line in parse_lines(read_content(path), path):
            yield line.pattern, f"{line.where}: {line.text}"


def _check(text: str, where: str) -> None:
    if text.startswith(MARK):
        raise InputError(
            f"{where}: {text} names a list, and a list names files: pass it as an --input of its own; a file of that "
            f"name is ./{text}"
        )
    if "\0" in text:
        raise InputError(f"{where}: the line holds a NUL, so that this is no list of paths")
    if text.startswith("kafka://"):
        raise InputError(f"{where}: {text} is no file: pass it as an --input of its own")


def _resolved(text: str, path: str) -> str:
    """A line as a path that can be read from here.

    >>> _resolved("a.csv", "s3://b/lists/may.txt"), _resolved("../in/*.csv", "s3://b/lists/may.txt")
    ('s3://b/lists/a.csv', 's3://b/in/*.csv')
    >>> _resolved("./@a.csv", "may.txt"), _resolved("in/", "lists/may.txt"), _resolved("gs://b/x", "lists/may.txt")
    ('./@a.csv', 'lists/in/', 'gs://b/x')
    """
    if not is_local(text) or os.path.isabs(text):
        return text
    folder = path.rpartition("/")[0]
    if not folder:
        return text
    scheme, _, inner = folder.rpartition("://")
    joined = posixpath.normpath(f"{inner}/{text}") + ("/" if text.endswith("/") else "")
    if scheme:
        return f"{scheme}://{joined}"
    plain = f"{folder}/{text}"
    # `..` behind a link leads elsewhere than its text says.
    return joined if ".." not in text or os.path.realpath(joined) == os.path.realpath(plain) else plain
