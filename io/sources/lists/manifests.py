"""Manifests as lists: of a dataset, whose shards are read, and of an inventory, whose files name objects.

The shards of a dataset are read as what its manifest says they are. Their sizes are checked here, their CRC32C before
their rows are read (`penstock.io.files.inputs.check_crc32c`).
"""

import dataclasses
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from penstock.io.dataset.layout import MANIFEST, WINDOWS
from penstock.io.dataset.manifest import Manifest
from penstock.io.dataset.windowed.manifest import WindowManifest, WindowSet, read_stored
from penstock.io.errors import ConfigError, DataError, InputError
from penstock.io.files import stores
from penstock.io.files.atomic.aside import told_of
from penstock.io.files.inputs import InputFile
from penstock.io.sources.lists.inventory import read_inventory
from penstock.io.sources.lists.lines import MARK, read_content

_LOGGER = logging.getLogger(__name__)

AnyManifest = Manifest | WindowManifest | WindowSet

# Formats of shards to the formats that read them, and their options by keyword.
_READ_AS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "tfrecord": ("tfrecord", {"record_type": "example"}),
    "sequence_example": ("tfrecord", {"record_type": "sequence_example"}),
    "parquet": ("parquet", {}),
}


@dataclasses.dataclass(frozen=True)
class Shards:
    """The shards of datasets, as input.

    Attributes:
      files: the shards, each with its version and its CRC32C.
      format: the format that reads them.
      options: its options, by keyword.
      dataset_ids: of the dataset, or of its windows.
    """

    files: tuple[InputFile, ...]
    format: str
    options: Mapping[str, str]
    dataset_ids: tuple[str, ...]


def read_folder(folder: str) -> Shards:
    """Returns the shards of a dataset, or of all its windows.

    Raises:
      InputError: when there is no manifest, a job is replacing the dataset, or its shards cannot be input.
    """
    try:
        manifests = list(read_stored(folder.rstrip("/") or "/"))
    except (DataError, OSError) as error:
        raise InputError(f"{MARK}{folder}: {error}") from error
    if not (manifests and isinstance(manifests[0], Manifest)) and (told := told_of(folder)):
        raise InputError(f"{MARK}{folder}: {told}")
    if not manifests:
        raise InputError(f"{MARK}{folder}: the folder has no {MANIFEST}, so that it is no dataset, or no whole one")
    windows = {found.windows for found in manifests if not isinstance(found, Manifest)}
    if any(text.startswith("sliding:") for text in windows):
        raise InputError(
            f"{MARK}{folder}: the windows of the dataset overlap, so that rows would be read several times: name one "
            f"window, such as {MARK}{folder.rstrip('/')}/{WINDOWS}/{_name(manifests[0])}.json"
        )
    return _shards(f"{MARK}{folder}", folder.rstrip("/") or "/", manifests)


def read_manifest_file(content: bytes, path: str) -> Shards | list[InputFile]:
    """Returns the shards of the dataset, or the objects of the inventory, that a manifest is of.

    Raises:
      InputError: when it is neither, is damaged, or names what cannot be input.
    """
    what = f"{MARK}{path}"
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what}: the list is not JSON: {error}; a list of paths is a .txt file") from error
    if isinstance(fields, dict) and "fileSchema" in fields:
        return _inventory_of_s3(fields, path)
    if isinstance(fields, dict) and "report_shards_file_names" in fields:
        return _inventory_of_google(fields, path)
    folder, _, _ = path.rpartition("/")
    is_window = isinstance(fields, dict) and "window" in fields
    try:
        manifest = (WindowManifest if is_window else Manifest).parse(content, path)
    except DataError as error:
        raise InputError(
            f"{what}: the list is no manifest of a dataset, nor of an inventory of S3 or Google: {error}"
        ) from error
    if is_window:
        folder = folder.rpartition("/")[0] if "/" in folder else "" if folder == WINDOWS else ".."
    return _shards(what, folder or ".", [manifest])


def _name(manifest: AnyManifest) -> str:
    return "manifest" if isinstance(manifest, Manifest) else manifest.name


