"""The options of the sink, checked once for both `WriteDataset` and the jobs.

This module does not import Beam or Arrow: a command line is checked before they are loaded.
"""

import dataclasses
import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from penstock.io.beam.durations import MILLISECOND, ZERO, AnyDuration, as_duration
from penstock.io.beam.windows import AnyWindows, FlushWindows, parse_windows
from penstock.io.dataset.options import (
    COMPACTED,
    DEAD_LETTERS,
    DEFAULT_SHARD_BYTES,
    INDEXES,
    MAX_SPLITS,
    STATISTICS,
    TRANSFORM,
    VERSIONS,
    WINDOWS,
    Addition,
    Shuffle,
    check_provenance,
)
from penstock.io.dataset.shard_formats import SHARD_FORMATS, known_compression, load_format
from penstock.io.errors import ConfigError, DataError
from penstock.io.reasons import EXCLUDED, Note, complete_notes
from penstock.io.reserved import origin_provenance

if TYPE_CHECKING:
    import pyarrow as pa
    from tensorflow_metadata.proto.v0 import schema_pb2

    from penstock.io.dataset.shard_formats.base import ShardFormat

# A split is a folder, so it cannot have the name of one of the other folders of a dataset.
_SPLIT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_OTHER_FOLDERS = frozenset({DEAD_LETTERS, TRANSFORM, STATISTICS, WINDOWS, VERSIONS, COMPACTED, INDEXES})


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """The options of a dataset. Options given as text are parsed.

    Attributes:
      output: the folder, on any filesystem that Beam knows.
      num_shards: number of shards per split; None derives it from `shard_bytes`.
      shard_bytes: target size of a shard, in uncompressed bytes.
      format: shard format, a name from `SHARD_FORMATS`.
      compression: shard compression, one that the format supports; None is the format's default, with `index` `none`.
      columns: names and types of the columns, for a format that needs them; in `sequence_example`, those that are lists
        are feature lists.
      schema: the features that records may have, with their kinds, which is published with the dataset; None to make
        one of the kinds that the rows have.
      shuffle: `global`, or `none` to keep the order of the input.
      seed: seed of the shuffle, used if the rows have no `_shuffle_key` yet.
      splits: all splits; a split without rows still gets a shard.
      overwrite: replace the existing dataset.
      max_reject_fraction: publish nothing if more than this fraction of the rows was rejected.
      extras: relative paths of staged files and folders that belong to the dataset.
      provenance: JSON values for the manifest.
      notes: what is known of the whole input before it is written, for the manifest.
      window: windows, or their text (`fixed:60s`, `sliding:60s/10s`, `flush:100000/30s`).
      allowed_lateness: how far rows may lag behind the watermark, in whole milliseconds; a timedelta, or text such as
        `30s`.
      empty_windows: whether to publish windows without rows that lie between windows with rows.
      resume: whether the output may already hold windows.
      append: adds what is written to the dataset that is there, as a span; None writes a dataset.
      keep_origin: whether records say where they came from (`penstock.io.reserved`).
      index: write where the records of each shard begin, so that one of them is found without reading the shard; for
        TFRecord that is not compressed.

    Raises:
      ConfigError: for a value out of range.
      MissingExtraError: for a format whose extra is not installed.
    """

    output: str
    num_shards: int | None = None
    shard_bytes: int = DEFAULT_SHARD_BYTES
    format: str = "tfrecord"
    compression: str | None = None
    columns: "pa.Schema | None" = None
    schema: "schema_pb2.Schema | None" = None
    shuffle: Shuffle = "global"
    seed: int = 0
    splits: Sequence[str] = ("train",)
    overwrite: bool = False
    max_reject_fraction: float = 0.05
    extras: Sequence[str] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: Sequence[Note] = ()
    window: AnyWindows | str | None = None
    allowed_lateness: AnyDuration = ZERO
    empty_windows: bool = False
    resume: bool = False
    append: Addition | None = None
    keep_origin: bool = False
    index: bool = False

    def __post_init__(self) -> None:
        self._set("compression", self._known_compression())
        if self.columns is not None and not SHARD_FORMATS[self.format].needs_columns:
            raise ConfigError(f"columns are for formats that need them, which {self.format} does not: leave them out")
        self._set("splits", tuple(self.splits))
        self._set("extras", tuple(self.extras))
        self._set("notes", tuple(self.notes))
        try:
            check_provenance(self.provenance)
        except DataError as error:
            raise ConfigError(str(error)) from error
        if isinstance(self.window, str):
            self._set("window", parse_windows(self.window))
        lateness = as_duration(self.allowed_lateness, "allowed_lateness", unit=MILLISECOND)
        self._set("allowed_lateness", lateness)
        self._check_numbers()
        self._check_splits()
        self._check_flushed()

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def _known_compression(self) -> str:
        compression = "none" if self.index and self.compression is None else self.compression
        known = known_compression(self.format, compression)
        if self.index and not SHARD_FORMATS[self.format].may_index:
            indexed = " and ".join(name for name, kind in SHARD_FORMATS.items() if kind.may_index)
            raise ConfigError(
                f"index says where records begin in shards of the formats {indexed}, and the format {self.format} "
                "finds its rows in its own way, or not at all: leave index out"
            )
        if self.index and known != "none":
            raise ConfigError(
                f"index says where records begin, and shards with {known} can only be read from their beginning: pass "
                "compression none, or leave index out"
            )
        return known

    def _check_numbers(self) -> None:
        if self.num_shards is not None and self.num_shards < 1:
            raise ConfigError(f"num_shards must be >= 1, got {self.num_shards}")
        if self.shard_bytes < 1:
            raise ConfigError(f"shard_bytes must be >= 1, got {self.shard_bytes}")
        if self.shuffle not in get_args(Shuffle):
            raise ConfigError(f"shuffle must be one of {', '.join(get_args(Shuffle))}, got {self.shuffle!r}")
        if not 0 <= self.max_reject_fraction <= 1:
            raise ConfigError(f"max_reject_fraction must be from 0 to 1, got {self.max_reject_fraction}")

    def _check_splits(self) -> None:
        if not self.splits or len(set(self.splits)) != len(self.splits):
            raise ConfigError(f"splits must be different names, at least one, got {list(self.splits)}")
        for split in self.splits:
            if not _SPLIT_NAME.fullmatch(split) or split in _OTHER_FOLDERS:
                raise ConfigError(
                    f"a split must be named with letters, digits, '_', '-' and '.', and not like another folder of a "
                    f"dataset ({', '.join(sorted(_OTHER_FOLDERS))}), got {split!r}"
                )
        if len(self.splits) > MAX_SPLITS:
            raise ConfigError(f"splits must be at most {MAX_SPLITS}, got {len(self.splits)}")

    def _check_flushed(self) -> None:
        if isinstance(self.window, FlushWindows):
            for name, value in (("allowed_lateness", self.lateness), ("empty_windows", self.empty_windows)):
                if value:
                    raise ConfigError(
                        f"{name} is about windows of event time, and those of processing time ({self.window}) have "
                        "every row that comes: leave it out"
                    )

    def check_input(self, is_bounded: bool, has_windows: bool) -> None:
        """Rejects options that the input does not allow.

        Args:
          is_bounded: whether the input has an end.
          has_windows: whether it is written window by window.

        Raises:
          ConfigError: for such options; the message names them.
        """
        if self.append is not None and self.overwrite:
            raise ConfigError("append adds to what overwrite would replace: pass one of them")
        if self.append is not None and (has_windows or not is_bounded):
            raise ConfigError(
                "append adds a span to a dataset that is one, and windows are added by the stream that writes them: "
                "leave it out, or leave the windows out"
            )
        if SHARD_FORMATS[self.format].has_index and (has_windows or not is_bounded or self.append is not None):
            raise ConfigError(
                f"the format {self.format} has one index for all shards of a split, so that nothing can be added to "
                "them, by append or by windows: leave these out, or write another format"
            )
        if not has_windows:
            if not is_bounded:
                raise ConfigError(
                    "unbounded input is written window by window: pass --window (WriteDataset(window='fixed:60s')), or "
                    "--flush_rows or --flush_every (window='flush:100000/30s'), or apply fixed or sliding windows "
                    "before it"
                )
            if self.resume:
                raise ConfigError("resume is for datasets with windows; give window, or leave resume out")
            return
        if is_bounded and isinstance(self.window, FlushWindows):
            raise ConfigError(
                f"windows of processing time ({self.window}) are for a stream, and this input has an end, so that it "
                "means nothing when its rows come: use windows of event time (--window), or none"
            )
        if self.num_shards is None:
            raise ConfigError(
                "windows need num_shards: how many bytes a window will have is not known while its rows come; pass "
                "--num_shards"
            )
        if self.shuffle != "global":
            raise ConfigError(
                f"windows need shuffle 'global': what streams in has no order to keep, got {self.shuffle!r}"
            )
        if self.overwrite and (self.resume or not is_bounded):
            raise ConfigError(
                "overwrite replaces a dataset by one that is whole, which a stream never is: name another folder, "
                "or remove what is there"
            )

    def has_too_many_rejects(self, rows_in: int, stages: Mapping[str, int]) -> bool:
        """Whether more than `max_reject_fraction` of the rows were rejected.

        Rows that a flag keeps out, such as those in a gap between splits, count neither as rows nor as rejects.

        Args:
          rows_in: all rows that came in.
          stages: rejected rows by the stage that rejected them.
        """
        excluded = stages.get(EXCLUDED, 0)
        return sum(stages.values()) - excluded > self.max_reject_fraction * (rows_in - excluded)

    @property
    def lateness(self) -> datetime.timedelta:
        """`allowed_lateness` as a timedelta, even if it was given as text."""
        return as_duration(self.allowed_lateness, "allowed_lateness")

    def manifest_fields(self, notes: Iterable[Note] = ()) -> dict[str, Any]:
        """The fields that all manifests of the dataset share; `notes` are those of the rows of one manifest."""
        return {
            "format": self.format,
            "media_type": SHARD_FORMATS[self.format].media_type,
            "compression": self.compression,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "notes": complete_notes(self.notes, notes),
            "extras": self.extras,
            "provenance": {**self.provenance, **self.shard_format().provenance(), **self._origins()},
        }

    def _origins(self) -> dict[str, Any]:
        if not self.keep_origin:
            return {}
        return origin_provenance()

    @property
    def suffix(self) -> str:
        """The suffix of shard names."""
        return SHARD_FORMATS[self.format].suffixes[str(self.compression)]

    def shard_format(self) -> "ShardFormat":
        """Returns the object that encodes rows and writes shards.

        Raises:
          ConfigError: for columns that the format does not support, or if it needs columns and none are given.
        """
        if self.columns is None and SHARD_FORMATS[self.format].needs_columns:
            raise ConfigError(f"the format {self.format} needs columns: the Arrow schema that all shards share")
        return load_format(self.format, str(self.compression), self._stored_columns())

    def _stored_columns(self) -> "pa.Schema | None":
        """The declared columns, and those of the origins."""
        if self.columns is None or not self.keep_origin:
            return self.columns
        from penstock.io.columns.of_schema import ORIGIN_COLUMNS, check_no_origin_columns

        check_no_origin_columns(self.columns.names)
        columns = self.columns
        for field in ORIGIN_COLUMNS:
            columns = columns.append(field)
        return columns
