"""TFRecord frames with flipped bits, lying lengths and cut ends."""

from fuzz.wire import frame
from hypothesis import strategies as st


def flip(data, position):
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


@st.composite
def damaged_blocks(draw):
    """Frames with flipped bits, lengths that lie with a good CRC, and cut ends."""
    lies = st.sampled_from([None, None, None, 0, 3, 1 << 31, (1 << 31) - 1, (1 << 64) - 1])
    data = bytearray(b"".join(frame(draw(st.binary(max_size=30)), draw(lies)) for _ in range(draw(st.integers(1, 6)))))
    for _ in range(draw(st.integers(0, 2))):
        data[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(data[: draw(st.integers(1, len(data)))])