def _shards(what: str, folder: str, manifests: Sequence[AnyManifest]) -> Shards:
    published = [found for found in manifests if getattr(found, "status", "published") == "published"]
    if left_out := [_name(found) for found in manifests if found not in published]:
        _LOGGER.warning(
            "left out the window %s%s of %s, of which too many rows were rejected",
            left_out[0],
            f" and {len(left_out) - 1:,} more" if len(left_out) > 1 else "",
            what,
        )
    formats = {found.format for found in published}
    for name in sorted(formats):
        if name not in _READ_AS:
            raise InputError(
                f"{what}: its shards are of the format {name}, which is no input: prepare the dataset again, with "
                "--output_format tfrecord or parquet"
            )
    if len(formats) != 1:
        raise InputError(f"{what}: the dataset has no shards of one format, but {', '.join(sorted(formats)) or 'none'}")
    expected = [(stores.join(folder, *shard.path.split("/")), shard) for found in published for shard in found.shards]
    present = _present(folder, [uri for uri, _ in expected])
    files = []
    for uri, shard in expected:
        entry = present.get(uri)
        if entry is None:
            raise InputError(f"{what}: names {shard.path}, which is not there; penstock verify says what else is wrong")
        if entry.size != shard.bytes:
            raise InputError(
                f"{uri}: has {entry.size} bytes, and must have {shard.bytes}, as the manifest of its dataset says; "
                "penstock verify says what else is wrong"
            )
        files.append(InputFile(uri, entry.size, entry.modified, entry.version, shard.crc32c))
    read_as, options = _READ_AS[next(iter(formats))]
    return Shards(tuple(files), read_as, options, tuple(dict.fromkeys(found.dataset_id for found in published)))


def _present(folder: str, uris: Sequence[str]) -> dict[str, stores.Entry]:
    """The files among these that are there; in a store, the folders that they are in are listed."""
    try:
        if stores.is_object(folder):
            return {entry.path: entry for below in _folders_of(uris) for entry in stores.files_below(below)}
        found = {}
        for uri in uris:
            if stores.exists(uri):
                found[uri] = stores.stat(uri)
        return found
    except OSError as error:
        raise InputError(f"cannot list {folder}: {error}") from error


def _folders_of(uris: Iterable[str]) -> list[str]:
    return sorted({uri.rpartition("/")[0] for uri in uris})


def _inventory_of_s3(fields: Mapping[str, Any], path: str) -> list[InputFile]:
    """The objects of an inventory of S3, whose manifest names the columns, and the files by bucket and key."""
    what = f"{MARK}{path}"
    if fields.get("fileFormat") != "CSV":
        raise InputError(f"{what}: the inventory is {fields.get('fileFormat')}: only inventories of CSV can be read")
    try:
        names = str(fields["fileSchema"]).split(",")
        bucket = str(fields["destinationBucket"]).rpartition(":")[2]
        keys = [str(file["key"]) for file in fields["files"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{what}: the manifest of the inventory is damaged: {error!r}") from error
    # Who has copied the inventory to a disk has the folder `data` beside that of the manifest.
    return _read_files([_beside(f"s3://{bucket}/{key}", path) for key in keys], names, what)


def _inventory_of_google(fields: Mapping[str, Any], path: str) -> list[InputFile]:
    """The objects of an inventory report of Google, whose manifest lies beside its files."""
    what, folder = f"{MARK}{path}", path.rpartition("/")[0]
    try:
        report = fields["report_config"]
        csv_options = report.get("csv_options")
        if csv_options is None:
            raise InputError(f"{what}: the inventory is Parquet: only inventories of CSV can be read")
        has_header = bool(csv_options.get("header_required", False))
        names = [str(name) for name in report["object_metadata_report_options"]["metadata_fields"]]
        files = [f"{folder}/{name}" if folder else str(name) for name in fields["report_shards_file_names"]]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{what}: the manifest of the inventory is damaged: {error!r}") from error
    return _read_files(files, () if has_header else names, what, str(csv_options.get("delimiter") or ","))


def _beside(url: str, manifest: str) -> str:
    """Where a file of S3's inventory is: at its URL, or for a manifest on this machine in the folder `data` near it."""
    if stores.is_object(manifest):
        return url
    folder, name = manifest.rpartition("/")[0] or ".", url.rpartition("/")[2]
    near = (f"{folder}/{name}", f"{folder}/data/{name}", f"{folder}/../data/{name}")
    return next((path for path in near if stores.exists(path)), url)


def _read_files(paths: Sequence[str], names: Sequence[str], what: str, delimiter: str = ",") -> list[InputFile]:
    found: dict[str, InputFile] = {}
    for path in paths:
        try:
            files = read_inventory(read_content(path), path, names, delimiter)
        except ConfigError as error:
            raise InputError(f"{what}: the columns of the inventory do not tell what a line is of: {error}") from error
        for file in files:
            if found.setdefault(file.uri, file) != file:
                raise InputError(f"{what}: two files of the inventory tell different things of {file.uri}")
    return list(found.values())
