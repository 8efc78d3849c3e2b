"""Reading ahead of the one who takes: threads go on with iterators, as far as some bytes."""

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

_T = TypeVar("_T")

# How long a program that ends waits for what its threads are reading.
_END_SECONDS = 10


class Source(NamedTuple, Generic[_T]):
    """Some of the items that are read.

    Attributes:
      read: begins to read them.
      bytes: of memory that reading takes beside the items, until the last one is read.
    """

    read: Callable[[], Iterator[_T]]
    bytes: int


def ahead(items: Iterator[_T], size: Callable[[_T], int], max_bytes: int) -> Iterator[_T]:
    """Yields the items, of which a thread has taken so many already that they have up to `max_bytes`, at least one.

    What the iterator raises is raised behind the items before it. The thread ends when this generator is closed or the
    program ends, once the iterator gives its next item.

    Raises:
      RuntimeError: in a fork of the process that began, where the thread is not.
    """
    return ahead_of_all([Source(lambda: items, 0)], size, max_bytes, 0, 1)


def ahead_of_all(
    sources: Sequence[Source[_T]], size: Callable[[_T], int], max_bytes: int, max_reading_bytes: int, at_once: int
) -> Iterator[_T]:
    """Yields the items of all sources, one source after the other; up to `at_once` threads read a source each.

    The source whose items are taken is always read, and has always one item more. The sources behind it are begun in
    their order, as long as those that are being read take up to `max_reading_bytes`, and read as long as all items that
    are not taken yet have up to `max_bytes`. Each thread has one more item in its hands.

    What a source raises is raised where its next item would come. Threads end when this generator is closed or the
    program ends, once their sources give their next items.

    Raises:
      RuntimeError: in a fork of the process that began, where the threads are not.
    """
    reader = _Ahead(sources, size, max_bytes, max_reading_bytes)
    try:
        reader.start(min(at_once, len(sources)))
        yield from reader.taken()
        reader.join(None)
    finally:
        reader.stop()


class _Ahead(Generic[_T]):
    """What threads have read, and another one has not taken yet."""

    def __init__(
        self, sources: Sequence[Source[_T]], size: Callable[[_T], int], max_bytes: int, max_reading_bytes: int
    ):
        self._sources = sources
        self._size = size
        self._max_bytes = max_bytes
        self._max_reading_bytes = max_reading_bytes
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        # By the numbers of sources: how many are begun, which one is taken, what was read of which, how those ended.
        self._begun = 0
        self._current = 0
        self._read: dict[int, deque[tuple[_T, int]]] = {}
        self._ends: dict[int, BaseException | None] = {}
        self._bytes = 0
        self._reading_bytes = 0
        self._is_stopped = False

    def start(self, threads: int) -> None:
        """Begins to read."""
        if _is_ending.is_set():
            raise RuntimeError("the program ends: nothing more is read ahead")
        _readers.add(self)
        for _ in range(threads):
            # Not one that Python waits for: it would wait for room, and before any exit handler could stop it.
            thread = threading.Thread(target=self._run, name="penstock-prefetch", daemon=True)
            self._threads.append(thread)
            thread.start()

    def join(self, until: float | None) -> None:
        """Waits for the threads, up to a time by the monotonic clock."""
        if self._process == os.getpid():
            for thread in self._threads:
                thread.join(None if until is None else max(until - time.monotonic(), 0))

    def _run(self) -> None:
        """Reads one source after the other until all are read, or nobody wants more."""
        while (number := self._next()) is not None:
            error: BaseException | None = None
            try:
                self._read_source(number)
            except BaseException as raised:  # raised where the items are taken
                error = raised
            with self._changed:
                self._ends[number] = error
                self._reading_bytes -= self._sources[number].bytes
                self._changed.notify_all()
            del error

    def _next(self) -> int | None:
        """Returns the number of a source to read, once one may be begun; None if there is none."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or self._begun == len(self._sources) or self._may_begin())
            if self._is_stopped or self._begun == len(self._sources):
                return None
            number = self._begun
            self._begun += 1
            self._read[number] = deque()
            self._reading_bytes += self._sources[number].bytes
            return number

    def _may_begin(self) -> bool:
        reading = self._reading_bytes + self._sources[self._begun].bytes
        return self._begun == self._current or reading <= self._max_reading_bytes

    def _read_source(self, number: int) -> None:
        items = self._sources[number].read()
        # What is read no further is closed at once: it may have threads of its own.
        with contextlib.ExitStack() as stack:
            if (close := getattr(items, "close", None)) is not None:
                stack.callback(close)
            for item in items:
                if not self._keep(number, item, self._size(item)):
                    return
                del item

    def _keep(self, number: int, item: _T, size: int) -> bool:
        """Keeps an item once there is room; False if nobody wants more."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or self._has_room(number, size))
            if not self._is_stopped:
                self._read[number].append((item, size))
                self._bytes += size
                self._changed.notify_all()
            return not self._is_stopped

    def _has_room(self, number: int, size: int) -> bool:
        is_awaited = number == self._current and not self._read[number]
        return is_awaited or self._bytes + size <= self._max_bytes

    def taken(self) -> Iterator[_T]:
        """Takes what was read."""
        for number in range(len(self._sources)):
            while (found := self._take(number)) is not None:
                item, _ = found
                del found
                yield item
                del item
            with self._changed:
                del self._read[number]
                error = self._ends.pop(number)
                self._current = number + 1
                self._changed.notify_all()
            if error is not None:
                raise error

    def _take(self, number: int) -> tuple[_T, int] | None:
        """Takes the next item of a source; None behind the last one."""
        if self._process != os.getpid():
            raise RuntimeError(
                "what is read ahead stays in its process, and this is a fork of it: begin another loop over the batches"
            )
        with self._changed:
            self._changed.wait_for(lambda: self._is_stopped or self._read.get(number) or number in self._ends)
            if self._is_stopped:
                raise RuntimeError("the program ends: nothing more is read ahead")
            if not self._read[number]:
                return None
            found = self._read[number].popleft()
            self._bytes -= found[1]
            self._changed.notify_all()
            return found

    def stop(self) -> None:
        """Nobody wants more."""
        if self._process != os.getpid():  # in a fork, a lock that a thread held is held for ever
            return
        with self._changed:
            self._is_stopped = True
            for read in self._read.values():
                read.clear()
            self._changed.notify_all()


_readers: weakref.WeakSet[_Ahead[Any]] = weakref.WeakSet()
_is_ending = threading.Event()


@atexit.register
def _end() -> None:
    """Ends all threads: one that is in Arrow's C++ when the interpreter goes would abort the process."""
    _is_ending.set()
    readers = list(_readers)
    for reader in readers:
        reader.stop()
    until = time.monotonic() + _END_SECONDS
    for reader in readers:
        reader.join(until)


# The threads do not live on in a fork.
os.register_at_fork(after_in_child=_readers.clear)
