"""A real Kafka broker on this machine, on loopback only; its topics stay when it is stopped, and are there again.

::

    python -m deploy.kafka.local_broker start
    python -m deploy.kafka.local_broker topic payments --partitions 4
    python -m deploy.kafka.local_broker status
    python -m deploy.kafka.local_broker stop

For trying things: one node, nothing replicated, no passwords.
"""

import argparse
import pathlib
import sys
from typing import Any

from deploy.flink.remembered import Remembered
from deploy.kafka.broker import KAFKA_VERSION, KafkaBroker, broker_jars, create_topic, topics

_PORT = 9092


def _remembered(folder: pathlib.Path) -> Remembered:
    return Remembered(folder / "broker.json")


def _start(folder: pathlib.Path, port: int) -> None:
    if _remembered(folder).running():
        _status(folder)
        return
    jars = broker_jars(folder, says=print)
    broker = KafkaBroker(folder, jars, port=port)
    broker.start()
    _remembered(folder).save([broker.service], address=f"localhost:{broker.port}")
    _status(folder)


def _status(folder: pathlib.Path) -> None:
    address = _state(folder)["address"]
    if not _remembered(folder).show():
        return
    print(f"broker           {address}, Kafka {KAFKA_VERSION}\nlog              {folder / 'kafka.log'}")
    for name, partitions in topics(address).items():
        print(f"topic            kafka://{address}/{name}  {partitions} partitions")


def _topic(folder: pathlib.Path, name: str, partitions: int) -> None:
    address = _state(folder)["address"]
    if not _remembered(folder).running():
        sys.exit(f"the broker in {folder} is not running; start it: python -m deploy.kafka.local_broker start")
    if name in topics(address):
        print(f"kafka://{address}/{name} is there already, and stays as it is")
        return
    create_topic(address, name, partitions)
    print(f"kafka://{address}/{name}")


def _state(folder: pathlib.Path) -> dict[str, Any]:
    try:
        return _remembered(folder).load()
    except FileNotFoundError:
        sys.exit(f"no broker in {folder}; start one: python -m deploy.kafka.local_broker start")


def _stop(folder: pathlib.Path) -> None:
    _remembered(folder).end()
    print("stopped")


def main() -> None:
    """Starts, shows or stops the broker of a folder, or makes a topic there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=pathlib.Path, default=pathlib.Path(".kafka"), help="(default: %(default)s)")
    what = parser.add_subparsers(dest="what", required=True)
    start = what.add_parser("start", help="start it, and fetch it before, once")
    start.add_argument("--port", type=int, default=_PORT, help="(default: %(default)s)")
    what.add_parser("status", help="its process, address and topics")
    topic = what.add_parser("topic", help="create a topic, unless it is there")
    topic.add_argument("name")
    topic.add_argument("--partitions", type=int, default=4, help="(default: %(default)s)")
    what.add_parser("stop", help="end it; its topics stay in the folder")
    arguments = parser.parse_args()
    try:
        match arguments.what:
            case "start":
                _start(arguments.folder, arguments.port)
            case "status":
                _status(arguments.folder)
            case "topic":
                _topic(arguments.folder, arguments.name, arguments.partitions)
            case "stop":
                _stop(arguments.folder)
    except (RuntimeError, ImportError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
