"""Beam's local runner, FnApiRunner, with the options of its pipeline.

Its constructor and the encoding of options for workers are internal to Beam. Beam makes such a runner only through
`DirectRunner`, which uses Prism if it can fetch it.
"""

from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo, FnApiRunner
from apache_beam.runners.portability.portable_runner import JobServiceHandle

from penstock.io.errors import ConfigError

# In this mode a timer flushes the output of workers while they write to it, and what they write in between is lost
# (apache_beam/runners/worker/data_plane.py, TimeBasedBufferingClosableOutputStream; no other mode uses the timer; no
# issue is filed at Beam).
_LOSSY_MODE = "multi_threading"


def local_runner(options: PipelineOptions) -> FnApiRunner:
    """Makes the runner; its workers see the options.

    Raises:
      ConfigError: when the running mode loses rows.
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
