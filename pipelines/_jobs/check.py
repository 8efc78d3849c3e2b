"""Runs `check` after its command line is checked: statistics of a file, or of rows that are read for it."""

import time

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from penstock.io.files import stores
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from penstock.io.schema import load_schema
from penstock.transforms.anomalies.check import check_statistics
from pipelines._cli.options import resolved
from pipelines._jobs.profile import profile_to_check
from pipelines._jobs.statistics import Statistics, finding_fields, read_statistics, write_report
from pipelines._options.check import CheckStatisticsOptions
from pipelines._report.process import job_started
from pipelines._report.result import DATA_FAILED, CheckResult, DescribedResult
from pipelines._report.summary import tell
from pipelines._report.summary.parts import counted


def run(options: CheckStatisticsOptions) -> int:
    """Runs the job, as `pipelines.check.run` does."""
    started, against = job_started(), options.against
    _ = options.beam  # Beam refuses a wrong option here, before anything is read
    schema = load_schema(against.schema) if against.schema else None
    baseline = read_statistics(against.baseline, "baseline") if against.baseline else None
    serving = read_statistics(against.serving, "serving") if against.serving else None
    if options.run.is_described:
        return tell(_described(options, time.monotonic() - started), options.run.json)
    statistics = _statistics(options, schema)
    findings = check_statistics(
        statistics,
        schema=schema,
        baseline=baseline,
        serving=serving,
        environment=against.environment,
        thresholds=options.limits.thresholds(),
    )
    proto = findings.to_proto()
    if options.checked.anomalies_output:
        _write(proto, options.checked.anomalies_output)
    report = write_report(
        options.checked.report,
        statistics=statistics,
        baseline=baseline or serving,
        schema=schema,
        anomalies=findings,
        title=f"Check of {_checked(options)}",
    )
    errors = len(findings.errors)
    result = CheckResult(
        job=options.name,
        status="faulty" if errors else "done",
        exit_code=DATA_FAILED if errors else 0,
        error=f"{counted(errors, 'error')} in {_checked(options)}" if errors else None,
        seconds=time.monotonic() - started,
        checked=_checked(options),
        schema=against.schema,
        baseline=against.baseline,
        serving=against.serving,
        rows={one.name: one.num_examples for one in statistics.datasets},
        findings=tuple(finding_fields(found) for found in findings),
        anomalies=options.checked.anomalies_output,
        report=report,
    )
    return tell(result, options.run.json)


def _checked(options: CheckStatisticsOptions) -> str:
    """What is checked, in words."""
    return options.checked.statistics or ", ".join(options.input.input)


def _statistics(options: CheckStatisticsOptions, schema: schema_pb2.Schema | None) -> Statistics:
    """The statistics of the file that is given, or of the rows."""
    if options.checked.statistics:
        return read_statistics(options.checked.statistics, "statistics")
    return profile_to_check(options.beam, options.input, schema)


def _write(proto: anomalies_pb2.Anomalies, path: str) -> None:
    data = (
        text_format.MessageToString(proto, as_utf8=True).encode()
        if path.endswith((".pbtxt", ".txt"))
        else proto.SerializeToString(deterministic=True)
    )
    with (
        writing(path, OUTPUT_REMEDY),
        stores.create_file(path, "application/octet-stream") as file,
    ):
        file.write(data)


def _described(options: CheckStatisticsOptions, seconds: float) -> DescribedResult:
    read = "read the statistics" if options.checked.statistics else "compute statistics of the rows"
    return DescribedResult(
        job=options.name,
        seconds=seconds,
        flags=resolved(options.checked, options.against, options.limits, options.input),
        stages=(read, "hold them against what is expected"),
    )
