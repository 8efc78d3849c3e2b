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
#include <wmmintrin.h>
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#define PENSTOCK_CRC32C_ARM 1
#include <arm_acle.h>
#endif

/* The polynomial, bits reversed. */
#define PENSTOCK_CRC32C_POLY 0x82F63B78u
#define PENSTOCK_CRC32C_MASK_DELTA 0xA282EAD8u

/* Three parts of up to so many words of 8 bytes are summed at once: the instruction gives its result only after three
 * cycles. Shorter data than so many bytes is not worth it. */
#define PENSTOCK_CRC32C_WORDS 128
#define PENSTOCK_CRC32C_LEAST 96

static uint32_t crc32c_tables[8][256];
static int crc32c_has_instruction;
/* Whether there is a product of polynomials, too. With the factor of n words, it puts n words of zeros behind a CRC:
 * x^(64 n - 33), since the product of two reversed words is one bit off, and its CRC is that of 32 bits more. */
static int crc32c_has_product;
static uint32_t crc32c_factors[2 * PENSTOCK_CRC32C_WORDS + 1];

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
    uint32_t factor = 1; /* x^31, reversed */
    for (int words = 1; words <= 2 * PENSTOCK_CRC32C_WORDS; words++) {
        crc32c_factors[words] = factor;
        for (int zero = 0; zero < 8; zero++) factor = (factor >> 8) ^ crc32c_tables[0][factor & 0xFF];
    }
#if defined(PENSTOCK_CRC32C_X86)
    crc32c_has_instruction = __builtin_cpu_supports("sse4.2");
    crc32c_has_product = __builtin_cpu_supports("pclmul");
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

#if defined(PENSTOCK_CRC32C_X86)
/* After Gopal et al., "Fast CRC Computation for iSCSI Polynomial Using CRC32 Instruction", Intel, 2011. */
#define PENSTOCK_CRC32C_TARGET __attribute__((target("sse4.2,pclmul")))

static inline uint64_t crc32c_word(const uint8_t *data) {
    uint64_t word;
    memcpy(&word, data, 8);
    return word;
}

PENSTOCK_CRC32C_TARGET static inline __m128i crc32c_product(uint64_t crc, size_t words) {
    return _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)crc), _mm_cvtsi32_si128((int)crc32c_factors[words]), 0);
}

PENSTOCK_CRC32C_TARGET static uint32_t crc32c_by_instruction(uint32_t crc, const uint8_t *data, size_t size) {
    uint64_t first = crc;
    while (crc32c_has_product && size >= PENSTOCK_CRC32C_LEAST) {
        size_t words = size / 24 < PENSTOCK_CRC32C_WORDS ? size / 24 : PENSTOCK_CRC32C_WORDS;
        const uint8_t *end = data + 8 * words;
        uint64_t second = 0, third = 0;
        for (; data + 64 <= end; data += 64) {
            /* Three ways at once are too many for the processor to see what comes next. */
            _mm_prefetch((const char *)data + 24 * words, _MM_HINT_T0);
            _mm_prefetch((const char *)data + 32 * words, _MM_HINT_T0);
            _mm_prefetch((const char *)data + 40 * words, _MM_HINT_T0);
            for (int at = 0; at < 64; at += 8) {
                first = _mm_crc32_u64(first, crc32c_word(data + at));
                second = _mm_crc32_u64(second, crc32c_word(data + at + 8 * words));
                third = _mm_crc32_u64(third, crc32c_word(data + at + 16 * words));
            }
        }
        for (; data < end; data += 8) {
            first = _mm_crc32_u64(first, crc32c_word(data));
            second = _mm_crc32_u64(second, crc32c_word(data + 8 * words));
            third = _mm_crc32_u64(third, crc32c_word(data + 16 * words));
        }
        __m128i both = _mm_xor_si128(crc32c_product(first, 2 * words), crc32c_product(second, words));
        first = _mm_crc32_u64(0, (uint64_t)_mm_cvtsi128_si64(both)) ^ third;
        data += 16 * words;
        size -= 24 * words;
    }
    for (; size >= 8; data += 8, size -= 8) first = _mm_crc32_u64(first, crc32c_word(data));
    crc = (uint32_t)first;
    if (size & 4) {
        uint32_t word;
        memcpy(&word, data, 4);
        crc = _mm_crc32_u32(crc, word);
        data += 4;
    }
    for (size &= 3; size; size--) crc = _mm_crc32_u8(crc, *data++);
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
