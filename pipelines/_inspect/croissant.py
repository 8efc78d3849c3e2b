"""Runs `croissant` after its command line is checked: reads manifests and shards, and prints or writes the metadata."""

import hashlib
import json
import uuid
from collections.abc import Iterator

import google_crc32c

from penstock.io.dataset.load.shards.choose import open_reader
from penstock.io.dataset.load.shards.contents import read_contents
from penstock.io.dataset.manifest import Manifest, Shard
from penstock.io.dataset.shard_formats import SHARD_FORMATS
from penstock.io.dataset.windowed.manifest import read_manifests
from penstock.io.errors import DataError
from penstock.io.files import stores
from penstock.io.files.extras import check_filesystem
from penstock.io.files.folders import replace_file
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from pipelines._lineage.croissant import Described, StoredFile, croissant
from pipelines._options.croissant import CroissantOptions

_READ_BYTES = 1 << 20


def run(options: CroissantOptions) -> int:
    """Runs the job, as `pipelines.croissant.run` does."""
    given = options.described
    directory = given.dataset[0].rstrip("/") or given.dataset[0]
    if given.output is not None:
        check_filesystem(given.output, f"--output {given.output}")
    contents, manifests = read_contents(directory), list(read_manifests(directory))
    rows = ", ".join(f"{rows:,} in {split}" for split, rows in contents.splits.items())
    newest = manifests[-1]
    described = Described(
        name=given.dataset_name or directory.rpartition("/")[2] or directory,
        description=given.dataset_description or f"A dataset in {contents.format}, prepared by Penstock; rows: {rows}.",
        version=f"{newest.dataset_version}.0.0" if isinstance(newest, Manifest) else None,
        published=newest.created,
        license=given.license,
        url=given.url,
        creator=given.creator,
        cite_as=given.cite_as,
        is_live=not isinstance(newest, Manifest),
    )
    shards = [shard for manifest in manifests for shard in manifest.shards]
    columns = open_reader(contents, None, None).schema
    media_type = SHARD_FORMATS[contents.format].media_type
    found = croissant(described, columns, contents.splits, list(_files(directory, shards)), media_type)
    text = json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    if given.output is None:
        print(text, end="")
    else:
        with writing(given.output, OUTPUT_REMEDY):
            replace_file(given.output, text.encode(), f"{given.output}.{uuid.uuid4().hex}.tmp")
    return 0


def _files(directory: str, shards: list[Shard]) -> Iterator[StoredFile]:
    for shard in shards:
        path = stores.join(directory, *shard.path.split("/"))
        sha256, crc32c, size = hashlib.sha256(), google_crc32c.Checksum(), 0
        try:
            with stores.open_file(path) as file:
                while data := file.read(_READ_BYTES):
                    sha256.update(data)
                    crc32c.update(data)
                    size += len(data)
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        if (size, crc32c.hexdigest().decode()) != (shard.bytes, shard.crc32c):
            raise DataError(f"{path}: is not as the manifest says; see penstock verify")
        yield StoredFile(shard.path, shard.split, size, sha256.hexdigest())
