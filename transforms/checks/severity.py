"""What becomes of a row that breaks the schema: it is rejected, or it passes and is counted.

What no record can hold rejects the row in any case: a value of another type, a null inside a list, a number beyond
int64 or float32.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Self, get_args

from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError
from penstock.io.schema import schema_features
from penstock.transforms._named import SchemaMode

# Reasons that may only warn, without `schema.`: each leaves values that a record can hold.
REASONS = ("presence", "value_count", "nan", "infinity", "domain", "parts")

_KEPT_OUT = ("type", "null_in_list", "int_overflow", "float_overflow")

_ANY_FEATURE = "*"


@dataclasses.dataclass(frozen=True)
class SchemaSeverity:
    """Which faults reject a row.

    Attributes:
      mode: `enforce`: all of them. `warn`: none that leaves values that can be encoded; such rows pass and are counted.
        `off`: none of these is looked for.
      warn: what only warns under `enforce`: `company.presence` for a feature (or a view) and a reason, `company` for
        all reasons of it, `*.domain` for a reason wherever it occurs.

    Raises:
      ConfigError: for another mode, or `warn` where no fault rejects.
    """

    mode: SchemaMode = "enforce"
    warn: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.mode not in get_args(SchemaMode):
            raise ConfigError(f"schema_mode must be one of {', '.join(get_args(SchemaMode))}, got {self.mode!r}")
        if self.warn and self.mode != "enforce":
            why = "checks nothing" if self.mode == "off" else "lets all of the schema warn"
            raise ConfigError(
                f"schema_mode {self.mode} {why}: leave schema_warn out, or enforce the rest of the schema"
            )

    @classmethod
    def of_options(cls, options: Mapping[str, object]) -> Self:
        """Returns what a manifest says of the run that wrote it (`provenance.options`)."""
        mode, warn = options.get("schema_mode"), options.get("schema_warn")
        return cls(
            mode if mode in ("warn", "off") else "enforce",
            tuple(map(str, warn)) if isinstance(warn, list | tuple) else (),
        )

    def warnings(self, schema: schema_pb2.Schema) -> frozenset[tuple[str, str]]:
        """Returns what only warns, as (feature, struct or view; reason code); under `off` nothing does.

        Raises:
          ConfigError: when `warn` names what the schema does not have, or a reason that rejects in any case. The
            message has the nearest name.
        """
        names = _names(schema)
        if self.mode == "warn":
            return _pairs(names, REASONS)
        return frozenset(pair for item in self.warn for pair in _resolved(item, names))


def _names(schema: schema_pb2.Schema) -> list[str]:
    """Returns the names of the features that are read, of the structs around them, and of views."""
    features = [feature.name for feature in schema_features(schema)]
    structs = [name[:end] for name in features for end in range(len(name)) if name[end] == "."]
    views = [view.name for view in (*schema.sparse_feature, *schema.weighted_feature)]
    return list(dict.fromkeys([*features, *structs, *views]))


def _pairs(names: Iterable[str], reasons: Iterable[str]) -> frozenset[tuple[str, str]]:
    reasons = tuple(reasons)
    return frozenset((name, f"schema.{reason}") for name in names for reason in reasons)


def _resolved(item: str, names: Sequence[str]) -> frozenset[tuple[str, str]]:
    """Returns the pairs that an entry of `schema_warn` means."""
    if item in names:
        return _pairs([item], REASONS)
    name, _, reason = item.rpartition(".")
    reason = reason if name else ""
    if name not in names and name != _ANY_FEATURE:
        raise _unknown_feature(item, name, reason, names)
    if reason in _KEPT_OUT:
        raise ConfigError(
            f"schema_warn {item!r}: {reason} cannot only warn, since no record holds such a value; the reasons that "
            f"can are {', '.join(REASONS)}"
        )
    if reason not in REASONS:
        raise ConfigError(
            f"schema_warn {item!r}: {reason!r} is no reason of the schema; {_nearest(reason, REASONS)}"
            f"the reasons are {', '.join(REASONS)}"
        )
    return _pairs(names if name == _ANY_FEATURE else [name], [reason])


def _unknown_feature(item: str, name: str, reason: str, names: Sequence[str]) -> ConfigError:
    feature = name if reason in (*REASONS, *_KEPT_OUT) else item
    hint = _nearest(feature, names) or (_nearest(name, names) if name else "")
    return ConfigError(
        f"schema_warn {item!r}: {feature!r} is not a feature of the schema; {hint}write FEATURE, FEATURE.REASON or "
        f"*.REASON; the features are {', '.join(names)}"
    )


def _nearest(name: str, known: Sequence[str]) -> str:
    found = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {found[0]!r}? " if found else ""
