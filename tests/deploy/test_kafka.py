"""The local broker's program, without Java: what is remembered between its calls, and its messages."""

import re
import socket
import sys

import pytest
from deploy.flink.remembered import Remembered
from deploy.flink.service import Service
from deploy.kafka import local_broker
from deploy.kafka.broker import KAFKA_VERSION, KafkaBroker, broker_jars

WAITS = "import sys, time; print('ready', flush=True); time.sleep(600)"
IGNORES_SIGTERM = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"


@pytest.fixture
def service(tmp_path):
    """Starts Python code as a service of a folder, whose name is in its command line."""
    services = []

    def start(code: str) -> Service:
        services.append(Service(f"service-{len(services)}", [sys.executable, "-c", code, str(tmp_path)], tmp_path))
        services[-1].start()
        services[-1].wait_for(lambda: "ready" in services[-1].tail())
        return services[-1]

    yield start
    for one in services:
        one.kill()


def reaped(*services: Service) -> None:
    """Another program would have started them: here their exit codes are taken, so that no zombies stay."""
    for one in services:
        one.wait(10)


def test_remembered_services_run_until_they_are_ended(service, tmp_path, capsys):
    polite, deaf = service(WAITS), service(IGNORES_SIGTERM)
    remembered = Remembered(tmp_path / "state.json")
    remembered.save([polite, deaf], address="here")
    assert remembered.load()["address"] == "here"
    assert remembered.running() == {"service-0": polite.pid, "service-1": deaf.pid}
    assert remembered.show()
    remembered.end(seconds=0.5)
    reaped(polite, deaf)
    assert remembered.running() == {}
    assert not remembered.show()
    assert capsys.readouterr().out.splitlines()[2:] == ["service-0        not running", "service-1        not running"]


def test_a_number_that_another_program_has_now_is_left_alone(service, tmp_path):
    other = service(WAITS)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    remembered = Remembered(folder / "state.json")
    remembered.save([other])
    assert remembered.running() == {}
    remembered.end()
    assert other.is_running


def test_a_service_is_killed_and_started_again_with_its_command(service, tmp_path):
    first = service(IGNORES_SIGTERM)
    remembered = Remembered(tmp_path / "state.json")
    remembered.save([first], address="here")
    again = remembered.restart("service-0")
    try:
        first.wait(10)
        assert remembered.running() == {"service-0": again.pid}
        assert again.pid != first.pid
        assert remembered.load()["address"] == "here"
        again.wait_for(lambda: again.tail().count("ready") == 2)
    finally:
        again.kill()
    with pytest.raises(ValueError, match="no service x; there are service-0"):
        remembered.restart("x")


def test_nothing_was_ever_started(tmp_path):
    remembered = Remembered(tmp_path / "state.json")
    assert remembered.running() == {}
    remembered.end()
    with pytest.raises(FileNotFoundError):
        remembered.show()


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["local_broker", *arguments])
    local_broker.main()


@pytest.mark.parametrize("what", [["status"], ["topic", "t"]])
def test_no_broker_says_how_to_start_one(tmp_path, monkeypatch, what):
    with pytest.raises(SystemExit, match=r"no broker in .*; start one: python -m deploy.kafka.local_broker start"):
        run(monkeypatch, "--folder", str(tmp_path), *what)


def test_a_topic_of_a_broker_that_was_stopped(service, tmp_path, monkeypatch):
    broker = service(WAITS)
    Remembered(tmp_path / "broker.json").save([broker], address="localhost:1")
    run(monkeypatch, "--folder", str(tmp_path), "stop")
    reaped(broker)
    with pytest.raises(SystemExit, match=r"is not running; start it: python -m deploy.kafka.local_broker start"):
        run(monkeypatch, "--folder", str(tmp_path), "topic", "t")


def test_java_and_maven_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="error: Java 17 and Maven are needed"):
        run(monkeypatch, "--folder", str(tmp_path / "kafka"), "start")


def test_what_is_fetched_is_said_before(tmp_path, monkeypatch):
    said = []
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError):
        broker_jars(tmp_path, says=said.append)
    assert said == [f"Fetching Kafka {KAFKA_VERSION}, once: 54 MB ..."]
    assert re.fullmatch(r"\d+\.\d+\.\d+", KAFKA_VERSION)


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(RuntimeError, match=rf"port {port} is taken: is another broker running\? --port takes"):
            KafkaBroker(tmp_path, tmp_path, port=port).start()
