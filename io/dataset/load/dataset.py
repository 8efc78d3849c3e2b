"""`penstock.load`: a dataset for training, in any shard format, here or in a store."""

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, get_args

import pyarrow as pa

from penstock.io.dataset.load.arrays import Arrays, Texts, ToArrays
from penstock.io.dataset.load.batches import Batches, Damaged, Last, Reading, to_batches, whole_number
from penstock.io.dataset.load.follow import Epochs, Follow, FollowedBatches
from penstock.io.dataset.load.order import Shuffle
from penstock.io.dataset.load.shards.choose import open_reader
from penstock.io.dataset.load.shards.contents import read_contents
from penstock.io.dataset.load.source import RecordSource
from penstock.io.errors import ConfigError
from penstock.io.files.extras import TORCH
from penstock.io.files.paths import is_local

if TYPE_CHECKING:
    import tensorflow as tf

    from penstock.io.dataset.load.torch import TorchBatches
    from penstock.io.dataset.load.torch_follow import FollowedTensors

_T = TypeVar("_T")

DEFAULT_BUFFER = 16_384
DEFAULT_PREFETCH_BYTES = 64 << 20
# So many requests at once hide 50 ms each where a shard is worked on in 4 ms.
STORE_PREFETCH_SHARDS = 16


def load(
    directory: str,
    split: str | None = None,
    columns: Sequence[str] | None = None,
    damaged: Damaged = "error",
    version: int | None = None,
) -> "LoadedDataset":
    """Opens a split of a dataset that `prepare` or `WriteDataset` wrote.

    Only the manifest and the schema are read. CRCs and counts are checked while batches are read.

    Args:
      directory: the folder of the dataset, here or in a store; with windows, those are read that are published now.
      split: name of the split; None if there is one only.
      columns: names of the columns that batches have, in that order; None for all.
      damaged: `error`, or `skip` to leave out records that cannot be read, and count them (`Batches.skipped`). A shard
        that is missing or has another size is always an error.
      version: which version of the dataset is read, as `penstock log` numbers them; None for the newest. An earlier one
        can be read until `penstock verify --clean` has deleted files of it.

    Raises:
      ConfigError: for a folder without a dataset, a split, a column or a version that it does not have, or not any
        more, a format that this release does not know.
      MissingExtraError: for a store or a format whose extra is not installed.
      DataError: for a damaged manifest.
    """
    if columns is not None and (isinstance(columns, str | bytes) or not columns):
        raise ConfigError(f"columns must be a list of one name at least, or None for all, got {columns!r}")
    chosen = None if columns is None else tuple(columns)
    twice = [name for name, count in collections.Counter(chosen).items() if count > 1]
    if twice:
        raise ConfigError(f"columns must name each column once, got {twice[0]!r} twice")
    if version is not None:
        version = whole_number(version, "version")
    if damaged not in get_args(Damaged):
        raise ConfigError(f"damaged must be one of {', '.join(get_args(Damaged))}, got {damaged!r}")
    contents = read_contents(str(directory), version)
    if split is None and len(contents.splits) == 1:
        (split,) = contents.splits
    if split is None or split not in contents.splits:
        which = "name a split" if split is None else f"there is no split {split!r}"
        raise ConfigError(f"{directory}: {which}; the splits are {', '.join(contents.splits)}")
    reading = Reading(contents, split, chosen, damaged=damaged)
    lost = None if damaged == "error" else lambda _: None  # nothing is read yet but the columns
    return LoadedDataset(reading, open_reader(contents, reading.columns, lost).schema)


