"""The text of a card. It follows from manifests and schema alone: the same dataset has the same card, byte by byte."""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import yaml
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.dataset.layout import DEAD_LETTERS, MANIFEST, SCHEMA, STATISTICS, TRANSFORM, WINDOWS
from penstock.io.dataset.load.snippets import Library, snippet, training_split
from penstock.io.dataset.manifest import Manifest, sum_counts
from penstock.io.dataset.windowed.manifest import WindowManifest
from penstock.io.files.sizes import byte_text
from pipelines._report.card.columns import column_rows
from pipelines._report.card.hub import front_matter
from pipelines._report.printable import mapped, masked, printable

# A README.md with this line is Penstock's, and is written anew with each publication; another one is never touched.
MARKER = "<!-- Written by penstock with each publication; without this line it is left as it is. -->"

_LIBRARIES: Mapping[Library, str] = {"torch": "PyTorch", "tf_data": "TensorFlow", "numpy": "numpy"}

# So many are named; the manifest has all.
_MAX_INPUTS = 10
_MAX_SPANS = 20


@dataclasses.dataclass(frozen=True)
class CardSource:
    """What a card is made of.

    Attributes:
      output: the folder, as the job was given it.
      manifests: that of a dataset that is one, or those of its windows in the order of time.
      schema: of the columns; None where the dataset has none.
      columns: as a loader has them; None where they cannot be found out.
    """

    output: str
    manifests: Sequence[Manifest | WindowManifest]
    schema: schema_pb2.Schema | None
    columns: pa.Schema | None


def card_text(source: CardSource) -> str:
    """Returns the card, Markdown."""
    last = source.manifests[-1]
    splits = sum_splits(source.manifests)
    shards = [shard for manifest in source.manifests for shard in manifest.shards]
    is_whole = isinstance(last, Manifest)
    sections = [
        MARKER,
        _head(source, sum(splits.values())),
        "## Splits\n\n" + _splits(source, splits),
        _columns(source.schema, last),
        _rejects(source.manifests),
        _spans(last) if isinstance(last, Manifest) else "",
        _loading(source, splits),
        _made(last),
        _files(last),
    ]
    metadata = front_matter(last.format, splits, shards) if is_whole else ""
    return metadata + "\n\n".join(filter(None, sections)) + "\n"


def sum_splits(manifests: Iterable[Manifest | WindowManifest]) -> dict[str, int]:
    """Returns the rows of each split over all manifests, in the order of the options."""
    rows: dict[str, int] = {}
    for manifest in manifests:
        for split, count in manifest.splits.items():
            rows[split] = rows.get(split, 0) + count
    return rows


def _head(source: CardSource, rows: int) -> str:
    last = source.manifests[-1]
    name = printable(source.output.rstrip("/").rpartition("/")[2])
    told = f"A dataset of {rows:,} rows, in shards of the format `{last.format}` with compression `{last.compression}`."
    if isinstance(last, Manifest):
        told += f" This is version {last.dataset_version}, with the id `{last.dataset_id}`."
    else:
        told += f" It has {len(source.manifests):,} windows, the newest from {last.window[0]} to {last.window[1]}."
    return f"# {_escaped(name)}\n\n{told}"


def _splits(source: CardSource, splits: Mapping[str, int]) -> str:
    own = {split: [0, 0] for split in splits}
    for manifest in source.manifests:
        for shard in manifest.shards:
            own[shard.split][0] += 1
            own[shard.split][1] += shard.bytes
    return _table(
        ("split", "rows", "shards", "bytes"),
        [(split, f"{rows:,}", f"{own[split][0]:,}", byte_text(own[split][1])) for split, rows in splits.items()],
    )


def _columns(schema: schema_pb2.Schema | None, manifest: Manifest | WindowManifest) -> str:
    if schema is None:
        return ""
    computed = "They are computed by the graph in `transform`." if manifest.extra(TRANSFORM) else ""
    made = _table(("column", "kind", "values in a row", "what it is"), column_rows(schema))
    return "\n\n".join(filter(None, ("## Columns", computed, made)))


