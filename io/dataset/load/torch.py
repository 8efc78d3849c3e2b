"""Batches as PyTorch tensors: an `IterableDataset`, and a `DataLoader` that knows where in an epoch a run is.

====================  =========================================================================================
a column of           becomes
====================  =========================================================================================
one value             a tensor [rows] of its own type
`length` values       a tensor [rows, length], where the schema says that each row has so many
lists                 a `RaggedTensor`: all values, and where each row's begin
lists, padded         a tensor [rows, width], and `NAME$length`, int64 [rows]
texts                 a list of bytes or str; with `texts="ragged"` a `RaggedTensor` of their bytes, uint8
what may be missing   also `NAME$present`, bool [rows], with `missing="mask"`
====================  =========================================================================================

The workers of a `DataLoader` take the batches of their rank in turn, and it asks them in turn. So the batches are the
same, in the same order, for any number of workers, and one state is that of all.

This module imports PyTorch, and is imported by those who ask for it.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import torch
import torch.distributed
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from penstock.io.dataset.load.arrays import LENGTH, PRESENT, Ragged, ToArrays
from penstock.io.dataset.load.batches import Batches, Last, Reading
from penstock.io.errors import ConfigError
from penstock.io.files.paths import is_local

# A worker goes on from the state that it was given, not with an epoch of a number.
_AS_THE_STATE_SAYS = -1

_MAX_WORKERS = 1024


class RaggedTensor(NamedTuple):
    """Lists, or the bytes of texts, of each row.

    Attributes:
      values: the values of all rows: a tensor, a list of texts, or of lists of texts that are ragged a RaggedTensor.
      row_splits: int64[rows + 1], where in `values` each row's begin, and the end.
    """

    values: Any
    row_splits: torch.Tensor

    def nested(self) -> torch.Tensor:
        """Returns the same as a nested tensor of the layout `torch.jagged`; `values` must be a tensor."""
        return torch.nested.nested_tensor_from_jagged(self.values, self.row_splits)


Tensors: TypeAlias = dict[str, torch.Tensor | RaggedTensor | list[Any]]


@dataclasses.dataclass(frozen=True)
class ToTensors:
    """From a batch to tensors, by the rule for numpy.

    Raises:
      ConfigError: for a column whose type PyTorch does not have.
    """

    rule: ToArrays

    def __post_init__(self) -> None:
        # One column of each type, since many columns have few types.
        fields = {field.type: field for field in reversed(list(self.rule.schema))}
        schema = pa.schema([field for field in self.rule.schema if fields[field.type] is field])
        self.parts(pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema))(0, 0)

    def parts(self, columns: pa.RecordBatch) -> Callable[[int, int], Tensors]:
        """Returns what makes tensors of some rows, as `ToArrays.parts`."""
        to_arrays = self.rule.parts(columns)

        def part(first: int, count: int) -> Tensors:
            return {name: _tensor(name, found) for name, found in to_arrays(first, count).items()}

        return part


def _tensor(name: str, found: Any) -> Any:
    if isinstance(found, Ragged):
        return RaggedTensor(_tensor(name, found.values), torch.from_numpy(found.row_splits))
    if found.dtype.hasobject:
        return found.tolist()
    try:
        return torch.from_numpy(np.ascontiguousarray(found))
    except TypeError as error:
        column = name.removesuffix(PRESENT).removesuffix(LENGTH)
        raise ConfigError(f"column {column!r}: PyTorch has no type for {found.dtype}: leave it out") from error


class TorchBatches(IterableDataset[Tensors]):  # type: ignore[misc]  # PyTorch is not installed with the tools
    """Batches of tensors, for this rank: each loop is an epoch, or what is left of one, as with `Batches`.

    A `DataLoader`, or torchdata's `StatefulDataLoader`, takes it with `batch_size=None`. Each loop over that is the
    next epoch. `loader` makes one that also goes on in the middle of an epoch with another number of workers.

    Attributes:
      reading: what is read, and by which rank.
      is_local: whether the dataset is on this machine; workers for one of a store must be spawned, not forked.
    """

    def __init__(self, reading: Reading, batch_size: int, last: Last, rule: ToArrays, distributed: bool = True):
        """Shares the epochs among the ranks of `torch.distributed`, if `distributed` and nobody has shared them yet."""
        self.is_local = is_local(reading.contents.directory)
        self._is_of_all = distributed and reading.ranks == 1
        rank, ranks = _group() if self._is_of_all else (reading.rank, reading.ranks)
        self.reading = dataclasses.replace(reading, rank=rank, ranks=ranks)
        self._batches = Batches(self.reading, batch_size, last, ToTensors(rule).parts)
        # For each worker, in memory that all share, since workers are new in each loop: the epoch of its next loop.
        self._next = torch.full((_MAX_WORKERS,), _AS_THE_STATE_SAYS, dtype=torch.int64).share_memory_()
        self._lost = torch.zeros(_MAX_WORKERS, dtype=torch.int64).share_memory_()
        self._worker: tuple[int, int] | None = None

    def __len__(self) -> int:
        """Number of batches of a whole epoch, the same on all ranks and for any number of workers."""
        return len(self._batches)

    @property
    def epoch(self) -> int:
        """Number of the epoch that the next batch is of, from 0."""
        return self._batches.epoch

    @property
    def skipped(self) -> int:
        """Rows that could not be read, here and in workers (`damaged="skip"`)."""
        return self._batches.skipped + int(self._lost.sum())

    def __iter__(self) -> Iterator[Tensors]:
        """Yields the batches of the epoch; in a worker, those that are its own.

        Raises:
          InputError: for damage, as `Batches`.
          DataError: as `Batches`; for a value that is missing where that is an error.
          ConfigError: when a process group was made since `torch` was called, or a state is of another worker.
        """
        worker = get_worker_info()
        if worker is None:
            self.check_ranks()
            self._check_worker(None)
            return iter(self._batches)
        return self._of_worker(worker.id, worker.num_workers)

    def check_ranks(self) -> None:
        """Refuses to read as the only rank what other ranks read, too.

        Raises:
          ConfigError: when a process group was made since `torch` was called.
        """
        if self._is_of_all and _group()[1] != self.reading.ranks:
            raise ConfigError(
                f"torch.distributed has {_group()[1]} ranks, and had {self.reading.ranks} when torch() was called, so "
                "that epochs are not shared as they should be: call it after init_process_group, or name the rank with "
                "shard"
            )

    def _of_worker(self, worker: int, workers: int) -> Iterator[Tensors]:
        if workers > _MAX_WORKERS:
            raise ConfigError(f"num_workers must be at most {_MAX_WORKERS}, got {workers}")
        goes_on = False
        if (epoch := int(self._next[worker])) != _AS_THE_STATE_SAYS:
            self._batches.load_state_dict({**self._batches.state_dict(), "epoch": epoch, "taken": []})
        elif self._worker is not None:
            self._check_worker((worker, workers))
            goes_on = True
        self._next[worker] = self._batches.epoch + 1
        self._worker = (worker, workers)
        batches = self._batches.in_turns(0 if goes_on else worker, workers)
        return self._counted(batches, worker)

    def _counted(self, batches: Iterator[Tensors], worker: int) -> Iterator[Tensors]:
        before, skipped = int(self._lost[worker]), self._batches.skipped
        for batch in batches:
            self._lost[worker] = before + self._batches.skipped - skipped
            yield batch
        self._lost[worker] = before + self._batches.skipped - skipped

    def _check_worker(self, found: tuple[int, int] | None) -> None:
        if self._worker is not None and self._worker != found:
            told = "this is none" if found is None else f"this is number {found[0]} of {found[1]}"
            raise ConfigError(
                f"the state is of a worker, number {self._worker[0]} of {self._worker[1]}, and {told}: go on with the "
                "same num_workers, or use loader(), whose state is of all workers"
            )

    def steps(self) -> Iterator[None]:
        """Lets workers that begin now go on from the state that is here, and goes with them, batch by batch.

        Raises:
          ConfigError: as a loop here.
        """
        self.check_ranks()
        self._check_worker(None)
        self._next.fill_(_AS_THE_STATE_SAYS)
        return self._batches.steps()

    def state_dict(self) -> dict[str, Any]:
        """Returns where the next batch is, as JSON values, as `Batches` does; in a worker, the next one of its own."""
        state = self._batches.state_dict()
        return state if self._worker is None else {**state, "worker": list(self._worker)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state, as `Batches` does; that of a worker is for the same worker of as many.

        Raises:
          ConfigError: for a state of another dataset, split or shuffle, or one that is none.
        """
        self._batches.load_state_dict({name: value for name, value in state.items() if name != "worker"})
        worker = state.get("worker")
        self._worker = None if worker is None else (int(worker[0]), int(worker[1]))
        here = get_worker_info()
        self._next[slice(None) if here is None else here.id] = _AS_THE_STATE_SAYS

    def loader(self, num_workers: int = 0, **options: Any) -> "TorchLoader":
        """Returns a `DataLoader` over these batches whose state is exact for any number of workers.

        Args:
          num_workers: processes that read; 0 reads in this one.
          options: others of `torch.utils.data.DataLoader`, such as `pin_memory` and `prefetch_factor`; workers for a
            dataset of a store are spawned, if no `multiprocessing_context` says otherwise.

        Raises:
          ConfigError: for `batch_size` and other options that make batches of what are batches, for
            `persistent_workers`: workers begin anew with each loop, where the state is; and for `in_order=False`: the
            state is that of batches in their order.
        """
        return TorchLoader(self, num_workers, options)


