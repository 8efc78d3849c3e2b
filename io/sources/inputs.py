"""The input files of a job: what patterns, folders and lists name, and what is left out, with a word.

A folder stands for all files below it that are data. Which they are, their suffixes say; with a format that is named,
all of them are, but for those whose names begin with `_` or `.`. A folder that holds a dataset of ours is refused,
since its shards lie beside its dead letters.
"""

import dataclasses
import logging
import re
from collections.abc import Iterable, Sequence

from penstock.io.dataset.options import DEAD_LETTERS, MANIFEST
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import FoundFiles, InputFile, find_files, open_raw
from penstock.io.files.partitions import WHOLE, Partitioning, partition_columns, unused_partition
from penstock.io.files.suffixes import format_suffix
from penstock.io.formats.base import Format
from penstock.io.formats.partitioned import PartitionedFormat
from penstock.io.formats.registry import FORMATS
from penstock.io.sources.lists.lines import MARK, list_path
from penstock.io.sources.lists.read import InputList, merged, read_list

_LOGGER = logging.getLogger(__name__)

_MANIFEST_FILE = re.compile(r"(?P<dataset>.*)/(manifest|windows/[^/]+)\.json")
_SHARD = re.compile(r"(part|late)-\d{5,}-of-\d{5,}\..*")


@dataclasses.dataclass(frozen=True)
class FoundInputs:
    """The files that inputs name.

    Attributes:
      files: each once, sorted by URI.
      lists: those of the inputs that are lists.
    """

    files: tuple[InputFile, ...]
    lists: tuple[InputList, ...] = ()

    def check_read_by(self, reader: Format) -> None:
        """Refuses to read the shards of a dataset as something that they are not.

        Raises:
          ConfigError: says which flags to pass.
        """
        for found in self.lists:
            if found.shards is None:
                continue
            entry, what = FORMATS[found.shards.format], f"{MARK}{found.uri}"
            if not isinstance(reader, entry.load()):
                raise ConfigError(f"{what}: the shards of the dataset are {entry.title}: pass --format {entry.name}")
            for option in entry.options:
                wanted = found.shards.options.get(option.keyword)
                if wanted is not None and getattr(reader, option.keyword) != wanted:
                    raise ConfigError(f"{what}: the shards of the dataset are read with --{option.flag} {wanted}")


def find_inputs(patterns: Sequence[str], is_named: bool = False) -> tuple[InputFile, ...]:
    """Lists the files of `find_named`."""
    return find_named(patterns, is_named).files


def find_named(patterns: Sequence[str], is_named: bool = False, inventory_columns: Sequence[str] = ()) -> FoundInputs:
    """Finds the files that patterns, folders and lists name, each once; logs what is left out.

    Args:
      patterns: files, patterns (`match_files`), folders, lists (`penstock.io.sources.lists`).
      is_named: the format of the files is named, so that their suffixes do not matter.
      inventory_columns: names of the columns of inventories without a header.

    Raises:
      InputError: when a pattern matches nothing, or a folder has no files of any format, files of several formats, or a
        dataset; or a list cannot be read.
      ConfigError: for a filesystem that cannot be reached from here.
    """
    lists = tuple(read_list(path, inventory_columns) for path in map(list_path, patterns) if path is not None)
    plain = [pattern for pattern in patterns if list_path(pattern) is None]
    found = merged([find_files(plain), *(each.found for each in lists)])
    _tell_manifests(found.files, plain)
    return FoundInputs(_of_one_format(found, patterns, is_named), lists)


