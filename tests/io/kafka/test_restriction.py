"""The restriction of a group of partitions: claims, cuts, ranges, its JSON."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.kafka.offsets import OffsetRange
from penstock.io.kafka.restriction import OffsetClaim, Spans, SpansCoder, SpansProvider, SpansTracker

BOUNDED = Spans((OffsetRange("t", 0, 10, 20), OffsetRange("t", 1, 0, 5)))
ENDLESS = Spans((OffsetRange("t", 0, 10), OffsetRange("t", 1, 0)))


@pytest.mark.parametrize("spans", [BOUNDED, ENDLESS, Spans(())], ids=["bounded", "endless", "empty"])
def test_spans_survive_their_json(spans):
    assert SpansCoder().decode(SpansCoder().encode(spans)) == spans


def test_json_of_other_versions_can_be_read():
    assert SpansCoder().encode(ENDLESS) == b'{"version": 1, "spans": [["t", 0, 10, null], ["t", 1, 0, null]]}'
    assert SpansCoder().decode(b'{"version": 9, "spans": [["t", 0, 1, 2]], "later": {}}') == Spans(
        (OffsetRange("t", 0, 1, 2),)
    )


def test_a_bounded_restriction_is_done_when_all_partitions_are_claimed():
    tracker = SpansTracker(BOUNDED)
    assert tracker.is_bounded()
    assert tracker.try_claim(OffsetClaim("t", 0, 20))
    with pytest.raises(ValueError, match="has been read only up to"):
        tracker.check_done()
    assert tracker.try_claim(OffsetClaim("t", 1, 5))
    assert tracker.check_done()
    assert tracker.try_split(0) is None


def test_claims_beyond_the_stop_are_refused():
    tracker = SpansTracker(BOUNDED)
    assert not tracker.try_claim(OffsetClaim("t", 1, 6))
    assert tracker.try_claim(OffsetClaim("t", 1, 5))


def test_claims_do_not_go_back_unless_offsets_have_begun_anew():
    tracker = SpansTracker(ENDLESS)
    assert tracker.try_claim(OffsetClaim("t", 0, 15))
    with pytest.raises(ValueError, match="goes back: 15 has been claimed"):
        tracker.try_claim(OffsetClaim("t", 0, 14))
    assert tracker.try_claim(OffsetClaim("t", 0, 3, again=True))
    assert tracker.try_split(0) == (
        Spans((OffsetRange("t", 0, 3, 3), OffsetRange("t", 1, 0, 0))),
        Spans((OffsetRange("t", 0, 3), OffsetRange("t", 1, 0))),
    )


def test_a_checkpoint_cuts_where_the_claims_end():
    tracker = SpansTracker(ENDLESS)
    tracker.try_claim(OffsetClaim("t", 0, 15))
    primary, residual = tracker.try_split(0)
    assert primary == Spans((OffsetRange("t", 0, 10, 15), OffsetRange("t", 1, 0, 0)))
    assert residual == Spans((OffsetRange("t", 0, 15), OffsetRange("t", 1, 0)))
    assert tracker.current_restriction() == primary
    assert tracker.check_done()
    assert not tracker.try_claim(OffsetClaim("t", 0, 16)), "what is cut off belongs to the next bundle"
    assert tracker.try_split(0) is None


def test_it_is_cut_nowhere_else():
    assert SpansTracker(BOUNDED).try_split(0.5) is None
    assert SpansTracker(ENDLESS).try_split(0.5) is None


def test_what_is_done_is_not_in_the_residual():
    tracker = SpansTracker(BOUNDED)
    tracker.try_claim(OffsetClaim("t", 1, 5))
    assert tracker.try_split(0)[1] == Spans((OffsetRange("t", 0, 10, 20),))


def test_a_new_partition_joins_an_endless_restriction_only():
    tracker = SpansTracker(ENDLESS)
    assert tracker.try_claim(OffsetClaim("t", 2, 7))
    assert OffsetRange("t", 2, 7) in tracker.try_split(0)[1].spans
    with pytest.raises(ValueError, match=r"\('t', 2\) is not in"):
        SpansTracker(BOUNDED).try_claim(OffsetClaim("t", 2, 7))


def test_progress_is_counted_in_offsets():
    tracker = SpansTracker(BOUNDED)
    tracker.try_claim(OffsetClaim("t", 0, 14))
    progress = tracker.current_progress()
    assert (progress.completed_work, progress.remaining_work) == (4, 11)
    assert SpansTracker(ENDLESS).current_progress().remaining_work == 2


def test_the_provider_splits_what_is_bounded():
    provider = SpansProvider()
    element = (0, 1, SpansCoder().encode(BOUNDED))
    restriction = provider.initial_restriction(element)
    assert restriction == BOUNDED
    assert list(provider.split(element, restriction)) == [
        Spans((OffsetRange("t", 0, 10, 20),)),
        Spans((OffsetRange("t", 1, 0, 5),)),
    ]
    assert list(provider.split(element, ENDLESS)) == [ENDLESS]
    assert provider.restriction_size(element, BOUNDED) == 15
    assert provider.truncate(element, ENDLESS) is None
    assert provider.truncate(element, BOUNDED) == BOUNDED
    assert json.loads(provider.restriction_coder().encode(ENDLESS))


@given(st.integers(0, 50), st.integers(0, 400), st.integers(1, 120))
def test_ranges_cover_a_span_once(start, length, offsets):
    ranges = list(Spans((OffsetRange("t", 0, start, start + length),)).ranges(offsets))
    covered = [offset for piece in ranges for span in piece.spans for offset in range(span.start, span.stop)]
    assert covered == list(range(start, start + length))
    assert all(piece.size() < 2 * offsets for piece in ranges)


PARTITIONS = [("t", 0), ("t", 1), ("u", 0)]


@given(
    st.lists(st.tuples(st.sampled_from(PARTITIONS), st.integers(1, 9) | st.none()), max_size=30),
    st.booleans(),
)
def test_every_offset_is_claimed_once_however_bundles_are_cut(steps, bounded):
    """A step claims some offsets of a partition, or with None cuts and goes on with the residual."""
    spans = tuple(OffsetRange(*place, 100, 110 if bounded else None) for place in PARTITIONS)
    tracker = SpansTracker(Spans(spans))
    at = dict.fromkeys(PARTITIONS, 100)
    primaries = []
    for place, count in steps:
        if count is None:
            if cut := tracker.try_split(0):
                primary, residual = (SpansCoder().decode(SpansCoder().encode(part)) for part in cut)
                primaries.append(primary)
                tracker.check_done()
                tracker = SpansTracker(residual)
        elif not bounded or at[place] < 110:
            upto = min(at[place] + count, 110) if bounded else at[place] + count
            assert tracker.try_claim(OffsetClaim(*place, upto))
            at[place] = upto
    covered = {place: [] for place in PARTITIONS}
    for primary in [*primaries, *(tracker.try_split(0) or (tracker.current_restriction(),))[:1]]:
        for span in primary.spans:
            covered[span.topic, span.partition] += range(span.start, span.stop)
    assert covered == {place: list(range(100, offset)) for place, offset in at.items()}
