"""Runs `status` after its command line is checked."""

import dataclasses
import time
from typing import Any

from penstock.io.errors import ConfigError
from penstock.io.files.atomic.aside import told_of
from penstock.transforms.dataset_status import DatasetStatus, dataset_status
from pipelines._cli.named import no_dataset, unlisted
from pipelines._options.status import StatusOptions
from pipelines._report.process import job_started, say
from pipelines._report.result import DATA_FAILED, DONE, StatusResult
from pipelines._report.summary import tell
from pipelines._report.summary.parts import counted


def run(options: StatusOptions) -> int:
    """Runs the job, as `pipelines.status.run` does."""
    started, output = job_started(), str(options.dataset.output)
    found = _look(output)
    report = options.dataset.report
    if report is not None:
        _write_report(output, found, report)
    result = _result(output, found, time.monotonic() - started)
    return tell(dataclasses.replace(result, report=report), options.dataset.json)


def _write_report(output: str, found: DatasetStatus, path: str) -> None:
    """Writes the report; Arrow and what draws it are loaded for it alone."""
    from penstock.transforms.dataset_report import dataset_report
    from penstock.transforms.verify import Fault

    faults = [Fault("file.unreadable", one.path, f"cannot be read: {one.detail}") for one in found.damaged]
    faults += [Fault("file.missing", one, "a manifest names it, and it is not there") for one in found.missing]
    dataset_report(output, faults, f"Status of {output}").write(path)


def _look(output: str) -> DatasetStatus:
    what = f"--output {output}"
    try:
        found = dataset_status(output, time.time())
    except OSError as error:
        raise unlisted(what, error) from error
    told = None if found.state == "whole" else told_of(output)
    if told is not None:
        say(f"{what}: {told}")
    if found.state == "unpublished" and told is None and not found.staging and not found.stream and not found.damaged:
        if not found.unknown:
            raise no_dataset(what)
        raise ConfigError(
            f"{what}: holds no dataset, but files such as {found.unknown[0]}; name the folder that a job writes"
        )
    return found


def _result(output: str, found: DatasetStatus, seconds: float) -> StatusResult:
    manifests, fields = found.manifests, dataclasses.asdict
    windows = [one.window for one in manifests if one.window]
    sums: dict[str, Any] = {
        name: sum(getattr(one, name) for one in manifests)
        for name in ("rows_in", "rows_out", "rows_on_time", "rows_late", "rows_rejected")
    }
    return StatusResult(
        job="status",
        status="done" if found.is_good else "faulty",
        exit_code=DONE if found.is_good else DATA_FAILED,
        error=None if found.is_good else _faults(found),
        seconds=seconds,
        output=output,
        state=found.state,
        run_ids=tuple(sorted({one.run_id for one in manifests})),
        last_event_time=found.last_event_time,
        last_published=found.last_published,
        **sums,
        rejected_by_reason=found.rejected_by_reason(),
        window_count=len(windows) if found.state == "windows" else None,
        first_window=windows[0] if windows else None,
        last_window=windows[-1] if windows else None,
        gaps=tuple(map(fields, found.gaps())),
        not_final=tuple(found.not_final()),
        quarantined=tuple(map(fields, found.quarantined())),
        unusual=tuple(map(fields, found.unusual())),
        staging=tuple(map(fields, found.staging)),
        damaged=tuple(map(fields, found.damaged)),
        missing=found.missing,
        unknown=found.unknown,
        unknown_bytes=found.unknown_bytes,
        earlier_files=found.earlier.files,
        earlier_bytes=found.earlier.bytes,
        version=None if windows or not manifests else manifests[0].dataset_version,
        spans=tuple(span for one in manifests for span in one.spans),
        stream=found.stream,
    )


def _faults(found: DatasetStatus) -> str:
    """What is wrong, with the first file of each kind."""
    told = []
    if found.damaged:
        told.append(f"{counted(len(found.damaged), 'file')} cannot be read ({found.damaged[0].path})")
    if found.missing:
        told.append(f"{counted(len(found.missing), 'file')} of manifests missing ({found.missing[0]})")
    return ", ".join(told)
