"""Values as texts of a page: nothing in them is markup, and nothing in them is invisible."""

import json
import math
import re
from typing import Any

MAX_CHARACTERS = 200

# Characters that a reader cannot see, or that change the order of what is beside them: controls, the bidirectional ones
# of UAX #9, spaces without width, line separators, tags, and surrogates, which no file in UTF-8 can hold.
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_SHORT = {"\n": "⏎", "\t": "⇥"}

# What ends a script, begins a comment or is an entity, were it not escaped.
_MARKUP = {ord(character): f"\\u{ord(character):04x}" for character in "<>&'"}


def visible(text: str, limit: int = MAX_CHARACTERS) -> str:
    """Returns a text as a page shows it: what cannot be seen by its code point, cut after `limit` characters.

    >>> visible("a\\u202eb\\n")
    'a⟨U+202E⟩b⏎'
    >>> visible("")
    '⟨empty⟩'
    >>> visible("abcdef", limit=3)
    'abc… (6 characters)'
    """
    shown = _UNSEEN.sub(_named, text[:limit])
    if len(text) > limit:
        return f"{shown}… ({len(text):,} characters)"
    return shown or "⟨empty⟩"


def _named(found: re.Match[str]) -> str:
    return _SHORT.get(found[0], f"⟨U+{ord(found[0]):04X}⟩")


def number(value: float | None) -> str:
    """Returns a number for a reader: integers in full, others with 4 significant digits; `–` for None.

    `format.js` has the same rule, for the numbers that the script writes.

    >>> number(1234567), number(0.1 + 0.2), number(1234.56), number(1.5e-7), number(None)
    ('1,234,567', '0.3', '1,235', '1.5e-7', '–')
    >>> number(float("nan")), number(float("-inf"))
    ('NaN', '-∞')
    """
    if value is None:
        return "–"
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size < 1e15 and value == int(value):
        return f"{int(value):,}"
    if not 1e-4 <= size < 1e15:
        mantissa, _, exponent = f"{value:.3e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent):+d}"
    rounded = float(f"{value:.4g}")
    decimals = max(0, 3 - math.floor(math.log10(abs(rounded))))
    whole = f"{rounded:,.{decimals}f}"
    return whole.rstrip("0").rstrip(".") if "." in whole else whole


def share(part: float, whole: float) -> str:
    """Returns a part of a whole as percent; never 0 % or 100 % unless it is.

    >>> share(1, 3), share(0, 5), share(1, 1_000_000), share(999_999, 1_000_000), share(1, 0)
    ('33.3 %', '0 %', '<0.1 %', '>99.9 %', '–')
    """
    if not whole:
        return "–"
    percent = 100 * part / whole
    if part and percent < 0.1:
        return "<0.1 %"
    if part != whole and 99.9 < percent <= 100:
        return ">99.9 %"
    return f"{percent:.1f}".removesuffix(".0") + " %"


def script_json(value: Any) -> str:
    """Returns JSON in ASCII that is safe in a `script` element and between quotes: it has no `<`, `>`, `&` or `'`.

    Numbers that JSON lacks become the texts `NaN`, `Infinity` and `-Infinity`, which JavaScript's `Number` reads.
    """
    return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False).translate(_MARKUP)


def _finite(value: Any) -> Any:
    """Replaces numbers that JSON lacks, and shortens the others to what a page can show."""
    match value:
        case float() if math.isnan(value):
            return "NaN"
        case float() if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        case float():
            return int(value) if abs(value) < 1e15 and value == int(value) else float(f"{value:.6g}")
        case dict():
            return {key: _finite(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
    return value
