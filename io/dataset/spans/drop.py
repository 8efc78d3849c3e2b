"""Versions of a dataset with fewer spans. Files stay: earlier versions have them."""

import contextlib
import datetime
import os
from collections.abc import Callable, Collection, Iterator

from penstock.io.dataset.layout import Staging, lock_path, staging_folders
from penstock.io.dataset.manifest import Manifest, Span, by_time, read_manifest
from penstock.io.dataset.spans.append import current_of, remove_unpublished, replace_manifest
from penstock.io.dataset.spans.whole import of_spans, with_retired, with_spans
from penstock.io.errors import ConfigError
from penstock.io.files.atomic.aside import told_of
from penstock.io.files.atomic.locks import alone
from penstock.io.files.folders import remove_folder
from penstock.io.files.owned import owning, remove_abandoned
from penstock.io.files.paths import is_local


def dataset_with_spans(output: str) -> Manifest:
    """Reads the manifest of a dataset as one of spans, of which one that was never added to has one.

    Raises:
      ConfigError: when there is no dataset, or one with windows.
      DataError: when the manifest cannot be read.
    """
    manifest = read_manifest(output)
    if manifest is None and (told := told_of(output)):
        raise ConfigError(f"{output}: {told}")
    if manifest is None:
        raise ConfigError(
            f"{output}: there is no dataset with spans: no manifest.json is there; a dataset with windows has none"
        )
    return with_spans(manifest)


def drop_spans(output: str, names: Collection[str], operation: str, for_good: bool = False) -> Manifest:
    """Publishes a version of a dataset without some spans, and returns its manifest.

    Args:
      output: the folder of the dataset.
      names: of the spans.
      operation: what is done, as in `Manifest.operation`.
      for_good: whether the manifest remembers the inputs of these spans as retired, so that nobody adds them again.

    Raises:
      ConfigError: when the dataset has no such span, or no other one would be left.
      DataError: when another run has published meanwhile.
    """
    before = dataset_with_spans(output)
    spans = find_spans(before, names)
    left = [span for span in before.spans if span not in spans]
    if not left:
        raise ConfigError(
            f"{output}: no span would be left ({', '.join(names)} are all that there are): delete the folder instead"
        )
    created = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    with publishing(output) as staging, alone(lock_path(output)):
        current, version = current_of(output, before.run_id, staging.is_final)
        if not staging.is_final:
            remove_unpublished(output, () if current is None else current.files())
        new = of_spans(before, left, staging.run_id, created, operation)
        if for_good:
            new = with_retired(new, before, names)
        replace_manifest(staging, current, new, version)
    return new


def find_spans(manifest: Manifest, names: Collection[str]) -> list[Span]:
    """Returns the spans of these names, in the order of the manifest.

    Raises:
      ConfigError: when there is none of a name; the message lists those that there are.
    """
    known = [span.name for span in manifest.spans]
    for name in names:
        if name not in known:
            there = ", ".join(known[-20:])
            raise ConfigError(f"there is no span {name!r}; the newest are {there} (penstock spans)")
    return [span for span in manifest.spans if span.name in names]


def older_than(manifest: Manifest, moment: datetime.datetime) -> list[Span]:
    """Returns the spans whose date is before a moment, UTC."""
    text = by_time(f"{moment:%Y-%m-%dT%H:%M:%SZ}")
    return [span for span in manifest.spans if by_time(span.date) < text]


@contextlib.contextmanager
def publishing(output: str, is_named: Callable[[Staging], bool] | None = None) -> Iterator[Staging]:
    """The staging folder of what publishes without a pipeline; on a disk, those of killed runs are removed first.

    What it leaves in a store is removed, unless `is_named` says that a manifest names it; None looks into the spans.
    """
    staging = Staging.new(output)
    with contextlib.ExitStack() as stack:
        if is_local(output):
            remove_abandoned(os.path.join(output, name) for name in staging_folders(output, "ended"))
            stack.enter_context(owning(staging.directory))
        try:
            yield staging
        finally:
            remove_folder(staging.temporary())
            if staging.is_final and not (is_named or _is_named)(staging):
                remove_folder(staging.directory)


def _is_named(staging: Staging) -> bool:
    manifest = read_manifest(staging.output)
    return manifest is not None and any(span.folder == staging.name for span in manifest.spans)
