"""The main job on Prism, Beam's other local runner, which `go install` builds here."""

import contextlib
import os
import pathlib
import re
import shlex
import subprocess
import sys
import sysconfig

import pytest
from builds import ROOT
from builds import run as run_program

from penstock.io.dataset.manifest import read_manifest
from penstock.io.errors import ConfigError
from pipelines.prepare import run

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]

SCHEMA = """
feature { name: "id" type: INT presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
feature { name: "name" type: BYTES value_count { min: 1 max: 1 } }
feature { name: "fare" type: FLOAT value_count { min: 1 max: 1 } float_domain { max: 90 } }
"""

FEATURES = """
features:
  fare: {ops: [scale_to_z_score]}
  name: {default: "", ops: [compute_and_apply_vocabulary]}
  id: {}
"""


@pytest.fixture
def inputs(tmp_path):
    """The flags of a job over three files; one row in 20 is rejected for its fare, one for its id."""
    for part in range(3):
        rows = (
            f"{i if i % 20 else 'x'},{'' if i % 3 else f'näme {i % 7}'},{i % 100}.5"
            for i in range(part * 400, part * 400 + 400)
        )
        (tmp_path / f"{part}.csv").write_text("id,name,fare\n" + "\n".join(rows) + "\n")
    (tmp_path / "schema.pbtxt").write_text(SCHEMA)
    (tmp_path / "features.yaml").write_text(FEATURES)
    return [
        f"--input={tmp_path}/*.csv",
        f"--schema={tmp_path}/schema.pbtxt",
        "--split=train=0.8,eval=0.2",
        "--num_shards=2",
        "--max_reject_fraction=0.2",
    ]


def written(output):
    manifest = read_manifest(str(output))
    return {shard.path: (output / shard.path).read_bytes() for shard in manifest.shards}, manifest


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory) -> pathlib.Path:
    """A Python that has the sdist, what is installed here beside this checkout, and nothing of the checkout.

    Nor has it the kernel, as where there is no compiler.
    """
    folder = tmp_path_factory.mktemp("bare")
    run_program(sys.executable, "-m", "build", "--sdist", "--no-isolation", f"--outdir={folder}", ROOT)
    run_program(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    own, here = sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}), sysconfig.get_path("purelib")
    # As a path, not as a folder of packages, whose files would say where the checkout is.
    pathlib.Path(own, "others.pth").write_text(here)
    alone = ["--quiet", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    sdists, pip = folder.glob("*.tar.gz"), [sys.executable, "-m", "pip", "--python", python]
    run_program(*pip, "install", *alone, *sdists, cwd=folder, CC="no-such-compiler")
    where = "from penstock.io.kernel import native; print(native.__file__, native.ENABLED)"
    path, is_enabled = run_program(python, "-c", where, cwd=folder).stdout.split()
    assert path.startswith(own)
    assert is_enabled == "False"
    return python


def test_workers_that_have_the_sdist_alone_write_the_same_bytes(tmp_path, inputs, prism, bare_python, worker_pool):
    pool, flags = worker_pool(bare_python)
    flags = {"here": [], "there": ["--runner=PrismRunner", f"--prism_location={prism}", *flags]}
    for name in flags:
        assert run([*inputs, f"--output={tmp_path}/{name}", *flags[name]]) == 0
    assert written(tmp_path / "there")[0] == written(tmp_path / "here")[0]
    log = pool.tail(100_000)
    assert f"workers in {bare_python}" in log
    assert re.search("^worker .*: process", log, re.MULTILINE)


def test_prism_writes_the_bytes_that_fn_api_runner_writes(tmp_path, inputs, prism):
    for name, flags in (("fn_api", []), ("prism", ["--runner=PrismRunner", f"--prism_location={prism}"])):
        assert run([*inputs, f"--output={tmp_path}/{name}", *flags]) == 0
    (expected, reference), (found, manifest) = written(tmp_path / "fn_api"), written(tmp_path / "prism")
    assert found == expected
    assert (manifest.rows_in, manifest.rows_out, manifest.rows_rejected) == (
        1200,
        reference.rows_out,
        reference.rows_rejected,
    )
    assert manifest.rejected_by_reason == reference.rejected_by_reason
    assert set(manifest.rejected_by_reason) == {"schema.type", "schema.domain"}


def test_prism_fits_and_applies_features(tmp_path, inputs, prism):
    pytest.importorskip("tensorflow_transform")
    flags = ["--runner=PrismRunner", f"--prism_location={prism}"]
    assert run([*inputs, f"--features={tmp_path}/features.yaml", f"--output={tmp_path}/fitted", *flags]) == 0
    graph = f"--transform={tmp_path}/fitted/transform"
    assert run([*inputs, graph, f"--output={tmp_path}/applied"]) == 0
    assert written(tmp_path / "applied")[0] == written(tmp_path / "fitted")[0]


MODULE = """
import tensorflow_transform as tft
from beside import SCALED

def preprocessing_fn(inputs):
    return {"fare_xf": tft.scale_to_z_score(inputs[SCALED]), "id_xf": inputs["id"]}
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A file with a module beside it, in the working directory of this process and on its path: on no worker's."""
    pytest.importorskip("tensorflow_transform")
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "beside.py").write_text('SCALED = "fare"\n')
    (folder / "only_here_fares.py").write_text(MODULE)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)


