"""Decoding tf.Examples in the kernel; the fuzzer holds it against protobuf."""

import subprocess
import sys

import numpy as np
import pytest
from fuzz import wire
from kernel_cases import twins

from penstock.io.kernel.shared.faults import BAD_CRC

compiled, _ = twins.both("decode")


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, 4), (3, 1), (0, -1), (4, 0), (1, (1 << 63) - 1)])
def test_the_kernel_refuses_records_that_are_not_in_the_data(start, length):
    with pytest.raises(ValueError, match="record 0 is not in the data"):
        compiled.read(b"abc", np.array([start]), np.array([length]), None)


@pytest.mark.parametrize("place", range(12, 19))
@pytest.mark.parametrize("module", twins.each("decode"))
def test_a_record_that_does_not_match_the_crc_behind_it_is_a_fault(module, place):
    good = b"".join(map(wire.frame, [b"", b"\x0a\x00", b"abc"]))
    starts, lengths = np.array([12, 28, 46]), np.array([0, 2, 3])
    data = bytearray(good)
    data[34 + place] ^= 1
    _, _, faults, _ = module.read(bytes(data), starts, lengths, None, False, True)
    assert faults == {2: BAD_CRC}
    _, _, faults, _ = module.read(good, starts, lengths, None, False, True)
    assert list(faults) == [2], "it matches, and is no tf.Example"
    assert faults[2] != BAD_CRC


@pytest.mark.parametrize("module", twins.each("decode"))
def test_a_record_without_bytes_has_a_crc_too(module):
    *_, faults, _ = module.read(bytes(4), np.array([0]), np.array([0]), None, False, True)
    assert faults == {0: BAD_CRC}


def test_the_kernel_refuses_a_record_without_a_crc_behind_it():
    with pytest.raises(ValueError, match="record 0 is not in the data"):
        compiled.read(b"abc" + bytes(3), np.array([0]), np.array([3]), None, False, True)


def texts_of(*texts):
    """Frames of records with an id and a text, starts and lengths of the records."""
    records = [
        wire.field(
            1,
            wire.SIZED,
            wire.field(1, wire.SIZED, wire.field(1, wire.SIZED, b"id") + feature(3, wire.varint(row)))
            + wire.field(1, wire.SIZED, wire.field(1, wire.SIZED, b"text") + feature(1, text)),
        )
        for row, text in enumerate(texts)
    ]
    ends = np.cumsum([len(record) + 16 for record in records])
    lengths = np.array([len(record) for record in records])
    return bytearray(b"".join(map(wire.frame, records))), ends - lengths - 4, lengths


def feature(kind, value):
    return wire.field(2, wire.SIZED, wire.field(kind, wire.SIZED, wire.field(1, wire.SIZED, value)))


def test_texts_that_are_most_of_their_records_stay_in_the_block():
    texts = [bytes([row]) * 1000 for row in range(50)]
    data, starts, lengths = texts_of(*texts)
    found, *_ = compiled.read(data, starts, lengths, None, False, True, memoryview(data))
    content = found["text"][0][3]
    assert content == b"".join(texts)
    assert content.obj is data
    assert not content.readonly


def test_few_texts_of_a_block_do_not_hold_it():
    texts = [bytes([row]) * 1000 for row in range(50)]
    data, starts, lengths = texts_of(*texts)
    found, *_ = compiled.read(data, starts[::2].copy(), lengths[::2].copy(), ["text"], False, True, memoryview(data))
    content = found["text"][0][3]
    assert content == b"".join(texts[::2])
    assert content.obj is not data


def test_a_block_that_may_be_overwritten_is_the_data_and_its_records_ascend():
    data, starts, lengths = texts_of(b"a" * 100, b"b" * 100)
    with pytest.raises(ValueError, match="the block must be the data"):
        compiled.read(data, starts, lengths, None, False, True, memoryview(bytearray(data)))
    with pytest.raises(ValueError, match="must ascend"):
        compiled.read(data, starts[::-1].copy(), lengths[::-1].copy(), None, False, True, memoryview(data))
    with pytest.raises((ValueError, BufferError)):
        compiled.read(bytes(data), starts, lengths, None, False, True, memoryview(bytes(data)))


# Decodes a record in threads, which take memory and give it back all the time, and in 250 forks made meanwhile.
_FORKS = """
import os, sys, threading, time, warnings
import numpy as np
from penstock.io.kernel.native import _decode

warnings.simplefilter("ignore", DeprecationWarning)
record = sys.stdin.buffer.read()
records = record * 12, np.arange(12) * len(record), np.full(12, len(record)), None

def decode_on():
    while True:
        _decode.read(*records)

for _ in range(3):
    threading.Thread(target=decode_on, daemon=True).start()
for _ in range(250):
    child = os.fork()
    if not child:
        _decode.read(*records)
        os._exit(0)
    end = time.monotonic() + 20
    while not os.waitpid(child, os.WNOHANG)[0]:
        if time.monotonic() > end:
            os.kill(child, 9)
            os._exit(1)
        time.sleep(0.001)
os._exit(0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the system has no forks")
def test_a_fork_decodes_whatever_other_threads_were_doing():
    def sized(number, content):
        return wire.field(number, wire.SIZED, content)

    entries = [sized(1, sized(1, b"%d" % number) + feature(1, bytes(9000))) for number in range(8)]
    record = sized(1, b"".join(entries))
    assert subprocess.run([sys.executable, "-c", _FORKS], input=record, check=False).returncode == 0
