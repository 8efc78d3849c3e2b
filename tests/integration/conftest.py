"""The runners, brokers and clusters that integration tests start; each is built once and ends with the test session."""

import os
import pathlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator

import apache_beam
import pytest

# What deploy/ has for users is what tests run on; it is no part of the package, and found behind everything else.
sys.path.append(str(pathlib.Path(__file__).parents[2]))

from deploy.flink import worker_pool as worker_pool_program
from deploy.flink.job_server import job_server_jar
from deploy.flink.local_cluster import LocalCluster
from deploy.flink.service import Service, free_port, is_listening
from services.kafka_broker import KafkaBroker, broker_jars

PRISM = f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{apache_beam.__version__}"
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache")) / "penstock-tests"


def need(*programs: str) -> None:
    """Skips the test where a program is missing; where PENSTOCK_NO_SKIP is set, as in CI, that is a failure."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing and os.environ.get("PENSTOCK_NO_SKIP"):
        pytest.fail(f"not in the PATH: {', '.join(missing)}")
    if missing:
        pytest.skip(f"not in the PATH: {', '.join(missing)}")


@pytest.fixture(scope="session")
def prism() -> str:
    """The path of a Prism that was built once."""
    need("go")
    binary = CACHE / f"prism-{apache_beam.__version__}"
    if not binary.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        subprocess.run(["go", "install", PRISM], env={**os.environ, "GOBIN": str(CACHE)}, check=True)
        (CACHE / "prism").rename(binary)
    return str(binary)


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
