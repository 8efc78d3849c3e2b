"""XXH64 of rows, after the bytes of all rows are laid out, and FarmHash's Fingerprint64 of texts."""

import itertools

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from penstock.io.kernel.pure.rows import canonical_rows


def hash_rows(batch: pa.RecordBatch, seed: int, whole: bool = False) -> npt.NDArray[np.uint64]:
    """Hashes each row over the columns in their order; returns uint64[rows].

    With `whole`, whole numbers of any kind hash as integers (version 2 of the hash).
    """
    data, starts = canonical_rows(batch, whole)
    view, bounds = data.data, starts.tolist()
    digests = (xxhash.xxh64_intdigest(view[start:end], seed) for start, end in itertools.pairwise(bounds))
    return np.fromiter(digests, np.uint64, batch.num_rows)


_FARM = (0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F)
_MASK = (1 << 64) - 1


def fingerprints(texts: pa.RecordBatch) -> npt.NDArray[np.uint64]:
    """Returns the Fingerprint64 of each text of the one column, uint64[rows]; 0 where it is null."""
    if texts.num_columns != 1 or not _is_text(texts.column(0).type):
        raise TypeError("fingerprints are of one column of texts")
    encoded = texts.column(0).cast(pa.large_binary()).dictionary_encode()
    found = np.fromiter(map(_fingerprint, encoded.dictionary.to_pylist()), np.uint64, len(encoded.dictionary))
    places = encoded.indices
    if not places.null_count:
        return found[places.to_numpy()]
    return np.append(found, np.uint64(0))[places.fill_null(len(found)).to_numpy()]


def _is_text(kind: pa.DataType) -> bool:
    return any(pa.types.__dict__[f"is_{name}"](kind) for name in ("binary", "large_binary", "string", "large_string"))


def _fingerprint(text: bytes) -> int:
    size = len(text)
    if size <= 16:
        return _up_to_16(text)
    if size > 64:
        return _beyond_64(text)
    _, farm1, farm2 = _FARM
    factor = farm2 + 2 * size
    a, b = _word(text, 0) * (farm1 if size <= 32 else farm2), _word(text, 8)
    c, d = _word(text, size - 8) * factor, _word(text, size - 16) * farm2
    y, z = _turned(a + b, 43) + _turned(c, 30) + d, a + _turned(b + farm2, 18) + c
    z = _mixed(y, z, factor)
    if size <= 32:
        return z
    e, f = _word(text, 16) * factor, _word(text, 24)
    g, h = (y + _word(text, size - 32)) * factor, (z + _word(text, size - 24)) * factor
    return _mixed(_turned(e + f, 43) + _turned(g, 30) + h, e + _turned(f + a, 18) + g, factor)


def _up_to_16(text: bytes) -> int:
    farm0, _, farm2 = _FARM
    size = len(text)
    factor = farm2 + 2 * size
    if size >= 8:
        a, b = _word(text, 0) + farm2, _word(text, size - 8)
        return _mixed(_turned(b, 37) * factor + a, (_turned(a, 25) + b) * factor, factor)
    if size >= 4:
        low, high = (int.from_bytes(part, "little") for part in (text[:4], text[-4:]))
        return _mixed(size + (low << 3), high, factor)
    if not size:
        return farm2
    low, high = text[0] + (text[size >> 1] << 8), size + (text[-1] << 2)
    return _folded(low * farm2 ^ high * farm0) * farm2 & _MASK


def _beyond_64(text: bytes) -> int:
    """Blocks of 64 bytes, then the last 64 once more."""
    farm0, farm1, farm2 = _FARM
    size = len(text)
    x, y = (81 * farm2 + _word(text, 0)) & _MASK, (81 * farm1 + 113) & _MASK
    z = _folded(y * farm2 + 113) * farm2 & _MASK
    v, w = (0, 0), (0, 0)
    for start in range(0, (size - 1) // 64 * 64, 64):
        x, y, z, v, w = _take_block(text, start, farm1, 1, x, y, z, v, w)
    factor = farm1 + ((z & 0xFF) << 1)
    first = w[0] + ((size - 1) & 63)
    v = (v[0] + first, v[1])
    w = (first + v[0], w[1])
    x, y, z, v, w = _take_block(text, size - 64, factor, 9, x, y, z, v, w)
    left = _mixed(v[0], w[0], factor) + _folded(y) * farm0 + z
    return _mixed(left, _mixed(v[1], w[1], factor) + x, factor)


def _take_block(
    text: bytes,
    start: int,
    factor: int,
    times: int,
    x: int,
    y: int,
    z: int,
    v: tuple[int, int],
    w: tuple[int, int],
) -> tuple[int, int, int, tuple[int, int], tuple[int, int]]:
    x = _turned(x + y + v[0] + _word(text, start + 8), 37) * factor
    y = _turned(y + v[1] + _word(text, start + 48), 42) * factor
    x = (x ^ w[1] * times) & _MASK
    y = (y + v[0] * times + _word(text, start + 40)) & _MASK
    z = _turned(z + w[0], 33) * factor & _MASK
    v = _weak(text, start, v[1] * factor, x + w[0])
    w = _weak(text, start + 32, z + w[1], y + _word(text, start + 16))
    return z, y, x, v, w


def _weak(text: bytes, start: int, a: int, b: int) -> tuple[int, int]:
    first, second, third, last = (_word(text, start + 8 * index) for index in range(4))
    a += first
    b = _turned(b + a + last, 21)
    c, a = a, a + second + third
    return (a + last) & _MASK, (b + _turned(a, 44) + c) & _MASK


def _mixed(u: int, v: int, factor: int) -> int:
    a = _folded((u ^ v) * factor)
    return _folded((v ^ a) * factor) * factor & _MASK


def _folded(value: int) -> int:
    return value & _MASK ^ (value & _MASK) >> 47


def _turned(value: int, bits: int) -> int:
    value &= _MASK
    return (value >> bits | value << (64 - bits)) & _MASK


def _word(text: bytes, start: int) -> int:
    return int.from_bytes(text[start : start + 8], "little")
