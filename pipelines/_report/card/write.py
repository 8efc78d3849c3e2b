"""Writes the card of a dataset that is published."""

import contextlib
import logging
from collections.abc import Iterator

import pyarrow as pa
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.dataset.layout import CARD, SCHEMA, TRANSFORM, Staging, lock_path
from penstock.io.dataset.load.dataset import load
from penstock.io.dataset.load.snippets import training_split
from penstock.io.dataset.manifest import Manifest
from penstock.io.dataset.spans.drop import publishing
from penstock.io.dataset.windowed.manifest import WindowManifest, read_manifests
from penstock.io.errors import ConfigError, DataError
from penstock.io.files import stores
from penstock.io.files.atomic.conditional import conditional_file
from penstock.io.schema import load_schema
from pipelines._report.card.text import MARKER, CardSource, card_text, sum_splits
from pipelines._report.crash import in_one_line

_LOGGER = logging.getLogger(__name__)

# Another run may publish, and write the card, while this one reads the manifest.
_MAX_ATTEMPTS = 5

# In a folder that tensorflow-transform wrote: the schema of what a graph computes.
_GRAPH_SCHEMA = ("transformed_metadata", "schema.pbtxt")


def write_card(output: str) -> None:
    """Writes `README.md` of what is published in a folder; nothing is raised, since the dataset is there without it.

    A README.md without the line `MARKER` is left as it is.
    """
    try:
        _write(output.rstrip("/"))
    except Exception as error:
        _LOGGER.warning("%s: is published, but its card %s could not be written: %s", output, CARD, in_one_line(error))


def _write(output: str) -> None:
    path = stores.join(output, CARD)
    with _staging(output) as staging:
        card = conditional_file(path, lock_path(output), staging.directory)
        for _ in range(_MAX_ATTEMPTS):
            before = card.read()
            if before is not None and MARKER.encode() not in before.content:
                _LOGGER.warning("%s: is not Penstock's, and is left as it is", path)
                return
            text = card_text(_source(output)).encode()
            if (before is not None and before.content == text) or card.write(text, before):
                return
    raise DataError("other runs have written it again and again meanwhile")


@contextlib.contextmanager
def _staging(output: str) -> Iterator[Staging]:
    """Where the card is staged; an object is written at once."""
    if stores.is_object(output):
        yield Staging.new(output)
    else:
        with publishing(output) as staging:
            yield staging


def _source(output: str) -> CardSource:
    manifests = list(read_manifests(output))
    if not manifests:
        raise DataError("nothing is published")
    splits = sum_splits(manifests)
    return CardSource(output, manifests, _schema(output, manifests[-1]), _columns(output, splits))


def _schema(output: str, manifest: Manifest | WindowManifest) -> schema_pb2.Schema | None:
    """The schema of the records: that of what a graph computes, where one was applied, else of the rows."""
    graph, rows = manifest.extra(TRANSFORM), manifest.extra(SCHEMA)
    if graph is not None:
        return load_schema(stores.join(output, graph, *_GRAPH_SCHEMA))
    return None if rows is None else load_schema(stores.join(output, rows))


def _columns(output: str, splits: dict[str, int]) -> pa.Schema | None:
    with contextlib.suppress(ConfigError, DataError):
        return load(output, training_split(list(splits))).schema
    return None
