"""A table of made-up flights, and faults that are seeded into it, with the feature and the code that are found."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pyarrow as pa

Columns = dict[str, np.ndarray]

CARRIERS = ("United", "JetBlue", "ExpressJet", "Delta", "American", "Envoy", "US Airways", "Endeavor", "Southwest")
SHARES = (0.18, 0.16, 0.16, 0.14, 0.12, 0.09, 0.07, 0.05, 0.03)
# Flights have the lengths of routes.
ROUTES = np.round(np.random.default_rng(0).gamma(3, 350, 400) + 90)
TEXTS = ("on time", "late because of the weather", "late because of the aircraft before", "cancelled")


def table(rows: int, seed: int) -> Columns:
    """Columns of rows of one source; None in object columns and NaN in `dep_delay` and `temp` are nulls."""
    rng = np.random.default_rng(seed)
    delay = np.where(rng.random(rows) < 0.025, np.nan, np.round(rng.gamma(1.2, 20, rows) - 12))
    columns = {
        "id": 1_000_000 + rng.permutation(2 * rows)[:rows],
        "carrier": rng.choice(CARRIERS, rows, p=SHARES),
        "hour": rng.choice(24, rows, p=_hours()),
        "distance": rng.choice(ROUTES, rows),
        "air_time": np.round(rng.gamma(4, 35, rows) + 20),
        "dep_delay": delay,
        "temp": np.where(rng.random(rows) < 0.01, np.nan, rng.normal(13, 8, rows)),
        "wind_speed": rng.gamma(2, 5.3, rows),
        "note": rng.choice(TEXTS, rows, p=(0.7, 0.15, 0.12, 0.03)),
        "remark": np.array([f"gate {rng.integers(9999)} {'x' * int(size)}" for size in rng.gamma(3, 8, rows)]),
        "late": (rng.random(rows) < 0.2).astype(np.int64),
    }
    # Columns that go together: with one another, and two of one distribution of which only one goes with a third.
    weather = -0.9 * (columns["temp"] - 13) / 8 + rng.normal(0, 0.45, rows)
    return columns | {
        "arr_delay": np.round(delay + rng.normal(-4, 12, rows)),
        "humid_origin": np.round(60 + 15 * np.where(np.isnan(weather), 0, weather)),
        "humid_dest": np.round(60 + 15 * rng.normal(0, 1, rows)),
    }


def _hours() -> np.ndarray:
    shares = np.exp(-0.5 * ((np.arange(24) - 8) / 2.5) ** 2) + 0.8 * np.exp(-0.5 * ((np.arange(24) - 17) / 2.5) ** 2)
    return shares / shares.sum()


def batch(columns: Columns) -> pa.RecordBatch:
    """The columns as a batch: NaN of floats is null."""
    return pa.RecordBatch.from_pydict({name: pa.array(values, from_pandas=True) for name, values in columns.items()})


@dataclasses.dataclass(frozen=True)
class Drift:
    """A fault: what it does to a table, and what must be found first."""

    name: str
    make: Callable[[Columns, np.random.Generator], Columns]
    subject: str
    code: str


def _with(name: str, function: Callable[[np.ndarray, np.random.Generator], np.ndarray]):
    def make(columns: Columns, rng: np.random.Generator) -> Columns:
        return columns | {name: function(columns[name], rng)}

    return make


def _some(values: np.ndarray, rng: np.random.Generator, part: float, value: object) -> np.ndarray:
    return np.where(rng.random(len(values)) < part, value, values)


def _close(carriers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where(carriers == "Southwest", "Delta", carriers)


def _blur(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return values + rng.normal(0, 15, len(values)) ** 3 / 100


def _swap(columns: Columns, rng: np.random.Generator) -> Columns:
    return columns | {"distance": columns["air_time"], "air_time": columns["distance"]}


def _swap_alike(columns: Columns, rng: np.random.Generator) -> Columns:
    return columns | {"humid_origin": columns["humid_dest"], "humid_dest": columns["humid_origin"]}


def _repeat(columns: Columns, rng: np.random.Generator) -> Columns:
    half = len(columns["id"]) // 2
    return {name: np.concatenate([values[:half], values[:half]]) for name, values in columns.items()}


DRIFTS = (
    Drift("shifted mean", _with("dep_delay", lambda x, _: x + 10), "dep_delay", "mean"),
    Drift("unit change", _with("distance", lambda x, _: x * 1.609344), "distance", "scale"),
    Drift("Celsius to Fahrenheit", _with("temp", lambda x, _: x * 1.8 + 32), "temp", "scale"),
    Drift("swapped columns", _swap, "air_time", "swapped"),
    Drift("new category", _with("carrier", lambda x, rng: _some(x, rng, 0.02, "Newcomer")), "carrier", "new_values"),
    Drift("vanished category", _with("carrier", _close), "carrier", "vanished_values"),
    Drift("doubled nulls", _with("dep_delay", lambda x, rng: _some(x, rng, 0.025, np.nan)), "dep_delay", "nulls"),
    Drift("truncated texts", _with("remark", lambda x, _: x.astype("U16")), "remark", "truncated"),
    Drift("truncated categories", _with("note", lambda x, _: x.astype("U10")), "note", "truncated"),
    Drift("time zone", _with("hour", lambda x, _: (x + 5) % 24), "hour", "rotated"),
    Drift("duplicated rows", _repeat, "dataset", "repeated_rows"),
    Drift("stuck sensor", _with("wind_speed", lambda x, rng: _some(x, rng, 0.3, 4.25)), "wind_speed", "stuck"),
    Drift("dead sensor", _with("wind_speed", lambda x, _: np.full(len(x), 0.0)), "wind_speed", "stuck"),
    Drift("sentinel for null", _with("dep_delay", lambda x, rng: _some(x, rng, 0.1, -999)), "dep_delay", "stuck"),
    Drift("changed scale", _with("air_time", lambda x, _: x * 60), "air_time", "scale"),
    Drift("changed sign", _with("dep_delay", lambda x, _: -x), "dep_delay", "sign"),
    Drift("ids start anew", _with("id", lambda x, _: x - x.min() + 1), "id", "restarted"),
    Drift("label flip", _with("late", lambda x, _: 1 - x), "late", "flipped"),
    Drift("changed balance", _with("late", lambda x, rng: _some(x, rng, 0.15, 1)), "late", "balance"),
    Drift("rounding", _with("temp", lambda x, _: np.round(x, 1)), "temp", "precision"),
    Drift("saturated", _with("wind_speed", lambda x, _: np.minimum(x, 12)), "wind_speed", "clipped"),
    Drift("other case", _with("carrier", lambda x, _: np.char.upper(x)), "carrier", "spelling"),
    Drift("rows that no longer belong together", _with("arr_delay", lambda x, rng: rng.permutation(x)), "arr_delay",
          "correlation"),
    Drift("swapped columns of one distribution", _swap_alike, "humid_dest", "swapped"),
    Drift("wider spread", _with("temp", _blur), "temp", "distribution"),
)  # fmt: skip
