"""Produces card payments to a Kafka topic as they happen: most in order, some late, some too late, some wrong.

::

    python -m examples.stream.produce --to kafka://localhost:9092/payments --rate 500 --seconds 60

A payment has its `time` in milliseconds since 1970. Of 1,000, about 30 come 5 to 12 seconds late, as from a shop whose
network was slow, 5 come a minute late, and 2 have an amount below 0, which the schema beside this file forbids.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

_TICK_SECONDS = 0.05
_CARDS, _MERCHANTS = 5_000, 400
# Shares of the payments, and their delays in seconds.
_LATE, _TOO_LATE, _WRONG = 0.030, 0.005, 0.002
_LATE_SECONDS, _TOO_LATE_SECONDS = (5, 12), (60, 70)


def payments(seed: int) -> Iterator[dict[str, Any]]:
    """Yields payments without end, the same for a seed but for their times: `behind` is how late one is, in seconds."""
    random, number = np.random.default_rng(seed), 0
    while True:
        kind, wrong = random.random(2)
        late = _TOO_LATE_SECONDS if kind < _TOO_LATE else _LATE_SECONDS if kind < _TOO_LATE + _LATE else (0, 1)
        amount = round(float(random.lognormal(3, 1)), 2)
        yield {
            "id": number,
            "behind": float(random.uniform(*late)),
            "card": f"card-{random.zipf(1.5) % _CARDS:05d}",
            "merchant": f"shop-{random.integers(_MERCHANTS):03d}",
            "amount": -amount if wrong < _WRONG else amount,
        }
        number += 1


def produce(
    address: str, topic: str, rate: float, seconds: float, seed: int = 0, goes_on: Callable[[], bool] = lambda: True
) -> int:
    """Produces so many payments a second to a topic for some time, keyed by card; returns how many, all delivered.

    Raises:
      OSError: when one is not delivered.
    """
    from confluent_kafka import Producer

    failed: list[str] = []

    def delivered(error: Any, _: Any) -> None:
        if error is not None:
            failed.append(str(error))

    producer = Producer({"bootstrap.servers": address, "linger.ms": 20, "enable.idempotence": True, "log_level": 3})
    made, sent, began = payments(seed), 0, time.time()
    while sent < rate * seconds and goes_on() and not failed:
        for _ in range(min(int((time.time() - began) * rate), int(rate * seconds)) - sent):
            payment = next(made)
            at = time.time() - payment.pop("behind")
            row = json.dumps({**payment, "time": int(at * 1000)})
            producer.produce(
                topic, row, payment["card"], on_delivery=lambda error, _: error and failed.append(str(error))
            )
            sent += 1
        producer.poll(_TICK_SECONDS)
    left = producer.flush(30)
    if failed or left:
        raise OSError(
            f"kafka://{address}/{topic}: not delivered: {failed[0] if failed else f'{left} payments in 30 s'}"
        )
    return sent


def main() -> None:
    """Produces to the topic that the flags name, until it is done or Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", required=True, help="kafka://HOST:PORT/TOPIC")
    parser.add_argument("--rate", type=float, default=500, help="payments a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    flags = parser.parse_args()
    address, _, topic = flags.to.removeprefix("kafka://").partition("/")
    if not flags.to.startswith("kafka://") or not topic:
        parser.error(f"--to must be kafka://HOST:PORT/TOPIC, got {flags.to}")
    try:
        print(f"{flags.to}: {produce(address, topic, flags.rate, flags.seconds, flags.seed):,} payments")
    except OSError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
