"""Runs `verify` after its command line is checked: reads the dataset again, and reports each fault."""

import dataclasses
import time
from collections.abc import Collection, Sequence

from penstock.io.beam.durations import parse_duration
from penstock.io.dataset.windowed.manifest import read_stored, read_window_manifests
from penstock.io.files.folders import list_files
from penstock.transforms.dataset_report import dataset_report
from penstock.transforms.leftovers import dataset_bytes, leftovers
from penstock.transforms.verify import Fault, verify_dataset
from pipelines._cli.named import no_dataset, unlisted
from pipelines._inspect.clean import clean
from pipelines._options.verify import VerifyOptions
from pipelines._report.phases import VERIFY
from pipelines._report.process import job_started
from pipelines._report.progress import progress_bar
from pipelines._report.result import DATA_FAILED, VerifyResult
from pipelines._report.summary import tell
from pipelines._report.summary.parts import counted
from pipelines._run.staging import restore


def run(options: VerifyOptions) -> int:
    """Runs the job, as `pipelines.verify.run` does."""
    started, dataset = job_started(), str(options.dataset.dataset)
    _check_folder(dataset)
    since = time.time() - parse_duration(options.dataset.clean_age).total_seconds()
    if options.dataset.clean:
        restore(dataset, since)
    with progress_bar(VERIFY.name, [VERIFY]):
        faults = list(verify_dataset(dataset))
    cleaned: Collection[str] = ()
    if options.dataset.clean:
        cleaned = clean(dataset, faults, since)
        faults = [fault for fault in faults if fault.path not in cleaned]
    report = options.dataset.report
    if report is not None:
        dataset_report(dataset, faults, f"Verification of {dataset}").write(report)
    result = _result(dataset, faults, time.monotonic() - started)
    return tell(dataclasses.replace(result, cleaned=tuple(cleaned), report=report), options.dataset.json)


def _check_folder(dataset: str) -> None:
    """Refuses a path that is no folder, or an empty one."""
    what = f"--dataset {dataset}"
    try:
        files = list_files(dataset)
    except OSError as error:
        raise unlisted(what, error) from error
    if not files:
        raise no_dataset(what)


def _result(dataset: str, faults: Sequence[Fault], seconds: float) -> VerifyResult:
    if faults:
        return VerifyResult(
            job="verify",
            status="faulty",
            exit_code=DATA_FAILED,
            error=counted(len(faults), "fault"),
            seconds=seconds,
            dataset=dataset,
            good=False,
            leftovers=tuple(leftovers(dataset)),
            faults=tuple(dataclasses.asdict(fault) for fault in faults),
        )
    manifests = list(read_stored(dataset))
    windows = list(read_window_manifests(dataset))
    return VerifyResult(
        job="verify",
        seconds=seconds,
        dataset=dataset,
        good=True,
        leftovers=tuple(leftovers(dataset)),
        rows_out=sum(found.rows_out for found in manifests),
        shards=sum(len(found.shards) for found in manifests),
        windows=len(windows) or None,
        bytes=dataset_bytes(dataset, [*manifests, *windows]),
    )
