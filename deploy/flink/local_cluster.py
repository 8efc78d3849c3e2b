"""A real Flink cluster on this machine, on loopback only: a JobManager, TaskManagers and a pool of Python workers.

::

    python -m deploy.flink.local_cluster start
    python -m deploy.flink.local_cluster run prepare --input ... --output ...
    python -m deploy.flink.local_cluster status
    python -m deploy.flink.local_cluster savepoint JOB_ID
    python -m deploy.flink.local_cluster restart job-manager
    python -m deploy.flink.local_cluster stop

`run` is `python -m pipelines.JOB` with the cluster's `flags` before its own.

For trying things and for tests: state is in files of this machine, and there is one JobManager.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from typing import Any

from deploy.flink.job_server import FLINK_VERSION, job_server_jar
from deploy.flink.remembered import Remembered
from deploy.flink.rest import FlinkRest
from deploy.flink.service import Service, free_port, is_listening, pool_workers

_HERE = pathlib.Path(__file__).parent
_RESTARTS = 3
_JOB_MANAGER = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
_ZOOKEEPER = "org.apache.flink.runtime.zookeeper.FlinkZooKeeperQuorumPeer"
_TASK_MANAGER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"


class LocalCluster:
    """The services of a cluster in a folder: `conf/`, `log/`, `checkpoints/`, `savepoints/`, `tmp/`.

    With high availability, there is a ZooKeeper too, and `ha/`: a JobManager that is started again finds its jobs.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        jar: pathlib.Path,
        rest_port: int = 0,
        task_managers: int = 2,
        high_availability: bool = False,
    ):
        self.folder, self.jar = folder.resolve(), jar.resolve()
        self.rest_port, self.pool_port, self.job_port = rest_port or free_port(), free_port(), free_port()
        self.rest = FlinkRest(f"http://localhost:{self.rest_port}")
        self.zookeeper_port = free_port() if high_availability else None
        zoo = ["--zkConfigFile", self.folder / "conf" / "zoo.cfg", "--peerId", "1"]
        self.zookeeper = self._java("zookeeper", _ZOOKEEPER, "-Xmx128m", arguments=zoo)
        self.job_manager = self._java("job-manager", _JOB_MANAGER, "-Xmx768m")
        self.task_managers = [
            self._java(f"task-manager-{number}", _TASK_MANAGER, "-Xmx640m", "-XX:MaxDirectMemorySize=384m")
            for number in range(1, task_managers + 1)
        ]
        self.job_server = Service("job-server", self._job_server(), self.folder / "log")
        pool = [sys.executable, _HERE / "worker_pool.py", str(self.pool_port)]
        self.worker_pool = Service("worker-pool", pool, self.folder / "log")

    @property
    def services(self) -> list[Service]:
        """All of them, in the order of starting."""
        first = [self.zookeeper] if self.zookeeper_port else []
        return [*first, self.job_manager, *self.task_managers, self.job_server, self.worker_pool]

    def flags(self) -> list[str]:
        """What a job's command line needs to run here."""
        return [
            "--runner=FlinkRunner",
            f"--flink_master=localhost:{self.rest_port}",
            f"--flink_version={FLINK_VERSION}",
            f"--job_endpoint=localhost:{self.job_port}",
            # The job server would send its jar along with each job: the cluster has it.
            f"--files_to_stage={self.folder / 'nothing.jar'}",
            "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{self.pool_port}",
        ]

    def start(self) -> None:
        """Starts all services and returns when they are ready.

        Raises:
          RuntimeError: when one of them does not start; the others are stopped.
        """
        if is_listening(self.rest_port):
            raise RuntimeError(f"port {self.rest_port} is taken: is another cluster running? --rest_port takes another")
        for name in ("conf", "log", "checkpoints", "savepoints", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "conf" / "config.yaml").write_text(self._configuration())
        (self.folder / "conf" / "zoo.cfg").write_text(self._zookeeper())
        with zipfile.ZipFile(self.folder / "nothing.jar", "w") as jar:
            jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n")
        try:
            self.worker_pool.start()
            if port := self.zookeeper_port:
                self.zookeeper.start()
                self.zookeeper.wait_for(lambda: is_listening(port))
            # One after the other: Flink gives its RPC system 10 s to start, whatever is configured, and then ends.
            for number, service in enumerate([self.job_manager, *self.task_managers]):
                service.start()
                service.wait_for(lambda number=number: self.rest.is_up(number), restarts=_RESTARTS)
            self.job_server.start()
            self.job_server.wait_for(lambda: is_listening(self.job_port))
            self.worker_pool.wait_for(lambda: is_listening(self.pool_port))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends all services."""
        for service in reversed(self.services):
            service.stop()

    def workers(self) -> list[int]:
        """The processes of the Python workers, one for each TaskManager with a job."""
        return pool_workers(self.worker_pool.pid)

    def _job_server(self) -> list[str | pathlib.Path]:
        """Jobs would start one for themselves, in some seconds, and take what they staged along when they end."""
        ports = ["--job-port", str(self.job_port), "--artifact-port", "0", "--expansion-port", "0"]
        folder = ["--artifacts-dir", self.folder / "artifacts"]
        options = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", f"-Djava.io.tmpdir={self.folder / 'tmp'}"]
        return ["java", *options, "-jar", self.jar, "--flink-master", f"localhost:{self.rest_port}", *ports, *folder]

    def _java(
        self, name: str, main: str, *options: str, arguments: Sequence[str | pathlib.Path] | None = None
    ) -> Service:
        command = ["java", f"@{_HERE / 'jvm.options'}", *options, f"-Djava.io.tmpdir={self.folder / 'tmp'}"]
        arguments = ["-c", self.folder / "conf"] if arguments is None else arguments
        return Service(name, [*command, "-cp", self.jar, main, *arguments], self.folder / "log")

    def _zookeeper(self) -> str:
        """ZooKeeper's configuration: one server, which keeps its files in the cluster's folder."""
        values = {
            "dataDir": self.folder / "zookeeper",
            "clientPort": self.zookeeper_port,
            "clientPortAddress": "localhost",
            "admin.enableServer": "false",
            "tickTime": 2000,
        }
        return "".join(f"{name}={value}\n" for name, value in values.items())

    def _high_availability(self) -> dict[str, object]:
        if self.zookeeper_port is None:
            return {}
        return {
            "high-availability.type": "zookeeper",
            "high-availability.zookeeper.quorum": f"localhost:{self.zookeeper_port}",
            # ZooKeeper has who leads, and names of files; the files are here: jobs, and where their checkpoints are.
            "high-availability.storageDir": f"file://{self.folder / 'ha'}",
        }

    def _configuration(self) -> str:
        """Flink's configuration, as JSON, which is YAML."""
        values = {
            "jobmanager.rpc.address": "localhost",
            "jobmanager.rpc.port": free_port(),
            "jobmanager.bind-host": "localhost",
            "jobmanager.memory.process.size": "1024m",
            "rest.address": "localhost",
            "rest.bind-address": "localhost",
            "rest.port": self.rest_port,
            "taskmanager.host": "localhost",
            "taskmanager.bind-host": "localhost",
            "taskmanager.numberOfTaskSlots": 2,
            # A job of two tasks uses both TaskManagers, and goes on with one of them while the other is away.
            "taskmanager.load-balance.mode": "SLOTS",
            # All of them, since the TaskManager is started without Flink's scripts, which would work them out.
            "taskmanager.cpu.cores": 2.0,
            "taskmanager.memory.task.heap.size": "512m",
            "taskmanager.memory.task.off-heap.size": "128m",
            "taskmanager.memory.framework.heap.size": "128m",
            "taskmanager.memory.framework.off-heap.size": "128m",
            "taskmanager.memory.network.min": "128m",
            "taskmanager.memory.network.max": "128m",
            # By default each shuffle of a batch job takes 16 MB of that, which is too much for four tasks.
            "taskmanager.network.sort-shuffle.min-buffers": 64,
            "taskmanager.memory.managed.size": "64m",
            "taskmanager.memory.jvm-metaspace.size": "256m",
            "taskmanager.memory.jvm-overhead.min": "192m",
            "taskmanager.memory.jvm-overhead.max": "192m",
            # Beam's classes are on the class path. Loaded once more for each job, they would start a Python worker for
            # each stage, and stay behind when the job has ended.
            "classloader.resolve-order": "parent-first",
            "state.backend.type": "hashmap",
            "execution.checkpointing.dir": f"file://{self.folder / 'checkpoints'}",
            "execution.checkpointing.savepoint-dir": f"file://{self.folder / 'savepoints'}",
            "state.checkpoints.dir": f"file://{self.folder / 'checkpoints'}",
            "state.savepoints.dir": f"file://{self.folder / 'savepoints'}",
            "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
            # A TaskManager that is gone is missed soon; one that only has to wait for a busy machine is not.
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 20_000,
            "pekko.ask.timeout": "1 min",
            # Time to notice that a TaskManager is gone: a restart that reaches for it is one more that fails.
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": 20,
            "restart-strategy.fixed-delay.delay": "5 s",
            "io.tmp.dirs": str(self.folder / "tmp"),
            "blob.storage.directory": str(self.folder / "tmp"),
            **self._high_availability(),
        }
        return json.dumps(values, indent=1)


