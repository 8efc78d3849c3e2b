"""What PyTorch gets of a dataset; `tests/integration/test_pytorch.py` runs this, on datasets that it has written."""

import itertools
import json
import os
import pathlib
import random
import re
import shutil

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchdata.stateful_dataloader import StatefulDataLoader

import penstock
from penstock.io.errors import ConfigError, DataError, InputError

# Tests have more workers than machines have processors.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:'set_vital' is deprecated")

DATASETS = pathlib.Path(os.environ["PENSTOCK_TEST_DATASETS"])
ROWS = 1500
FORMATS = sorted(path.name for path in DATASETS.iterdir())
AT_LENGTH = "PENSTOCK_TEST_AT_LENGTH" in os.environ


def opened(format: str = "tfrecord-none", rank: int = 0, ranks: int = 1, is_shuffled: bool = True, **options):
    loaded = penstock.load(str(DATASETS / format), split="train", **options).shard(rank, ranks)
    return loaded.shuffle(9, 64) if is_shuffled else loaded


def batches_of(*arguments, size: int = 32, **options):
    return opened(*arguments, **options).torch(size, missing="mask")


def ids(batches) -> list[int]:
    return [number for batch in batches for number in batch["id"].tolist()]


@pytest.mark.parametrize("format", FORMATS)
def test_an_epoch_has_each_row_once_for_any_number_of_ranks_and_workers(format):
    more = [(1, 1), (1, 2), (1, 7), (2, 2), (7, 1)] if format == "tfrecord-none" else []
    for ranks, workers in [(1, 3), (3, 1), *more]:
        loaders = [batches_of(format, rank, ranks).loader(workers) for rank in range(ranks)]
        epochs = [list(loader) for loader in loaders]
        assert {len(epoch) for epoch in epochs} == {len(loaders[0])}, "all ranks have equally many steps"
        assert sorted(ids(itertools.chain.from_iterable(epochs))) == list(range(ROWS))


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_the_order_is_that_of_one_process_for_any_number_of_workers(is_shuffled):
    expected = ids(batches_of(is_shuffled=is_shuffled))
    for workers in (0, 1, 2, 3, 7) if AT_LENGTH or is_shuffled else (0, 3):
        loader = batches_of(is_shuffled=is_shuffled).loader(workers)
        epochs = [ids(loader) for _ in range(2)]
        assert epochs[0] == expected
        assert (epochs[1] == expected) is not is_shuffled
        assert sorted(epochs[1]) == list(range(ROWS))


def test_workers_that_are_spawned_read_the_same():
    assert ids(batches_of().loader(2, multiprocessing_context="spawn")) == ids(batches_of())
    batches = batches_of()
    batches.is_local = False  # the clients of stores have threads
    assert batches.loader(2).multiprocessing_context.get_start_method() == "spawn"
    assert ids(batches.loader(1)) == ids(batches_of())


def test_columns_become_tensors():
    (batch,) = opened("parquet-zstd", is_shuffled=False).torch(ROWS, missing="mask", pad={"clicks": 4})
    numbers = batch["id"]
    assert numbers.dtype == torch.int64
    assert batch["fare"].dtype == torch.float64
    assert torch.equal(batch["fare$present"], numbers % 10 != 0)
    assert torch.equal(batch["fare"], torch.where(numbers % 10 != 0, numbers / 4, 0).double())
    assert batch["name"] == [f"näme {number}" * (number % 5) for number in numbers.tolist()]
    assert batch["clicks"].shape == (ROWS, 4)
    assert torch.equal(batch["clicks$length"], torch.where(numbers % 7 == 0, 0, numbers % 4))


def test_lists_and_bytes_of_texts_are_ragged():
    (batch,) = opened(is_shuffled=False, columns=["id", "name", "clicks"]).torch(ROWS, missing="mask", texts="ragged")
    names, clicks = batch["name"], batch["clicks"]
    assert names.values.dtype == torch.uint8
    texts = [bytes(text.tolist()).decode() for text in names.nested().unbind()]
    assert texts == [f"näme {number}" * (number % 5) for number in batch["id"].tolist()]
    lists = [one.tolist() for one in clicks.nested().unbind()]
    assert lists == [list(range(number % 4 if number % 7 else 0)) for number in batch["id"].tolist()]


def test_a_missing_value_is_an_error_or_what_is_said():
    with pytest.raises(DataError, match=r"column 'fare': .* have no value; say what they become"):
        list(opened(columns=["fare"]).torch(100))
    with pytest.raises(DataError, match=r"column 'fare': .* have no value"):
        list(opened(columns=["fare"]).torch(100).loader(2))
    (batch,) = opened(columns=["fare"]).torch(ROWS, missing={"fare": float("nan")})
    assert int(batch["fare"].isnan().sum()) == ROWS // 10


@pytest.mark.parametrize("format", FORMATS)
def test_a_resume_with_other_workers_and_ranks_loses_and_doubles_nothing(format):
    """Twenty times; fewer for formats that need nothing of their own here, unless at length."""
    random.seed(format)

    def resumed(state):
        ranks, size, loaders = random.choice([1, 2, 3, 7]), random.choice([10, 32, 100]), []
        for rank in range(ranks):
            loaders.append(batches_of(format, rank, ranks, size=size).loader(random.choice([0, 0, 1, 2])))
            if state is not None:
                loaders[-1].load_state_dict(state)
        return loaders

    loaders, seen, epoch = resumed(None), [], 0
    for _ in range(20 if AT_LENGTH or format == "tfrecord-none" else 7):
        loops = [iter(loader) for loader in loaders]
        for _ in range(random.randint(0, 9)):
            found = [next(loop, None) for loop in loops]
            seen += ids(batch for batch in found if batch is not None)
        states = {json.dumps(loader.state_dict()) for loader in loaders}
        assert len(states) == 1, "ranks have the same state after the same steps"
        state = json.loads(states.pop())
        if state["epoch"] > epoch:
            assert sorted(seen) == list(range(ROWS))
            seen, epoch = [], state["epoch"]
        del loops
        loaders = resumed(state)
    seen += ids(itertools.chain.from_iterable(loaders))
    assert sorted(seen) == list(range(ROWS))


