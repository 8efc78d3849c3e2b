"""Notes that a worker found, in a file for whoever runs the job."""

import contextlib
import dataclasses
import json
import uuid
from collections.abc import Iterable, Iterator

from penstock.io.files import stores
from penstock.io.files.folders import remove_folder
from penstock.io.reasons import Note


def write_notes(notes: Iterable[Note], path: str) -> None:
    """Writes what a worker found, for whoever runs the job."""
    text = json.dumps([dataclasses.asdict(note) for note in notes])
    with stores.create_file(path, "application/json") as file:
        file.write(text.encode())


def read_notes(path: str) -> tuple[Note, ...]:
    """Reads what `write_notes` has written."""
    with stores.open_file(path) as file:
        return tuple(Note(**fields) for fields in json.loads(file.read()))


@contextlib.contextmanager
def file_of_notes(beside: str) -> Iterator[str]:
    """The path of a file beside another path, in a folder that is removed at the end."""
    folder = f"{beside}.notes-{uuid.uuid4().hex[:8]}"
    try:
        yield stores.join(folder, "notes.json")
    finally:
        remove_folder(folder)
