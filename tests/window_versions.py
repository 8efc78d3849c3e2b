"""Versions of windows for tests of publication, and writers that publish them at the same time.

A window has rows on time, late rows and dead letters. Version 1 has no late rows. Each row is a line of its own, so
that `rows_found` can count the rows of all files that manifests name. A process that forks has no other threads.

    python tests/window_versions.py race OUTPUT VERSIONS SEED    forks 4 writers with 8 threads each
    python tests/window_versions.py kill OUTPUT VERSIONS SEED    forks a writer for each window, and kills it
"""

import collections
import os
import pathlib
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Sequence
from concurrent import futures

from apache_beam import coders
from apache_beam.io.filesystems import FileSystems

from penstock.io.beam.windows import parse_window
from penstock.io.dataset.layout import Staging
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dataset.windowed import publish
from penstock.io.dataset.windowed.close import PaneHeader
from penstock.io.dataset.windowed.manifest import Pane, WindowManifest, WindowShard, read_window_manifests
from penstock.io.dataset.windowed.publish import WindowPublisher
from penstock.io.dataset.windowed.seal import SealedWindow, SealingRules
from penstock.io.dataset.windowed.shards import HeaderReport, RejectsReport, Report, ShardReport, StagedShard
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.files.atomic import conditional
from penstock.io.kernel import crc32c

SECOND = 1_000_000
RUN = "r1"
WINDOWS = parse_window("fixed:1s")
THREADS = 8
PROCESSES = 4

_RULES = SealingRules(WINDOWS, DatasetSpec("out", 1, compression="none", splits=("train",), max_reject_fraction=1.0))
_CODER = coders.registry.get_coder(SealedWindow)


def publisher(output: str) -> WindowPublisher:
    """A publisher of the run that staged the versions."""
    return WindowPublisher(Staging(output, RUN), WINDOWS)


def versions(output: str, number: int) -> tuple[SealedWindow, SealedWindow]:
    """Stages a window, and seals both of its versions."""
    start = number * SECOND
    on_time = [_shard(output, start, "on_time", 3), *(_letters(output, start, part) for part in range(2))]
    reports: list[Report] = [
        HeaderReport("on_time", PaneHeader(RUN, final=False, rejects=2, shards=1, rows=3)),
        *on_time,
    ]
    late: list[Report] = [
        HeaderReport("late", PaneHeader(RUN, final=True, shards=1, rows=2)),
        _shard(output, start, "late", 2),
    ]
    return _RULES.seal(start, reports), _RULES.seal(start, [*reports, *late])


def rows_of(number: int) -> list[str]:
    """The rows of a window, in both of its panes and in its dead letters."""
    start, counts = number * SECOND, {"on_time": 3, "late": 2, "letters0": 2, "letters1": 2}
    return [f"{start} {kind} {row}" for kind, count in counts.items() for row in range(count)]


def _shard(output: str, start: int, pane: Pane, rows: int) -> ShardReport:
    staged = FileSystems.join(output, f".tmp-{RUN}", "shards", WINDOWS.name(start), pane)
    content = _write(staged, start, pane, rows)
    prefix = "late" if pane == "late" else "part"
    path = f"train/{WINDOWS.name(start).partition('_')[0]}/{prefix}-00000-of-00001.tfrecord"
    checksum = f"{crc32c.extend(0, content):08x}"
    shard = WindowShard(path, "train", rows, len(content), len(content), checksum, f"{start} {pane}", None, pane)
    return ShardReport(pane, StagedShard(staged, shard))


def _letters(output: str, start: int, part: int) -> RejectsReport:
    staged = FileSystems.join(output, f".tmp-{RUN}", "dead_letters", f"{start}-{part}.jsonl")
    _write(staged, start, f"letters{part}", 2)
    return RejectsReport("on_time", DeadLetterFile(staged, 2, {"late": 2}, {"write": 2}))


def _write(path: str, start: int, kind: str, rows: int) -> bytes:
    content = "".join(f"{start} {kind} {row}\n" for row in range(rows)).encode()
    with FileSystems.create(path, compression_type="uncompressed") as file:
        file.write(content)
    return content


def rows_found(output: str) -> collections.Counter[str]:
    """The rows in the files that the manifests of windows name."""
    found: collections.Counter[str] = collections.Counter()
    for manifest in read_window_manifests(output):
        for path in manifest.files():
            with FileSystems.open(FileSystems.join(output, *path.split("/"))) as file:
                found.update(file.read().decode().splitlines())
    return found


def in_random_order(chance: random.Random, sealed: Sequence[SealedWindow]) -> list[SealedWindow]:
    """Each version twice, as if it was retried; versions of a window stay near each other."""
    items = [item for item in sealed for _ in range(2)]
    order = sorted(range(len(items)), key=lambda index: index + chance.uniform(0, 12))
    return [items[index] for index in order]


def publish_all(output: str, sealed: Iterable[SealedWindow], threads: int = THREADS) -> list[WindowManifest]:
    """Publishes from several threads; raises the first error of any."""
    with futures.ThreadPoolExecutor(threads) as pool:
        return list(pool.map(publisher(output).publish, sealed))


def store(path: pathlib.Path, sealed: Iterable[SealedWindow]) -> None:
    """Writes versions to a file for other processes."""
    path.write_bytes(b"".join(_CODER.encode(item) + b"\n" for item in sealed))


def _load(path: str) -> list[SealedWindow]:
    return [_CODER.decode(line) for line in pathlib.Path(path).read_bytes().splitlines()]


def _delay(chance: random.Random) -> None:
    """Makes what publication does take a random time."""
    for module in (publish, conditional):
        module.move_files = _slow(module.move_files, chance)
    FileSystems.exists = staticmethod(_slow(FileSystems.exists, chance))


def _slow(real, chance):
    def slow(*args):
        time.sleep(chance.uniform(0, 0.002))
        done = real(*args)
        time.sleep(chance.uniform(0, 0.002))
        return done

    return slow


def race(output: str, path: str, seed: int) -> None:
    """Publishes versions in several processes at once."""
    sealed = in_random_order(random.Random(seed), _load(path))
    writers = [_forked(seed + number, output, sealed[number::PROCESSES]) for number in range(PROCESSES)]
    ends = [os.waitpid(writer, 0)[1] for writer in writers]
    assert ends == [0] * PROCESSES, ends


def _forked(seed: int, output: str, sealed: Sequence[SealedWindow], threads: int = THREADS) -> int:
    assert threading.active_count() == 1, "a fork may hang"
    child = os.fork()
    if not child:
        try:
            _delay(random.Random(seed))
            publish_all(output, sealed, threads)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


def kill(output: str, path: str, seed: int) -> None:
    """Publishes each window in a process that is killed at some point, and then in another one."""
    chance = random.Random(seed)
    sealed = _load(path)
    killed = 0
    for first, second in zip(sealed[::2], sealed[1::2], strict=True):
        child = _forked(chance.randrange(1000), output, (first, second), threads=1)
        time.sleep(chance.uniform(0, 0.06))
        os.kill(child, signal.SIGKILL)
        killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
        for again in chance.choice([(first, second), (second, first), (second,)]):
            publisher(output).publish(again)
    print(killed)


if __name__ == "__main__":
    command, *rest = sys.argv[1:]
    {"race": race, "kill": kill}[command](*rest[:2], *map(int, rest[2:]))