def _remembered(folder: pathlib.Path) -> Remembered:
    return Remembered(folder / "cluster.json", [_HERE])


def _start(folder: pathlib.Path, rest_port: int, high_availability: bool) -> None:
    if _remembered(folder).running():
        _status(folder)
        return
    cluster = LocalCluster(folder, job_server_jar(folder, says=print), rest_port, high_availability=high_availability)
    cluster.start()
    _remembered(folder).save(cluster.services, rest=cluster.rest.address, flags=cluster.flags())
    _status(folder)


def _stop(folder: pathlib.Path) -> None:
    _remembered(folder).end()
    print("stopped")


def _status(folder: pathlib.Path) -> None:
    rest = FlinkRest(_state(folder)["rest"])
    if not _remembered(folder).show():
        return
    print(f"web interface    {rest.address}\nlogs             {folder / 'log'}")
    try:
        jobs = rest.jobs()
    except OSError as error:
        sys.exit(f"the JobManager does not answer: {error}")
    for job in jobs:
        print(f"job {job['jid']} {job['state']:9} {job['duration'] / 1000:,.0f} s  {job['name']}")


def _run(folder: pathlib.Path, job: str, arguments: list[str]) -> None:
    command = [sys.executable, "-m", f"pipelines.{job}", *_state(folder)["flags"], *arguments]
    sys.exit(subprocess.run(command, check=False).returncode)


