"""What Penstock relies on of Beam's private parts: on a new Beam, this file fails first.

Each test says which module of `io/beam/` relies on what; that module says why.
"""

import inspect
import json
import pathlib
import re
import subprocess
import sys
import threading
from types import SimpleNamespace

import apache_beam as beam
import pytest
from apache_beam.coders import coders
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner, ParallelBundleManager
from apache_beam.runners.portability.fn_api_runner.worker_handlers import EmbeddedWorkerHandler
from apache_beam.runners.portability.portable_runner import PipelineResult
from apache_beam.runners.worker.bundle_processor import OutputTimer
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms import error_handling, userstate
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils import thread_pool_executor
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfo, PaneInfoTiming

from penstock.io.beam.local.runner import local_runner
from penstock.io.beam.runner_jobs import job_id
from penstock.io.beam.stable_input import StableParDo
from penstock.io.beam.timers import set_holding_timer
from penstock.io.errors import ConfigError
from penstock.transforms.checks import validate
from pipelines._cli.beam import beam_parser
from pipelines._cli.flags import flag_names

PAR_DO = common_urns.primitives.PAR_DO.urn


def arguments(function):
    return list(inspect.signature(function).parameters)


def test_timers_write_what_the_timer_of_beam_writes_but_the_hold():
    impl = coders._TimerCoder(coders.VarIntCoder(), coders.GlobalWindowCoder()).get_impl()
    pane = PaneInfo(True, True, PaneInfoTiming.UNKNOWN, 0, 0)
    written, flushes = coders.coder_impl.create_OutputStream(), []

    class Encoder:
        """A stream of the data plane is an OutputStream that can be flushed, and the one here is not."""

        def encode_to_stream(self, timer, output, nested):
            impl.encode_to_stream(timer, written, nested)

    class Output:
        def maybe_flush(self):
            flushes.append(1)

    timer = OutputTimer(7, GlobalWindow(), Timestamp(0), pane, TimeDomain.WATERMARK, "t", Encoder(), Output())
    timer.set(Timestamp(micros=5_000_000), dynamic_timer_tag="2000000:5000000")
    set_holding_timer(timer, 5_000_000, 2_000_000)
    data = coders.coder_impl.create_InputStream(written.get())
    theirs, ours = (impl.decode_from_stream(data, True) for _ in range(2))
    changed = "io/beam/timers.py writes the message that OutputTimer.set writes, with another hold; it differs now"
    assert (theirs.hold_timestamp, ours.hold_timestamp) == (Timestamp(5), Timestamp(2)), changed
    for name in ("user_key", "dynamic_timer_tag", "windows", "clear_bit", "fire_timestamp", "paneinfo"):
        assert getattr(theirs, name) == getattr(ours, name), changed
    assert flushes == [1, 1], changed


def test_timers_that_cannot_hold_the_watermark_are_refused():
    with pytest.raises(ConfigError, match=r"this runner's timers \(RuntimeTimer\) cannot hold the watermark, .*Prism"):
        set_holding_timer(userstate.RuntimeTimer(), 2, 1)


def test_beam_still_has_no_timers_that_hold():
    """When this fails, beam#20705 is done: use it, and delete io/beam/timers.py."""
    assert arguments(OutputTimer.set) == ["self", "ts", "dynamic_timer_tag"]
    assert not [name for name in dir(OutputTimer) if "hold" in name or "output_timestamp" in name]


def test_one_handler_reads_all_pardos_of_a_graph():
    kind, handler = beam.PTransform._known_urns[PAR_DO]
    assert kind is beam_runner_api_pb2.ParDoPayload, "io/beam/stable_input.py wraps the handler of this payload"
    assert callable(handler), "io/beam/stable_input.py wraps this handler"
    assert "requires_stable_input" in beam_runner_api_pb2.ParDoPayload.DESCRIPTOR.fields_by_name


