"""Writes card transactions with fraud in them, the same for the same seed, as JSON Lines or to a Kafka topic.

Each card pays at shops near its home, at some more often than at others. Fraud comes in episodes of minutes: `testing`
(many small payments to see whether a stolen card works), `travel` (payments in the wrong place), `drain` (larger and
larger ones). No single payment of fraud stands out from all honest ones: honest cards travel too, and buy tickets one
after the other. What gives fraud away is how often, how far apart and how much within an hour.
"""

import argparse
import datetime
import json
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

MERCHANTS = 2_000
FAVOURITES = 12
# The world is a square with sides of this length.
WORLD_KM = 2_000
HOUR = 3600.0

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class World(NamedTuple):
    """Cards and shops: their locations, how much each card spends, and its favourite shops."""

    homes: Floats
    shops: Floats
    spends: Floats
    favourites: Ints


class Payments(NamedTuple):
    """Payments as columns: seconds since the start, card, shop, amount, whether it is fraud."""

    seconds: Floats
    cards: Ints
    shops: Ints
    amounts: Floats
    fraud: Ints


def make_world(rng: np.random.Generator, cards: int) -> World:
    """Makes a world in which each card prefers the nearest of some random shops."""
    homes, shops = rng.random((cards, 2)) * WORLD_KM, rng.random((MERCHANTS, 2)) * WORLD_KM
    candidates = rng.integers(0, MERCHANTS, (cards, 20 * FAVOURITES))
    distances = np.linalg.norm(shops[candidates] - homes[:, None], axis=2)
    nearest = np.argsort(distances, axis=1)[:, :FAVOURITES]
    return World(homes, shops, rng.normal(3.2, 0.5, cards), np.take_along_axis(candidates, nearest, axis=1))


def everyday(rng: np.random.Generator, world: World, rows: int, seconds: float) -> Payments:
    """Makes payments at any time, mostly at favourite shops."""
    cards = rng.integers(0, len(world.homes), rows)
    at_favourites = world.favourites[cards, rng.integers(0, FAVOURITES, rows)]
    shops = np.where(rng.random(rows) < 0.9, at_favourites, rng.integers(0, MERCHANTS, rows))
    amounts = rng.lognormal(world.spends[cards], 0.8)
    return Payments(rng.random(rows) * seconds, cards, shops, amounts, np.zeros(rows, np.int64))


class Pattern(NamedTuple):
    """A pattern of fraud: number of payments, seconds between them, amounts relative to the card's, and where."""

    fewest: int
    most: int
    gap: float
    scale: float
    growth: float
    at_favourites: bool
    fraud: bool


PATTERNS = {
    "testing": Pattern(6, 14, 25, 0.15, 1.0, False, True),
    "travel": Pattern(3, 6, 240, 1.5, 1.0, False, True),
    "drain": Pattern(4, 8, 90, 1.0, 1.6, False, True),
    "tickets": Pattern(2, 6, 30, 0.15, 1.0, True, False),
    "trip": Pattern(2, 5, 2 * HOUR, 1.2, 1.0, False, False),
}


def episode(rng: np.random.Generator, world: World, pattern: Pattern, seconds: float) -> Payments:
    """Makes one episode with a random card at a random time."""
    count = int(rng.integers(pattern.fewest, pattern.most + 1))
    card = int(rng.integers(0, len(world.homes)))
    times = rng.random() * seconds + np.cumsum(rng.exponential(pattern.gap, count))
    shops = rng.choice(world.favourites[card], count) if pattern.at_favourites else rng.integers(0, MERCHANTS, count)
    amounts = rng.lognormal(world.spends[card], 0.6, count) * pattern.scale * pattern.growth ** np.arange(count)
    return Payments(times, np.full(count, card), shops, amounts, np.full(count, int(pattern.fraud)))


