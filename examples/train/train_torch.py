"""Trains the model of the flights in PyTorch (extra `torch`), in one process, or in several that `torchrun` starts."""

import argparse
import pathlib

import flights
import numpy as np
import torch
import torch.distributed as dist
from torch import nn

import penstock


class Model(nn.Module):
    """The categories embedded, the numbers, a hidden layer, and the logit of being late."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(flights.TABLE_ROWS, flights.WIDTH)
        inputs = len(flights.CATEGORIES) * flights.WIDTH + len(flights.NUMBERS)
        self.layers = nn.Sequential(nn.Linear(inputs, flights.HIDDEN), nn.ReLU(), nn.Linear(flights.HIDDEN, 1))

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Returns float32[rows], the logits."""
        categories = torch.stack([batch[name] for name in flights.CATEGORIES], dim=1) + torch.from_numpy(
            flights.OFFSETS
        )
        numbers = torch.stack([batch[name] for name in flights.NUMBERS], dim=1)
        return self.layers(torch.cat([self.table(categories).flatten(1), numbers], dim=1))[:, 0]


def late(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Returns float32[rows], the label."""
    return (batch[flights.LABEL] >= flights.LATE_MINUTES).float()


def evaluated(model: nn.Module, dataset: str) -> str:
    """Returns how good the model is on the eval split."""
    held_out = penstock.load(dataset, "eval", columns=flights.COLUMNS)
    batches = held_out.torch(4096, missing=flights.MISSING, distributed=False)
    with torch.no_grad():
        found = [(model(batch).numpy(), late(batch).numpy()) for batch in batches]
    return flights.summary(*map(np.concatenate, zip(*found, strict=True)))


def main() -> None:
    """Trains, and prints the loss of each step, and that of the eval split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True, help="OUTPUT of prepare")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=256, help="of all processes together")
    parser.add_argument("--seed", type=int, default=1, help="of the weights, and of the order of the rows")
    parser.add_argument("--workers", type=int, default=0, help="processes that read, for each that trains")
    parser.add_argument("--parts", type=int, default=1, help="one process takes the steps of so many processes")
    parser.add_argument("--checkpoint", type=pathlib.Path, help="file to go on from, and to save to at the end")
    parser.add_argument("--max_steps", type=int, default=1 << 60, help="break off after so many steps")
    flags = parser.parse_args()

    rank, ranks = 0, 1
    if dist.is_torchelastic_launched():
        dist.init_process_group("gloo")
        rank, ranks = dist.get_rank(), dist.get_world_size()
    if ranks > 1 and flags.parts > 1:
        parser.error("--parts is for one process")
    torch.manual_seed(flags.seed)
    model = Model()
    trained = nn.parallel.DistributedDataParallel(model) if ranks > 1 else model
    optimizer = torch.optim.Adam(model.parameters(), flights.LEARNING_RATE)
    loss_of = nn.BCEWithLogitsLoss()

    loaded = penstock.load(flags.dataset, "train", columns=flights.COLUMNS).shuffle(flags.seed)
    size = flags.batch_size // (ranks * flags.parts)
    shares = [loaded.shard(rank, ranks).shard(part, flags.parts) for part in range(flags.parts)]
    loaders = [share.torch(size, missing=flights.MISSING, last="drop").loader(flags.workers) for share in shares]
    step = 0
    if flags.checkpoint and flags.checkpoint.exists():
        saved = torch.load(flags.checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
        for loader in loaders:
            loader.load_state_dict(saved["data"])

    stop = min(flags.epochs * len(loaders[0]), flags.max_steps)
    while step < stop:
        for batches in zip(*loaders, strict=True):
            optimizer.zero_grad()
            loss = torch.stack([loss_of(trained(batch), late(batch)) for batch in batches]).mean()
            loss.backward()
            optimizer.step()
            step += 1
            if ranks > 1:
                dist.all_reduce(loss.detach_())
            if rank == 0:
                print(f"step {step}   loss {loss.item() / ranks:.6f}")
            if step == stop:
                break

    if rank == 0:
        if flags.checkpoint:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
            torch.save({**state, "data": loaders[0].state_dict()}, flags.checkpoint)
        print(evaluated(model, flags.dataset))
    if ranks > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
