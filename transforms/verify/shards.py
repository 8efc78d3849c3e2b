"""Shards of a dataset, read again: as files, as records, and against the schema."""

import collections
import contextlib
from collections.abc import Iterator, Mapping, Sequence, Set

import google_crc32c

from penstock.io.beam import progress
from penstock.io.dataset.manifest import Manifest, Shard
from penstock.io.dataset.shard_formats import SHARD_FORMATS, load_format
from penstock.io.dataset.shard_formats.base import Content, ReadPiece, ShardFormat
from penstock.io.dataset.windowed.manifest import WindowManifest, WindowSet
from penstock.io.errors import InputError
from penstock.io.files import stores
from penstock.io.files.folders import FetchedAhead
from penstock.io.reasons import Reason, codes_of
from penstock.io.schema import Kind
from penstock.transforms.checks.validate import RecordChecks, validate_batch
from penstock.transforms.verify.fault import Fault, unless_unreadable
from penstock.transforms.verify.offsets import OffsetsCheck

Stored = Manifest | WindowManifest | WindowSet

# Of a shard's rows that break the schema, all are counted by reason, and this many are shown.
_MAX_SHOWN = 3

_READ_BYTES = 1 << 20


def check_shards(
    directory: str, manifest: Stored, path: str, present: Mapping[str, int], expected: "Expected"
) -> Iterator[Fault]:
    """Reads the shards of a manifest that are there, each once from a store, and yields their faults."""
    kind = SHARD_FORMATS.get(manifest.format)
    if kind is None or manifest.compression not in kind.suffixes:
        detail = f"has shards of the format {manifest.format} with compression {manifest.compression}, which is unknown"
        yield Fault("manifest.format", path, f"{detail} here: verify it with a newer Penstock")
        return
    reader = load_format(manifest.format, manifest.compression)
    held = _HELD_IN_COLUMNS if kind.has_columns else frozenset[str]()
    shards = {
        stores.join(directory, *shard.path.split("/")): shard for shard in manifest.shards if shard.path in present
    }
    with FetchedAhead({path: present[shard.path] for path, shard in shards.items()}) as ahead:
        for path, shard in shards.items():
            offsets = OffsetsCheck(directory, shard, present)
            yield from unless_unreadable(
                shard.path, _check_shard(ahead.local_file(path), shard, reader, expected, held, offsets)
            )
            yield from offsets.faults()


def _check_shard(
    file: contextlib.AbstractContextManager[str],
    shard: Shard,
    shard_format: ShardFormat,
    expected: "Expected",
    held: Set[str],
    offsets: OffsetsCheck,
) -> Iterator[Fault]:
    # It is read twice, and comes over the network once.
    with file as path, offsets:
        yield from _check_stored(path, shard)
        yield from _check_read(path, shard, shard_format, expected, held, offsets)


def _check_read(
    path: str,
    shard: Shard,
    shard_format: ShardFormat,
    expected: "Expected",
    held: Set[str],
    offsets: OffsetsCheck,
) -> Iterator[Fault]:
    wrong: _WrongRecords | _OtherKinds
    wrong = _OtherKinds(expected, shard.path) if isinstance(expected, KindsByFeature) else _WrongRecords(expected, held)
    content, records = Content(), 0
    try:
        for piece in shard_format.read(path, shard.path):
            content.add(piece.content)
            records += piece.records
            wrong.add(piece)
            offsets.add(piece)
            progress.add(rows=piece.records)
    except InputError as error:
        # The fault has the path already, and a library's message may have several lines.
        yield Fault("shard.broken", shard.path, " ".join(str(error).removeprefix(f"{shard.path}: ").split()))
    else:
        yield from _check_content(shard, records, content)
    yield from wrong.faults(shard.path)


def _check_stored(path: str, shard: Shard) -> Iterator[Fault]:
    """Checks the file as stored: size and CRC32C."""
    checksum, size = google_crc32c.Checksum(), 0
    with stores.open_file(path) as file:
        while data := file.read(_READ_BYTES):
            checksum.update(data)
            size += len(data)
    if size != shard.bytes:
        yield Fault("shard.bytes", shard.path, f"size must be {shard.bytes} bytes, as the manifest says, found {size}")
    elif (found := checksum.digest().hex()) != shard.crc32c:
        detail = f"CRC32C must be {shard.crc32c}, as the manifest says, found {found}"
        yield Fault("shard.crc32c", shard.path, detail)


def _check_content(shard: Shard, records: int, content: Content) -> Iterator[Fault]:
    for what, said, found in (
        ("records", shard.records, records),
        ("uncompressed_bytes", shard.uncompressed_bytes, content.bytes),
        ("sha256", shard.sha256, content.sha256.hexdigest()),
    ):
        if said != found:
            yield Fault(f"shard.{what}", shard.path, f"{what} must be {said}, as the manifest says, found {found}")


# What a format with columns of Arrow holds as well as any value. `prepare` rejects it, since features cannot have it.
_HELD_IN_COLUMNS = frozenset({"schema.null_in_list"})


class _WrongRecords:
    """Collects records that do not conform: counts all by reason, keeps the first few; `held` are no faults."""

    def __init__(self, checks: RecordChecks, held: Set[str]) -> None:
        self._checks = checks
        self._held = held
        self._rows: collections.Counter[str] = collections.Counter()
        self._shown: dict[str, list[str]] = collections.defaultdict(list)

    def add(self, piece: ReadPiece) -> None:
        for row, found in sorted(_wrong_rows(piece, self._checks).items()):
            reasons = [reason for reason in found if reason.code not in self._held]
            self._rows.update(codes_of(reasons))
            for reason in reasons:
                if len(self._shown[reason.code]) < _MAX_SHOWN:
                    self._shown[reason.code].append(f"{piece.position(row)}: {reason.detail}")

    def faults(self, path: str) -> Iterator[Fault]:
        for code, rows in sorted(self._rows.items()):
            shown = "; ".join(self._shown[code]) + ("; ..." if rows > _MAX_SHOWN else "")
            which = "1 record does" if rows == 1 else f"{rows} records do"
            yield Fault(code, path, f"{which} not conform to the schema: {shown}")


class KindsByFeature(dict[str, tuple[Kind, str]]):
    """The kind of each feature in the records read so far, and where it was met first."""


# What the records of all shards must have in common: what a schema demands, or one kind for each feature.
Expected = RecordChecks | KindsByFeature


class _OtherKinds:
    """Finds features that have another kind in a shard than in an earlier record; keeps the first of each."""

    def __init__(self, known: KindsByFeature, path: str) -> None:
        self._known = known
        self._path = path
        self._others: dict[str, tuple[Kind, str]] = {}

    def add(self, piece: ReadPiece) -> None:
        for name, rows in piece.kinds().items():
            for kind, row in sorted(rows.items(), key=lambda found: found[1]):
                location = f"{self._path}, {piece.position(row)}"
                if self._known.setdefault(name, (kind, location))[0] is not kind:
                    self._others.setdefault(name, (kind, location))

    def faults(self, path: str) -> Iterator[Fault]:
        for name, (kind, location) in sorted(self._others.items()):
            first, where = self._known[name]
            detail = f"column {name!r} is {first.value} in {where}, and {kind.value} in {location}"
            yield Fault("shard.kinds", path, f"{detail}: a parser reads one kind of a feature")


def _wrong_rows(piece: ReadPiece, checks: RecordChecks) -> dict[int, Sequence[Reason]]:
    """Maps row indices to reasons. A row with values of another kind is not checked further."""
    batch, rejects = piece.decode([check.feature for check in checks.columns])
    return {**validate_batch(batch, checks).reasons, **rejects}
