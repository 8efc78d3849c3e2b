"""Unique keys: against plain Python, whatever the pieces, the memory and the order of arrival."""

import random

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_stream as beam_stream
from apache_beam.testing.util import assert_that
from apache_beam.transforms.error_handling import ErrorHandler
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from depth import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.io.batches import RecordBatchCoder, origin_array, set_column
from penstock.io.beam.durations import ZERO, micros
from penstock.io.beam.spill import SpillFile, cut_by_bucket
from penstock.io.beam.windows import parse_window
from penstock.io.columns.event_times import TIME_TYPE
from penstock.io.errors import ConfigError, DataError, RejectedRecordError
from penstock.io.reserved import EVENT_TIME, ORIGIN
from penstock.io.schema import Feature, Kind
from penstock.transforms.checks.file import UniqueKey
from penstock.transforms.checks.unique import bounded, keys, transform
from penstock.transforms.checks.unique.bounded import find_duplicates
from penstock.transforms.checks.unique.keys import RowOrigin, check_unique, duplicate_reasons
from penstock.transforms.checks.unique.stream import SeenKeys, compare_with
from penstock.transforms.checks.unique.transform import RejectDuplicates

MINUTE = 60_000_000
WINDOWS = parse_window("fixed:1m")
KEY = UniqueKey(("user", "day"))
FEATURES = (Feature("user", Kind.BYTES), Feature("day", Kind.INT), Feature("xs", Kind.FLOAT, multivalued=True))
TYPES = {"user": pa.string(), "day": pa.int64(), "xs": pa.list_(pa.float64()), "n": pa.int64()}

A_ROW = st.fixed_dictionaries(
    {
        "user": st.sampled_from(["a", "b", "ab", "", "é", None]),
        "day": st.sampled_from([0, 1, -1, 2**63 - 1, None]),
        "xs": st.sampled_from([[], [0.0], [-0.0], [float("nan")], [1.0, 2.0], [2.0, 1.0], [0.1], [0.1 + 1e-12], None]),
        "n": st.integers(0, 3),
        "uri": st.sampled_from(["/a.csv", "/b.csv", "/a.csv.gz"]),
        "time": st.integers(-3 * MINUTE, 3 * MINUTE),
    }
)


def numbered(rows):
    """With positions, which are different in each file."""
    return [{**row, "position": 10 * index} for index, row in enumerate(rows)]


ROWS = st.lists(A_ROW, max_size=40).map(numbered)


def batch_of(rows):
    batch = pa.record_batch({name: pa.array([row[name] for row in rows], kind) for name, kind in TYPES.items()})
    uris = pa.array([row["uri"] for row in rows], pa.string()).dictionary_encode()
    positions = pa.array([row["position"] for row in rows], pa.int64())
    batch = set_column(batch, ORIGIN, pa.StructArray.from_arrays([uris, positions], ["uri", "position"]))
    return set_column(batch, EVENT_TIME, pa.array([row["time"] for row in rows], pa.int64()).cast(TIME_TYPE))


def origin(row):
    return row["uri"], row["position"]


def canonical(value):
    if isinstance(value, list):
        return tuple(map(canonical, value))
    if isinstance(value, float):
        return "nan" if value != value else value
    return value