@pytest.mark.usefixtures("module")
def test_a_file_of_features_goes_to_workers_that_do_not_have_it(tmp_path, inputs, prism, worker_pool):
    with contextlib.chdir(tmp_path):
        _, flags = worker_pool()
    there = ["--runner=PrismRunner", f"--prism_location={prism}", *flags]
    name = "--features=only_here_fares.py"
    for output, more in (("here", []), ("there", there)):
        assert run([*inputs, name, f"--output={tmp_path}/{output}", *more]) == 0
    assert written(tmp_path / "there")[0] == written(tmp_path / "here")[0]
    with pytest.raises(ConfigError, match=r"on a worker, .*'only_here_fares'.*or pass the file, only_here_fares\.py:"):
        run([*inputs, "--features=only_here_fares:preprocessing_fn", f"--output={tmp_path}/failed", *there])


def test_too_many_rejects_and_inferred_schemas_on_prism(tmp_path, inputs, prism):
    flags = [inputs[0], "--runner=PrismRunner", f"--prism_location={prism}"]
    assert run([*flags, f"--output={tmp_path}/inferred"]) == 0
    assert read_manifest(f"{tmp_path}/inferred").rows_out == 1200
    with pytest.raises(Exception, match="rows were rejected, more than --max_reject_fraction 0 allows"):
        run([*flags, inputs[1], f"--output={tmp_path}/failed", "--max_reject_fraction=0"])
    assert read_manifest(f"{tmp_path}/failed") is None


def test_the_tests_of_the_main_job_and_the_sink_pass_on_prism(prism):
    """Those that hold a runner to something."""
    files = ("pipelines/test_prepare.py", "pipelines/test_prepare_features.py")
    files += ("io/test_write.py", "io/dataset/windowed/test_sink.py")
    paths = [str(pathlib.Path(__file__).parents[1] / file) for file in files]
    # Beam's threads of a job that has ended may still complain that Prism forgot about it; and a pipeline that a test
    # makes itself runs on Beam's own Prism, which Beam forgets before it has ended.
    quiet = [f"-Wignore::pytest.Pytest{what}Warning" for what in ("UnhandledThreadException", "UnraisableException")]
    flags = f"--runner=PrismRunner --prism_location={shlex.quote(prism)}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "each_runner", *quiet, *paths]
    done = subprocess.run(command, env={**os.environ, "PENSTOCK_TEST_FLAGS": flags}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:]
