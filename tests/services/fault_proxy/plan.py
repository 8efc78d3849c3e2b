"""Which requests fail, and how: a seeded plan, under which the same requests meet the same faults in any order."""

import dataclasses
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, Self, get_args

from services.fault_proxy.kinds import KINDS

Action = Literal[
    "latency",
    "slow",
    "status",
    "hang",
    "reset_before",
    "reset_during",
    "reset_after",
    "truncate",
    "reset_body",
    "shorten",
    "corrupt",
]
# Those that hold a request up, and let it pass.
DELAYS = ("latency", "slow")

# The store chooses these anew in each run, and a fault does not depend on them.
_CHOSEN_BY_STORE = re.compile(r"(?<=[?&])(uploadId|upload_id|versionId|blockid)=[^&]*")


@dataclasses.dataclass(frozen=True)
class Request:
    """What a plan looks at: the method, the target (path and query), and the kind of request."""

    method: str
    target: str
    kind: str


@dataclasses.dataclass(frozen=True)
class Fault:
    """One way to fail, and the requests that do.

    A request must be one of `kinds` and of `methods`, where these are given, and `path` must be found in its target. Of
    the requests that match, in their order, those are hit that `first`, `at` and `rate` all allow.

    Attributes:
      action: What happens:
        `latency` The request goes on `seconds` later, and up to `jitter` seconds more.
        `slow` Bodies pass with `bytes_per_second`.
        `status` The proxy answers with `status`, and with Retry-After where `retry_after` (seconds) is given.
        `hang` No answer for `seconds`, then a reset; the store sees nothing.
        `reset_before` A reset; the store sees nothing.
        `reset_during` A reset of both sides after `size` bytes of the request's body.
        `reset_after` The store does what it was asked for, and a reset comes in place of its answer.
        `truncate` The answer ends after `size` bytes of its body, with the connection closed in order.
        `reset_body` The answer ends after `size` bytes of its body, with a reset.
        `shorten` The answer has the first `size` bytes of its body alone, and its Content-Length says so.
        `corrupt` One bit is wrong in the byte at `size` of the request's body, or of the answer's where that has none.
      size: Where the body has no more bytes than that, its last byte is meant; an answer with no body passes whole.
      first: Of the requests that match, only the first ones.
      at: Of the requests that match, only these, counted from 1.
      rate: The chance of each request.
    """

    action: Action
    kinds: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    path: str = ""
    rate: float = 1.0
    first: int | None = None
    at: tuple[int, ...] = ()
    status: int = 503
    retry_after: float | None = None
    seconds: float = 0.0
    jitter: float = 0.0
    size: int = 0
    bytes_per_second: int = 0

    def __post_init__(self) -> None:
        """Checks all values.

        Raises:
          ValueError: when one of them cannot be.
        """
        if self.action not in get_args(Action):
            raise ValueError(f"action must be one of {', '.join(get_args(Action))}, got {self.action!r}")
        if unknown := set(self.kinds) - set(KINDS):
            raise ValueError(f"kinds must be of {', '.join(KINDS)}, got {sorted(unknown)}")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"rate must be in 0 to 1, got {self.rate}")
        if self.action == "slow" and self.bytes_per_second < 1:
            raise ValueError(f"slow needs bytes_per_second >= 1, got {self.bytes_per_second}")
        re.compile(self.path)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """Of what `dataclasses.asdict` gives, after a way through JSON."""
        return cls(**{name: tuple(item) if isinstance(item, list) else item for name, item in value.items()})

    def matches(self, request: Request) -> bool:
        """Whether a request is one of those that it is about, whatever their order and chance."""
        if self.kinds and request.kind not in self.kinds:
            return False
        if self.methods and request.method not in self.methods:
            return False
        return re.search(self.path, request.target) is not None


class Plan:
    """Faults, and how many requests each of them has seen."""

    def __init__(self, seed: int = 0, faults: Sequence[Fault] = ()):
        self._seed, self._faults = seed, tuple(faults)
        self._matched = [0] * len(self._faults)
        self._asked: Counter[str] = Counter()

    def of(self, request: Request) -> list[Fault]:
        """The faults of the next request: all that hold it up, and at most one other."""
        name = f"{request.method} {_CHOSEN_BY_STORE.sub('', request.target)}"
        self._asked[name] += 1
        hit = [fault for number, fault in enumerate(self._faults) if self._is_hit(number, fault, request, name)]
        delays = [fault for fault in hit if fault.action in DELAYS]
        return delays + [fault for fault in hit if fault.action not in DELAYS][:1]

    def _is_hit(self, number: int, fault: Fault, request: Request, name: str) -> bool:
        if not fault.matches(request):
            return False
        self._matched[number] += 1
        nth = self._matched[number]
        if (fault.first is not None and nth > fault.first) or (fault.at and nth not in fault.at):
            return False
        return self._chance(number, name) < fault.rate

    def _chance(self, number: int, name: str) -> float:
        """In 0 to 1, of the n-th time that this is asked for."""
        digest = hashlib.sha256(f"{self._seed} {number} {name} {self._asked[name]}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64
