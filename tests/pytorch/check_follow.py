"""What PyTorch gets of a dataset that grows; `tests/integration/test_pytorch.py` runs this, on windows."""

import itertools
import json
import os
import pathlib
import random
import shutil

import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import penstock
from penstock.io.errors import ConfigError

# Tests have more workers than machines have processors.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:'set_vital' is deprecated")

WRITTEN = pathlib.Path(os.environ["PENSTOCK_TEST_WINDOWS"])
MANIFESTS = sorted(path.name for path in (WRITTEN / "windows").iterdir())
ROWS = 3 * len(MANIFESTS)


@pytest.fixture
def stream(tmp_path):
    """A stream that has published its first three windows."""
    shutil.copytree(WRITTEN, tmp_path / "stream")
    for name in MANIFESTS[3:]:
        (tmp_path / "stream" / "windows" / name).unlink()
    return tmp_path / "stream"


def followed(stream, rank=0, ranks=1, size=2, is_shuffled=False):
    """Batches; before each look but the first, one more window is published."""

    def until():
        nonlocal looks
        names = [name for name in MANIFESTS if not (stream / "windows" / name).exists()]
        if names and looks:
            shutil.copy(WRITTEN / "windows" / names[0], stream / "windows" / names[0])
        looks += 1
        return not names

    looks = 0
    loaded = penstock.load(str(stream), split="train").shard(rank, ranks)
    loaded = loaded.shuffle(4, 5) if is_shuffled else loaded
    return loaded.follow(0.001, until).torch(size)


def ids(batches):
    return [number for batch in batches for number in batch["id"].tolist()]


@pytest.fixture
def expected():
    loaded = penstock.load(str(WRITTEN), split="train")
    return [number for batch in loaded.batches(100) for number in batch["id"].to_pylist()]


@pytest.mark.parametrize("workers", [None, 0, 1, 3])
def test_windows_come_in_the_order_of_publication_for_any_number_of_workers(stream, expected, workers):
    batches = followed(stream)
    found = list(batches if workers is None else batches.loader(workers))
    assert isinstance(found[0]["id"], torch.Tensor)
    assert [len(batch["id"]) for batch in found] == [2, 2, 2, 2, 1, *[2, 1] * (len(MANIFESTS) - 3)]
    assert ids(found) == expected


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_a_resume_with_other_workers_loses_and_doubles_nothing(stream, expected, is_shuffled):
    chance, seen, state = random.Random(is_shuffled), [], None
    for _ in range(6):
        loader = followed(stream, is_shuffled=is_shuffled, size=chance.choice([1, 2, 4])).loader(chance.choice([0, 2]))
        if state is not None:
            loader.load_state_dict(state)
        seen += ids(itertools.islice(loader, chance.randrange(4)))
        state = json.loads(json.dumps(loader.state_dict()))
    loader = followed(stream, is_shuffled=is_shuffled).loader(1)
    loader.load_state_dict(state)
    assert sorted(seen + ids(loader)) == expected


def test_a_stateful_loader_goes_on_where_it_was(stream, expected):
    first = StatefulDataLoader(followed(stream), batch_size=None)
    seen = ids(itertools.islice(first, 4))
    again = StatefulDataLoader(followed(stream), batch_size=None)
    again.load_state_dict(first.state_dict())
    assert seen + ids(again) == expected


def test_ranks_have_equally_many_batches(stream, expected):
    found = [list(followed(stream, rank, 2).loader(rank)) for rank in range(2)]
    assert len(found[0]) == len(found[1])
    assert sorted(ids(found[0]) + ids(found[1])) == expected


def test_workers_of_a_plain_loader_are_refused(stream):
    with pytest.raises(ConfigError, match=r"looked at by one process: take loader\(num_workers\)"):
        ids(DataLoader(followed(stream), batch_size=None, num_workers=1))
    with pytest.raises(ConfigError, match="loader: collate_fn is no option here"):
        followed(stream).loader(1, collate_fn=list)