def _of_one_format(found: FoundFiles, patterns: Sequence[str], is_named: bool) -> tuple[InputFile, ...]:
    contained = [file.uri for file in found.files if file.uri in found.in_folders]
    _refuse_datasets(contained)
    unknown = set() if is_named else _refuse_several_formats(contained)
    files = tuple(file for file in found.files if file.uri not in unknown)
    if not files:
        raise InputError(
            f"{', '.join(patterns)}: no file has a suffix that tells its format ({_example(unknown)}); pass --format "
            f"{'|'.join(FORMATS)}"
        )
    _tell_left_out(found.left_out, "names begin with _ or .", "a pattern that spells the _ or . reads them")
    _tell_left_out(sorted(unknown), "suffixes tell no format", "--format reads all files of a folder")
    return files


def with_partitions(reader: Format, files: Sequence[InputFile], partitioning: Partitioning) -> Format:
    """Makes a format read the folders `key=value` of all these files as columns, and logs which; not with `none`.

    Raises:
      InputError: when files have different columns, or a folder's name cannot be that of a column.
    """
    if partitioning == "none":
        return reader
    uris = [file.uri for file in files]
    columns = partition_columns(uris)
    if columns:
        names = ", ".join(f"{name} ({form})" for name, form in columns.items())
        _LOGGER.warning("columns from the names of folders: %s; --partitioning none leaves them out", names)
        return PartitionedFormat(reader, frozenset(name for name, form in columns.items() if form == WHOLE))
    if unused := unused_partition(uris):
        _LOGGER.warning(
            "%s: the folder %s is no column, since other folders lie between it and the file; only folders directly "
            "above a file are columns",
            *unused,
        )
    return reader


def _tell_manifests(files: Sequence[InputFile], named: Sequence[str]) -> None:
    """Says of the manifest of a dataset that its shards can be read, where it is named itself."""
    for file in files:
        if file.uri in named and file.uri.rpartition("/")[2] == MANIFEST:
            with open_raw(file) as raw:
                head = raw.read(_MANIFEST_HEAD_BYTES)
            if b'"dataset_id"' in head:
                _LOGGER.warning(
                    "%s is the manifest of a dataset, and is read as the row that it is; the rows of its shards are "
                    "--input @%s",
                    file.uri,
                    file.uri,
                )


_MANIFEST_HEAD_BYTES = 4096


def _refuse_several_formats(uris: Sequence[str]) -> set[str]:
    """Returns the files whose suffixes tell no format; the others must be of one."""
    formats = {suffix: entry.name for entry in FORMATS.values() for suffix in entry.suffixes}
    unknown, examples = set[str](), dict[str, str]()
    for uri in uris:
        name = formats.get(format_suffix(uri))
        if name is None:
            unknown.add(uri)
        else:
            examples.setdefault(name, uri)
    if len(examples) > 1:
        found = ", ".join(f"{uri} ({name})" for name, uri in sorted(examples.items()))
        uri = min(examples.values())
        pattern = f"{uri.rpartition('/')[0]}/**.{format_suffix(uri)}"
        raise InputError(
            f"the folder has files of several formats: {found}; name those of one format with a pattern such as "
            f"{pattern!r}"
        )
    return unknown


def _refuse_datasets(uris: Sequence[str]) -> None:
    datasets = {match["dataset"] for match in map(_MANIFEST_FILE.fullmatch, uris) if match}
    for uri in uris if datasets else ():
        *folders, name = uri.split("/")
        for depth in (1, 2) if _SHARD.fullmatch(name) else ():  # a shard of a window lies one folder deeper
            dataset, split = "/".join(folders[:-depth]), folders[-depth]
            if dataset in datasets and split != DEAD_LETTERS:
                raise InputError(
                    f"{dataset} is a dataset, whose rejected rows and manifest are no rows: name the folder of a "
                    f"split, such as {dataset}/{split}, or all of its shards by @{dataset}"
                )


def _tell_left_out(uris: Sequence[str], why: str, remedy: str) -> None:
    if uris:
        _LOGGER.warning("left out %s, whose %s; %s", _example(uris), why, remedy)


def _example(uris: Iterable[str]) -> str:
    names = sorted(uris)
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return f"{names[0]}{more}" if names else "none"
