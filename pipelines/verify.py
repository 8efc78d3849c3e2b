"""Verifies a dataset: reads every shard again and holds it against the manifest and the schema.

::

    python -m pipelines.verify --dataset out
    python -m pipelines.verify --dataset out --json
"""

import dataclasses
import json
import os
import sys
from collections.abc import Sequence

from penstock.io.errors import ConfigError
from penstock.io.folders import is_local, list_files
from penstock.io.windowed.manifest import WindowManifest, read_manifests
from penstock.transforms.verify import Fault, dataset_bytes, verify_dataset
from pipelines._flags import Options, flag, job_parser, parse_job
from pipelines._job import DATA_FAILED, DONE, main
from pipelines._progress import progress_bar
from pipelines._summary import byte_text

_EXAMPLES = """examples:
  python -m pipelines.verify --dataset out
  python -m pipelines.verify --dataset out --json | jq '.faults[].code'

exit codes: 0 the dataset is good; 1 it has a fault; 2 wrong usage"""


@dataclasses.dataclass(frozen=True)
class VerifyOptions(Options):
    """What is verified, and how it is told."""

    title = "dataset"

    dataset: str | None = flag("folder of the dataset", metavar="DIR")
    json: bool = flag("print one JSON object instead of lines", False, action="store_true")


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Returns:
      0 when the dataset is good, 1 when it has a fault.

    Raises:
      ConfigError: when there is no such folder.
    """
    parser = job_parser("verify", "Reads a dataset again and names each fault.", _EXAMPLES, [VerifyOptions])
    namespace, _ = parse_job(parser, sys.argv[1:] if argv is None else argv)
    options = VerifyOptions.from_namespace(namespace)
    if not options.dataset:
        raise ConfigError("--dataset is required: the folder that a job wrote")
    with progress_bar("verifying", _checked_bytes(options.dataset)):
        faults = list(verify_dataset(options.dataset))
    print(_as_json(options.dataset, faults) if options.json else _as_text(options.dataset, faults))
    return DATA_FAILED if faults else DONE


def _checked_bytes(dataset: str) -> int:
    """Bytes of a folder that can be verified."""
    if is_local(dataset) and os.path.isfile(dataset):
        raise ConfigError(f"--dataset {dataset}: is a file; name the folder of a dataset")
    try:
        files = list_files(dataset)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--dataset {dataset}: cannot be listed: {error}") from error
    if not files:
        raise ConfigError(f"--dataset {dataset}: no such folder, or it is empty")
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


if __name__ == "__main__":
    sys.exit(main("verify", run))