def make_payments(rng: np.random.Generator, world: World, rows: int, seconds: float) -> Payments:
    """Makes about `rows` payments in order of time; one in 100 is fraud."""
    parts = [everyday(rng, world, rows, seconds)]
    for pattern in PATTERNS.values():
        part = 0.01 / 3 if pattern.fraud else 0.02
        episodes = max(1, round(rows * part / ((pattern.fewest + pattern.most) / 2)))
        parts += [episode(rng, world, pattern, seconds) for _ in range(episodes)]
    joined = Payments(*map(np.concatenate, zip(*parts, strict=True)))
    inside = np.flatnonzero(joined.seconds < seconds)
    order = inside[np.argsort(joined.seconds[inside], kind="stable")]
    return Payments(*(column[order] for column in joined))


def rows_of(payments: Payments, world: World, start: datetime.datetime) -> Iterator[dict[str, Any]]:
    """Yields the payments as events; `km` is the distance of the shop from the card's home."""
    distances = np.linalg.norm(world.shops[payments.shops] - world.homes[payments.cards], axis=1)
    columns = zip(*(column.tolist() for column in payments), distances.tolist(), strict=True)
    for number, (seconds, card, shop, amount, fraud, km) in enumerate(columns):
        at = start + datetime.timedelta(milliseconds=int(seconds * 1000))
        yield {
            "id": number,
            "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "card": f"card-{card:06d}",
            "merchant": f"shop-{shop:05d}",
            "amount": round(amount, 2),
            "km": round(km, 1),
            "fraud": fraud,
        }


def write_file(rows: Iterable[dict[str, Any]], path: pathlib.Path) -> None:
    """Writes one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def write_topic(rows: Iterable[dict[str, Any]], uri: str, rate: float, partitions: int) -> None:
    """Writes to `kafka://HOST:PORT/TOPIC`, keyed by card, `rate` events a second (0: as fast as possible)."""
    from confluent_kafka import KafkaError, KafkaException, Producer
    from confluent_kafka.admin import AdminClient, NewTopic

    brokers, _, topic = uri.removeprefix("kafka://").partition("/")
    admin = AdminClient({"bootstrap.servers": brokers})  # named: what a client has begun ends with it
    try:
        admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(60)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            sys.exit(f"{uri}: the topic cannot be created: {error.args[0].str()}")
        print("the topic is there already", file=sys.stderr)
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 20, "enable.idempotence": True})
    began = time.monotonic()
    for number, row in enumerate(rows):
        if rate:
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
        while True:
            try:
                producer.produce(topic, json.dumps(row), key=row["card"], on_delivery=_check_delivery)
                break
            except BufferError:
                producer.poll(1)
        producer.poll(0)
    producer.flush()


def _check_delivery(error: Any, message: Any) -> None:
    if error is not None:
        sys.exit(f"{message.topic()}: an event was not delivered: {error.str()}")


def main() -> None:
    """Writes the transactions to the output that the flags name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, help="a file, or kafka://HOST:PORT/TOPIC")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--cards", type=int, default=2_000)
    parser.add_argument("--hours", type=float, default=24, help="how long the transactions span")
    parser.add_argument("--start", default="2026-01-01T00:00:00Z", help="ISO 8601, or now")
    parser.add_argument("--out_of_order", type=float, default=3, help="seconds by which events come out of order")
    parser.add_argument("--rate", type=float, default=0, help="Kafka: events a second; 0 is as fast as it goes")
    parser.add_argument("--partitions", type=int, default=4, help="Kafka: of a topic that is not there yet")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    rng = np.random.default_rng(flags.seed)
    is_now = flags.start == "now"
    start = datetime.datetime.now(datetime.UTC) if is_now else datetime.datetime.fromisoformat(flags.start)
    world = make_world(rng, flags.cards)
    payments = make_payments(rng, world, flags.rows, flags.hours * HOUR)
    rows = list(rows_of(payments, world, start))
    arrival = np.argsort(payments.seconds + rng.random(len(rows)) * flags.out_of_order, kind="stable")
    arrived = (rows[number] for number in arrival.tolist())
    if flags.output.startswith("kafka://"):
        write_topic(arrived, flags.output, flags.rate, flags.partitions)
    else:
        write_file(arrived, pathlib.Path(flags.output))
    print(f"{flags.output}: {len(rows):,} transactions, {int(payments.fraud.sum()):,} of them fraud")


if __name__ == "__main__":
    main()
