"""Says why rows were rejected in a pass that keeps no dead letters: how many for which reason, and one row of each."""

import collections
import contextlib
import dataclasses
import json
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Self

import apache_beam as beam

from penstock.io.dead_letters.handler import BatchErrorHandler, rejected_batch
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch
from penstock.io.errors import InputError
from penstock.io.files import stores
from penstock.io.files.folders import list_files, remove_folder
from penstock.io.files.inputs import open_decompressed, stat_file
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from penstock.io.reasons import codes_of

# What a message shows: so many reasons, so many characters of a row and of a detail.
_MAX_REASONS = 3
_MAX_TEXT = 80
_MAX_DETAIL = 300

# How much of the dead letters on disk is read for it.
_MAX_FILES = 16
_MAX_READ_BYTES = 1 << 20

# A line further back in its file is not counted.
_MAX_COUNTED_BYTES = 64 << 20


@dataclasses.dataclass(frozen=True)
class FirstRejects:
    """What is known of some rejected rows.

    Attributes:
      rows: their number.
      reasons: rows by reason code.
      letters: for each code the dead letter that is first by uri and position.
    """

    rows: int = 0
    reasons: Mapping[str, int] = dataclasses.field(default_factory=dict)
    letters: Mapping[str, DeadLetter] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, letters: RejectedBatch | Iterable[DeadLetter]) -> Self:
        """Summarizes dead letters."""
        rows, reasons, first = 0, collections.Counter[str](), dict[str, DeadLetter]()
        for letter in letters:
            rows += 1
            for code in codes_of(letter.reasons):
                reasons[code] += 1
                first[code] = min(first.get(code, letter), letter, key=_place)
        return cls(rows, reasons, first)

    def merge(self, other: "FirstRejects") -> "FirstRejects":
        """Summarizes the rows of both."""
        codes = dict.fromkeys([*self.letters, *other.letters])
        found = {code: [part.letters[code] for part in (self, other) if code in part.letters] for code in codes}
        return FirstRejects(
            self.rows + other.rows,
            collections.Counter(self.reasons) + collections.Counter(other.reasons),
            {code: min(letters, key=_place) for code, letters in found.items()},
        )

    def examples(self, files: Collection[str] = ()) -> str:
        """Names the most frequent reasons, each with the first row that it rejected.

        `files` are URIs of files that may be opened to count the lines before a row: a dead letter that is replayed
        may name any file.
        """
        ranked = sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))
        texts = [f"{rows:,} for {code}{self._example(code, files)}" for code, rows in ranked[:_MAX_REASONS]]
        more = [f"{len(ranked) - _MAX_REASONS} more reasons"] if len(ranked) > _MAX_REASONS else []
        return ", ".join([*texts, *more])

    def _example(self, code: str, files: Collection[str]) -> str:
        if code not in self.letters:
            return ""
        letter = self.letters[code]
        detail = next(reason.detail for reason in letter.reasons if reason.code == code)
        return f" ({_where(letter, files)}: {_cut(detail, _MAX_DETAIL)}: {_cut(letter.payload, _MAX_TEXT)!r})"

    def to_json(self) -> str:
        """Returns a JSON object."""
        letters = {code: letter.to_json() for code, letter in self.letters.items()}
        return json.dumps({"rows": self.rows, "reasons": self.reasons, "letters": letters})

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Inverts `to_json`."""
        fields = json.loads(text)
        letters = {code: DeadLetter.from_json(line) for code, line in fields["letters"].items()}
        return cls(fields["rows"], fields["reasons"], letters)


def _place(letter: DeadLetter) -> tuple[str, int]:
    return letter.uri, letter.position


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[:size] + "..."


def _where(letter: DeadLetter, files: Collection[str]) -> str:
    """Names the file and the number of the line; the position of a row that is no line, or of none of the files."""
    line = line_number(letter) if letter.uri in files else None
    return f"{letter.uri}, line {line}" if line else f"{letter.uri} at {letter.position}"


def read_first(directory: str) -> FirstRejects:
    """Summarizes the beginning of the dead letters that lie in a folder."""
    names = sorted(name for name in list_files(directory) if name.endswith(".jsonl") and "/" not in name)
    found = FirstRejects()
    for name in names[:_MAX_FILES]:
        with stores.open_file(stores.join(directory, name)) as file:
            lines = file.read(_MAX_READ_BYTES).splitlines(keepends=True)
        found = found.merge(FirstRejects.of(DeadLetter.from_json(line) for line in lines if line.endswith(b"\n")))
    return found


def line_number(letter: DeadLetter) -> int | None:
    """Counts the lines up to that of a dead letter; None if its position is not where its line begins in a file.

    A position has the unit of its source. It is one of bytes if the payload stands there.
    """
    if letter.payload_encoding != "text" or not 0 <= letter.position <= _MAX_COUNTED_BYTES:
        return None
    line = letter.payload.encode()
    try:
        with open_decompressed(stat_file(letter.uri)) as stream:
            before = stream.read(letter.position)
            return before.count(b"\n") + 1 if stream.read(len(line)) == line else None
    except (InputError, OSError, ValueError):
        return None


class FirstRejectsHandler(BatchErrorHandler):
    """Drops rejected rows, for a pass over input whose rejects another pass records, and keeps their `FirstRejects`.

    Each bundle that has rejects leaves a small file in `directory`, which all workers can reach. A bundle that a runner
    tries again counts twice.
    """

    def __init__(self, directory: str):
        super().__init__(consumer=None)
        self._directory = directory

    def add_error_pcollection(self, pcoll: beam.PCollection[Any]) -> None:
        """Takes the rejects of one step."""
        steps = len(pcoll.producer.parts) if pcoll.producer else 0
        _ = pcoll | f"FirstRejects{steps}" >> beam.ParDo(_FirstRejectsFn(self._directory)).with_output_types(Any)

    def found(self) -> FirstRejects:
        """Returns what the bundles that have ended found."""
        found = FirstRejects()
        for name in sorted(list_files(self._directory)):
            with stores.open_file(stores.join(self._directory, name)) as file:
                found = found.merge(FirstRejects.from_json(file.read()))
        return found


class _FirstRejectsFn(beam.DoFn):
    def __init__(self, directory: str):
        self._directory = directory

    def start_bundle(self) -> None:
        self._found = FirstRejects()

    def process(self, element: RejectedBatch | DeadLetter) -> None:
        self._found = self._found.merge(FirstRejects.of(rejected_batch(element)))

    def finish_bundle(self) -> None:
        if self._found.rows:
            path = stores.join(self._directory, f"{uuid.uuid4().hex}.json")
            with (
                writing(path, OUTPUT_REMEDY),
                stores.create_file(path, "application/json") as file,
            ):
                file.write(self._found.to_json().encode())


@contextlib.contextmanager
def first_rejects(beside: str) -> Iterator[FirstRejectsHandler]:
    """Makes a handler that writes into a folder beside a path; the folder is removed at the end."""
    directory = f"{beside}.rejects-{uuid.uuid4().hex[:8]}"
    try:
        yield FirstRejectsHandler(directory)
    finally:
        remove_folder(directory)
