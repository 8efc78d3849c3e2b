"""The result of a job that wrote a dataset, taken from its manifests."""

import collections
import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from penstock.io.dataset.layout import DEAD_LETTERS, MANIFEST, RUN_PREFIX, SCHEMA, TRANSFORM, run_folders
from penstock.io.dataset.load.dataset import load
from penstock.io.dataset.load.snippets import installed_library, snippet, training_split
from penstock.io.dataset.manifest import Manifest, Shard, read_manifest, sum_counts
from penstock.io.dataset.publish import Outcome
from penstock.io.dataset.windowed.manifest import WindowManifest, window_manifest_path
from penstock.io.errors import ConfigError, DataError
from penstock.io.files import stores
from penstock.io.files.paths import is_local
from penstock.io.reasons import Note, complete_notes
from pipelines._report.result import DATA_FAILED, DatasetResult, JobStatus, SplitResult, WindowResult

_STATUS: Mapping[str, JobStatus] = {
    "published": "done",
    "no_rows": "too_many_rejects",
    "too_many_rejects": "too_many_rejects",
    "refused": "too_much_drift",
}


def whole_result(job: str, outcome: Outcome, output: str, seconds: float) -> DatasetResult:
    """The result of a run that came to its end, published or not."""
    output = output.rstrip("/")
    manifest, is_published = outcome.manifest, outcome.status == "published"
    whole = read_manifest(output) if is_published and manifest.spans else None
    return DatasetResult(
        job=job,
        status=_STATUS[outcome.status],
        exit_code=0 if is_published else DATA_FAILED,
        seconds=seconds,
        output=output,
        run_id=manifest.run_id,
        dataset_id=manifest.dataset_id if is_published else None,
        manifest=stores.join(output, MANIFEST) if is_published else None,
        rows_in=manifest.rows_in,
        rows_out=manifest.rows_out,
        rows_rejected=manifest.rows_rejected,
        splits=_splits(manifest.splits, manifest.shards, _folder(output, [manifest])) if is_published else {},
        rejected_by_reason=manifest.rejected_by_reason,
        notes=manifest.notes,
        dead_letters=outcome.dead_letters if manifest.dead_letters else None,
        schema=_extra(output, SCHEMA, manifest) if is_published else None,
        transform=_extra(output, TRANSFORM, manifest) if is_published else None,
        features_engine=manifest.provenance.get("features_engine") if is_published else None,
        saved_model=saved_model(_extra(output, TRANSFORM, manifest)) if is_published else None,
        statistics=outcome.statistics,
        drift=outcome.refused,
        anomalies=tuple(_anomalies(manifest, None)),
        span=manifest.spans[0].name if is_published and manifest.spans else None,
        version=manifest.dataset_version if is_published else None,
        whole=_whole(whole) if whole is not None else None,
        load=_loading(manifest, output) if is_published else (),
    )


def _whole(manifest: Manifest) -> dict[str, object]:
    return {
        "spans": len(manifest.spans),
        "rows_in": manifest.rows_in,
        "rows_out": manifest.rows_out,
        "rows_rejected": manifest.rows_rejected,
        "splits": dict(manifest.splits),
    }


def _loading(manifest: Manifest, output: str) -> tuple[str, ...]:
    """The lines that load the dataset, by its columns where they are at hand: in a store that would take requests."""
    split = training_split(list(manifest.splits))
    if is_local(output):
        with contextlib.suppress(ConfigError, DataError):  # lines are not worth the end of a job
            return snippet(output, split, load(output, split).schema, installed_library())
        return ()
    return () if manifest.format == "parquet" else snippet(output, split, pa.schema([]), installed_library())


def windows_result(
    job: str, manifests: Iterable[WindowManifest], output: str, seconds: float, known: Sequence[Note] = ()
) -> DatasetResult:
    """The result of a job that wrote windows: the sums over all of them; `known` are notes of the whole input."""
    windows, output = list(manifests), output.rstrip("/")
    last = windows[-1] if windows else None
    folder = _folder(output, windows)
    return DatasetResult(
        job=job,
        seconds=seconds,
        output=output,
        run_id=last.run_id if last else None,
        windows=tuple(_window(window, output) for window in windows),
        rows_in=sum(window.rows_in for window in windows),
        rows_out=sum(window.rows_out for window in windows),
        rows_rejected=sum(window.rows_rejected for window in windows),
        rows_on_time=sum(window.rows_on_time for window in windows),
        rows_late=sum(window.rows_late for window in windows),
        splits=_splits(_rows_by_split(windows), [shard for window in windows for shard in window.shards], folder),
        rejected_by_reason=sum_counts(window.rejected_by_reason for window in windows),
        notes=complete_notes(known, (note for window in windows for note in window.notes)),
        dead_letters=stores.join(folder, DEAD_LETTERS) if any(w.dead_letters for w in windows) else None,
        schema=_extra(output, SCHEMA, last) if last else None,
        transform=_extra(output, TRANSFORM, last) if last else None,
        features_engine=last.provenance.get("features_engine") if last else None,
        saved_model=saved_model(_extra(output, TRANSFORM, last)) if last else None,
        anomalies=tuple(found for window in windows for found in _anomalies(window, window.window)),
    )


def _anomalies(manifest: Manifest | WindowManifest, window: tuple[str, str] | None) -> Iterator[Mapping[str, object]]:
    return ({**dataclasses.asdict(found), "window": window} for found in manifest.anomalies)


def _rows_by_split(windows: Iterable[WindowManifest]) -> dict[str, int]:
    """The rows of each split, summed over the windows, in the order of the options."""
    rows: collections.Counter[str] = collections.Counter()
    for window in windows:
        rows.update(window.splits)
    return dict(rows)


def _window(manifest: WindowManifest, output: str) -> WindowResult:
    return WindowResult(
        window=manifest.window,
        manifest=window_manifest_path(output, manifest.name),
        dataset_id=manifest.dataset_id,
        status=manifest.status,
        final=manifest.final,
    )


def _splits(rows: Mapping[str, int], shards: Sequence[Shard], folder: str) -> dict[str, SplitResult]:
    own = {name: [shard for shard in shards if shard.split == name] for name in rows}
    return {
        name: SplitResult(rows[name], len(found), sum(shard.bytes for shard in found), stores.join(folder, name))
        for name, found in own.items()
    }


def _folder(output: str, manifests: Iterable[Manifest | WindowManifest]) -> str:
    """The folder that the splits are in: in a store that of a run, or a pattern for those of several starts."""
    runs = run_folders(output, (shard.path for manifest in manifests for shard in manifest.shards))
    return stores.join(output, *(runs if len(runs) < 2 else [f"{RUN_PREFIX}*"]))


def saved_model(transform: str | None) -> str | None:
    """The folder of the SavedModel among fitted features, if there is one."""
    folder = None if transform is None else stores.join(transform, "transform_fn")
    return folder if folder and stores.exists(stores.join(folder, "saved_model.pb")) else None


def _extra(output: str, name: str, manifest: Manifest | WindowManifest) -> str | None:
    """The path of a file or folder that belongs to the dataset as a whole, if it has it."""
    place = manifest.extra(name)
    return None if place is None else stores.join(output, place)
