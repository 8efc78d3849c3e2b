"""Beam's local runner, FnApiRunner, with the options of its pipeline.

Its constructor, and how options are encoded for workers, belong to Beam's own modules, not to its API. Beam makes such
a runner only through `DirectRunner`, which takes Prism where it can fetch it.
"""

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.runners.portability.portable_runner import JobServiceHandle

from penstock.io.errors import ConfigError

# A timer of the workers of that mode flushes their output while they write to it: what is written in between is gone
# (apache_beam/runners/worker/data_plane.py, TimeBasedBufferingClosableOutputStream; no other mode uses the timer; no
# issue is filed at Beam).
_LOSSY_MODE = "multi_threading"


def local_runner(options: PipelineOptions) -> FnApiRunner:
    """The runner, whose workers see the options.

    Raises:
      ConfigError: for a running mode that loses rows.
    """
    if options.view_as(DirectOptions).direct_running_mode == _LOSSY_MODE:
        raise ConfigError(
            f"--direct_running_mode={_LOSSY_MODE} loses rows with Beam 2.77; leave it out: the local runner works in "
            "threads of this process anyway, one for each core or as many as --direct_num_workers says"
        )
    encoded = JobServiceHandle.encode_pipeline_options(options.get_all_options())
    return FnApiRunner(
        provision_info=ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=encoded))
    )
