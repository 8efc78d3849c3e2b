"""Dead letters of a dataset, read again: their lines, and what the manifest counts of them."""

import collections
from collections.abc import Iterator, Mapping

from penstock.io.beam import progress
from penstock.io.dataset.layout import (
    DEAD_LETTERS,
)
from penstock.io.dataset.manifest import Manifest, PublishedDeadLetters
from penstock.io.dataset.windowed.manifest import WindowManifest
from penstock.io.dead_letters.record import DeadLetter
from penstock.io.files import stores
from penstock.io.reasons import codes_of
from penstock.transforms.verify.fault import Fault, unless_unreadable


def check_rejects(directory: str, manifest: Manifest | WindowManifest, present: Mapping[str, int]) -> Iterator[Fault]:
    """Checks the files of dead letters; if all are good, also the reasons and stages that the manifest counts."""
    counts = _RejectCounts()
    is_good = True
    for file in manifest.dead_letters:
        faults = list(unless_unreadable(file.path, counts.add(directory, file))) if file.path in present else []
        is_good = is_good and file.path in present and not faults
        yield from faults
    # An earlier release counted a row for each column that had the reason.
    by_reason = counts.each_reason if manifest.rejected_by_reason == counts.each_reason else counts.reasons
    for what, said, found in (
        ("rejected_by_reason", manifest.rejected_by_reason, by_reason),
        ("rejected_by_stage", manifest.rejected_by_stage, counts.stages),
    ):
        if is_good and said != found:
            detail = f"must be {dict(said)}, as the manifest says, found {dict(sorted(found.items()))}"
            yield Fault(f"dead_letters.{what}", DEAD_LETTERS, detail)


class _RejectCounts:
    """Counts reasons and stages of the dead letters that were read."""

    def __init__(self) -> None:
        self.reasons: collections.Counter[str] = collections.Counter()
        self.each_reason: collections.Counter[str] = collections.Counter()
        self.stages: collections.Counter[str] = collections.Counter()

    def add(self, directory: str, rejects: PublishedDeadLetters) -> Iterator[Fault]:
        lines = 0
        path = stores.join(directory, *rejects.path.split("/"))
        with stores.open_file(path) as file:
            for line in file:
                lines += 1
                progress.add(bytes=len(line))
                try:
                    letter = DeadLetter.from_json(line)
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    yield Fault("dead_letters.broken", rejects.path, f"line {lines} is not a dead letter: {error!r}")
                    return
                self.stages[letter.stage] += 1
                self.reasons.update(codes_of(letter.reasons))
                self.each_reason.update(reason.code for reason in letter.reasons)
        if lines != rejects.records:
            detail = f"must have {rejects.records} lines, as the manifest says, found {lines}"
            yield Fault("dead_letters.records", rejects.path, detail)
