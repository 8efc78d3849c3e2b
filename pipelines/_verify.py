"""What `verify` does once its command line is found good: it reads the dataset, and prints what it found."""

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from penstock.io.folders import list_files
from penstock.io.windowed.manifest import WindowManifest, read_manifests
from penstock.transforms.verify import Fault, dataset_bytes, verify_dataset
from pipelines._command import DATA_FAILED, DONE
from pipelines._named import no_dataset, unlisted
from pipelines._progress import progress_bar
from pipelines._summary import byte_text

if TYPE_CHECKING:
    from pipelines.verify import VerifyOptions


def run(options: "VerifyOptions") -> int:
    """Runs the job, as `pipelines.verify.run` does."""
    dataset = str(options.dataset.dataset)
    with progress_bar("verifying", _checked_bytes(dataset)):
        faults = list(verify_dataset(dataset))
    print(_as_json(dataset, faults) if options.dataset.json else _as_text(dataset, faults))
    return DATA_FAILED if faults else DONE


def _checked_bytes(dataset: str) -> int:
    """Bytes of a folder that can be verified."""
    what = f"--dataset {dataset}"
    try:
        files = list_files(dataset)
    except OSError as error:
        raise unlisted(what, error) from error
    if not files:
        raise no_dataset(what)
    return sum(files.values())


def _as_json(dataset: str, faults: Sequence[Fault]) -> str:
    found = [dataclasses.asdict(fault) for fault in faults]
    return json.dumps({"dataset": dataset, "good": not faults, "faults": found}, indent=2, ensure_ascii=False)


def _as_text(dataset: str, faults: Sequence[Fault]) -> str:
    if faults:
        return "\n".join([*map(str, faults), f"{dataset}: {_counted(len(faults), 'fault')}"])
    manifests = list(read_manifests(dataset))
    rows = sum(found.rows_out for found in manifests)
    shards = _counted(sum(len(found.shards) for found in manifests), "shard")
    windowed = any(isinstance(found, WindowManifest) for found in manifests)
    windows = f" of {_counted(len(manifests), 'window')}" if windowed else ""
    return f"{dataset}: good: {rows:,} records in {shards}{windows}, {byte_text(dataset_bytes(dataset))}"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