_NOT_OURS = ("batch_size", "shuffle", "sampler", "batch_sampler", "drop_last", "collate_fn", "persistent_workers")


class TorchLoader(DataLoader[Tensors]):  # type: ignore[misc]
    """A `DataLoader` over batches, with the state of the batches that it has given.

    The state is that of `Batches`: the same on all ranks after the same number of batches, whatever workers have read
    ahead. It goes on with any number of workers, and with other ranks and batch sizes.
    """

    def __init__(self, batches: TorchBatches, num_workers: int, options: Mapping[str, Any]):
        for name in _NOT_OURS:
            if options.get(name):
                raise ConfigError(
                    f"loader: {name} is no option here: batches are made by torch(), and read anew each loop"
                )
        if not options.get("in_order", True):
            raise ConfigError("loader: in_order=False is no option here: a state says how many batches were taken")
        if num_workers and not batches.is_local:  # the clients of stores have threads, which a fork does not have
            options = {"multiprocessing_context": "spawn", **options}
        super().__init__(batches, batch_size=None, num_workers=num_workers, **options)

    def __iter__(self) -> Iterator[Tensors]:
        """Yields the batches of the epoch from where it is.

        Raises:
          InputError: as `TorchBatches`.
          DataError: as `TorchBatches`.
          ConfigError: as `TorchBatches`.
        """
        if self.num_workers == 0:
            yield from super().__iter__()
            return
        steps = self.dataset.steps()
        for batch in super().__iter__():
            next(steps)
            yield batch
        next(steps, None)

    def state_dict(self) -> dict[str, Any]:
        """Returns where the next batch is, as JSON values."""
        return self.dataset.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state, perhaps one of another number of workers or ranks, or another batch size.

        Raises:
          ConfigError: for a state of another dataset, split or shuffle, or one that is none.
        """
        self.dataset.load_state_dict(state)


def _group() -> tuple[int, int]:
    """Returns the rank of this process and the number of ranks; of one, where there is no process group."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
