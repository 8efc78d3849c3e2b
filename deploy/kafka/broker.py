"""A real Kafka broker on loopback, a single node that keeps its own metadata; killed and started again it goes on."""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Mapping

from deploy.flink.job_server import run_maven
from deploy.flink.service import Service, free_port, is_listening

_POM = pathlib.Path(__file__).with_name("pom.xml")
KAFKA_VERSION = re.search(r"<kafka.version>(.*?)<", _POM.read_text())[1]  # type: ignore[index]
# Ready soon, on a machine that has other things to do, rather than fast after an hour.
_JAVA = ("java", "-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def broker_jars(folder: pathlib.Path, says: Callable[[str], None] = lambda line: None) -> pathlib.Path:
    """The folder of the broker's jars, below a folder that keeps them: 54 MB, fetched once.

    `says` gets a line for the user before that.

    Raises:
      RuntimeError: when Maven is missing, or fails.
    """
    jars = folder / f"kafka-{hashlib.sha256(_POM.read_bytes()).hexdigest()[:8]}"
    if not jars.exists():
        says(f"Fetching Kafka {KAFKA_VERSION}, once: 54 MB ...")
        with tempfile.TemporaryDirectory() as build:
            run_maven(_POM, pathlib.Path(build), "dependency:copy-dependencies")
            folder.mkdir(parents=True, exist_ok=True)
            partial = folder / f"kafka-{uuid.uuid4().hex}"
            shutil.move(pathlib.Path(build) / "target" / "dependency", partial)
            partial.rename(jars)
    return jars


def create_topic(address: str, name: str, partitions: int, **settings: str) -> None:
    """Creates a topic of a broker, and returns when it can be used.

    Raises:
      KafkaException: when the broker refuses.
    """
    from confluent_kafka.admin import AdminClient, NewTopic

    topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=settings)
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})  # what it has begun ends with it
    admin.create_topics([topic], operation_timeout=30)[name].result(30)


def topics(address: str) -> dict[str, int]:
    """The topics of a broker, but for Kafka's own, with how many partitions each has."""
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    found = admin.list_topics(timeout=10).topics
    return {name: len(topic.partitions) for name, topic in sorted(found.items()) if not name.startswith("__")}


class KafkaBroker:
    """A broker with its data in a folder; topics have 4 partitions unless they are created with another number."""

    def __init__(self, folder: pathlib.Path, jars: pathlib.Path, settings: Mapping[str, str] = {}, port: int = 0):
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._folder = folder.resolve()
        self._class_path = os.path.join(jars.resolve(), "*")
        self._properties = self._folder / "server.properties"
        lines = {**self._settings(), **settings}
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
        command = [*_JAVA, "-cp", self._class_path, "kafka.Kafka", self._properties]
        self.service = Service("kafka", command, self._folder)

    def start(self) -> None:
        """Starts the broker, for the first time or again, and returns when it answers.

        Raises:
          RuntimeError: when it does not start, or its port is taken.
        """
        if is_listening(self.port):
            raise RuntimeError(f"port {self.port} is taken: is another broker running? --port takes another")
        if not (self._folder / "data").exists():
            self._format()
        self.service.start()
        try:
            self.service.wait_for(self._answers)
        except BaseException:
            self.service.kill()
            raise

    def kill(self) -> None:
        """Ends it with no warning; what it has acknowledged is in its files."""
        self.service.kill()

    def stop(self) -> None:
        """Ends it."""
        self.service.stop()

    def create_topic(self, name: str, partitions: int = 4, **settings: str) -> None:
        """Creates a topic and returns when it can be used."""
        create_topic(self.address, name, partitions, **settings)

    def add_partitions(self, name: str, total: int) -> None:
        """Gives a topic more partitions."""
        from confluent_kafka.admin import AdminClient, NewPartitions

        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        admin.create_partitions([NewPartitions(name, total)], operation_timeout=30)[name].result(30)

    def _answers(self) -> bool:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        if not is_listening(self.port):
            return False
        try:
            quiet = {"bootstrap.servers": self.address, "log_level": 0}
            return bool(AdminClient(quiet).list_topics(timeout=5).brokers)
        except KafkaException:
            return False

    def _format(self) -> None:
        cluster = ["-t", "cGVuc3RvY2stdGVzdHMtMDE", "-c", os.fspath(self._properties)]
        command = [*_JAVA, "-cp", self._class_path, "kafka.tools.StorageTool", "format", *cluster]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"Kafka's storage cannot be formatted:\n{(done.stdout + done.stderr)[-3000:]}")

    def _settings(self) -> dict[str, str]:
        controller = free_port()
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self._folder / "data"),
            "num.partitions": "4",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
        }