def expected(rows, key, windows=None):
    """Origin of each repeated row to that of the first, in plain Python; -0.0 and 0.0 are equal keys of a dict."""
    first, found = {}, {}
    for row in sorted(rows, key=origin):
        values = tuple(canonical(row[name]) for name in key.columns)
        if None in values:
            continue
        values += (row["time"] // micros(windows.size),) if windows else ()
        if values in first:
            found[origin(row)] = first[values]
        else:
            first[values] = origin(row)
    return found


def cut(rows, size):
    return [batch_of(rows[start : start + size]) for start in range(0, len(rows), size)]


def found_in(rows, key, directory, windows=None, size=7, run_bytes=bounded.MAX_RUN_BYTES):
    with SpillFile(str(directory)) as file:
        pieces = [file.add(batch) for batch in cut(rows, size)]
    found, kept = {}, []
    for batch, repeated in find_duplicates(pieces, key, windows, run_bytes):
        origins = [(value["uri"], value["position"]) for value in batch.column(ORIGIN).to_pylist()]
        kept += origins
        found |= {origins[row]: (origin.uri, origin.position) for row, origin in repeated.items()}
    assert sorted(kept) == sorted(map(origin, rows))
    return found


KEYS = st.sampled_from([KEY, UniqueKey(("xs",)), UniqueKey(("n",)), UniqueKey(("day", "xs", "user"), "all")])


@given(ROWS, KEYS, st.sampled_from([None, WINDOWS]), st.sampled_from([100, 1000, bounded.MAX_RUN_BYTES]))
@settings(max_examples=scaled(100))
def test_duplicates_are_those_of_plain_python(tmp_path_factory, rows, key, windows, run_bytes):
    directory = tmp_path_factory.mktemp("pieces")
    assert found_in(rows, key, directory, windows, run_bytes=run_bytes) == expected(rows, key, windows)


@given(ROWS, st.randoms(), st.integers(1, 50))
@settings(max_examples=scaled(30))
def test_neither_the_order_nor_the_pieces_matter(tmp_path_factory, rows, order, size):
    shuffled = order.sample(rows, len(rows))
    assert found_in(shuffled, KEY, tmp_path_factory.mktemp("pieces"), size=size) == expected(rows, KEY)


def test_equal_hashes_of_other_keys_reject_nothing(tmp_path, monkeypatch):
    for module in (keys, bounded):
        monkeypatch.setattr(module, "hash_rows", lambda batch, *_: np.full(batch.num_rows, 7, np.uint64))
    rows = numbered([a_row(f"user {index % 5}", index % 3) for index in range(60)])
    assert found_in(rows, KEY, tmp_path, run_bytes=500) == expected(rows, KEY)
    assert len(expected(rows, KEY)) == 45
    seen = SeenKeys()
    found = {}
    for batch in cut(rows, 9):
        repeated, new = compare_with(seen, batch, KEY)
        seen.add(new)
        found |= {batch.column(ORIGIN)[row].as_py()["position"]: origin.position for row, origin in repeated.items()}
    assert found == {row[1]: first[1] for row, first in expected(rows, KEY).items()}


def a_row(user="a", day=1, time=0, xs=None, n=0, uri="/a.csv", position=0):
    return {"user": user, "day": day, "xs": xs, "n": n, "uri": uri, "time": time, "position": position}


def test_many_rows_of_one_key_need_no_more_memory_than_a_run(tmp_path):
    """Pieces of the sort are bounded, and so are the verdicts."""
    rows = numbered([a_row(n=index) for index in range(5000)])
    found = found_in(rows, KEY, tmp_path, size=500, run_bytes=20_000)
    assert found == dict.fromkeys([("/a.csv", 10 * index) for index in range(1, 5000)], ("/a.csv", 0))


def test_files_are_in_the_order_of_their_names(tmp_path):
    rows = [a_row(uri=uri, position=position) for uri, position in [("/b", 0), ("/a.b", 5), ("/a", 9), ("/a.b", 1)]]
    assert found_in(rows, KEY, tmp_path) == dict.fromkeys([("/b", 0), ("/a.b", 5), ("/a.b", 1)], ("/a", 9))


def test_a_column_that_is_not_there_is_null(tmp_path):
    with SpillFile(str(tmp_path)) as file:
        pieces = [file.add(pa.record_batch({"user": ["a", "a"]}))]
    assert [dict(repeated) for _, repeated in find_duplicates(pieces, KEY)] == [{}]


def test_rows_without_an_origin_are_compared_too(tmp_path):
    batch = pa.record_batch({"user": ["a", "b", "a"], "day": [1, 1, 1], "n": [1, 2, 3]})
    kept = set()
    for order in ([0, 1, 2], [2, 1, 0]):
        with SpillFile(str(tmp_path)) as file:
            pieces = [file.add(batch.take(pa.array(order)))]
        [(found, repeated)] = find_duplicates(pieces, KEY)
        assert list(repeated.values()) == [RowOrigin("", -1)]
        kept.add(tuple(sorted(set(range(3)) - {found.column("n")[row].as_py() - 1 for row in repeated})))
        reasons = duplicate_reasons(found, repeated, KEY)
        assert [reason.detail for [reason] in reasons.values()] == [
            "user is 'a', day is 1, as in another row, which stays"
        ]
    assert len(kept) == 1


def test_a_list_with_a_null_inside_repeats_nothing(tmp_path):
    key = UniqueKey(("x",))
    batch = pa.record_batch({"x": [[1e300], [1e301], [1.0, None], [1.0, None], [2.0], [2.0]]})
    with SpillFile(str(tmp_path)) as file:
        pieces = [file.add(batch)]
    [(_, repeated)] = find_duplicates(pieces, key)
    assert len(repeated) == 1
    assert set(repeated) < {4, 5}


def test_windows_need_event_times(tmp_path):
    with SpillFile(str(tmp_path)) as file:
        pieces = [file.add(pa.record_batch({"user": ["a"], "day": [1]}))]
    with pytest.raises(DataError, match="unique in windows needs _event_time in every row; put AssignEventTime before"):
        list(find_duplicates(pieces, KEY, WINDOWS))


@pytest.mark.parametrize(
    ("keys", "windows", "message"),
    [
        pytest.param(
            [UniqueKey(("usr",))],
            None,
            "unique 'usr': column 'usr' is not a feature of the schema; did you mean 'user'",
            id="column",
        ),
        pytest.param(
            [KEY, UniqueKey(("day",), "user_day")], None, "unique 'user_day': the name is used twice", id="name"
        ),
        pytest.param(
            [KEY], parse_window("sliding:2m/1m"), r"of sliding windows \(sliding:2m/1m\).*fixed:SIZE", id="sliding"
        ),
    ],
)
def test_keys_that_are_refused(keys, windows, message):
    with pytest.raises(ConfigError, match=message):
        check_unique(keys, FEATURES, windows)


class Kept:
    """Asserts which rows come out and which are rejected."""

    def __init__(self, rows, key=KEY, windows=None):
        self.repeated = expected(rows, key, windows)
        self.good = sorted(set(map(origin, rows)) - set(self.repeated))

    def check_good(self, batches):
        found = [value for batch in batches for value in batch.column(ORIGIN).to_pylist()]
        assert sorted((value["uri"], value["position"]) for value in found) == self.good

    def check_letters(self, letters):
        assert sorted((letter.uri, letter.position) for letter in letters) == sorted(self.repeated)
        for letter in letters:
            uri, position = self.repeated[letter.uri, letter.position]
            [reason] = letter.reasons
            assert reason.code == "unique.user_day"
            assert reason.detail.endswith(f", as in the row of {uri} at {position}, which stays")
            assert letter.stage == "validate"


def many_rows(count, seed=5):
    draw = random.Random(seed)
    return numbered(
        [
            a_row(
                draw.choice(["a", "b", "c", None]),
                draw.randrange(30),
                draw.randrange(3 * MINUTE),
                n=draw.randrange(9),
                uri=draw.choice(["/a", "/b"]),
            )
            for _ in range(count)
        ]
    )


class Letters(beam.PTransform):
    def __init__(self, check):
        super().__init__()
        self._check = check

    def expand(self, letters):
        assert_that(letters, self._check, label="Letters")
        return letters


@pytest.mark.parametrize("spilled", [True, False], ids=["files", "runner"])
@pytest.mark.parametrize("windows", [None, WINDOWS], ids=["all", "windows"])
@pytest.mark.parametrize(("size", "buckets", "seed"), [(3, 1, 1), (50, 4, 2), (1000, 16, 3)])
def test_bounded_input_however_it_is_cut(tmp_path, spilled, windows, size, buckets, seed):
    rows = many_rows(200)
    shuffled = random.Random(seed).sample(rows, len(rows))
    kept = Kept(rows, windows=windows)
    assert 20 < len(kept.repeated) < 180
    spill = str(tmp_path / "spill") if spilled else None
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        with ErrorHandler(Letters(kept.check_letters)) as handler:
            out = (
                pipeline
                | beam.Create(cut(shuffled, size))
                | RejectDuplicates(KEY, windows, spill=spill, buckets=buckets, run_bytes=2000).with_error_handler(
                    handler
                )
            )
        assert_that(out, kept.check_good, label="Good")


def test_two_keys_one_after_the_other():
    rows = [a_row("a", 1, n=1, position=0), a_row("a", 1, n=2, position=1), a_row("b", 1, n=2, position=2)]

    def check_letters(letters):
        assert [(letter.position, letter.reasons[0].code) for letter in letters] == [(1, "unique.user_day")]

    def check_good(batches):
        assert positions(batches) == [0, 2]

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        with ErrorHandler(Letters(check_letters)) as handler:
            first = pipeline | beam.Create([batch_of(rows)]) | "1" >> RejectDuplicates(KEY).with_error_handler(handler)
            out = first | "2" >> RejectDuplicates(UniqueKey(("n",))).with_error_handler(handler)
        assert_that(out, check_good, label="Good")


def positions(batches):
    return sorted(value["position"] for batch in batches for value in batch.column(ORIGIN).to_pylist())


def test_without_a_handler_the_pipeline_fails():
    with pytest.raises(
        RejectedRecordError, match=r"unique\.user_day: user is 'a', day is 1, as in the row of /a.csv at 0"
    ):
        run_without_handler([a_row(position=0), a_row(position=8)])


def run_without_handler(rows):
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | beam.Create([batch_of(rows)]) | RejectDuplicates(KEY)


def stream(events):
    """A stream of lists of rows and watermarks in seconds."""
    test_stream = beam_stream.TestStream(coder=RecordBatchCoder()).with_output_types(pa.RecordBatch)
    for event in events:
        if isinstance(event, list):
            first = min(row["time"] for row in event) / 1e6
            test_stream = test_stream.add_elements([TimestampedValue(batch_of(event), first)])
        else:
            test_stream = test_stream.advance_watermark_to(event)
    return test_stream.advance_watermark_to_infinity()


def streamed(events, good, repeated, **options):
    """Checks the positions of good rows, and of repeated ones with that of the first."""

    def check_letters(letters):
        found = {letter.position: letter.reasons[0].detail.split(" at ")[1].split(",")[0] for letter in letters}
        assert found == {position: str(first) for position, first in repeated.items()}

    def check_good(batches):
        assert positions(batches) == good

    with beam.Pipeline(runner=BundleBasedDirectRunner()) as pipeline:
        with ErrorHandler(Letters(check_letters)) as handler:
            transform = RejectDuplicates(KEY, WINDOWS, **options).with_error_handler(handler)
            out = pipeline | stream(events) | transform
        assert_that(out, check_good, label="Good")


def test_on_a_stream_the_first_to_come_stays_in_each_window():
    second = 1_000_000
    events = [
        [a_row(time=30 * second, position=5), a_row("b", time=31 * second, position=6)],
        [a_row(time=10 * second, position=1)],  # before the first in source order, and later to come
        50.0,
        [a_row(time=70 * second, position=7), a_row(time=71 * second, position=8)],
    ]
    streamed(events, [5, 6, 7], {1: 5, 8: 7}, buckets=2)


def test_late_rows_are_compared_as_long_as_the_sink_takes_them():
    second = 1_000_000
    events = [
        [a_row(time=30 * second, position=1)],
        70.0,
        [a_row(time=31 * second, position=2)],
        200.0,
        [a_row(time=32 * second, position=3)],
    ]
    streamed(events, [1, 3], {2: 1}, lateness="10s")


def test_a_row_with_a_null_in_its_key_stays():
    rows = [a_row(None, position=0), a_row(None, position=1), a_row(day=None, position=2), a_row(day=None, position=3)]
    streamed([rows], [0, 1, 2, 3], {})


@given(ROWS, st.sampled_from([KEY, UniqueKey(("xs",)), UniqueKey(("n",))]), st.integers(1, 9), st.integers(1, 3))
@settings(max_examples=scaled(60))
def test_a_stream_in_source_order_rejects_what_plain_python_rejects(rows, key, size, buckets):
    rows = sorted(rows, key=origin)
    seen, found = {}, {}
    for batch in cut(rows, size):
        for number, part in cut_by_bucket(batch, transform._window_buckets(batch, key, WINDOWS, buckets)):
            known = seen.setdefault(number, SeenKeys())
            repeated, new = compare_with(known, part, key, WINDOWS)
            known.add(new)
            origins = [(value["uri"], value["position"]) for value in part.column(ORIGIN).to_pylist()]
            found |= {origins[row]: (origin.uri, origin.position) for row, origin in repeated.items()}
    assert found == expected(rows, key, WINDOWS)


def test_a_stream_without_windows_is_refused():
    with pytest.raises(
        ConfigError, match=r"in a stream a key can be unique in a window, not .* pass --window fixed:SIZE"
    ):
        _ = beam.Pipeline(runner=BundleBasedDirectRunner()) | stream([[a_row()]]) | RejectDuplicates(KEY)


def test_beam_windows_are_refused():
    batches = beam.Pipeline() | beam.Create([batch_of([])]) | beam.WindowInto(FixedWindows(60))
    with pytest.raises(ConfigError, match="in the global window; give it the windows as an argument"):
        _ = batches | RejectDuplicates(KEY)


def test_state_is_read_again_where_memory_is_of_another_attempt():
    class Cell:
        value = None

        def read(self):
            return self.value

        def write(self, value):
            self.value = value

        def clear(self):
            self.value = None

    class Bag(Cell):
        def __init__(self):
            self.value = []

        def read(self):
            return list(self.value)

        def add(self, batch):
            self.value.append(batch)

        def clear(self):
            self.value = []

    dofn, mark, bag = transform._CompareStreamFn(KEY, WINDOWS, ZERO, 1), Cell(), Bag()
    dofn.setup()
    first, second = (batch_of([a_row(user)]) for user in "ab")
    for batch in (first, second):
        seen = dofn._seen(0, mark, bag)
        dofn._remember(0, seen, compare_with(seen, batch, KEY, WINDOWS)[1], mark, bag)
        if batch is first:
            before = mark.value, list(bag.value)
    assert len(dofn._seen(0, mark, bag)) == 2
    mark.value, bag.value = before  # the second bundle failed behind this step
    assert len(dofn._seen(0, mark, bag)) == 1
    dofn.close(0, mark, bag)
    assert (mark.value, bag.value, dict(dofn._known)) == (None, [], {})


def test_origins_of_sources_are_dictionaries():
    batch = set_column(
        pa.record_batch({"user": ["a", "a"], "day": [1, 1]}), ORIGIN, origin_array("/x", np.array([3, 9]))
    )
    repeated, new = compare_with(SeenKeys(), batch, KEY)
    assert (dict(repeated), new.num_rows) == ({1: RowOrigin("/x", 3)}, 1)
