"""Whether kernel and Python find the same in the same bytes."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from fuzz import wire
from kernel_cases import twins

from penstock.io.errors import InputError
from penstock.io.examples import decode, frames
from penstock.io.schema import Feature, Kind

FEATURES = (
    Feature("n", Kind.INT, multivalued=False),
    Feature("m", Kind.FLOAT, multivalued=False),
    Feature("pickup_datetime", Kind.BYTES, multivalued=False),
    Feature("é", Kind.BYTES),
    Feature("fare_amount", Kind.FLOAT),
    Feature("never", Kind.INT),
    Feature("n$step_lengths", Kind.INT, complete=True),
    Feature("m$step_lengths", Kind.INT, multivalued=False),
)


def check_decoding(records: Sequence[bytes]) -> int:
    """Compares what is decoded of the records, as both types, with and without a schema; how many are no tf.Examples.

    Raises:
      AssertionError: where the two differ, or the batch is not a valid one.
    """
    _check_decoding(records, is_sequence=True)
    return _check_decoding(records, is_sequence=False)


def _check_decoding(records: Sequence[bytes], is_sequence: bool) -> int:
    packed = wire.as_frames(records)
    for features in (None, FEATURES):
        names = None if features is None else [feature.name for feature in features]
        native, twin = (decode._read(packed, names, kernel, is_sequence) for kernel in twins.both("decode"))
        assert native.faults.keys() == twin.faults.keys()
        assert _plain(native) == _plain(twin)
        placed = decode._read(wire.as_frames(records), names, twins.both("decode")[0], is_sequence, in_place=True)
        assert placed.faults == native.faults
        assert _plain(placed) == _plain(native)
        for strict in (False, True):
            ours = decode._decoded(native, len(records), features, strict)
            ours.batch.validate(full=True)
            theirs = decode._decoded(twin, len(records), features, strict)
            assert ours.batch.schema == theirs.batch.schema
            assert repr(ours.batch.to_pydict()) == repr(theirs.batch.to_pydict())
            assert codes(ours) == codes(theirs)
    return len(native.faults)


def codes(decoded: decode.DecodedExamples) -> dict[int, list[str]]:
    """The codes of the reasons of each rejected row."""
    return {row: [reason.code for reason in reasons] for row, reasons in sorted(decoded.rejects.items())}


def _plain(content: decode._Content) -> Any:
    """As Python values; NaN is NaN, whatever its bits."""
    values = {
        name: {
            kind: (found.rows.tolist(), found.offsets.tolist(), repr(found.values.to_pylist()), found.one_each)
            for kind, found in by_kind.items()
        }
        for name, by_kind in content.values.items()
        if by_kind
    }
    steps = {
        name: (found.rows.tolist(), found.offsets.tolist(), found.lengths.tolist())
        for name, found in content.steps.items()
    }
    return values, steps, {name: rows.tolist() for name, rows in content.unknown.items()}


def check_frames(data: bytes) -> None:
    """Compares the frames found in a block, or the message of the error.

    Raises:
      AssertionError: where the two differ.
    """
    compiled, pure = twins.both("frames")
    assert outcome(compiled, data) == outcome(pure, data)


def outcome(kernel: ModuleType, data: bytes) -> object:
    """What a reader sees of a block: the frames, or the message."""
    found = frames._Found(*kernel.scan(data, frames._MAX_RECORD_BYTES))
    try:
        frames._check(found, data, 7, "a.tfrecord")
    except InputError as error:
        return str(error)
    assert found.starts.dtype == found.lengths.dtype == np.int64
    return found.starts.tolist(), found.lengths.tolist(), found.end, found.missing
