/* Text eight bytes at a time: where a byte is. Words are loaded least byte first on every machine. */

#ifndef PENSTOCK_WORDS_H
#define PENSTOCK_WORDS_H

#include <stddef.h>
#include <stdint.h>

#define WORD_ONES UINT64_C(0x0101010101010101)
#define WORD_HIGHS UINT64_C(0x8080808080808080)

/* Compilers make one load of this. */
static inline uint64_t word_load(const uint8_t* at) {
  return (uint64_t)at[0] | (uint64_t)at[1] << 8 | (uint64_t)at[2] << 16 | (uint64_t)at[3] << 24 |
         (uint64_t)at[4] << 32 | (uint64_t)at[5] << 40 | (uint64_t)at[6] << 48 | (uint64_t)at[7] << 56;
}

/* The high bit of each byte that equals `byte`; those above the lowest one may be false. */
static inline uint64_t word_matches(uint64_t word, uint8_t byte) {
  uint64_t differences = word ^ (WORD_ONES * byte);
  return (differences - WORD_ONES) & ~differences & WORD_HIGHS;
}

/* Index of the byte of the lowest bit; `matches` is not 0. */
static inline int word_first(uint64_t matches) { return __builtin_ctzll(matches) >> 3; }

/* The next `byte` in [at, end), or `end`. Memory is readable up to `limit`, which is at or behind `end`. */
static inline const uint8_t* find_byte(const uint8_t* at, const uint8_t* end, const uint8_t* limit, uint8_t byte) {
  while (at < end) {
    if (limit - at < 8) {
      while (at < end && *at != byte) at++;
      return at;
    }
    uint64_t matches = word_matches(word_load(at), byte);
    if (matches) {
      at += word_first(matches);
      break;
    }
    at += 8;
  }
  return at < end ? at : end;
}

/* The next `byte` or `other` in [at, end), or `end`; otherwise as find_byte. */
static inline const uint8_t* find_either(const uint8_t* at, const uint8_t* end, const uint8_t* limit, uint8_t byte,
                                         uint8_t other) {
  while (at < end) {
    if (limit - at < 8) {
      while (at < end && *at != byte && *at != other) at++;
      return at;
    }
    uint64_t word = word_load(at), matches = word_matches(word, byte) | word_matches(word, other);
    if (matches) {
      at += word_first(matches);
      break;
    }
    at += 8;
  }
  return at < end ? at : end;
}

/* How often `byte` is in [at, end). */
static inline size_t count_byte(const uint8_t* at, const uint8_t* end, uint8_t byte) {
  size_t count = 0;
  while (at < end) {
    /* Counted in bytes, sixteen at once as compilers see it. */
    const uint8_t* stop = end - at < UINT8_MAX ? end : at + UINT8_MAX;
    uint8_t few = 0;
    for (; at < stop; at++) few += *at == byte;
    count += few;
  }
  return count;
}

/* As find_byte; adds to `quotes` how many quotes are before what it finds. */
static inline const uint8_t* find_byte_and_quotes(const uint8_t* at, const uint8_t* end, const uint8_t* limit,
                                                  uint8_t byte, size_t* quotes) {
  const uint8_t* found = at;
  uint64_t matches = 0, perhaps = 0;
  for (; found < end && limit - found >= 8; found += 8) {
    uint64_t word = word_load(found);
    matches = word_matches(word, byte);
    perhaps |= word_matches(word, '"') & ((matches & (0 - matches)) - 1);
    if (matches) break;
  }
  int in_words = matches || found >= end;
  found = matches ? found + word_first(matches) : find_byte(found, end, limit, byte);
  if (found > end) found = end;
  if (perhaps || !in_words) *quotes += count_byte(at, found, '"');
  return found;
}

#endif
