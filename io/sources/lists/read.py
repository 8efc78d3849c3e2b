"""Reading a list: what it names, and what a manifest says of it."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from penstock.io.errors import InputError
from penstock.io.files.inputs import FoundFiles, InputFile, find_each, find_files, forget_contents
from penstock.io.files.paths import is_hidden, is_pattern
from penstock.io.sources.lists.inventory import check_not_empty, read_inventory
from penstock.io.sources.lists.lines import Line, kind_of_list, parse_lines, read_content
from penstock.io.sources.lists.manifests import Shards, read_folder, read_manifest_file


@dataclasses.dataclass(frozen=True)
class InputList:
    """A list that was read.

    Attributes:
      uri: of the list.
      kind: `paths`, `dataset` or `inventory`.
      found: the files that it names.
      sha256: of its content, hex; empty for the folder of a dataset.
      shards: what is known of the dataset, for one.
    """

    uri: str
    kind: str
    found: FoundFiles
    sha256: str = ""
    shards: Shards | None = None

    def describe(self) -> dict[str, Any]:
        """Returns what a manifest says of the list."""
        ids = {"dataset_ids": list(self.shards.dataset_ids)} if self.shards else {}
        digest = {"sha256": self.sha256} if self.sha256 else {}
        return {"uri": self.uri, "kind": self.kind, "files": len(self.found.files), **digest, **ids}


def read_list(path: str, names: Sequence[str] = ()) -> InputList:
    """Reads a list, and finds the files that it names.

    Args:
      path: of the list, without its mark.
      names: of the columns of an inventory without a header.

    Raises:
      InputError: when it cannot be read, or a line of it names nothing; names the list and the line.
      ConfigError: when the names of columns are wrong.
    """
    forget_contents()  # an inventory is believed without a look at its objects
    kind = kind_of_list(path)
    if kind == "folder":
        return _dataset(path, read_folder(path))
    content = read_content(path)
    digest = hashlib.sha256(content).hexdigest()
    if kind == "paths":
        return InputList(path, "paths", _find_lines(list(parse_lines(content, path))), digest)
    found = read_manifest_file(content, path) if kind == "manifest" else read_inventory(content, path, names)
    if isinstance(found, Shards):
        return _dataset(path, found, digest)
    check_not_empty(found, path)
    return InputList(path, "inventory", _of_bucket(found), digest)


def _dataset(path: str, shards: Shards, digest: str = "") -> InputList:
    return InputList(path, "dataset", FoundFiles(shards.files), digest, shards)


def _of_bucket(files: Sequence[InputFile]) -> FoundFiles:
    """Objects as the files of a folder are found: an inventory names whatever is in a bucket."""
    shown = [file for file in files if not any(map(is_hidden, file.uri.split("/")[3:]))]
    uris = frozenset(file.uri for file in shown)
    return FoundFiles(tuple(sorted(shown)), uris, tuple(sorted(file.uri for file in files if file.uri not in uris)))


def _find_lines(lines: Sequence[Line]) -> FoundFiles:
    """Finds what the lines of a list name; a file that several name is found once."""
    names = {line.pattern for line in lines if not is_pattern(line.pattern) and not line.pattern.endswith("/")}
    known: Mapping[str, InputFile] = find_each(names)
    return merged(_find_line(line, known) for line in lines)


def _find_line(line: Line, known: Mapping[str, InputFile]) -> FoundFiles:
    if line.pattern in known:
        return FoundFiles((known[line.pattern],))
    try:
        return find_files([line.pattern])
    except InputError as error:
        raise line.told(error) from error


def merged(parts: Iterable[FoundFiles]) -> FoundFiles:
    """Returns the files of all parts, each once; of two entries of a file the one that knows more of it."""
    files: dict[str, InputFile] = {}
    named, below, left_out = set[str](), set[str](), set[str]()
    for part in parts:
        for file in part.files:
            before = files.get(file.uri)
            if before is None or (file.crc32c and not before.crc32c):
                files[file.uri] = file
        named |= {file.uri for file in part.files if file.uri not in part.in_folders}
        below |= part.in_folders
        left_out |= set(part.left_out)
    return FoundFiles(tuple(sorted(files.values())), frozenset(below - named), tuple(sorted(left_out - files.keys())))
