"""What tests of rolling features share: a spec with every operation, rows, and the features by plain Python."""

import fractions
import math

import pyarrow as pa
from hypothesis import strategies as st

from penstock.io.beam.durations import micros
from penstock.io.reserved import EVENT_TIME
from penstock.io.schema import Feature, Kind
from penstock.transforms.rolling.file import parse_rolling
from penstock.transforms.rolling.rows import bind_rolling, row_hashes

SECOND = 1_000_000

FEATURES = (
    Feature("card", Kind.BYTES, multivalued=False),
    Feature("amount", Kind.FLOAT, multivalued=False),
    Feature("points", Kind.INT, multivalued=False),
    Feature("merchant", Kind.BYTES, multivalued=False),
)

SPEC = parse_rolling("""
rolling:
  key: card
  window: 10s
  features:
    n: {op: count}
    n_long: {op: count, window: 25s}
    total: {op: sum, column: amount}
    points_total: {op: sum, column: points, window: 25s}
    average: {op: mean, column: amount, window: 25s}
    points_average: {op: mean, column: points}
    least: {op: min, column: amount}
    most: {op: max, column: points, window: 25s}
    merchants: {op: distinct, column: merchant}
    amounts: {op: distinct, column: amount, window: 25s}
    gap: {op: time_since_last, window: 40s}
""")

ROLLING = bind_rolling(SPEC, FEATURES)
NAMES = [feature.name for feature in SPEC.features]

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "card": st.sampled_from(["a", "b", "c", None]),
            "time": st.integers(0, 60).map(lambda second: second * SECOND) | st.integers(0, 60 * SECOND),
            "amount": st.none() | st.floats(-1e3, 1e3) | st.sampled_from([0.1, 1e16, -1e16, -0.0, 16777217.0]),
            "points": st.none() | st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1),
            "merchant": st.none() | st.sampled_from(["x", "y", "z"]),
        }
    ),
    max_size=25,
)


def batch_of(rows):
    """A batch of rows, as a stage before gives it."""
    columns = {
        "card": pa.array([row["card"] for row in rows], pa.string()),
        "amount": pa.array([row["amount"] for row in rows], pa.float64()),
        "points": pa.array([row["points"] for row in rows], pa.int64()),
        "merchant": pa.array([row["merchant"] for row in rows], pa.string()),
        EVENT_TIME: pa.array([row["time"] for row in rows], pa.int64()).cast(pa.timestamp("us", "UTC")),
    }
    return pa.RecordBatch.from_pydict(columns)


def table(batches):
    """The rows of batches, as they can be compared, in one order; floats by their bits."""
    rows = [tuple(map(_bits, row.values())) for batch in batches for row in batch.to_pylist()]
    return sorted(rows, key=repr)


def _bits(value):
    return value.hex() if isinstance(value, float) else value


def expected(rows):
    """The rows with their features, computed one by one: `table` of the result."""
    batch = batch_of(rows)
    ranks = row_hashes(batch, ROLLING).tolist()
    order = sorted(range(len(rows)), key=lambda row: (rows[row]["time"], ranks[row]))
    found = []
    for place, row in enumerate(order):
        seen = [rows[other] for other in order[: place + 1] if rows[other]["card"] == rows[row]["card"]]
        values = [_feature(feature, seen) if rows[row]["card"] is not None else None for feature in SPEC.features]
        found.append((*batch.slice(row, 1).to_pylist()[0].values(), *values))
    return sorted((tuple(map(_bits, row)) for row in found), key=repr)


def _feature(feature, seen):
    now = seen[-1]["time"]
    inside = [row for row in seen if row["time"] > now - micros(feature.window)]
    values = [row[feature.column] for row in inside if row[feature.column] is not None] if feature.column else []
    match feature.op:
        case "count":
            return len(inside)
        case "time_since_last":
            return (now - inside[-2]["time"]) / SECOND if len(inside) > 1 else None
        case "distinct":
            return len(set(values))
        case _ if not values:
            return None
        case "sum" if feature.column == "points":
            return sum(values) if -(2**63) <= sum(values) < 2**63 else None
        case "sum":
            return math.fsum(values)
        case "mean":
            return float(sum(map(fractions.Fraction, values))) / len(values)
        case "min":
            return min(values) + (0.0 if feature.column == "amount" else 0)
        case "max":
            return max(values)
