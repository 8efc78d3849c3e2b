"""Flink's options that Beam's Python SDK does not know, the defaults of a stream, and the search for a job."""

import argparse
import contextlib
import json
import time
import urllib.request
from collections.abc import Mapping
from typing import Any

from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions, StandardOptions

from pipelines._cli.flags import FLINK_RUNNERS

# Options of Beam's job server for Flink, in milliseconds where they are times: name -> (type, help).
_NUMBERS = {
    "checkpointing_interval": "Flink: milliseconds between checkpoints (a stream's default: 10000)",
    "checkpoint_timeout_millis": "Flink: give up a checkpoint after so many milliseconds (default: the cluster's)",
    "min_pause_between_checkpoints": "Flink: least milliseconds between two checkpoints",
    "environment_expiration_millis": "portable runners: replace workers after so many milliseconds (default: never)",
    "max_bundle_size": "Flink: elements of a bundle at most (default: 1000 of a stream, else 1000000)",
    "max_bundle_time_mills": "Flink: milliseconds of a bundle at most (default: 1000 of a stream, else 10000)",
    "number_of_execution_retries": "Flink: restarts of a failing job (default: the cluster's)",
    "execution_retry_delay": "Flink: milliseconds before a restart (default: the cluster's)",
}
_SWITCHES = {
    "finish_bundle_before_checkpointing": "Flink: a checkpoint waits for the bundle's end (a stream's default: true)",
    "externalized_checkpoints_enabled": "Flink: keep the last checkpoint when a job fails (a stream's default: true)",
    "retain_externalized_checkpoints_on_cancellation": "Flink: keep it when a job is cancelled too (a stream's "
    "default: true)",
    "unaligned_checkpoint_enabled": "Flink: checkpoints overtake what waits in buffers",
    "allow_non_restored_state": "Flink: start from a savepoint although it has state that this job does not know",
}
_TEXTS = {
    "savepoint_path": "Flink: go on from this savepoint or checkpoint",
    "state_backend": "Flink: rocksdb or filesystem (default: the cluster's)",
    "state_backend_storage_path": "Flink: where checkpoints are (default: the cluster's)",
    "execution_mode_for_batch": "Flink: PIPELINED or BATCH_FORCED",
    "flink_conf_dir": "Flink: folder of a configuration for the job",
}

# What a stream on Flink needs, each for a reason that docs/flink.md gives.
STREAM_DEFAULTS: Mapping[str, Any] = {
    "checkpointing_interval": 10_000,
    "finish_bundle_before_checkpointing": True,
    "externalized_checkpoints_enabled": True,
    "retain_externalized_checkpoints_on_cancellation": True,
}


class FlinkJobOptions(PipelineOptions):
    """Options that Beam's job server for Flink takes and the Python SDK does not know, declared to be checked."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        for name, text in _NUMBERS.items():
            parser.add_argument(f"--{name}", type=int, default=None, help=text)
        for name, text in _SWITCHES.items():
            parser.add_argument(f"--{name}", type=_switch, nargs="?", const=True, default=None, help=text)
        for name, text in _TEXTS.items():
            parser.add_argument(f"--{name}", default=None, help=text)


def _switch(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"must be true or false, got {text!r}")
    return text.lower() == "true"


def may_be_flink(options: PipelineOptions) -> bool:
    """Whether the runner is Flink's, or one that hands the job to whoever listens."""
    return options.view_as(StandardOptions).runner in FLINK_RUNNERS


def set_stream_defaults(options: PipelineOptions) -> None:
    """Sets what a stream on Flink needs, where the user has set nothing."""
    view = options.view_as(FlinkJobOptions)
    for name, value in STREAM_DEFAULTS.items():
        if getattr(view, name) is None:
            setattr(view, name, value)


def list_jobs(address: str) -> list[dict[str, Any]]:
    """The jobs of a cluster, those that have ended too, as its REST interface has them: `jid`, `name`, `state`, ...

    Raises:
      OSError: when the cluster does not answer.
      ValueError: when what answers is no cluster.
    """
    with urllib.request.urlopen(f"{address}/jobs/overview", timeout=10) as answer:
        return list(json.load(answer)["jobs"])


def find_job(address: str, beam_job: str, seconds: float = 120) -> str | None:
    """Flink's id of a job that Beam has submitted; Flink's name of it is Beam's id without the last part.

    None when the cluster does not answer, or does not know the job, within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        # A cluster that is not reached from here is no fault: the job server may be elsewhere.
        with contextlib.suppress(OSError, ValueError):
            for job in list_jobs(address):
                if job["name"] == beam_job.rpartition("_")[0]:
                    return str(job["jid"])
        time.sleep(1)
    return None


def flink_address(options: PipelineOptions) -> str | None:
    """The address of the cluster's REST interface, if the flags name one."""
    master = options.view_as(FlinkRunnerOptions).flink_master
    if not may_be_flink(options) or master.startswith("["):
        return None
    return f"{'' if '://' in master else 'http://'}{master}".rstrip("/")