def test_a_graph_read_back_keeps_both_kinds_of_pardos():
    pipeline = beam.Pipeline(runner="FlinkRunner")
    ones = pipeline | beam.Create([1])
    _ = ones | "Stable" >> StableParDo(beam.DoFn())
    _ = ones | "Other" >> beam.ParDo(beam.DoFn())
    copy = beam.Pipeline.from_runner_api(pipeline.to_runner_api(), pipeline.runner, PipelineOptions())
    found = {}

    class Visitor(beam.pipeline.PipelineVisitor):
        def visit_transform(self, node):
            found[node.full_label] = type(node.transform)

    copy.visit(Visitor())
    assert (found["Stable"], found["Other"]) == (StableParDo, beam.ParDo)


def test_beam_still_forgets_stable_input():
    """When this fails, the SDK keeps it: `StableParDo` needs no handler any more (io/beam/stable_input.py)."""
    assert "stable" not in inspect.getsource(beam.ParDo).lower()


UNTOUCHED = """
import importlib, json, pkgutil
import apache_beam as beam
from apache_beam import coders
from apache_beam.runners.worker import statesampler
from apache_beam.transforms import core
urns = dict(beam.PTransform._known_urns)
known = dict(coders.registry._coders)
parts = [statesampler.StateSampler, core.get_function_args_defaults, beam.Pipeline.run, core.ParDo.__init__]
import penstock.io, penstock.transforms
for package in (penstock.io, penstock.transforms):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not any(name in module.name for name in ("kernel.native._", "tensorflow", "load.torch")):
            importlib.import_module(module.name)
_ = beam.Pipeline("FlinkRunner") | beam.Create([1]) | beam.ParDo(beam.DoFn())
new = {name for name in beam.PTransform._known_urns if name not in urns}
changed = [name for name, value in urns.items() if beam.PTransform._known_urns[name] is not value]
changed += [str(kind) for kind, coder in known.items() if coders.registry._coders[kind] is not coder]
if parts != [statesampler.StateSampler, core.get_function_args_defaults, beam.Pipeline.run, core.ParDo.__init__]:
    changed.append("patched")
added = [f"{kind.__module__}.{kind.__qualname__}" for kind in coders.registry._coders if kind not in known]
print(json.dumps([sorted(new), changed, sorted(name for name in added if not name.startswith("penstock."))]))
"""


