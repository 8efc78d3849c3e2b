"""Parses JSON texts that repeat most of each other, as the versions of a dataset do."""

import json
from collections.abc import Iterator
from typing import Any

# Where an object of a list begins and ends, if the list is a field of the text and `json.dumps(indent=2)` wrote it. No
# string has a line break in it, so a text that can be parsed in pieces is what the pieces are.
_BEGIN = "\n    {\n"
_END = "\n    }"
_PLACE = "NaN"


class SharedParts:
    """Parses one text after another; an object that was in an earlier one is not parsed again, and is the same object.

    So a text costs little more than what is new in it. A text that was written in another way is parsed as a whole.
    """

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def parse(self, text: str) -> Any:
        """Returns what `json.loads` does; the caller must not change it.

        Raises:
          ValueError: if the text is no JSON.
        """
        if _BEGIN not in text or _PLACE in text:
            return json.loads(text)
        try:
            return self._parse(text)
        except ValueError:
            return json.loads(text)

    def _parse(self, text: str) -> Any:
        head, *items = text.split(_BEGIN)
        pieces, parts = [head], []
        for item in items:
            body, _, rest = item.partition(_END)
            part = self._known.get(body)
            if part is None:
                part = self._known[body] = json.loads(f"{{{body}}}")
            parts.append(part)
            pieces += (_PLACE, rest)
        following = iter(parts)
        return json.loads("".join(pieces), parse_constant=lambda name: _constant(name, following))


def _constant(name: str, following: Iterator[Any]) -> Any:
    return next(following) if name == _PLACE else float(name)
