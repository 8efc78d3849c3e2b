"""What grain gives of `source()`; `tests/integration/test_frameworks.py` runs this, on datasets that it has written."""

import itertools
import json
import os
import pathlib
import random

import grain
import numpy as np
import pytest

import penstock

DATASETS = pathlib.Path(os.environ["PENSTOCK_TEST_DATASETS"])
FORMATS = sorted(path.name for path in DATASETS.iterdir())
ROWS = 400


def source(format: str):
    return penstock.load(str(DATASETS / format), split="train").source(missing={"fare": -1.0}, pad={"clicks": 3})


def ids(batches) -> list[int]:
    return [number for batch in batches for number in batch["id"].tolist()]


@pytest.mark.parametrize("format", FORMATS)
def test_a_shuffled_epoch_has_each_record_once_with_its_values(format):
    records = source(format)
    assert isinstance(records, grain.sources.RandomAccessDataSource)
    batches = list(grain.MapDataset.source(records).shuffle(seed=3).batch(32))
    assert [len(batch["id"]) for batch in batches] == [32] * 12 + [16]
    found = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    numbers = found["id"]
    assert numbers.tolist() != sorted(numbers.tolist()) == list(range(ROWS))
    np.testing.assert_array_equal(found["fare"], np.where(numbers % 10 == 0, -1, numbers / 4).astype(np.float32))
    np.testing.assert_array_equal(found["clicks$length"], numbers % 4)
    np.testing.assert_array_equal(found["clicks"], np.where(np.arange(3) < numbers[:, None] % 4, numbers[:, None], 0))
    assert [name.decode() for name in found["name"].tolist()] == [f"näme {number}" for number in numbers.tolist()]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_the_records(format, ranks):
    shuffled = grain.MapDataset.source(source(format)).shuffle(seed=4)
    parts = [ids(shuffled[rank::ranks].batch(7)) for rank in range(ranks)]
    assert sorted(itertools.chain(*parts)) == list(range(ROWS))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("format", FORMATS)
def test_an_iterator_goes_on_from_its_state(format):
    def batches():
        shuffled = grain.MapDataset.source(source(format)).seed(5).shuffle().repeat(2)
        return iter(shuffled[1::2].to_iter_dataset().batch(16))

    whole = [batch["id"].tolist() for batch in batches()]
    for steps in (*random.Random(format).sample(range(1, len(whole)), 2), len(whole)):
        begun = batches()
        taken = [batch["id"].tolist() for batch in itertools.islice(begun, steps)]
        again = batches()
        again.set_state(json.loads(json.dumps(begun.get_state())))
        assert taken + [batch["id"].tolist() for batch in again] == whole


def loader_of(format: str, rank: int, workers: int) -> grain.DataLoader:
    records = source(format)
    sharding = grain.sharding.ShardOptions(shard_index=rank, shard_count=2)
    sampler = grain.samplers.IndexSampler(len(records), sharding, shuffle=True, num_epochs=1, seed=6)
    batch = grain.transforms.Batch(16)
    return grain.DataLoader(data_source=records, sampler=sampler, operations=[batch], worker_count=workers)


@pytest.mark.parametrize("format", FORMATS)
def test_a_loader_goes_on_from_its_state(format):
    loaders = [loader_of(format, rank, 0) for rank in range(2)]
    whole = [ids(loader) for loader in loaders]
    assert sorted(itertools.chain(*whole)) == list(range(ROWS))
    begun, again = iter(loaders[0]), iter(loaders[0])
    taken = ids(itertools.islice(begun, 5))
    again.set_state(begun.get_state())
    assert taken + ids(again) == whole[0]


@pytest.mark.parametrize("format", FORMATS)
def test_a_process_of_a_loader_gets_the_records_by_pickle(format):
    assert ids(loader_of(format, 0, 1)) == ids(loader_of(format, 0, 0))


@pytest.mark.parametrize("format", FORMATS)
def test_the_records_of_a_batch_are_read_at_once_by_their_numbers(format):
    records = source(format)
    numbers = grain.MapDataset.range(len(records)).seed(7).shuffle()
    parts = [numbers[rank::2].batch(32).map(records.__getitems__) for rank in range(2)]
    assert [len(rows) for rows in parts[0]] == [32] * 6 + [8]
    assert sorted(int(row["id"]) for part in parts for rows in part for row in rows) == list(range(ROWS))
