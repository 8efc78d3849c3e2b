"""Following a dataset in PyTorch: one process looks, and the workers of a loader read what it has found.

This module imports PyTorch, and is imported by those who ask for it.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from penstock.io.dataset.load.batches import Reading
from penstock.io.dataset.load.follow import Follow, FollowedBatches
from penstock.io.dataset.load.torch import Tensors, TorchBatches
from penstock.io.errors import ConfigError


class FollowedTensors(IterableDataset[Tensors]):  # type: ignore[misc]  # PyTorch is not installed with the tools
    """Batches of tensors of what is published, in the order of publication, as `FollowedBatches`.

    A `DataLoader`, or torchdata's `StatefulDataLoader`, takes it with `batch_size=None` and no workers; `loader` makes
    one that has workers. The state is that of `FollowedBatches`, with or without them.
    """

    def __init__(self, now: TorchBatches, read: Callable[[Reading], TorchBatches], follow: Follow):
        """Follows, as the rank of `now`, which are batches of what is there, and never read."""
        self._now = now
        self._followed: FollowedBatches[Tensors] = FollowedBatches(now.reading, read, follow)

    @property
    def skipped(self) -> int:
        """Rows that could not be read so far, here and in workers (`damaged="skip"`)."""
        return self._followed.skipped

    def __iter__(self) -> Iterator[Tensors]:
        """Yields batches from where it is.

        Raises:
          InputError: as `FollowedBatches`.
          DataError: as `FollowedBatches`; for a value that is missing where that is an error.
          ConfigError: in a worker of a `DataLoader`; when a process group was made since `torch` was called.
        """
        if get_worker_info() is not None:
            raise ConfigError(
                "a dataset that is followed is looked at by one process: take loader(num_workers), which gives its "
                "workers what is found, or a DataLoader with num_workers=0"
            )
        self._now.check_ranks()
        return iter(self._followed)

    def loader(self, num_workers: int = 0, **options: Any) -> "FollowedLoader":
        """Returns batches that workers read: they begin anew with what each look has found, up to 256 windows.

        Args:
          num_workers: as for `TorchBatches.loader`.
          options: as for `TorchBatches.loader`.

        Raises:
          ConfigError: as `TorchBatches.loader`.
        """
        self._now.loader(num_workers, **options)
        return FollowedLoader(self, num_workers, options)

    def through(self, num_workers: int, options: Mapping[str, Any]) -> Iterator[Tensors]:
        """Yields batches from where it is, as workers read them.

        Raises:
          ConfigError: when a process group was made since `torch` was called.
        """
        self._now.check_ranks()
        return self._followed.through(lambda batches: batches.loader(num_workers, **options))

    def state_dict(self) -> dict[str, Any]:
        """Returns where the next batch is, as JSON values, as `FollowedBatches` does."""
        return self._followed.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state, as `FollowedBatches` does, whatever the number of workers.

        Raises:
          ConfigError: as `FollowedBatches`.
        """
        self._followed.load_state_dict(state)


class FollowedLoader:
    """Batches of what is published, which workers read; its state is that of the batches that it has given."""

    def __init__(self, dataset: FollowedTensors, num_workers: int, options: Mapping[str, Any]):
        self.dataset = dataset
        self.num_workers = num_workers
        self._options = options

    def __iter__(self) -> Iterator[Tensors]:
        """Yields batches from where it is, as a loop over the dataset."""
        return self.dataset.through(self.num_workers, self._options)

    def state_dict(self) -> dict[str, Any]:
        """Returns where the next batch is, as JSON values."""
        return self.dataset.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state, whatever the number of workers.

        Raises:
          ConfigError: as `FollowedBatches`.
        """
        self.dataset.load_state_dict(state)
