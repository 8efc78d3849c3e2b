r"""What both forms of the kernel's statistics share: the seed of hashes, and the grammar of patterns in texts.

A text has at most one pattern, the first of these that it matches as a whole:

==========  =======================================================================================================
pattern     texts
==========  =======================================================================================================
empty       the empty text
whitespace  spaces, tabs, line breaks, form feeds
integer     digits, with a sign or without: `42` `-7` `+5` `007`
number      decimal numbers with a point or an exponent: `1.5` `.5` `5.` `-2e-7`
date        `2024-02-29` `2024/02/29`; `29.02.2024` `2/29/2024` `29-2-2024`, where either may be the month
datetime    a date that begins with its year, `T` or a space, `HH:MM`, `HH:MM:SS` or `HH:MM:SS.fff` (1 to 9 digits, or
            with a comma), and a zone or none: `Z` `z` `+01:00` `-0500`
uuid        32 hexadecimal digits as 8-4-4-4-12
ip          IPv4 with four numbers up to 255 without leading zeros; IPv6 without IPv4 inside, zone or prefix
email       a dot-atom of RFC 5322, `@`, and a host name of two labels or more
url         a scheme of RFC 3986, `://`, and something without spaces and control characters
json        an object or an array by its ends: `{` before `"` or the last `}`; `[` before what can begin a value or the
            last `]`; spaces at the ends or behind the bracket. What is between is not parsed
==========  =======================================================================================================

Dates are told by their form: months are 1 to 12 where the year is first, days are 1 to 31, so `2024-02-31` is one.
A text that is no UTF-8 has no pattern; it is counted as such.
"""

# XXH64 of texts has this seed, which no other use of XXH64 in Penstock has; hashes of numbers have it too.
SEED = 0x7E57_AB1E_5EED_0F15
# Turns the bits of integers that no float is equal to, before they are hashed.
INEXACT_SEED = 0x1DEA_5EED_0DDB_A115

# Whether the different ones of n values are worth counting is told by the first so many: about SAMPLE^2 / 2d of these
# are there again if d of the n differ.
SAMPLE = 1024
# Each different value must be there so often, on average: the less that takes which is then done once for each.
TIMES_OF_TEXTS = 2
TIMES_OF_NUMBERS = 8
# Integers that lie in a range of at most so many, and at most twice as many as there are, are always counted.
NEAR = 1 << 17


def least_repeated(rows: int, times: int) -> int:
    """Returns how many of the first SAMPLE values must be there again for all of them to be counted.

    >>> least_repeated(1024, 8), least_repeated(2000, 8), least_repeated(32768, 8)
    (0, 768, 128)
    """
    return min(times * SAMPLE * SAMPLE // (2 * rows), 3 * SAMPLE // 4) if rows > SAMPLE else 0


# Texts with fewer characters are counted by `describe_texts` in an array.
SHORT = 1024

# What `describe_texts` counts where a text has no pattern, or is no UTF-8; otherwise 1 + the index in PATTERNS.
NO_PATTERN = 0
INVALID_UTF8 = 255

_DAY = "(?:0[1-9]|[12][0-9]|3[01])"
_SHORT_DAY = "(?:0?[1-9]|[12][0-9]|3[01])"
_MONTH = "(?:0[1-9]|1[0-2])"
_YEAR_FIRST = f"[0-9]{{4}}(?:-{_MONTH}-|/{_MONTH}/){_DAY}"
_YEAR_LAST = "|".join(rf"{_SHORT_DAY}\{sign}{_SHORT_DAY}\{sign}[0-9]{{4}}" for sign in "./-")
_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::(?:[0-5][0-9]|60)(?:[.,][0-9]{1,9})?)?"
_ZONE = "(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):?[0-5][0-9])"
_HEX = "[0-9A-Fa-f]"
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_GROUP = f"{_HEX}{{1,4}}"
# Eight groups, or up to seven of them around one `::`.
_IPV6 = "|".join(
    [
        f"(?:{_GROUP}:){{7}}{_GROUP}",
        f"(?:{_GROUP}:){{1,7}}:",
        f":(?::{_GROUP}){{1,7}}",
        "::",
        *(f"(?:{_GROUP}:){{1,{7 - right}}}(?::{_GROUP}){{1,{right}}}" for right in range(1, 7)),
    ]
)
_ATOM = r"[0-9A-Za-z!#$%&'*+/=?^_`{|}~-]+"
_LABEL = "[0-9A-Za-z](?:[0-9A-Za-z-]*[0-9A-Za-z])?"
_SPACES = r"[ \t\n\r]*"

# By name, in the order of precedence; Python's re.fullmatch and RE2 read them the same way.
PATTERNS = {
    "empty": "",
    "whitespace": r"[ \t\n\r\v\f]+",
    "integer": "[+-]?[0-9]+",
    "number": r"[+-]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+)?",
    "date": f"{_YEAR_FIRST}|{_YEAR_LAST}",
    "datetime": f"{_YEAR_FIRST}[T ]{_CLOCK}{_ZONE}?",
    "uuid": f"{_HEX}{{8}}(?:-{_HEX}{{4}}){{3}}-{_HEX}{{12}}",
    "ip": rf"{_OCTET}(?:\.{_OCTET}){{3}}|{_IPV6}",
    "email": rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+",
    "url": r"[A-Za-z][0-9A-Za-z+.-]*://[^\x00-\x20\x7f]+",
    "json": rf'{_SPACES}(?:\{{{_SPACES}(?:"(?s:.*))?\}}|\[{_SPACES}(?:[\[{{"0-9tfn-](?s:.*))?\]){_SPACES}',
}