def test_importing_penstock_changes_nothing_of_beam():
    """Only a coder for batches comes, and coders for Penstock's own types."""
    run = subprocess.run([sys.executable, "-c", UNTOUCHED], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == [[], [], ["pyarrow.lib.RecordBatch"]]


def test_a_thread_of_the_pool_says_whether_it_works():
    began, end, seen = threading.Event(), threading.Event(), []

    def work():
        seen.append(threading.current_thread())
        began.set()
        end.wait(30)

    done = thread_pool_executor.UnboundedThreadPoolExecutor().submit(work)
    assert began.wait(30)
    relied = "io/beam/cancellation.py asks a worker thread for its `_work_item`"
    assert isinstance(seen[0], thread_pool_executor._Worker), relied
    assert seen[0]._work_item is not None, relied
    end.set()
    done.result(30)
    seen[0].shutdown()
    seen[0].join(30)
    assert seen[0]._work_item is None, relied


def test_workers_of_the_local_runner_are_threads_of_the_pool():
    options = PipelineOptions(["--direct_num_workers=2"])  # one alone works in the main thread
    with beam.Pipeline(local_runner(options), options) as pipeline:
        names = pipeline | beam.Create([1]) | beam.Map(lambda _: type(threading.current_thread()).__name__)
        assert_that(names, equal_to(["_Worker"]))


def test_options_reach_the_local_runner():
    info = local_runner(PipelineOptions(["--job_name=of-a-test"]))._provision_info.provision_info
    relied = "io/beam/local/runner.py gives options by ExtendedProvisionInfo"
    assert info.pipeline_options["beam:option:job_name:v1"] == "of-a-test", relied


def test_a_worker_in_this_process_has_a_connection_and_a_channel_with_two_sides():
    manager = SimpleNamespace(_process_bundle_descriptors={})
    handler = EmbeddedWorkerHandler(None, None, None, manager)
    relied = "io/beam/local/worker_processes.py puts a connection of its own in place of a handler's `control_conn`"
    assert handler.control_conn is handler, relied
    assert handler.bundle_processor_cache.fns is manager._process_bundle_descriptors, relied
    handler.data_conn.output_stream("bundle", "step").write(b"x")
    relied = "io/beam/local/worker_processes.py takes elements from `_inputs` of the other side of a channel"
    assert handler.data_conn is handler.data_plane_handler, relied
    assert isinstance(handler.data_conn.inverse()._inputs, list), relied
    handler.stop_worker()


def test_bundles_are_given_out_by_a_manager_that_knows_how_many_workers_there_are():
    relied = "io/beam/local/runner.py replaces `FnApiRunner._get_bundle_manager` and sets `_num_workers`"
    assert arguments(FnApiRunner._get_bundle_manager) == ["self", "bundle_context_manager"], relied
    names = ["self", "inputs", "expected_outputs", "fired_timers", "expected_output_timers", "dry_run"]
    assert arguments(ParallelBundleManager.process_bundle) == names, relied
    assert "_num_workers" in inspect.getsource(ParallelBundleManager.process_bundle), relied


def test_the_lossy_mode_is_refused():
    with pytest.raises(ConfigError, match="--direct_running_mode=multi_threading loses rows with Beam"):
        local_runner(PipelineOptions(["--direct_running_mode=multi_threading"]))


def test_a_pipeline_has_a_folder_that_beam_leaves_behind():
    """`pipelines/_run/job.py` removes it."""
    assert beam.Pipeline("FnApiRunner").local_tempdir


def test_families_of_options_add_their_flags_to_a_parser():
    relied = "io/beam/flags.py calls `_add_argparse_args(parser)` of each family"
    for family in PipelineOptions.__subclasses__():
        assert arguments(family._add_argparse_args) in (["parser"], ["cls", "parser"]), (family, relied)
    names = flag_names(beam_parser())
    assert {"--runner", "--direct_num_workers", "--job_endpoint"} <= names, relied


def test_views_of_options_share_their_values():
    """`pipelines/_cli/beam.py` makes each view once."""
    options = PipelineOptions()
    first, second = options.view_as(StandardOptions), options.view_as(StandardOptions)
    first.runner = "FlinkRunner"
    assert (second.runner, options.view_as(DirectOptions).view_as(StandardOptions).runner) == ("FlinkRunner",) * 2


def test_ids_of_jobs():
    class Portable:
        _job_id = "a"

    class Dataflow:
        def job_id(self):
            return "b"

    assert [job_id(result) for result in (Portable(), Dataflow(), object())] == ["a", "b", ""]
    assert "self._job_id = " in inspect.getsource(PipelineResult.__init__), "io/beam/runner_jobs.py reads it"


def test_error_handlers_are_asked_by_the_pipeline_whether_they_are_closed():
    """`io/dead_letters/handler.py` replaces these four and uses nothing else of them."""
    handler = error_handling.ErrorHandler
    found = {name: arguments(getattr(handler, name)) for name in ("add_error_pcollection", "close", "output")}
    assert found == {"add_error_pcollection": ["self", "pcoll"], "close": ["self"], "output": ["self"]}
    assert arguments(handler.verify_closed) == ["self"]
    assert ".verify_closed()" in inspect.getsource(beam.Pipeline.run) + inspect.getsource(beam.Pipeline)


def test_no_other_folder_reaches_into_beam():
    """A part of Beam that begins with an underscore is used in io/beam/ alone."""
    root = pathlib.Path(validate.__file__).resolve().parents[2]
    private = re.compile(
        r"apache_beam[\w.]*\._[a-z]|\bbeam\.[\w.]*\b_[a-z]|from apache_beam[\w.]* import .*\b_[a-zA-Z]"
    )
    found = [
        f"{path.relative_to(root)}: {line.strip()}"
        for folder in ("io", "transforms", "pipelines")
        for path in sorted((root / folder).rglob("*.py"))
        if not path.is_relative_to(root / "io" / "beam")
        for line in path.read_text().splitlines()
        if private.search(line)
    ]
    assert found == []
