"""gzip and zlib streams, cut and damaged."""

import gzip
import io
import zlib

import pytest

from penstock.io.dataset.load.shards.inflate import InflatedStream

CONTENT = bytes(range(256)) * 5000
PACKED = {
    "gzip": gzip.compress(CONTENT),
    "zlib": zlib.compress(CONTENT),
    "two members": gzip.compress(CONTENT[:1000]) + gzip.compress(CONTENT[1000:]),
    "an empty member": gzip.compress(b"") + gzip.compress(CONTENT),
}


class Dribble(io.BytesIO):
    """Gives as many bytes at a time, at most."""

    def __init__(self, data, most):
        super().__init__(data)
        self._most = most

    def read(self, size=-1, /):
        """Reads some."""
        return super().read(min(size, self._most))


def content_of(data, most=1 << 20, piece=100_000):
    stream = InflatedStream(Dribble(data, most))
    found = []
    while part := stream.read(piece):
        assert len(part) <= piece
        found.append(part)
    assert stream.read(piece) == b"", "the end stays the end"
    return b"".join(found)


@pytest.mark.parametrize("data", PACKED.values(), ids=PACKED)
@pytest.mark.parametrize("most", [7, 1 << 20])
def test_the_content_is_that_of_all_members(data, most):
    assert content_of(data, most) == CONTENT


def test_memory_is_filled_from_its_beginning():
    stream, target = InflatedStream(io.BytesIO(PACKED["gzip"])), bytearray(1000)
    assert stream.readinto(memoryview(target)[:300]) == 300
    assert bytes(target) == CONTENT[:300] + bytes(700)


@pytest.mark.parametrize("data", PACKED.values(), ids=PACKED)
def test_a_stream_that_is_cut_off_is_an_error(data):
    for cut in (0, 1, 5, len(data) // 2, len(data) - 1):
        with pytest.raises(OSError, match="ends before"):
            content_of(data[:cut])


@pytest.mark.parametrize("name", ["gzip", "zlib"])
def test_a_wrong_checksum_is_an_error(name):
    data = bytearray(PACKED[name])
    data[-5 if name == "gzip" else -1] ^= 1
    with pytest.raises(OSError, match=r"(?i)checksum"):
        content_of(bytes(data))


def test_what_is_no_stream_is_an_error():
    with pytest.raises(OSError, match=r"(?i)invalid|header|method|block"):
        content_of(b"id,name\n1,a\n" * 100)
    with pytest.raises(OSError, match=r"(?i)invalid|header|method|block"):
        content_of(PACKED["gzip"] + b"more")
