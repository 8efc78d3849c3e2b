# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""CRC32C of bytes; the other modules of the kernel take it from the header."""

from libc.stdint cimport uint8_t, uint32_t

cdef extern from "crc32c.h" nogil:
    int crc32c_has_instruction
    void crc32c_init()
    uint32_t crc32c_by_instruction(uint32_t crc, const uint8_t* data, size_t size)
    uint32_t crc32c_by_table(uint32_t crc, const uint8_t* data, size_t size)

crc32c_init()


def extend(uint32_t crc, const unsigned char[::1] data not None):
    """The CRC32C of what has `crc` (0 for nothing) and then `data`, by the processor's instruction where it has one."""
    cdef size_t size = data.shape[0]
    cdef const uint8_t* start
    if not size:
        return crc
    start = &data[0]
    with nogil:
        crc = ~crc
        crc = crc32c_by_instruction(crc, start, size) if crc32c_has_instruction else crc32c_by_table(crc, start, size)
        crc = ~crc
    return crc


def extend_by_table(uint32_t crc, const unsigned char[::1] data not None):
    """The same, as processors without the instruction compute it; for tests."""
    return crc32c_by_table(crc ^ 0xFFFFFFFF, &data[0], data.shape[0]) ^ 0xFFFFFFFF if data.shape[0] else crc
