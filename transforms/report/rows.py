"""What became of rows: from a manifest, and examples of those that were rejected."""

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from penstock.io.dataset.manifest import ManifestFile, sum_counts
from penstock.io.dead_letters.record import DeadLetter
from penstock.io.errors import ConfigError
from penstock.transforms.report.text import visible

_EXAMPLES = 3
_MAX_PAYLOAD = 1_000

_LETTER_FIELDS = frozenset({"reason", "detail", "also", "stage", "uri", "position", "payload"})

Letter = DeadLetter | Mapping[str, Any]


class Example(NamedTuple):
    """One rejected row: what is wrong, where it was read, and what it holds, all of it as it is shown."""

    detail: str
    where: str
    also: tuple[str, ...]
    payload: str


class Rejects(NamedTuple):
    """Rows that were rejected for one reason, with the first examples."""

    reason: str
    rows: int
    examples: tuple[Example, ...]


@dataclasses.dataclass(frozen=True)
class Rows:
    """What became of all rows. `rows_in` is None without a manifest, which alone can tell."""

    rows_in: int | None
    rows_out: int | None
    rejected: int
    splits: Mapping[str, int]
    stages: Mapping[str, int]
    rejects: tuple[Rejects, ...]
    notes: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]


def rows_of(manifest: ManifestFile | Mapping[str, Any] | None, letters: Iterable[Letter]) -> Rows | None:
    """Gathers what a manifest counts, and examples from dead letters; None if there are neither.

    Counts come from the manifest. Without one, they are those of the letters that are given.

    Raises:
      ConfigError: for something that is no manifest or no dead letter.
    """
    examples, counts, stages, total = _gather(letters)
    if manifest is None and not total:
        return None
    fields = _fields(manifest)
    by_reason = fields.get("rejected_by_reason", counts)
    return Rows(
        rows_in=fields.get("rows_in"),
        rows_out=fields.get("rows_out"),
        rejected=fields.get("rows_rejected", total),
        splits={visible(name): rows for name, rows in fields.get("splits", {}).items()},
        stages={visible(name): rows for name, rows in fields.get("rejected_by_stage", stages).items()},
        rejects=tuple(
            Rejects(visible(reason), rows, tuple(examples.get(reason, ())))
            for reason, rows in sorted(by_reason.items(), key=lambda item: (-item[1], item[0]))
        ),
        notes=tuple(_notes(fields.get("notes", ()))),
        facts=tuple(_facts(fields)),
    )


def _fields(manifest: ManifestFile | Mapping[str, Any] | None) -> Mapping[str, Any]:
    match manifest:
        case None:
            return {}
        case Mapping():
            fields = manifest
        case ManifestFile():
            fields = dataclasses.asdict(manifest)  # type: ignore[call-overload]
        case _:
            raise ConfigError(
                f"manifest must be a Manifest, a WindowManifest or their JSON as a dict, got {manifest!r}"
            )
    if missing := [name for name in ("rows_in", "rows_out", "rows_rejected") if name not in fields]:
        raise ConfigError(f"manifest must have rows_in, rows_out and rows_rejected; it lacks {', '.join(missing)}")
    return fields


def _gather(letters: Iterable[Letter]) -> tuple[dict[str, list[Example]], dict[str, int], dict[str, int], int]:
    """Examples and counts by reason, counts by stage, and how many letters there are; a stream of them is read once."""
    examples: dict[str, list[Example]] = {}
    counts: dict[str, int] = {}
    stages: dict[str, int] = {}
    total = 0
    for total, letter in enumerate(letters, 1):  # noqa: B007
        fields = _letter(letter)
        first = (fields["reason"], fields["detail"])
        others = [(other["reason"], other["detail"]) for other in fields["also"]]
        stages[fields["stage"]] = stages.get(fields["stage"], 0) + 1
        for reason in dict.fromkeys(code for code, _ in (first, *others)):
            counts[reason] = counts.get(reason, 0) + 1
        for reason, detail in (first, *others):
            kept = examples.setdefault(reason, [])
            if len(kept) < _EXAMPLES:
                also = [f"{code}: {text}" for code, text in (first, *others) if (code, text) != (reason, detail)]
                kept.append(_example(detail, fields, also))
    return examples, sum_counts([counts]), sum_counts([stages]), total


def _letter(letter: Letter) -> Mapping[str, Any]:
    fields = json.loads(letter.to_json()) if isinstance(letter, DeadLetter) else letter
    if not isinstance(fields, Mapping) or not fields.keys() >= _LETTER_FIELDS:
        raise ConfigError(f"a dead letter must be a DeadLetter, or its JSON as a dict, got {letter!r}")
    return fields


def _example(detail: str, fields: Mapping[str, Any], also: Iterable[str]) -> Example:
    suffix = " (base64)" if fields.get("payload_encoding") == "base64" else ""
    return Example(
        visible(str(detail), _MAX_PAYLOAD),
        visible(f"{fields['uri']}:{fields['position']}"),
        tuple(visible(text) for text in itertools.islice(also, _EXAMPLES)),
        visible(str(fields["payload"]), _MAX_PAYLOAD) + suffix,
    )


def _notes(notes: Iterable[Any]) -> Iterable[tuple[str, str]]:
    for note in notes:
        fields = note if isinstance(note, Mapping) else dataclasses.asdict(note)
        text = f"{fields['subject']}, {fields['count']:,} times: {fields['detail']}"
        yield visible(fields["code"]), visible(text, _MAX_PAYLOAD)


def _facts(fields: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """What else tells where the dataset comes from."""
    for name in ("dataset_id", "run_id", "created", "window", "status", "format", "compression", "shuffle", "seed"):
        if name in fields:
            value = fields[name]
            yield name, visible(" to ".join(value) if isinstance(value, tuple | list) else str(value))
    for name, value in (fields.get("provenance") or {}).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        yield visible(str(name)), visible(text, _MAX_PAYLOAD)
