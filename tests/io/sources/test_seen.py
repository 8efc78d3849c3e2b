"""What one look at a folder makes of the last one."""

import itertools

import pytest

from penstock.io.files.inputs import InputFile
from penstock.io.sources.seen import LookTracker, Watched, WatchedCoder, look

A, B = InputFile("/in/a.csv", 10, 1.5), InputFile("/in/b.csv", 20, 2.5)
A_LONGER = InputFile("/in/a.csv", 11, 1.5)
A_TOUCHED = InputFile("/in/a.csv", 10, 1.75)


def looks(*listings, state=None):
    """The finished and changed files of each look at a folder."""
    state, found = state or Watched(), []
    for number, files in enumerate(listings, 1):
        result = look(state, files, number)
        state = result.watched
        found.append(([file.uri[-5:] for file in result.finished], [file.uri[-5:] for file in result.changed]))
    return found, state


@pytest.mark.parametrize(
    ("listings", "finished"),
    [
        ([[A], [A], [A]], [[], ["a.csv"], []]),
        ([[A], [A_LONGER], [A_LONGER]], [[], [], ["a.csv"]]),
        ([[A], [A_TOUCHED], [A]], [[], [], []]),
        ([[A], [A, B], [A, B]], [[], ["a.csv"], ["b.csv"]]),
        ([[A], [], [A], [A]], [[], [], [], ["a.csv"]]),
        ([[], []], [[], []]),
    ],
    ids=["unchanged", "grows", "touched", "later", "gone_while_growing", "nothing"],
)
def test_a_file_is_finished_once_when_two_looks_find_it_the_same(listings, finished):
    found, _ = looks(*listings)
    assert [names for names, _ in found] == finished


def test_a_file_that_changes_after_it_was_handed_on_is_told_once_and_not_handed_on_again():
    found, _ = looks([A], [A], [A_LONGER], [A_LONGER], [A])
    assert found == [([], []), (["a.csv"], []), ([], ["a.csv"]), ([], []), ([], ["a.csv"])]


def test_a_file_that_a_listing_misses_is_not_read_twice():
    found, state = looks([A], [A], [], [], [A], [A])
    assert found[-2:] == [([], []), ([], [])]
    assert len(state.read) == 1


def test_a_file_that_stays_away_is_forgotten_so_that_the_state_is_as_large_as_the_folder():
    listings = ([InputFile(f"/in/{hour}.csv", 1, hour)] for hour in range(50) for _ in range(2))
    found, state = looks(*itertools.chain(listings))
    assert sum(len(finished) for finished, _ in found) == 50
    assert len(state.read) <= 3


def test_times_and_looks_are_counted():
    _, state = looks([], [A], [A], [A], state=Watched(looks_left=5))
    assert (state.looks_left, state.found) == (1, 3)
    assert looks([], [])[1].found == 1


def test_the_state_survives_its_coder_at_25_bytes_a_file():
    _, state = looks([A, B], [A, B], [A], [A_LONGER, InputFile("/in/ü.csv", 0, 0.0)])
    state = Watched(state.read, state.growing, 7, -3, 12345)
    encoded = WatchedCoder().encode(state)
    assert WatchedCoder().decode(encoded) == state
    assert WatchedCoder().decode(WatchedCoder().encode(Watched())) == Watched()
    assert len(encoded) - len(WatchedCoder().encode(Watched())) == 3 * 25


def test_a_restart_goes_on_where_the_checkpoint_was():
    _, state = looks([A, B], [A])
    restored = WatchedCoder().decode(WatchedCoder().encode(state))
    found, _ = looks([A, B], [A, B], state=restored)
    assert found == [([], []), (["b.csv"], [])]


def test_a_checkpoint_after_a_look_keeps_what_it_found():
    before, after = Watched(), look(Watched(), [A], 1).watched
    tracker = LookTracker(before)
    assert tracker.try_claim(after)
    assert not tracker.try_claim(after)
    primary, rest = tracker.try_split(0)
    assert (primary.is_over, rest) == (True, after)
    assert tracker.check_done()
    assert tracker.is_bounded()
    assert tracker.try_split(0) is None


def test_a_checkpoint_before_a_look_leaves_it_to_the_next():
    tracker = LookTracker(Watched())
    assert tracker.try_split(0)[1] == Watched()
    assert not tracker.try_claim(look(Watched(), [A], 1).watched)
    assert tracker.check_done()


def test_a_look_without_claim_is_a_fault():
    with pytest.raises(ValueError, match="neither claimed nor left"):
        LookTracker(Watched()).check_done()
