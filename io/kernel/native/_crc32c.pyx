"""CRC32C of bytes, for tests; the other modules of the kernel take it from C."""

from penstock.io.kernel.native._crc32c cimport crc32c_by_table, crc32c_init, crc32c_value

crc32c_init()


def value(const unsigned char[::1] data not None):
    """The CRC32C, with the processor's instruction where it has one."""
    return crc32c_value(&data[0], data.shape[0]) if data.shape[0] else 0


def value_by_table(const unsigned char[::1] data not None):
    """The same, as processors without the instruction compute it."""
    return crc32c_by_table(0xFFFFFFFF, &data[0], data.shape[0]) ^ 0xFFFFFFFF if data.shape[0] else 0
