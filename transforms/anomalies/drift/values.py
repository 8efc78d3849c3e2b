"""Values that changed: new ones, vanished ones, other spellings, another balance."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from penstock.transforms.anomalies.drift.changes import Change, Comparison, Pair
from penstock.transforms.anomalies.measures.bounds import share_evidence
from penstock.transforms.anomalies.measures.histograms import lists_all_values

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# What is left after a change of roles may be so much of what it explains.
_LEFT = 0.25
_MAX_EXAMPLES = 5


@dataclasses.dataclass(frozen=True)
class Counts:
    """How often each value is there, now and before, in rows.

    Attributes:
      keys: the values, sorted.
      now, before: counts, of shape (values,).
      rows, rows_before: of all values, also of those that are not listed.
      is_complete, was_complete: whether all values are listed.
    """

    keys: tuple[str, ...]
    now: Floats
    before: Floats
    rows: float
    rows_before: float
    is_complete: bool = True
    was_complete: bool = True

    @property
    def shares(self) -> tuple[Floats, Floats]:
        """The part that each value makes up, now and before."""
        return self.now / self.rows, self.before / self.rows_before

    @property
    def distance(self) -> float:
        """The largest difference of a share (L-infinity)."""
        now, before = self.shares
        return float(np.max(np.abs(now - before), initial=0.0))

    def evidence(self) -> Floats:
        """How far each share is from being the old one (`share_evidence`)."""
        rows, others = np.full(len(self.keys), self.rows), np.full(len(self.keys), self.rows_before)
        return share_evidence(self.now, rows, self.before, others)


def listed_counts(pair: Pair) -> Counts | None:
    """Returns counts of texts or categories; None where the statistics list none."""
    now, before = pair.now.values, pair.before.values
    if not now or not before:
        return None
    return _counts(now, before, pair, lists_all_values(pair.now), lists_all_values(pair.before))


def number_counts(pair: Pair, now: Mapping[float, float], before: Mapping[float, float]) -> Counts:
    """Returns counts of few numbers, of the parts that they make up."""
    spelled = [{f"{value:.17g}": share for value, share in side.items()} for side in (now, before)]
    rows, rows_before = pair.rows
    keys = tuple(sorted({*spelled[0], *spelled[1]}, key=float))
    columns = [np.array([side.get(key, 0.0) for key in keys]) for side in spelled]
    return Counts(keys, columns[0] * rows, columns[1] * rows_before, rows, rows_before)


def _counts(
    now: Mapping[str, float], before: Mapping[str, float], pair: Pair, is_complete: bool, was_complete: bool
) -> Counts:
    """Makes counts of rows: in lists, values of one row come and go together."""
    keys = tuple(sorted({*now, *before}))
    rows, rows_before = pair.rows
    per_row = max(1.0, pair.now.common.avg_num_values), max(1.0, pair.before.common.avg_num_values)
    columns = [
        np.array([side.get(key, 0.0) for key in keys]) / part for side, part in zip((now, before), per_row, strict=True)
    ]
    return Counts(keys, columns[0], columns[1], rows, rows_before, is_complete, was_complete)


def value_changes(comparison: Comparison, pair: Pair, counts: Counts, is_number: bool = False) -> list[Change]:
    """Returns what became of the values of a feature; what explains most comes alone."""
    sure = _beyond_chance(comparison, counts)
    if not np.any(sure):
        return []
    now, before = counts.shares
    floor = comparison.thresholds.new_values
    is_new = sure & (counts.before == 0) & (now >= floor) & counts.was_complete
    is_gone = sure & (counts.now == 0) & (before >= floor) & counts.is_complete
    distance = float(np.max(np.abs(now - before)[sure]))
    is_large = distance >= comparison.thresholds.values
    explained = _whole_change(counts, is_number, is_new, is_gone) if is_large or np.any(is_new) else None
    if explained is not None:
        code, text = explained
        return [_change(comparison, pair, code, text, counts, max(distance, float(now[is_new].sum())))]
    changes = []
    for code, mask, side in (("new_values", is_new, now), ("vanished_values", is_gone, before)):
        if np.any(mask):
            changes.append(_listed(comparison, pair, code, mask, side, counts))
    if not changes and is_large:
        changes.append(_balance(comparison, pair, counts, sure))
    return changes


def _beyond_chance(comparison: Comparison, counts: Counts) -> Mask:
    return counts.evidence() > np.log(2 * max(1, len(counts.keys)) / comparison.chance)


def is_beyond_chance(comparison: Comparison, counts: Counts) -> bool:
    """Whether the share of any value differs by more than chance."""
    return bool(_beyond_chance(comparison, counts).any())


def _whole_change(counts: Counts, is_number: bool, is_new: Mask, is_gone: Mask) -> tuple[str, str] | None:
    """Returns the code and the words of what explains all of it."""
    new = [key for key, flag in zip(counts.keys, is_new, strict=True) if flag]
    gone = [key for key, flag in zip(counts.keys, is_gone, strict=True) if flag]
    flipped = _flipped(counts)
    if flipped is None and new and gone and not is_number:
        return _respelled(new, gone)
    return flipped


def _flipped(counts: Counts) -> tuple[str, str] | None:
    """Two values of which each is now as frequent as the other was."""
    filled = np.flatnonzero(counts.now + counts.before)
    if len(filled) != 2 or not (counts.is_complete and counts.was_complete):
        return None
    now, before = (side[filled] for side in counts.shares)
    if np.max(np.abs(now[::-1] - before)) > _LEFT * np.max(np.abs(now - before)):
        return None
    one, other = (counts.keys[index] for index in filled)
    return "flipped", f"{one} is as frequent as {other} was, and the other way round"


def _respelled(new: list[str], gone: list[str]) -> tuple[str, str] | None:
    """New texts that are old ones, cut off or spelled otherwise."""
    longest = max(map(len, new))
    if all(any(old.startswith(text) and old != text for old in gone) for text in new) and any(
        len(t) == longest for t in new
    ):
        return "truncated", f"texts are cut after {longest} characters: {_examples(new)} for {_examples(gone)}"
    plain = {_plain(old) for old in gone}
    if all(_plain(text) in plain for text in new):
        return "spelling", f"other case or blanks: {_examples(new)} for {_examples(gone)}"
    return None


def _plain(text: str) -> str:
    return "".join(text.casefold().split())


def _examples(values: list[str]) -> str:
    more = f" and {len(values) - _MAX_EXAMPLES} more" if len(values) > _MAX_EXAMPLES else ""
    return ", ".join(map(repr, values[:_MAX_EXAMPLES])) + more


def _change(comparison: Comparison, pair: Pair, code: str, text: str, counts: Counts, size: float) -> Change:
    excess = size / max(comparison.thresholds.values, 1e-9)
    return Change(pair.path, code, "the values of before", text, min(size, 1.0), excess, "values", size * counts.rows)


def _listed(comparison: Comparison, pair: Pair, code: str, mask: Mask, shares: Floats, counts: Counts) -> Change:
    order = [index for index in np.argsort(-shares, kind="stable") if mask[index]]
    values = [counts.keys[index] for index in order]
    mass = float(shares[order].sum())
    known = f"one of {np.count_nonzero(counts.before):,} values"
    told = f"{len(values):,} {'other' if len(values) == 1 else 'others'} in {mass:.3%} of the rows"
    before, now = (
        (known, told) if code == "new_values" else (f"{_examples(values)} in {mass:.3%} of the rows", "none of them")
    )
    rows = mass * counts.rows
    excess = mass / max(comparison.thresholds.new_values, 1e-9)
    return Change(pair.path, code, before, now, min(mass, 1.0), excess, "new_values", rows, _examples(values))


def _balance(comparison: Comparison, pair: Pair, counts: Counts, sure: Mask) -> Change:
    now, before = counts.shares
    index = int(np.argmax(np.where(sure, np.abs(now - before), -1.0)))
    size = float(abs(now[index] - before[index]))
    return Change(
        pair.path, "balance", f"{counts.keys[index]!r} in {before[index]:.3%}", f"in {now[index]:.3%}", size,
        size / max(comparison.thresholds.values, 1e-9), "values", size * counts.rows, repr(counts.keys[index]),
    )  # fmt: skip