@dataclasses.dataclass(frozen=True)
class LoadedDataset:
    """A split, and how it is read; each method returns a new one, or batches.

    Attributes:
      reading: what is read, and by whom.
      schema: the columns of Arrow batches.
    """

    reading: Reading
    schema: pa.Schema

    def __len__(self) -> int:
        """Number of rows of the split, on all ranks together."""
        return self.reading.contents.splits[self.reading.split]

    @property
    def version(self) -> int | None:
        """Number of the version of the dataset that is read, as `penstock log` has them; None with windows."""
        return self.reading.contents.version

    def shard(self, index: int, count: int) -> Self:
        """Shares each epoch among `count` ranks or workers, of which this one is `index`, from 0.

        Sharing what is shared already, as among the workers of a rank, shares this rank's part.

        Raises:
          ConfigError: unless they are whole numbers, and 0 <= index < count.
        """
        index, count = whole_number(index, "shard: index"), whole_number(count, "shard: count")
        if not 0 <= index < count:
            raise ConfigError(f"shard: index must be from 0 to before count, got index {index} of {count}")
        own = self.reading
        return self._with(rank=own.rank * count + index, ranks=own.ranks * count)

    def shuffle(self, seed: int = 0, buffer: int = DEFAULT_BUFFER) -> Self:
        """Shuffles the order of the shards, and the rows within windows of `buffer` rows: each epoch anew.

        The same seed gives the same orders, on any machine. `buffer` rows are held in memory.

        Raises:
          ConfigError: for a buffer below 1, or a seed that is not from 0 to before 2 ** 64.
        """
        seed, buffer = whole_number(seed, "shuffle: seed"), whole_number(buffer, "shuffle: buffer")
        if not 0 <= seed < 1 << 64:
            raise ConfigError(f"shuffle: seed must be from 0 to before 2 ** 64, got {seed}")
        if buffer < 1:
            raise ConfigError(f"shuffle: buffer must be >= 1, got {buffer}")
        return self._with(shuffle=Shuffle(seed, buffer))

    def batches(self, batch_size: int, last: Last = "short") -> Batches[pa.RecordBatch]:
        """Returns epochs of Arrow batches.

        Raises:
          ConfigError: for a batch size below 1, or another rule for the last batches than those of `Batches`.
        """
        return Batches(self.reading, batch_size, last, to_batches)

    def numpy(
        self,
        batch_size: int,
        missing: str | Mapping[str, Any] = "error",
        pad: Mapping[str, int] | None = None,
        last: Last = "short",
    ) -> Batches[Arrays]:
        """Returns epochs of dicts of arrays (`penstock.io.dataset.load.arrays`).

        Args:
          batch_size: rows of a batch.
          missing: what a missing value becomes: `error`, the first one ends the loop; `mask`, a zero or an empty text,
            and False in `NAME$present`, which each column then has; or a value for each column that may miss some.
          pad: widths of lists by column; others are ragged.
          last: as for `Batches`.

        Raises:
          ConfigError: as `batches`; for a rule that does not fit the columns.
        """
        return Batches(self.reading, batch_size, last, self._to_arrays(missing, pad).parts)

    def tf_data(
        self,
        batch_size: int,
        missing: str | Mapping[str, Any] = "error",
        pad: Mapping[str, int] | None = None,
        last: Last = "short",
    ) -> "tf.data.Dataset":
        """Returns epochs as a `tf.data.Dataset` of dicts of tensors: those of `numpy`, ragged ones as RaggedTensor.

        Each pass over it is the next epoch, from its beginning. Its cardinality is the number of batches.

        Raises:
          ConfigError: as `numpy`.
          MissingExtraError: when TensorFlow is not installed.
        """
        from penstock.io.dataset.load.tensors import tf_dataset

        return tf_dataset(self.numpy(batch_size, missing, pad, last), self._to_arrays(missing, pad))

    def torch(
        self,
        batch_size: int,
        missing: str | Mapping[str, Any] = "error",
        pad: Mapping[str, int] | None = None,
        last: Last = "short",
        texts: Texts = "objects",
        distributed: bool = True,
    ) -> "TorchBatches":
        """Returns epochs as an `IterableDataset` of dicts of tensors (`penstock.io.dataset.load.torch`).

        Args:
          batch_size: rows of a batch, on each rank.
          missing: as for `numpy`.
          pad: as for `numpy`.
          last: as for `Batches`.
          texts: `objects`, lists of bytes or str; or `ragged`, their bytes as a `RaggedTensor`, which can be pinned.
          distributed: share the epochs among the ranks of `torch.distributed`, if there is a process group, and `shard`
            was not called.

        Raises:
          ConfigError: as `numpy`; for a column whose type PyTorch does not have.
          MissingExtraError: when PyTorch is not installed.
        """
        TORCH.require("torch()")
        from penstock.io.dataset.load.torch import TorchBatches

        return TorchBatches(self.reading, batch_size, last, self._to_arrays(missing, pad, texts), distributed)

    def source(self, missing: str | Mapping[str, Any] = "error", pad: Mapping[str, int] | None = None) -> RecordSource:
        """Returns the records by their number, as grain's `RandomAccessDataSource`.

        The shards must be ArrayRecord, or TFRecord that is not compressed, best with an index (`prepare --index`). A
        record is what a row of `numpy` is. Who takes them shards and shuffles.

        Raises:
          ConfigError: as `numpy`; for shards of which single records cannot be read: of other formats, or compressed;
            for a dataset that is shared among ranks, shuffled, or of which damage is skipped.
        """
        own = self.reading
        if own.ranks > 1 or own.shuffle is not None or own.damaged == "skip":
            raise ConfigError("source: has all records by their number: leave out shard, shuffle and damaged='skip'")
        return RecordSource(own.contents, own.split, self._to_arrays(missing, pad))

    def prefetch(self, buffer_bytes: int = DEFAULT_PREFETCH_BYTES, shards: int | None = None) -> Self:
        """Reads and decodes rows ahead in threads, up to so many bytes of columns, while batches are worked on.

        That hides the latency of a store, and the time that decoding takes. Rows and states are the same, and an error
        comes in place of its rows. Rows that are skipped (`damaged="skip"`) are counted when they are read, which is
        ahead too.

        Args:
          buffer_bytes: of columns; shards that are read at once hold as many stored bytes beside them, each up to
            32 MiB, and each thread has a piece in its hands. One shard is read in any case.
          shards: how many are read at once, at most, by a thread each; None for 16 of a store, 1 on this machine.

        Raises:
          ConfigError: for fewer than 1 byte or 1 shard.
        """
        if buffer_bytes < 1:
            raise ConfigError(f"prefetch: buffer_bytes must be >= 1, got {buffer_bytes}")
        if shards is None:
            shards = 1 if is_local(self.reading.contents.directory) else STORE_PREFETCH_SHARDS
        shards = whole_number(shards, "prefetch: shards")
        if shards < 1:
            raise ConfigError(f"prefetch: shards must be >= 1, got {shards}")
        return self._with(prefetch_bytes=buffer_bytes, prefetch_shards=shards)

    def follow(self, poll: float = 10.0, until: Callable[[], bool] | None = None) -> "FollowedDataset":
        """Follows a dataset that grows: what is published, as it comes, each row once, in the order of publication.

        What is there already comes first. Of a dataset with windows that are windows and their late rows, of another
        one the spans that are added. A look costs one listing, and one request for each manifest that is new or, of a
        window that is not final, has changed.

        Args:
          poll: seconds between two looks, when there was nothing new.
          until: is asked before each look; once it returns True and nothing is new, the loop ends. Without it that is
            when all windows of input with an end are read; a stream and spans have none.

        Raises:
          ConfigError: for a poll that is not above 0.
        """
        if not poll > 0:
            raise ConfigError(f"follow: poll must be > 0 seconds, got {poll}")
        return FollowedDataset(self.reading, Follow(poll, until), self._to_arrays)

    def _to_arrays(
        self, missing: str | Mapping[str, Any], pad: Mapping[str, int] | None, texts: Texts = "objects"
    ) -> ToArrays:
        lengths = {one.name: one.length for one in self.reading.contents.features or () if one.length is not None}
        return ToArrays(self.schema, missing, pad or {}, lengths, texts)

    def _with(self, **changes: Any) -> Self:
        return dataclasses.replace(self, reading=dataclasses.replace(self.reading, **changes))


