/* CRC32C (Castagnoli, RFC 3720 appendix B.4) as TFRecord files use it, with the processor's instruction where it has
 * one (SSE4.2, ARMv8), else with tables, eight bytes at a time. */
#ifndef PENSTOCK_CRC32C_H
#define PENSTOCK_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define PENSTOCK_CRC32C_X86 1
#include <nmmintrin.h>
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#define PENSTOCK_CRC32C_ARM 1
#include <arm_acle.h>
#endif

/* The polynomial, bits reversed. */
#define PENSTOCK_CRC32C_POLY 0x82F63B78u
#define PENSTOCK_CRC32C_MASK_DELTA 0xA282EAD8u

/* Three parts of so many bytes are summed at once: the instruction gives its result only after three cycles. */
#define PENSTOCK_CRC32C_PART 128

static uint32_t crc32c_tables[8][256];
/* What as many zero bytes as a part has make of a CRC, for each of its bytes. */
static uint32_t crc32c_shifts[4][256];
static int crc32c_has_instruction;

/* To be called once, before anything else of this file. */
static void crc32c_init(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (crc & 1 ? PENSTOCK_CRC32C_POLY : 0);
        crc32c_tables[0][byte] = crc;
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = crc32c_tables[0][byte];
        for (int slice = 1; slice < 8; slice++) {
            crc = (crc >> 8) ^ crc32c_tables[0][crc & 0xFF];
            crc32c_tables[slice][byte] = crc;
        }
    }
    for (int slice = 0; slice < 4; slice++) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t crc = byte << 8 * slice;
            for (int zero = 0; zero < PENSTOCK_CRC32C_PART; zero++) crc = (crc >> 8) ^ crc32c_tables[0][crc & 0xFF];
            crc32c_shifts[slice][byte] = crc;
        }
    }
#if defined(PENSTOCK_CRC32C_X86)
    crc32c_has_instruction = __builtin_cpu_supports("sse4.2");
#elif defined(PENSTOCK_CRC32C_ARM)
    crc32c_has_instruction = 1;
#endif
}

static uint32_t crc32c_by_table(uint32_t crc, const uint8_t *data, size_t size) {
    while (size >= 8) {
        uint32_t low = crc ^ ((uint32_t)data[0] | (uint32_t)data[1] << 8 | (uint32_t)data[2] << 16 |
                              (uint32_t)data[3] << 24);
        crc = crc32c_tables[7][low & 0xFF] ^ crc32c_tables[6][low >> 8 & 0xFF] ^ crc32c_tables[5][low >> 16 & 0xFF] ^
              crc32c_tables[4][low >> 24] ^ crc32c_tables[3][data[4]] ^ crc32c_tables[2][data[5]] ^
              crc32c_tables[1][data[6]] ^ crc32c_tables[0][data[7]];
        data += 8;
        size -= 8;
    }
    while (size--) crc = (crc >> 8) ^ crc32c_tables[0][(crc ^ *data++) & 0xFF];
    return crc;
}

/* The CRC of a part behind another one, from the CRCs of both. */
static inline uint64_t crc32c_behind(uint64_t first, uint64_t second) {
    return second ^ crc32c_shifts[0][first & 0xFF] ^ crc32c_shifts[1][first >> 8 & 0xFF] ^
           crc32c_shifts[2][first >> 16 & 0xFF] ^ crc32c_shifts[3][first >> 24 & 0xFF];
}

#if defined(PENSTOCK_CRC32C_X86)
__attribute__((target("sse4.2"))) static uint32_t crc32c_by_instruction(uint32_t crc, const uint8_t *data,
                                                                        size_t size) {
    uint64_t wide = crc;
    while (size >= 3 * PENSTOCK_CRC32C_PART) {
        uint64_t second = 0, third = 0;
        for (int at = 0; at < PENSTOCK_CRC32C_PART; at += 8) {
            uint64_t words[3];
            memcpy(&words[0], data + at, 8);
            memcpy(&words[1], data + at + PENSTOCK_CRC32C_PART, 8);
            memcpy(&words[2], data + at + 2 * PENSTOCK_CRC32C_PART, 8);
            wide = _mm_crc32_u64(wide, words[0]);
            second = _mm_crc32_u64(second, words[1]);
            third = _mm_crc32_u64(third, words[2]);
        }
        wide = crc32c_behind(crc32c_behind(wide, second), third);
        data += 3 * PENSTOCK_CRC32C_PART;
        size -= 3 * PENSTOCK_CRC32C_PART;
    }
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        wide = _mm_crc32_u64(wide, word);
        data += 8;
        size -= 8;
    }
    crc = (uint32_t)wide;
    while (size--) crc = _mm_crc32_u8(crc, *data++);
    return crc;
}
#elif defined(PENSTOCK_CRC32C_ARM)
static uint32_t crc32c_by_instruction(uint32_t crc, const uint8_t *data, size_t size) {
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        crc = __crc32cd(crc, word);
        data += 8;
        size -= 8;
    }
    while (size--) crc = __crc32cb(crc, *data++);
    return crc;
}
#else
#define crc32c_by_instruction crc32c_by_table
#endif

/* The CRC32C of some bytes. */
static inline uint32_t crc32c_value(const uint8_t *data, size_t size) {
    uint32_t crc = crc32c_has_instruction ? crc32c_by_instruction(~0u, data, size) : crc32c_by_table(~0u, data, size);
    return ~crc;
}

/* As TFRecord files store it: rotated, plus a constant. */
static inline uint32_t crc32c_masked(const uint8_t *data, size_t size) {
    uint32_t crc = crc32c_value(data, size);
    return ((crc >> 15) | (crc << 17)) + PENSTOCK_CRC32C_MASK_DELTA;
}

#endif
