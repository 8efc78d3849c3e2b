"""The runners, brokers and clusters that integration tests start; each is built once and ends with the test session."""

import contextlib
import functools
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from browser import NAMES, Browser, browsing, find_browser
from dealt import STORES

# What deploy/ has for users is what tests run on; it is no part of the package, and found behind everything else.
sys.path.append(str(pathlib.Path(__file__).parents[2]))

from deploy.flink import worker_pool as worker_pool_program
from deploy.flink.job_server import job_server_jar
from deploy.flink.local_cluster import LocalCluster
from deploy.flink.service import Service, free_port, is_listening
from deploy.kafka.broker import KafkaBroker, broker_jars
from deploy.prism import prism_binary
from pytorch.folder import pytorch_folder
from services.fault_proxy.client import FaultProxy, fault_proxy
from services.object_stores import Emulator, ObjectStore
from services.packages import CACHE, package_folder

AXE = "axe-core@4.14.1"


def need(*programs: str) -> None:
    """Skips the test where a program is missing; where PENSTOCK_NO_SKIP is set, as in CI, that is a failure."""
    if missing := [program for program in programs if shutil.which(program) is None]:
        _lack(f"not in the PATH: {', '.join(missing)}")


def need_packages(*names: str) -> None:
    """The same for packages of Python."""
    if missing := [name for name in names if importlib.util.find_spec(name) is None]:
        _lack(f"not installed: {', '.join(missing)}")


def _lack(what: str) -> None:
    (pytest.fail if os.environ.get("PENSTOCK_NO_SKIP") else pytest.skip)(what)


@pytest.fixture(scope="session")
def pytorch() -> pathlib.Path:
    """A folder with PyTorch, for PYTHONPATH."""
    need("cc", "readelf")
    return pytorch_folder(CACHE)


@pytest.fixture(scope="session")
def webdataset() -> pathlib.Path:
    """A folder with the package of that name, for PYTHONPATH."""
    return package_folder(CACHE, ("webdataset==1.0.2", "braceexpand==0.1.7"))


@pytest.fixture(scope="session")
def jax() -> pathlib.Path:
    """A folder with JAX and optax, for PYTHONPATH; what else they import comes with TensorFlow."""
    need_packages("ml_dtypes", "opt_einsum", "absl")
    return package_folder(CACHE, ("jax==0.10.2", "jaxlib==0.10.2", "optax==0.2.8"))


@pytest.fixture(scope="session")
def grain() -> pathlib.Path:
    """A folder with grain, for PYTHONPATH; what else it imports comes with array_record."""
    need_packages("array_record")
    return package_folder(CACHE, ("grain==0.2.18", "cloudpickle==3.1.3", "portpicker==1.6.0"))


@pytest.fixture(scope="session")
def mlcroissant() -> pathlib.Path:
    """A folder with the package of that name and what it needs beside ours, for PYTHONPATH."""
    needed = ("networkx==3.6.1", "rdflib==7.6.0", "jsonpath-rw==1.4.0", "ply==3.11", "decorator==5.3.1", "tqdm==4.70.1")
    return package_folder(CACHE, ("mlcroissant==1.1.1", *needed))


@pytest.fixture(scope="session")
def openlineage() -> pathlib.Path:
    """A folder with the classes of OpenLineage's events, for PYTHONPATH."""
    return package_folder(CACHE, ("openlineage-python==1.54.0",))


@pytest.fixture(scope="session")
def streaming() -> pathlib.Path:
    """A folder with MosaicML's package of that name, for PYTHONPATH."""
    return package_folder(CACHE, ("mosaicml-streaming==0.13.0",))


@pytest.fixture(scope="session")
def prism() -> str:
    """The path of a Prism that was built once."""
    need("go")
    return str(prism_binary(CACHE))


