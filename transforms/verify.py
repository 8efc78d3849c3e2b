"""Verification: a dataset is read again, byte by byte, and held against its manifest and its schema.

Checked: the manifest itself and its sums; that each file it names is there, with its size and CRC32C; each shard's
record count, uncompressed size and SHA-256, the CRCs of every record; that every record is a tf.Example that conforms
to the schema of the dataset (that of the features, where a transform was applied); the lines of the dead letters; and
that nothing lies in the folder that the manifest does not know.
"""

import collections
import dataclasses
import hashlib
import io
from collections.abc import Iterator

import google_crc32c
import numpy as np
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io import progress
from penstock.io.batches import feature_names
from penstock.io.conform import conform_batch
from penstock.io.dead_letters import DeadLetter, Reason
from penstock.io.errors import PenstockError
from penstock.io.examples_decode import decode_examples
from penstock.io.files import open_decompressed, stat_file
from penstock.io.frames import Frames, read_frames
from penstock.io.layout import (
    MANIFEST,
    SCHEMA,
    STAGING_PREFIX,
    TRANSFORM,
    Manifest,
    RejectsFile,
    Shard,
    dataset_id,
    list_files,
    read_manifest,
)
from penstock.io.schema import Feature, load_schema, schema_features
from penstock.transforms.validate import RecordChecks, record_checks, validate_batch

# Rows of one shard that break the schema are counted by reason, and so many are shown.
_MAX_SHOWN_ROWS = 3