@dataclasses.dataclass(frozen=True)
class FollowedDataset:
    """A split of a dataset that grows (`LoadedDataset.follow`); its methods are those of the same names there.

    Attributes:
      reading: what is read, and by whom.
      follow: how it is followed.
      to_arrays: makes the arrays, by the arguments `missing`, `pad` and `texts`.
    """

    reading: Reading
    follow: Follow
    to_arrays: Callable[[str | Mapping[str, Any], Mapping[str, int] | None, Texts], ToArrays]

    def batches(self, batch_size: int, last: Last = "short") -> FollowedBatches[pa.RecordBatch]:
        """Returns Arrow batches of what is published, as it comes.

        Raises:
          ConfigError: as `LoadedDataset.batches`.
        """
        return self._followed(lambda own: Batches(own, batch_size, last, to_batches))

    def numpy(
        self,
        batch_size: int,
        missing: str | Mapping[str, Any] = "error",
        pad: Mapping[str, int] | None = None,
        last: Last = "short",
    ) -> FollowedBatches[Arrays]:
        """Returns dicts of arrays of what is published, as it comes.

        Raises:
          ConfigError: as `LoadedDataset.numpy`.
        """
        rule = self.to_arrays(missing, pad, "objects")
        return self._followed(lambda own: Batches(own, batch_size, last, rule.parts))

    def _followed(self, read: Callable[[Reading], Epochs[_T]]) -> FollowedBatches[_T]:
        return FollowedBatches(self.reading, read, self.follow)

    def tf_data(
        self,
        batch_size: int,
        missing: str | Mapping[str, Any] = "error",
        pad: Mapping[str, int] | None = None,
        last: Last = "short",
    ) -> "tf.data.Dataset":
        """Returns a `tf.data.Dataset` of dicts of tensors. Each pass over it follows anew, from what is there.

        Raises:
          ConfigError: as `LoadedDataset.tf_data`.
          MissingExtraError: when TensorFlow is not installed.
        """
        from penstock.io.dataset.load.tensors import tf_generated

        self.numpy(batch_size, missing, pad, last)
        rule = self.to_arrays(missing, pad, "objects")
        return tf_generated(lambda: iter(self.numpy(batch_size, missing, pad, last)), rule)

    def torch(
        self,
        batch_size: int,
        missing: str | Mapping[str, Any] = "error",
        pad: Mapping[str, int] | None = None,
        last: Last = "short",
        texts: Texts = "objects",
        distributed: bool = True,
    ) -> "FollowedTensors":
        """Returns an `IterableDataset` of dicts of tensors of what is published, as it comes.

        Raises:
          ConfigError: as `LoadedDataset.torch`.
          MissingExtraError: when PyTorch is not installed.
        """
        TORCH.require("torch()")
        from penstock.io.dataset.load.torch import TorchBatches
        from penstock.io.dataset.load.torch_follow import FollowedTensors

        rule = self.to_arrays(missing, pad, texts)
        now = TorchBatches(self.reading, batch_size, last, rule, distributed)
        return FollowedTensors(now, lambda own: TorchBatches(own, batch_size, last, rule, False), self.follow)
