"""Following a dataset: each row once, in the order of publication, whatever is published meanwhile."""

import json
import os
import random
import shutil

import pytest
import spans_runs
from quick_windows import ids_of, write_windows

import penstock
from penstock.io.beam.durations import parse_duration
from penstock.io.dataset.load.published import _Names
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.spans.compact import compact_spans
from penstock.io.dataset.spans.drop import drop_spans
from penstock.io.dataset.spans.windows import compact_windows
from penstock.io.errors import ConfigError, DataError


class Steps:
    """Does one thing before each look, and ends behind the last one."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def __call__(self):
        if self.steps:
            self.steps.pop(0)()
            return False
        return True


def follow(output, *steps, shard=None, **changes):
    found = penstock.load(str(output), "train")
    found = found if shard is None else found.shard(*shard)
    return found.follow(poll=0.001, until=Steps(*steps)).batches(**{"batch_size": 4, **changes})


def flat(batches):
    return [number for batch in batches for number in batch["id"].to_pylist()]


def ids(numbers, late=()):
    return [one for n in numbers for one in ids_of(n)] + [one for n in late for one in ids_of(n, late=True)]


def windows_that_come(output):
    return (
        lambda: None,
        lambda: write_windows(output, [3, 1], created="2026-01-01T00:00:00Z"),
        lambda: None,
        lambda: write_windows(output, [2], late=[2], created="2026-01-01T00:00:01Z"),
        lambda: compact_windows(str(output), parse_duration("1h")),
        lambda: write_windows(output, [9]),
    )


def test_windows_come_once_in_the_order_of_publication(tmp_path):
    write_windows(tmp_path, [0])
    write_windows(tmp_path, [2], final=False)
    batches = follow(tmp_path, *windows_that_come(tmp_path))
    found = flat(batches)
    assert found == ids([0, 2, 1, 3], late=[2]) + ids([9])
    assert sorted(flat(follow(tmp_path))) == sorted(found), "whoever begins later reads the set"


def test_windows_of_bounded_input_end(tmp_path):
    write_windows(tmp_path, range(2), in_all=4)
    looks = []

    def until():  # of a job that is at work, as of one that was killed
        looks.append(None)
        if len(looks) == 3:
            write_windows(tmp_path, range(2, 4), in_all=4)

    def followed():
        return penstock.load(str(tmp_path)).follow(0.001, until).batches(4)

    batches = followed()
    assert flat(batches) == ids(range(4))
    assert len(looks) == 4
    again = followed()
    again.load_state_dict(batches.state_dict())
    assert flat(again) == []
    compact_windows(str(tmp_path), parse_duration("1h"))
    assert sorted(flat(followed())) == ids(range(4))


def test_batches_go_across_the_windows_of_a_look(tmp_path):
    write_windows(tmp_path, range(10))
    assert [len(batch) for batch in follow(tmp_path)] == [4] * 7 + [2]
    assert [len(batch) for batch in follow(tmp_path, last="drop")] == [4] * 7
    assert [len(batch["id"]) for batch in penstock.load(tmp_path).follow(until=lambda: True).numpy(10)] == [10] * 3


@pytest.mark.parametrize("seed", range(20))
def test_resume_anywhere(tmp_path, seed):
    chance = random.Random(seed)
    write_windows(tmp_path, range(5, 9))
    write_windows(tmp_path, [2], final=False)
    steps = windows_that_come(tmp_path)
    until = Steps(*steps)
    dataset = penstock.load(str(tmp_path), "train").shuffle(3, buffer=5)
    batches, found = dataset.follow(0.001, until).batches(4), []
    for _ in range(chance.randrange(1, 4)):
        for _, batch in zip(range(chance.randrange(4)), batches, strict=False):
            found += batch["id"].to_pylist()
        state = json.loads(json.dumps(batches.state_dict()))
        batches = dataset.follow(0.001, until).batches(chance.randrange(1, 6))
        batches.load_state_dict(state)
    found += flat(batches)
    assert sorted(found) == sorted(ids([1, 2, 3, 5, 6, 7, 8, 9], late=[2]))


def test_ranks_share_each_window(tmp_path):
    write_windows(tmp_path, range(3))
    steps = [lambda: write_windows(tmp_path, range(3, 5))]
    parts = [list(follow(tmp_path, *steps, shard=(rank, 2), batch_size=2)) for rank in range(2)]
    assert {len(part) for part in parts} == {5}
    assert sorted(flat(parts[0]) + flat(parts[1])) == ids(range(5))
    state = follow(tmp_path, shard=(0, 2)).state_dict()
    with pytest.raises(ConfigError, match="same split, shuffle and number of ranks"):
        follow(tmp_path).load_state_dict(state)


def counted(batches):
    found = list(batches)
    return len(found), flat(found)


def test_ranks_that_look_before_and_after_late_rows_and_sets_share_the_same(tmp_path):
    write_windows(tmp_path, range(2), final=False)

    def change():
        write_windows(tmp_path, range(2), late=range(2))
        write_windows(tmp_path, [7])
        compact_windows(str(tmp_path), parse_duration("1h"))

    first = counted(follow(tmp_path, lambda: None, change, shard=(0, 2)))
    second = counted(follow(tmp_path, shard=(1, 2)))
    assert first[0] == second[0]
    assert sorted(first[1] + second[1]) == sorted(ids([0, 1, 7], late=[0, 1]))


def test_ranks_that_look_before_and_after_spans_share_the_same(tmp_path):
    def add(first):
        spans_runs.publish(spans_runs.stage(tmp_path, spans_runs.rows(first, 10)))

    add(0)
    first = counted(follow(tmp_path, lambda: None, lambda: add(10), lambda: add(20), shard=(0, 2)))
    batches, taken = follow(tmp_path, shard=(1, 2)), []
    while True:  # each batch by another process
        for batch in batches:
            taken.append(batch)
            break
        else:
            break
        state = json.loads(json.dumps(batches.state_dict()))
        batches = follow(tmp_path, shard=(1, 2))
        batches.load_state_dict(state)
    assert first[0] == len(taken)
    assert sorted(first[1] + flat(taken)) == spans_runs.expected("train", 30)


def test_a_state_within_what_was_put_together_since_is_an_error(tmp_path):
    for first in (0, 10):
        spans_runs.publish(spans_runs.stage(tmp_path, spans_runs.rows(first, 10)))
    batches = follow(tmp_path, shard=(0, 2), batch_size=100)
    next(iter(batches))
    compact_spans(str(tmp_path), ["1", "2"], None, None, lambda parts, target: False)
    again = follow(tmp_path, shard=(0, 2))
    again.load_state_dict(batches.state_dict())
    with pytest.raises(DataError, match="spans that were read were put together with others"):
        list(again)


def test_windows_that_were_put_together_and_deleted_before_they_were_read(tmp_path):
    write_windows(tmp_path, range(2))
    batches = follow(tmp_path)
    assert flat(batches) == ids(range(2))
    state = batches.state_dict()
    write_windows(tmp_path, [2])
    compact_windows(str(tmp_path), parse_duration("1h"))
    shutil.rmtree(tmp_path / "train")
    assert sorted(flat(follow(tmp_path))) == ids(range(3))
    again = follow(tmp_path)
    again.load_state_dict(state)
    with pytest.raises(DataError, match=r"part-00000-of-00001\.tfrecord: the shard cannot be read"):
        flat(again)


def test_a_window_that_is_published_with_other_rows_is_an_error(tmp_path):
    write_windows(tmp_path, [0], final=False)

    def replace():
        write_windows(tmp_path, [0], final=False, late=[0])
        path = next((tmp_path / "windows").iterdir())
        fields = json.loads(path.read_text())
        fields["shards"] = fields["shards"][1:]
        fields["splits"]["train"] = 3
        path.write_text(json.dumps(fields))

    with pytest.raises(DataError, match="was published again without train/"):
        flat(follow(tmp_path, lambda: None, replace))


def test_spans_come_once_whatever_is_put_together(tmp_path):
    def add(first):
        spans_runs.publish(spans_runs.stage(tmp_path, spans_runs.rows(first, 10)))

    def put_together():
        compact_spans(str(tmp_path), ["1", "2"], None, None, lambda parts, target: False)

    add(0)
    batches = follow(tmp_path, lambda: None, lambda: add(10), put_together, lambda: (add(20), add(30)))
    assert sorted(flat(batches)) == spans_runs.ids_of(tmp_path, "train") == spans_runs.expected("train", 40)
    state = json.loads(json.dumps(batches.state_dict()))
    assert state["published"]["version"] == read_manifest(str(tmp_path)).dataset_version == 5
    again = follow(tmp_path, lambda: add(40))
    again.load_state_dict(state)
    assert sorted(flat(again)) == spans_runs.expected("train", 50)[len(spans_runs.expected("train", 40)) :]
    add(50)
    for path in (tmp_path / "_versions").iterdir():
        os.remove(path)
    again.load_state_dict(state)
    with pytest.raises(DataError, match="version 6 was not read and is gone"):
        flat(again)


@pytest.mark.parametrize("later", [2, 3], ids=["same_number", "greater_number"])
@pytest.mark.parametrize("is_dropped", [False, True])
def test_spans_of_a_dataset_that_was_written_in_place_are_not_read_as_new(is_dropped, later, tmp_path):
    def add(first):
        spans_runs.publish(spans_runs.stage(tmp_path, spans_runs.rows(first, 10)))

    add(0)
    add(10)
    batches = follow(tmp_path)
    assert sorted(flat(batches)) == spans_runs.expected("train", 20)
    state = json.loads(json.dumps(batches.state_dict()))
    shutil.rmtree(tmp_path)
    for first in range(later):
        add(100 * first)
    if is_dropped:
        drop_spans(str(tmp_path), ["1"], "drop 1")
    for again in (batches, follow(tmp_path)):
        again.load_state_dict(state)
        with pytest.raises(DataError, match="is of another dataset than the one that was read before: begin anew"):
            flat(again)


def test_a_shard_of_no_span_is_not_left_out(tmp_path):
    for first in (0, 10):
        spans_runs.publish(spans_runs.stage(tmp_path, spans_runs.rows(first, 10)))
    manifest = tmp_path / "manifest.json"
    fields = json.loads(manifest.read_text())
    gone = fields["spans"].pop()
    manifest.write_text(json.dumps(fields))
    with pytest.raises(DataError, match=rf"the shard {gone['folder']}/\S+ is in none of the spans of its manifest"):
        flat(follow(tmp_path))


def test_what_is_wrong_is_refused(tmp_path):
    write_windows(tmp_path, [0])
    dataset = penstock.load(str(tmp_path))
    with pytest.raises(ConfigError, match="poll must be > 0 seconds, got 0"):
        dataset.follow(poll=0)
    with pytest.raises(ConfigError, match="batch_size must be >= 1, got 0"):
        dataset.follow().batches(0)
    batches = dataset.follow(until=lambda: True).batches(4)
    with pytest.raises(ConfigError, match="the state has follow None"):
        batches.load_state_dict(dataset.batches(4).state_dict())
    with pytest.raises(ConfigError, match="not a state of a dataset that is followed: KeyError"):
        batches.load_state_dict({**batches.state_dict(), "published": {}})
    batches = dataset.follow(until=lambda: True).batches(1)
    first = iter(batches)
    next(first)
    iter(batches)
    with pytest.raises(RuntimeError, match="another loop"):
        list(first)


def test_windows_that_follow_each_other_are_one_run():
    names = _Names()
    for second in (2, 0, 1, 5):
        names.add(f"19700101T00000{second}Z_19700101T00000{second + 1}Z", True)
    names.add("19700101T000001Z", False)
    assert names.state() == {"runs": [[0, 3_000_000], [5_000_000, 6_000_000]], "others": ["19700101T000001Z"]}
    again = _Names.of(names.state())
    assert [f"19700101T00000{second}Z_19700101T00000{second + 1}Z" in again for second in range(7)] == [
        True, True, True, False, False, True, False,
    ]  # fmt: skip
