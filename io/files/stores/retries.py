"""Requests that fail: which are tried again, for how long, and what is said of the others.

A request is tried again for `_PATIENCE_SECONDS` with growing pauses of random length, if the store is busy or does not
answer. Where it has never answered this process, it is most likely not there at all: then for `_FIRST_SECONDS`. One
line a minute says that a job waits.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

from penstock.io.errors import MissingFileError, StorageError

_LOGGER = logging.getLogger(__name__)

_PATIENCE_SECONDS, _FIRST_SECONDS = 300.0, 2.0

_FIRST_PAUSE_SECONDS, _MAX_PAUSE_SECONDS = 0.2, 15.0

_SECONDS_BETWEEN_LINES = 60.0

_T = TypeVar("_T")


class Refused(Exception):
    """A request that failed, as the client of a store understands it.

    Attributes:
      kind: `missing` (no such object), `no_bucket`, `denied` (403), `unknown` (401: the credentials are no good),
        `changed` (a condition is not met), `busy` (may pass: 429, 5xx, no answer), `silent` (no connection), `other`.
      detail: what the store said, in a few words.
    """

    def __init__(self, kind: str, detail: str = ""):
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


class Requests:
    """The requests of this process to one store.

    Attributes:
      title: what the store is called.
      needs: for each action (`read`, `list`, `write`, `delete`) the permission that it needs, as the store calls it.
      credentials: where credentials come from, for who has none or wrong ones.
    """

    def __init__(self, title: str, needs: dict[str, str], credentials: str):
        self.title = title
        self.needs = {**needs, "copy": f"{needs['read']} and {needs['write']}"}
        self.credentials = credentials
        self._guard = threading.Lock()
        self._has_answered = False
        self._told = float("-inf")

    def run(self, action: str, url: str, request: Callable[[], _T]) -> _T:
        """Returns what a request returns, which raises `Refused` when it fails.

        Raises:
          MissingFileError: when there is no such object.
          Refused: when a condition is not met (`changed`).
          StorageError: for any other failure, in one line.
        """
        begun, pause = time.monotonic(), _FIRST_PAUSE_SECONDS
        while True:
            try:
                result = request()
                self._has_answered = True
                return result
            except Refused as refused:
                if refused.kind == "changed":
                    raise
                waited = time.monotonic() - begun
                if refused.kind not in ("busy", "silent") or waited + pause > self._patience(refused):
                    self._fail(action, url, refused, waited)
                self._tell(url, refused)
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)

    def _patience(self, refused: Refused) -> float:
        return _FIRST_SECONDS if refused.kind == "silent" and not self._has_answered else _PATIENCE_SECONDS

    def _tell(self, url: str, refused: Refused) -> None:
        with self._guard:
            now = time.monotonic()
            if now - self._told < _SECONDS_BETWEEN_LINES:
                return
            self._told = now
        _LOGGER.warning("%s: %s does not serve (%s); tried again", url, self.title, refused.detail)

    def _fail(self, action: str, url: str, refused: Refused, waited: float) -> NoReturn:
        place, need = "/".join(url.split("/")[:3]), self.needs[action]
        match refused.kind:
            case "missing" if action not in ("list", "write"):
                raise MissingFileError(f"{url}: no such object in {self.title}") from refused
            case "missing" | "no_bucket":
                raise MissingFileError(f"{url}: {place} does not exist in {self.title}; correct its name") from refused
            case "denied":
                why = f"access denied ({refused.detail}); the credentials need {need} there"
            case "unknown":
                why = f"the credentials are not accepted ({refused.detail}); {self.credentials}"
            case "busy" | "silent":
                why = f"{self.title} has not served for {waited:.0f} s ({refused.detail}); try again when it does"
            case _:
                why = f"{self.title} refuses to {action} it: {refused.detail}"
        raise StorageError(f"{url}: {why}") from refused
