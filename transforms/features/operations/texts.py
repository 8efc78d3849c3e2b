"""Operations on texts. Patterns are regular expressions of RE2."""

import dataclasses
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.schema import Kind
from penstock.transforms.features.operations.operation import INT, TEXT, Operation, Parameter


def _fits_pattern(pattern: str, rewrite: str) -> bool:
    """Whether RE2 can rewrite the matches of a pattern so: it has the groups that are named."""
    try:
        pc.replace_substring_regex(pa.array([""]), pattern, rewrite)
    except pa.ArrowInvalid:
        return False
    return True


def _parse_replace(arguments: dict[str, Any]) -> dict[str, Any]:
    pattern, rewrite = arguments["pattern"], arguments["rewrite"]
    if not _fits_pattern(pattern, rewrite):
        raise ValueError(
            f"rewrite {rewrite!r} does not fit the pattern {pattern!r}: it names a group that is not there"
        )
    return arguments


def _parse_extract(arguments: dict[str, Any]) -> dict[str, Any]:
    pattern, group = arguments["pattern"], arguments.get("group", 0)
    if not _fits_pattern(pattern, rf"\{group}"):
        raise ValueError(f"the pattern {pattern!r} has no group {group}")
    return arguments


_PATTERN = {"pattern": Parameter("pattern", "a regular expression", required=True)}
_SEPARATOR = {"separator": Parameter("text", "what stands between two")}

_NGRAMS = Operation(
    "ngrams",
    "the n-grams of a list of tokens",
    TEXT,
    on_values=False,
    parameters={
        "ngram_range": Parameter("ngram range", "the least and the greatest n", required=True),
        "separator": Parameter("text", "what stands between two tokens (a space by default)"),
    },
    main="ngram_range",
    shape="list",
)

TEXTS = (
    Operation("lower", "in small letters", TEXT),
    Operation("upper", "in capital letters", TEXT),
    Operation("strip", "without white space at both ends", TEXT),
    Operation("length", "how many characters; bytes that are not UTF-8 count one each", TEXT, Kind.INT),
    Operation(
        "substr",
        "a part of the text, by characters; what lies outside of the text is empty",
        TEXT,
        parameters={
            "start": Parameter("int", "the first character, 0 by default; below 0, from the end"),
            "length": Parameter("int", "at most so many characters (all by default)", minimum=0),
        },
    ),
    Operation("as_string", "the digits of the number", INT, Kind.BYTES),
    Operation(
        "to_number",
        "the number that the text spells; any other text rejects its row",
        TEXT,
        parameters={"to": Parameter("number type", "int or float", required=True)},
        main="to",
    ),
    Operation(
        "regex_replace",
        "each match is replaced",
        TEXT,
        parameters=_PATTERN
        | {"rewrite": Parameter("text", r"what comes instead; \1 to \9 are groups of the match", required=True)},
        parse=_parse_replace,
    ),
    Operation(
        "regex_full_match",
        "1 where all of the text matches, else 0",
        TEXT,
        Kind.INT,
        parameters=_PATTERN,
        main="pattern",
    ),
    Operation(
        "regex_extract",
        "the first match, or a group of it; missing where nothing matches",
        TEXT,
        on_values=False,
        parameters=_PATTERN
        | {"group": Parameter("int", "the group; 0, the whole match, by default", minimum=0, maximum=8)},
        main="pattern",
        drops=True,
        parse=_parse_extract,
    ),
    Operation(
        "join",
        "the texts of all inputs, one behind the other",
        TEXT,
        parameters=_SEPARATOR,
        main="separator",
        min_inputs=2,
        max_inputs=16,
        shape="items",
    ),
    Operation(
        "split",
        "the pieces between the separators; without one, between white space",
        TEXT,
        on_values=False,
        parameters=_SEPARATOR,
        main="separator",
        shape="split",
    ),
    _NGRAMS,
    dataclasses.replace(_NGRAMS, name="bag_of_words", doc="the distinct n-grams of a list of tokens"),
    Operation(
        "hash_strings",
        "a hash of the text, 0 to hash_buckets - 1",
        TEXT,
        Kind.INT,
        on_values=False,
        parameters={"hash_buckets": Parameter("int", "how many numbers", required=True, minimum=1)},
        main="hash_buckets",
    ),
)