def _rejects(manifests: Sequence[Manifest | WindowManifest]) -> str:
    rows_in, rejected = (sum(getattr(one, name) for one in manifests) for name in ("rows_in", "rows_rejected"))
    told = f"## Rejected rows\n\n{rejected:,} of {rows_in:,} rows were rejected."
    if not rejected:
        return told
    reasons = sum_counts(one.rejected_by_reason for one in manifests).items()
    ranked = sorted(reasons, key=lambda item: (-item[1], item[0]))
    made = _table(("reason (a row may have several)", "rows"), [(reason, f"{rows:,}") for reason, rows in ranked])
    return f"{told} They are in `{DEAD_LETTERS}`, each with its reasons.\n\n{made}"


def _spans(manifest: Manifest) -> str:
    if not manifest.spans:
        return ""
    shown = manifest.spans[-_MAX_SPANS:]
    more = f"\n\n{len(manifest.spans) - _MAX_SPANS:,} earlier ones are in `{MANIFEST}`." * (
        len(shown) < len(manifest.spans)
    )
    rows = [(one.name, one.date, f"{one.rows_out:,}", f"{one.rows_rejected:,}") for one in shown]
    return f"## Spans\n\n{_table(('span', 'date', 'rows', 'rejected'), rows)}{more}"


def _loading(source: CardSource, splits: Mapping[str, int]) -> str:
    if source.columns is None or not splits:
        return ""
    split = training_split(list(splits))
    parts = ["## How to load it"]
    for library, name in _LIBRARIES.items():
        lines = snippet(masked(source.output), split, source.columns, library)
        parts.append(f"With {name}:\n\n{_code('python', map(printable, lines))}")
    return "\n\n".join(parts)


def _made(manifest: Manifest | WindowManifest) -> str:
    provenance: Mapping[str, Any] = mapped(dict(manifest.provenance), masked)
    options = {
        name: value
        for name, value in provenance.get("options", {}).items()
        if not (value is None or value is False or value == [])
    }
    inputs = [str(one.get("uri", "")) for one in provenance.get("inputs", ())]
    parts = []
    if inputs:
        more = f"\n- and {len(inputs) - _MAX_INPUTS:,} more" if len(inputs) > _MAX_INPUTS else ""
        parts.append("Of these inputs:\n\n" + "\n".join(f"- {_cell(one)}" for one in inputs[:_MAX_INPUTS]) + more)
    if options:
        job = yaml.safe_dump(mapped(options, printable), sort_keys=True, allow_unicode=True, width=1_000)
        parts.append(f"With these flags, as `penstock prepare --config` takes them:\n\n{_code('yaml', [job.rstrip()])}")
    versions = provenance.get("versions", {})
    if versions:
        parts.append("By " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".")
    return "\n\n".join(["## How it was made", *parts]) if parts else ""


def _files(manifest: Manifest | WindowManifest) -> str:
    whole = isinstance(manifest, Manifest)
    places = {
        "counts, digests, inputs, versions": MANIFEST if whole else f"{WINDOWS}/",
        "the schema of the rows": manifest.extra(SCHEMA),
        "the fitted features": manifest.extra(TRANSFORM),
        "statistics of the rows": manifest.extra(STATISTICS),
    }
    lines = [f"- [{place}]({place}): {what}" for what, place in places.items() if place]
    return "\n".join(["## Files", "", *lines])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return _escaped(printable(text)).replace("|", "\\|")


def _escaped(text: str) -> str:
    """A text that Markdown shows as it is."""
    return re.sub(r"([\\`*_\[\]<>#~$])", r"\\\1", text)


def _code(language: str, lines: Iterable[str]) -> str:
    """Lines of code; the fence is longer than any in them."""
    text = "\n".join(lines)
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return f"{fence}{language}\n{text}\n{fence}"
