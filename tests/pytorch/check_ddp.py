"""Two processes that train, and go on after a break, have the losses of one; `tests/integration/test_pytorch.py`."""

import json
import os
import pathlib
import socket

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from torch.nn.parallel import DistributedDataParallel

import penstock
from penstock.io.errors import ConfigError

DATASET = str(pathlib.Path(os.environ["PENSTOCK_TEST_DATASETS"]) / "tfrecord-none")
SIZE, EPOCHS, BROKEN_OFF_AT = 20, 2, 25

torch.multiprocessing.get_context("forkserver").set_forkserver_preload([__name__])


def batches_of(loaded):
    return loaded.shuffle(5, 100).torch(SIZE, missing={"fare": 0.0})


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(1, 1)


def loss_of(found: torch.nn.Module, batch) -> torch.Tensor:
    return ((found(batch["fare"][:, None].float() / 400)[:, 0] - batch["id"] / 1500) ** 2).mean()


def side_by_side(function, *arguments) -> None:
    """Calls a function in two processes, each with its rank; both are forks of one that has imported PyTorch."""
    torch.multiprocessing.start_processes(function, (2, _port(), *arguments), 2, start_method="forkserver")


def _train(rank: int, ranks: int, port: int, folder: str) -> None:
    address = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=ranks)
    torch.set_num_threads(1)
    path = pathlib.Path(folder)
    found = DistributedDataParallel(model())
    # A rank of the process group, without a word about it.
    loader = batches_of(penstock.load(DATASET, split="train", columns=["id", "fare"])).loader(rank + 1)
    losses, steps = [], 0
    if (path / "state.json").exists():
        state = json.loads((path / "state.json").read_text())
        loader.load_state_dict(state["data"])
        found.load_state_dict(torch.load(path / "model.pt"))
        steps = state["steps"]
    stop = BROKEN_OFF_AT if steps == 0 else EPOCHS * len(loader)
    optimizer = torch.optim.SGD(found.parameters(), lr=0.1)
    while steps < stop:
        for batch in loader:
            optimizer.zero_grad()
            loss = loss_of(found, batch)
            loss.backward()
            optimizer.step()
            torch.distributed.all_reduce(loss.detach_())
            losses.append(loss.item() / ranks)
            steps += 1
            if steps == stop:
                break
    if rank == 0:
        (path / "state.json").write_text(json.dumps({"data": loader.state_dict(), "steps": steps}))
        torch.save(found.state_dict(), path / "model.pt")
        (path / f"losses-{steps}.json").write_text(json.dumps(losses))
    torch.distributed.destroy_process_group()


def _port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def test_two_processes_and_a_resume_give_the_losses_of_one(tmp_path):
    for _ in range(2):
        side_by_side(_train, str(tmp_path))
    first, second = sorted(tmp_path.glob("losses-*.json"), key=lambda path: int(path.stem.partition("-")[2]))
    losses = json.loads(first.read_text()) + json.loads(second.read_text())

    found, expected = model(), []
    optimizer = torch.optim.SGD(found.parameters(), lr=0.1)
    loaded = penstock.load(DATASET, split="train", columns=["id", "fare"])
    ranks = [batches_of(loaded.shard(rank, 2)) for rank in (0, 1)]
    for _ in range(EPOCHS):
        for pair in zip(*ranks, strict=True):
            optimizer.zero_grad()
            loss = torch.stack([loss_of(found, batch) for batch in pair]).mean()
            loss.backward()
            optimizer.step()
            expected.append(loss.item())
    assert len(losses) == len(expected) == EPOCHS * len(ranks[0])
    assert losses == pytest.approx(expected, rel=1e-5)
    assert losses[-1] < losses[0]


def _too_late(rank: int, ranks: int, port: int) -> None:
    batches = penstock.load(DATASET, split="train", columns=["id"]).torch(SIZE)
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=ranks)
    for made in (batches, batches.loader(1)):
        with pytest.raises(ConfigError, match="has 2 ranks, and had 1 when torch"):
            next(iter(made))
    own = penstock.load(DATASET, split="train", columns=["id"]).torch(SIZE, distributed=False)
    assert sum(len(batch["id"]) for batch in own) == 1500
    torch.distributed.destroy_process_group()


def test_a_process_group_that_comes_too_late_is_told():
    side_by_side(_too_late)