@pytest.fixture(scope="session")
def browser(tmp_path_factory) -> Iterator[Browser]:
    """A browser; a test opens a page of its own in it."""
    program = find_browser()
    if program is None:
        need(NAMES[0])
    with browsing(program, tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core, which judges what a page is for people with disabilities."""
    need("npm")
    folder = CACHE / AXE
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        folder.mkdir(parents=True, exist_ok=True)
        flags = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
        subprocess.run(["npm", "install", *flags, AXE], check=True, capture_output=True, timeout=300)
    return script.read_text()


@pytest.fixture(scope="session")
def kafka_jars() -> pathlib.Path:
    """The folder of the broker's jars, for a test that kills its own broker or configures it."""
    need("java", "mvn")
    pytest.importorskip("confluent_kafka")
    return broker_jars(CACHE)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory, kafka_jars) -> Iterator[KafkaBroker]:
    """A broker; a test takes a topic of its own, and leaves the broker running."""
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"), kafka_jars)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def flink_jar() -> pathlib.Path:
    """Beam's job server for Flink, in one jar."""
    need("java", "mvn")
    return job_server_jar(CACHE)


@pytest.fixture(scope="session")
def spark_jar() -> pathlib.Path:
    """Beam's job server for Spark, in one jar."""
    need("java", "mvn")
    return job_server_jar(CACHE, "spark")


@pytest.fixture
def worker_pool(tmp_path) -> Iterator[Callable[..., tuple[Service, list[str]]]]:
    """Starts Python workers in an interpreter, this one if none is named; gives the pool and a job's flags for it."""
    pools = []

    def start(python: str | os.PathLike[str] = sys.executable) -> tuple[Service, list[str]]:
        port = free_port()
        pools.append(Service(f"pool-{port}", [python, worker_pool_program.__file__, str(port)], tmp_path))
        pools[-1].start()
        pools[-1].wait_for(lambda: is_listening(port))
        return pools[-1], ["--environment_type=EXTERNAL", f"--environment_config=localhost:{port}"]

    yield start
    for pool in pools:
        pool.stop()


@pytest.fixture(scope="session")
def flink_cluster(tmp_path_factory, flink_jar) -> Iterator[LocalCluster]:
    """A JobManager, two TaskManagers and a worker pool; `flags()` lets a job run there. A test cancels its jobs."""
    cluster = LocalCluster(tmp_path_factory.mktemp("flink"), flink_jar)
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(scope="session")
def s3(emulator_of) -> Emulator:
    """A store that speaks S3; a test takes a bucket of its own."""
    need_packages("moto", "flask_cors")
    return emulator_of("s3")


@pytest.fixture(scope="session")
def azure(emulator_of) -> Emulator:
    """A store that speaks Azure's blobs."""
    need("node", "npm")
    return emulator_of("az")


@pytest.fixture(scope="session")
def gcs(emulator_of) -> Emulator:
    """A store that speaks Google's API."""
    need("go")
    return emulator_of("gs")


@pytest.fixture(params=STORES)
def emulator(request) -> Emulator:
    """Each of the three stores."""
    return request.getfixturevalue({"s3": "s3", "az": "azure", "gs": "gcs"}[request.param])


@pytest.fixture(scope="session")
def proxy_before(tmp_path_factory) -> Iterator[Callable[[Emulator], FaultProxy]]:
    """The proxy before a store, which runs from when it is first asked for."""
    with contextlib.ExitStack() as stack:

        @functools.cache
        def proxy_before(emulator: Emulator) -> FaultProxy:
            return stack.enter_context(fault_proxy(emulator.endpoint, tmp_path_factory.mktemp("proxy")))

        yield proxy_before


@pytest.fixture
def proxy(emulator, proxy_before) -> FaultProxy:
    """The proxy before the store, with no plan, and nothing counted."""
    found = proxy_before(emulator)
    found.plan()
    found.count_anew()
    return found


@pytest.fixture
def bucket(emulator, proxy) -> ObjectStore:
    """An empty bucket, reached through the proxy."""
    return emulator.at(proxy.endpoint, emulator.new_bucket().bucket)
