"""Reading ahead of the one who takes: a thread goes on with an iterator, as far as some bytes."""

import atexit
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

_T = TypeVar("_T")

# How long a program that ends waits for what its threads are reading.
_END_SECONDS = 10


def ahead(items: Iterator[_T], size: Callable[[_T], int], max_bytes: int) -> Iterator[_T]:
    """Yields the items, of which a thread has taken so many already that they have up to `max_bytes`, at least one.

    What the iterator raises is raised behind the items before it. The thread ends when this generator is closed or the
    program ends, once the iterator gives its next item.
    """
    reader = _Ahead(items, size, max_bytes)
    _readers.add(reader)
    reader.thread.start()
    try:
        yield from reader.taken()
        reader.thread.join()
    finally:
        reader.stop()


class _Ahead(Generic[_T]):
    """What a thread has read, and another one has not taken yet."""

    def __init__(self, items: Iterator[_T], size: Callable[[_T], int], max_bytes: int):
        self._items = items
        self._size = size
        self._max_bytes = max_bytes
        self._changed = threading.Condition()
        self._read: deque[tuple[_T, int]] = deque()
        self._bytes = 0
        self._is_over = False
        self._error: BaseException | None = None
        # Not one that Python waits for: it would wait for room, and before any exit handler could stop it.
        self.thread = threading.Thread(target=self.run, name="penstock-prefetch", daemon=True)

    def run(self) -> None:
        """Reads until all is read, or nobody wants more."""
        error: BaseException | None = None
        try:
            for item in self._items:
                size = self._size(item)
                if not self._keep(item, size):
                    break
                del item
        except BaseException as raised:  # raised where the items are taken
            error = raised
        with self._changed:
            self._is_over, self._error = True, error
            self._changed.notify_all()

    def _keep(self, item: _T, size: int) -> bool:
        """Keeps an item once there is room; False if nobody wants more."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._is_over or not self._read or self._bytes + size <= self._max_bytes,
            )
            if not self._is_over:
                self._read.append((item, size))
                self._bytes += size
                self._changed.notify_all()
            return not self._is_over

    def taken(self) -> Iterator[_T]:
        """Takes what was read."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_over or self._read)
                if not self._read:
                    break
                item, size = self._read.popleft()
                self._bytes -= size
                self._changed.notify_all()
            yield item
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Nobody wants more."""
        with self._changed:
            self._is_over = True
            self._read.clear()
            self._changed.notify_all()


_readers: weakref.WeakSet[_Ahead[Any]] = weakref.WeakSet()


@atexit.register
def _end() -> None:
    """Ends all threads: one that is in Arrow's C++ when the interpreter goes would abort the process."""
    readers = list(_readers)
    for reader in readers:
        reader.stop()
    for reader in readers:
        if reader.thread.is_alive():
            reader.thread.join(_END_SECONDS)
