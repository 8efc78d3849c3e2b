/* XXH64 of bytes that lie together, by its specification; little-endian machines only, as all of the kernel. */

#ifndef PENSTOCK_XXH64_H
#define PENSTOCK_XXH64_H

#include <stdint.h>
#include <string.h>

#define XXH64_PRIME1 0x9E3779B185EBCA87ULL
#define XXH64_PRIME2 0xC2B2AE3D27D4EB4FULL
#define XXH64_PRIME3 0x165667B19E3779F9ULL
#define XXH64_PRIME4 0x85EBCA77C2B2AE63ULL
#define XXH64_PRIME5 0x27D4EB2F165667C5ULL

static inline uint64_t xxh64_rotated(uint64_t value, int bits) { return value << bits | value >> (64 - bits); }

static inline uint64_t xxh64_round(uint64_t lane, uint64_t word) {
  return xxh64_rotated(lane + word * XXH64_PRIME2, 31) * XXH64_PRIME1;
}

static inline uint64_t xxh64_word(const uint8_t *data) {
  uint64_t word;
  memcpy(&word, data, 8);
  return word;
}

static inline uint64_t xxh64_stripes(const uint8_t *data, uint64_t size, uint64_t seed) {
  uint64_t lanes[4] = {seed + XXH64_PRIME1 + XXH64_PRIME2, seed + XXH64_PRIME2, seed, seed - XXH64_PRIME1};
  for (uint64_t stripe = 0; stripe < size >> 5; stripe++, data += 32)
    for (int lane = 0; lane < 4; lane++) lanes[lane] = xxh64_round(lanes[lane], xxh64_word(data + 8 * lane));
  uint64_t merged = xxh64_rotated(lanes[0], 1) + xxh64_rotated(lanes[1], 7) + xxh64_rotated(lanes[2], 12) +
                    xxh64_rotated(lanes[3], 18);
  for (int lane = 0; lane < 4; lane++)
    merged = (merged ^ xxh64_round(0, lanes[lane])) * XXH64_PRIME1 + XXH64_PRIME4;
  return merged;
}

static inline uint64_t xxh64(const uint8_t *data, uint64_t size, uint64_t seed) {
  uint64_t value = (size < 32 ? seed + XXH64_PRIME5 : xxh64_stripes(data, size, seed)) + size;
  const uint8_t *end = data + size;
  data += size & ~(uint64_t)31;
  for (; end - data >= 8; data += 8)
    value = xxh64_rotated(value ^ xxh64_round(0, xxh64_word(data)), 27) * XXH64_PRIME1 + XXH64_PRIME4;
  if (end - data >= 4) {
    uint32_t half;
    memcpy(&half, data, 4);
    value = xxh64_rotated(value ^ half * XXH64_PRIME1, 23) * XXH64_PRIME2 + XXH64_PRIME3;
    data += 4;
  }
  for (; data < end; data++) value = xxh64_rotated(value ^ *data * XXH64_PRIME5, 11) * XXH64_PRIME1;
  value = (value ^ value >> 33) * XXH64_PRIME2;
  value = (value ^ value >> 29) * XXH64_PRIME3;
  return value ^ value >> 32;
}

#endif
