"""Operations on times. A time is a text in ISO 8601, or an INT that counts a unit since 1970 (UTC).

Texts are `2026-01-31`, `2026-01-31T17:05` or `2026-01-31 17:05:09.25`; behind the hour and its parts may stand `Z` or
an offset such as `+01:00`. Without one they are UTC, and so are all parts. A row with another text is rejected, and one
with a time outside of the years 1 to 9999, such as milliseconds that were called seconds often are.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.io.schema import Kind
from penstock.transforms.features.operations.operation import KEY, TEXT, Operation, Parameter

# How many of each unit a second has; of the last, which a second has none of, 0.
UNITS: Mapping[str, int] = {"ns": 10**9, "us": 10**6, "ms": 10**3, "s": 1, "d": 0}

# The least value of each part and how many values it may have.
PARTS: Mapping[str, tuple[int, int]] = {
    "year": (1, 9999),
    "quarter": (1, 4),
    "month": (1, 12),
    "week": (1, 53),
    "day": (1, 31),
    "weekday": (0, 7),
    "day_of_year": (1, 366),
    "hour": (0, 24),
    "minute": (0, 60),
    "second": (0, 60),
}
CYCLES = tuple(part for part in PARTS if part != "year")

_UNIT_DOC = "what an INT counts since 1970: " + ", ".join(UNITS)


def _unit(doc: str, required: bool = False) -> dict[str, Parameter]:
    return {"unit": Parameter("choice", doc, choices=tuple(UNITS), required=required)}


def _check_unit(kinds: Sequence[Kind], arguments: Mapping[str, Any]) -> str | None:
    if kinds[0] is Kind.INT and "unit" not in arguments:
        return f"needs the argument unit ({', '.join(UNITS)}), as its input is INT"
    if kinds[0] is Kind.BYTES and "unit" in arguments:
        return "takes no unit, as its input is a text"
    return None


def _part(doc: str, parts: Sequence[str]) -> dict[str, Parameter]:
    return {"part": Parameter("choice", doc, choices=tuple(parts), required=True)}


_TIME_PART = Operation(
    "time_part",
    "a part of the time; weekday is 0 (Monday) to 6, week is that of ISO 8601",
    KEY,
    Kind.INT,
    parameters=_part(", ".join(PARTS), tuple(PARTS)) | _unit(_UNIT_DOC),
    main="part",
    check=_check_unit,
)


def _wave(name: str) -> Operation:
    return dataclasses.replace(
        _TIME_PART,
        name=f"time_{name}",
        doc=f"{name}(2π (part - least) / values) of a part, such as of 7 weekdays: what is near in time is near",
        gives=Kind.FLOAT,
        parameters=_part(", ".join(CYCLES), CYCLES) | _unit(_UNIT_DOC),
    )


TIMES = (
    Operation(
        "parse_time",
        "the time that the text spells, as an INT since 1970; smaller parts are cut",
        TEXT,
        Kind.INT,
        parameters=_unit("what the INT counts: " + ", ".join(UNITS), required=True),
        main="unit",
    ),
    _TIME_PART,
    _wave("sin"),
    _wave("cos"),
    Operation(
        "days_since",
        "days, with fractions, from the second time to the first; below 0 where the first is earlier",
        KEY,
        Kind.FLOAT,
        parameters={"time": Parameter("time", "the second time, for all rows, in ISO 8601")} | _unit(_UNIT_DOC),
        main="time",
        max_inputs=2,
        second="time",
        shape="items",
        check=_check_unit,
    ),
)
