# CRC32C for the other modules of the kernel; each that uses it calls `crc32c_init` when it is imported.
from libc.stdint cimport uint8_t, uint32_t


cdef extern from "crc32c.h" nogil:
    int crc32c_has_instruction
    void crc32c_init()
    uint32_t crc32c_value(const uint8_t* data, size_t size)
    uint32_t crc32c_masked(const uint8_t* data, size_t size)
    uint32_t crc32c_by_instruction(uint32_t crc, const uint8_t* data, size_t size)
    uint32_t crc32c_by_table(uint32_t crc, const uint8_t* data, size_t size)