_READ_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that is wrong: a stable code, the file relative to the dataset, a sentence."""

    code: str
    path: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.detail} [{self.code}]"


def verify_dataset(directory: str) -> Iterator[Fault]:
    """Reads a dataset again and yields each fault; nothing for a good one.

    Memory is that of one block of records. Progress is counted in `penstock.io.progress` (bytes).
    """
    try:
        manifest = read_manifest(directory)
    except PenstockError as error:
        yield Fault("manifest.broken", MANIFEST, str(error))
        return
    if manifest is None:
        yield Fault("manifest.missing", MANIFEST, "is missing: no run has finished in this folder")
        return
    yield from _check_sums(manifest)
    yield from _check_files(directory, manifest)
    conformity = _Conformity.load(directory, manifest)
    if isinstance(conformity, Fault):
        yield conformity
        conformity = None
    present = list_files(directory)
    for shard in manifest.shards:
        if shard.path in present:
            yield from _check_shard(directory, shard, conformity)
    for rejects in manifest.dead_letters:
        if rejects.path in present:
            yield from _check_rejects(directory, rejects)


def dataset_bytes(directory: str) -> int:
    """Bytes of all files in the folder, for a progress bar."""
    return sum(list_files(directory).values())


def _check_sums(manifest: Manifest) -> Iterator[Fault]:
    """What the manifest says against itself."""
    records: collections.Counter[str] = collections.Counter()
    for shard in manifest.shards:
        records[shard.split] += shard.records
    sums = {
        "rows_in, against rows_out + rows_rejected": (manifest.rows_in, manifest.rows_out + manifest.rows_rejected),
        "rows_out, against its shards": (manifest.rows_out, records.total()),
        "rows_rejected, against its dead letters": (
            manifest.rows_rejected,
            sum(rejects.records for rejects in manifest.dead_letters),
        ),
        "rows_rejected, against the stages": (manifest.rows_rejected, sum(manifest.rejected_by_stage.values())),
        "dataset_id, against the digests of its shards": (manifest.dataset_id, dataset_id(manifest.shards)),
    }
    sums |= {f"splits.{name}, against its shards": (rows, records[name]) for name, rows in manifest.splits.items()}
    for what, (said, found) in sums.items():
        if said != found:
            yield Fault("manifest.sum", MANIFEST, f"{what}: {said} and {found}")


def _check_files(directory: str, manifest: Manifest) -> Iterator[Fault]:
    """Files that are missing, and files that the manifest does not know."""
    present = list_files(directory)
    known = {MANIFEST, *manifest.files()}
    folders = tuple(f"{extra}/" for extra in manifest.extras)
    for path in sorted(known - set(present)):
        if not any(other.startswith(f"{path}/") for other in present):
            yield Fault("file.missing", path, "is missing")
    for path in sorted(set(present) - known):
        if path.startswith(STAGING_PREFIX):
            yield Fault(
                "file.orphan", path, "was left by a run that is not finished; --overwrite of a next run removes it"
            )
        elif not path.startswith(folders):
            yield Fault("file.orphan", path, "is not in the manifest")


@dataclasses.dataclass(frozen=True)
class _Conformity:
    """What each record must conform to."""

    features: tuple[Feature, ...]
    checks: RecordChecks

    @classmethod
    def load(cls, directory: str, manifest: Manifest) -> "_Conformity | Fault | None":
        path = SCHEMA
        if TRANSFORM in manifest.extras:
            path = f"{TRANSFORM}/transformed_metadata/{SCHEMA}"
        elif SCHEMA not in manifest.extras:
            return None
        try:
            schema: schema_pb2.Schema = load_schema(FileSystems.join(directory, *path.split("/")))
            return cls(schema_features(schema), record_checks(schema))
        except PenstockError as error:
            return Fault("schema.broken", path, str(error))

    def faults(self, records: list[bytes]) -> dict[int, list[Reason]]:
        """Row index to what is wrong with it."""
        decoded = decode_examples(records)
        typed, untyped = conform_batch(decoded.batch, self.features)
        checked = validate_batch(typed, self.checks).reasons
        faults: dict[int, list[Reason]] = collections.defaultdict(list)
        for found in (decoded.rejects, self._unknown(decoded.batch), untyped, checked):
            for row, reasons in found.items():
                if found is decoded.rejects or row not in decoded.rejects:
                    faults[row].extend(reasons)
        return faults

    def _unknown(self, batch: pa.RecordBatch) -> dict[int, list[Reason]]:
        """Rows with features that the schema does not have."""
        found: dict[int, list[Reason]] = collections.defaultdict(list)
        for name in sorted(set(feature_names(batch)) - {feature.name for feature in self.features}):
            for row in np.flatnonzero(batch.column(name).is_valid().to_numpy(zero_copy_only=False)).tolist():
                found[row].append(Reason("schema.unknown", f"the schema has no feature {name}"))
        return found


class _HashedStream:
    """A stream that hashes what is read from it."""

    def __init__(self, stream: pa.NativeFile):
        self._stream = stream
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def read(self, nbytes: int, /) -> bytes:
        data = self._stream.read(nbytes)
        self.sha256.update(data)
        self.bytes += len(data)
        return data


def _check_shard(directory: str, shard: Shard, conformity: _Conformity | None) -> Iterator[Fault]:
    path = FileSystems.join(directory, *shard.path.split("/"))
    yield from _check_stored(path, shard)
    try:
        with open_decompressed(stat_file(path)) as stream:
            hashed = _HashedStream(stream)
            records = 0
            wrong = _WrongRecords()
            for frames in read_frames(hashed, shard.path):
                records += len(frames)
                if conformity is not None:
                    wrong.add(frames, conformity)
    except PenstockError as error:
        yield Fault("shard.broken", shard.path, str(error))
        return
    for what, said, found in (
        ("records", shard.records, records),
        ("uncompressed_bytes", shard.uncompressed_bytes, hashed.bytes),
        ("sha256", shard.sha256, hashed.sha256.hexdigest()),
    ):
        if said != found:
            yield Fault(f"shard.{what}", shard.path, f"{what} must be {said}, as the manifest says, found {found}")
    yield from wrong.faults(shard.path)


def _check_stored(path: str, shard: Shard) -> Iterator[Fault]:
    """The file as it is stored: size and CRC32C."""
    checksum, size = google_crc32c.Checksum(), 0
    with FileSystems.open(path, compression_type="uncompressed") as file:
        while data := file.read(_READ_BYTES):
            checksum.update(data)
            size += len(data)
    if size != shard.bytes:
        yield Fault("shard.bytes", shard.path, f"size must be {shard.bytes} bytes, found {size}")
    elif checksum.digest().hex() != shard.crc32c:
        yield Fault("shard.crc32c", shard.path, f"CRC32C must be {shard.crc32c}, found {checksum.digest().hex()}")


class _WrongRecords:
    """Records that do not conform: all are counted by reason, the first few are kept."""

    def __init__(self) -> None:
        self._rows: collections.Counter[str] = collections.Counter()
        self._shown: dict[str, list[str]] = collections.defaultdict(list)

    def add(self, frames: Frames, conformity: _Conformity) -> None:
        offsets = frames.offsets
        for row, reasons in sorted(conformity.faults(frames.records()).items()):
            for reason in reasons:
                self._rows[reason.code] += 1
                if len(self._shown[reason.code]) < _MAX_SHOWN_ROWS:
                    self._shown[reason.code].append(f"at byte {offsets[row]}: {reason.detail}")

    def faults(self, path: str) -> Iterator[Fault]:
        for code, rows in sorted(self._rows.items()):
            shown = "; ".join(self._shown[code]) + ("; ..." if rows > _MAX_SHOWN_ROWS else "")
            yield Fault(code, path, f"{rows} records do not conform to the schema: {shown}")


def _check_rejects(directory: str, rejects: RejectsFile) -> Iterator[Fault]:
    path = FileSystems.join(directory, *rejects.path.split("/"))
    lines = 0
    with FileSystems.open(path, compression_type="uncompressed") as file:
        for line in io.TextIOWrapper(file, encoding="utf-8", newline="\n"):
            lines += 1
            try:
                DeadLetter.from_json(line)
            except (ValueError, KeyError, TypeError) as error:
                yield Fault("dead_letters.broken", rejects.path, f"line {lines} is not a dead letter: {error!r}")
                return
    progress.add(bytes=stat_file(path).size)
    if lines != rejects.records:
        yield Fault("dead_letters.records", rejects.path, f"must have {rejects.records} lines, found {lines}")