def test_the_same_ranks_go_on_with_the_same_batches():
    whole = [batch["id"].tolist() for epoch in range(2) for batch in _once(batches_of(), epoch)]
    for step in random.Random(1).sample(range(1, 90), 4 if AT_LENGTH else 3):
        loader = batches_of().loader(2)
        taken = [batch["id"].tolist() for batch in itertools.islice(_endless(loader), step)]
        again = batches_of().loader(3)
        again.load_state_dict(json.loads(json.dumps(loader.state_dict())))
        rest = [batch["id"].tolist() for batch in itertools.islice(_endless(again), len(whole) - step)]
        assert taken + rest == whole


def _once(batches, epoch):
    batches.load_state_dict({**batches.state_dict(), "epoch": epoch})
    return batches


def _endless(batches):
    while True:
        yield from batches


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_loader_of_pytorch_gives_the_next_epoch_in_each_loop(workers):
    loader = DataLoader(batches_of(), batch_size=None, num_workers=workers)
    epochs = [ids(loader) for _ in range(3)]
    assert epochs == [ids(_once(batches_of(), epoch)) for epoch in range(3)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_stateful_loader_goes_on_where_it_was(workers):
    def loader():
        return StatefulDataLoader(batches_of(), batch_size=None, num_workers=workers)

    epochs = [ids(_once(batches_of(), epoch)) for epoch in range(3)]
    for step in random.Random(workers).sample(range(1, 46), 7 if AT_LENGTH else 3):
        first = loader()
        seen = ids(itertools.islice(first, step))
        state = first.state_dict()
        second = loader()
        second.load_state_dict(state)
        assert seen + ids(second) == epochs[0]
        assert ids(second) == epochs[1]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_stateful_loader_goes_on_between_epochs(workers):
    def loader():
        return StatefulDataLoader(batches_of(), batch_size=None, num_workers=workers)

    first = loader()
    epochs = [ids(first)]
    second = loader()
    second.load_state_dict(first.state_dict())
    epochs += [ids(second), ids(second)]
    assert epochs == [ids(_once(batches_of(), epoch)) for epoch in range(3)]


def test_the_state_of_a_worker_is_for_that_worker():
    state = {**batches_of().state_dict(), "worker": [1, 2]}
    for load in (opened().numpy(32).load_state_dict, lambda found: ids(_loaded(batches_of(), found))):
        with pytest.raises(ConfigError, match=r"the state is (that )?of a worker"):
            load(state)
    with pytest.raises(ConfigError, match=r"number 1 of 2, and this is none: .*or use loader\(\)"):
        ids(_loaded(batches_of().loader(2), state))


def _loaded(batches, state):
    batches.load_state_dict(state)
    return batches


def test_damage_is_an_error_or_counted_by_the_workers(tmp_path):
    shutil.copytree(DATASETS / "tfrecord-none", tmp_path / "copy")
    for shard in sorted((tmp_path / "copy" / "train").iterdir()):
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 4
        shard.write_bytes(data)
    loaded = penstock.load(str(tmp_path / "copy"), split="train")
    with pytest.raises(InputError, match=r"train/part-0000\d-of-00003.* at byte"):
        list(loaded.torch(10, missing="mask").loader(3))
    batches = penstock.load(str(tmp_path / "copy"), split="train", damaged="skip").torch(10, missing="mask")
    assert len(ids(batches.loader(3))) + batches.skipped == ROWS
    assert batches.skipped == 3


@pytest.mark.parametrize("name", ["batch_size", "persistent_workers", "collate_fn", "shuffle"])
def test_options_that_are_not_ours_are_refused(name):
    with pytest.raises(ConfigError, match=f"loader: {name} is no option here"):
        batches_of().loader(2, **{name: True})


def test_batches_out_of_their_order_are_refused_since_the_state_counts_them():
    with pytest.raises(ConfigError, match="loader: in_order=False is no option here: a state says how many"):
        batches_of().loader(2, in_order=False)
    assert ids(batches_of().loader(2, in_order=True)) == ids(batches_of())


def test_a_type_that_pytorch_does_not_have_is_refused():
    from penstock.io.dataset.load.torch import _tensor

    with pytest.raises(ConfigError, match=r"column 'at': PyTorch has no type for datetime64"):
        _tensor("at$present", np.zeros(1, "M8[us]"))


def test_last_batches():
    loaded = [opened("tfrecord-none", rank, 7).torch(50, missing="mask", last="drop").loader(2) for rank in range(7)]
    assert [[len(batch["id"]) for batch in loader] for loader in loaded] == [[50] * 4] * 7


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set")
def test_the_snippet_of_the_page_runs(tmp_path, monkeypatch):
    page = (pathlib.Path(__file__).parents[2] / "docs" / "load.md").read_text()
    section = page.partition("## PyTorch")[2].partition("\n## ")[0]
    (snippet,) = re.findall(r"^```py\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rides").symlink_to(DATASETS / "tfrecord-none")
    model = torch.nn.Linear(1, 1)
    exec(
        snippet,
        {"penstock": penstock, "torch": torch, "model": model, "step": lambda fare, present: fare[present].sum()},
    )
    assert torch.load(tmp_path / "checkpoint.pt")["data"]["epoch"] == 1