def _savepoint(folder: pathlib.Path, job: str) -> None:
    path = FlinkRest(_state(folder)["rest"]).stop(job, f"file://{folder.resolve() / 'savepoints'}")
    print(f"job {job} has ended; the same command with --resume --savepoint_path={path} goes on")


def _restart(folder: pathlib.Path, name: str) -> None:
    _state(folder)
    try:
        _remembered(folder).restart(name)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{name} starts; its jobs, and whether it is there: python -m deploy.flink.local_cluster status")


def _state(folder: pathlib.Path) -> dict[str, Any]:
    try:
        return _remembered(folder).load()
    except FileNotFoundError:
        sys.exit(f"no cluster in {folder}; start one: python -m deploy.flink.local_cluster start")


def main() -> None:
    """Starts, shows or stops the cluster of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path(".flink"), help="(default: %(default)s)")
    what = parser.add_subparsers(dest="what", required=True)
    start = what.add_parser("start", help="start it, and build the job server before, once")
    start.add_argument("--rest_port", type=int, default=8081, help="of the web interface (default: %(default)s)")
    start.add_argument("--ha", action="store_true", help="with ZooKeeper: jobs outlive their JobManager")
    what.add_parser("status", help="its processes and jobs")
    what.add_parser("flags", help="print what a job needs to run on it")
    run = what.add_parser("run", help="run a job on it, with the job's flags behind its name", prefix_chars="\0")
    run.add_argument("job", help="prepare, fit, ...")
    run.add_argument("arguments", nargs=argparse.REMAINDER)
    restart = what.add_parser("restart", help="kill one of its processes, and start it again")
    restart.add_argument("name", help="as status has it, such as job-manager")
    savepoint = what.add_parser("savepoint", help="end a job and keep its state")
    savepoint.add_argument("job", help="its id, as status has it")
    what.add_parser("stop", help="end it")
    arguments = parser.parse_args()
    match arguments.what:
        case "start":
            _start(arguments.folder, arguments.rest_port, arguments.ha)
        case "status":
            _status(arguments.folder)
        case "flags":
            print(*_state(arguments.folder)["flags"])
        case "run":
            _run(arguments.folder, arguments.job, arguments.arguments)
        case "savepoint":
            _savepoint(arguments.folder, arguments.job)
        case "restart":
            _restart(arguments.folder, arguments.name)
        case "stop":
            _stop(arguments.folder)


if __name__ == "__main__":
    main()
