/* The different values of a batch. */

#ifndef PENSTOCK_DIFFERENT_H
#define PENSTOCK_DIFFERENT_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* What is found instead of a count of different values. */
#define DIFFERENT_MANY -1
#define DIFFERENT_FAR -2
#define DIFFERENT_NO_MEMORY -3

/* Slots of a new table; a table is at most a quarter full: guesses of the processor go wrong where values collide. */
#define DIFFERENT_SLOTS 1024

/* What a text is told by: its first and last 8 bytes, or all of them, and of a longer one a hash of its first ones. */
typedef struct {
  uint64_t first, last;
  int64_t size;
} different_key;

typedef struct {
  different_key key;
  const uint8_t *text;
  int64_t number; /* 1 + which of the different texts it is; 0 where the slot is free */
} different_slot;

static inline different_key different_text(const uint8_t *text, int64_t size) {
  different_key key = {0, 0, size};
  uint32_t low, high;
  if (size >= 8) {
    memcpy(&key.first, text, 8);
    memcpy(&key.last, text + size - 8, 8);
    for (int64_t at = 8; at < size - 8; at += 8) {
      uint64_t word;
      memcpy(&word, text + at, 8);
      key.first = (key.first ^ word) * 0x9E3779B97F4A7C15ULL;
      key.first ^= key.first >> 32;
    }
  } else if (size >= 4) {
    memcpy(&low, text, 4);
    memcpy(&high, text + size - 4, 4);
    key.first = low | (uint64_t)high << 32;
  } else if (size) {
    key.first = text[0] | (uint64_t)text[size >> 1] << 8 | (uint64_t)text[size - 1] << 16;
  }
  return key;
}

/* The slot of a text, or the free one for it. */
static inline different_slot *different_find(different_slot *slots, int64_t size, different_key key,
                                             const uint8_t *text) {
  uint64_t mixed = key.first * 0x9E3779B97F4A7C15ULL ^ (key.last + (uint64_t)key.size) * 0xC2B2AE3D27D4EB4FULL;
  int64_t place = (int64_t)((mixed ^ mixed >> 32) * 0x9E3779B97F4A7C15ULL >> 32) & (size - 1);
  for (;; place = (place + 1) & (size - 1)) {
    different_slot *slot = &slots[place];
    if (!slot->number) return slot;
    if ((slot->key.first ^ key.first) | (slot->key.last ^ key.last) | (uint64_t)(slot->key.size ^ key.size)) continue;
    if (key.size <= 16 || !memcmp(slot->text, text, (size_t)key.size)) return slot;
  }
}

/* The table with four times the slots; NULL without memory, and then the old one stays. */
static different_slot *different_grow(different_slot *old, int64_t size) {
  different_slot *slots = (different_slot *)calloc((size_t)(4 * size), sizeof(different_slot));
  if (!slots) return NULL;
  for (int64_t index = 0; index < size; index++)
    if (old[index].number) *different_find(slots, 4 * size, old[index].key, old[index].text) = old[index];
  free(old);
  return slots;
}

static inline void different_span(const uint8_t *offsets, int is_large, int64_t row, int64_t *start, int64_t *end) {
  int32_t narrow[2];
  int64_t wide[2];
  if (is_large) {
    memcpy(wide, offsets + 8 * row, 16);
    *start = wide[0], *end = wide[1];
  } else {
    memcpy(narrow, offsets + 4 * row, 8);
    *start = narrow[0], *end = narrow[1];
  }
}

/* Finds the different ones of texts, in the order in which they come: the row of each, its count, and for each row
   which one it is, unless `places` is NULL. Returns how many there are. Of the first `sample` texts, `least_repeated`
   must be there again. */
static int64_t different_texts(const uint8_t *data, const uint8_t *offsets, int is_large, int64_t rows, int64_t sample,
                               int64_t least_repeated, int64_t *firsts, int64_t *counts, int64_t *places) {
  int64_t found = 0, size = DIFFERENT_SLOTS, start, end;
  different_slot *slots = (different_slot *)calloc((size_t)size, sizeof(different_slot)), *grown;
  if (!slots) return DIFFERENT_NO_MEMORY;
  for (int64_t row = 0; row < rows; row++) {
    if (row == sample && sample - found < least_repeated) {
      found = DIFFERENT_MANY;
      break;
    }
    different_span(offsets, is_large, row, &start, &end);
    const uint8_t *text = data + start;
    different_key key = different_text(text, end - start);
    different_slot *slot = different_find(slots, size, key, text);
    if (!slot->number) {
      firsts[found] = row;
      counts[found++] = 0;
      *slot = (different_slot){key, text, found};
    }
    int64_t number = slot->number - 1;
    counts[number]++;
    if (places) places[row] = number;
    if (4 * found > size) {
      if (!(grown = different_grow(slots, size))) {
        found = DIFFERENT_NO_MEMORY;
        break;
      }
      slots = grown;
      size *= 4;
    }
  }
  free(slots);
  return found;
}

/* The same for numbers as bits; the different ones go to `values`. */
typedef struct {
  uint64_t bits;
  int64_t number;
} different_number;

static inline different_number *different_find_number(different_number *slots, int64_t size, uint64_t bits) {
  int64_t place = (int64_t)((bits ^ bits >> 32) * 0x9E3779B97F4A7C15ULL >> 32) & (size - 1);
  while (slots[place].number && slots[place].bits != bits) place = (place + 1) & (size - 1);
  return &slots[place];
}

static different_number *different_grow_numbers(different_number *old, int64_t size) {
  different_number *slots = (different_number *)calloc((size_t)(4 * size), sizeof(different_number));
  if (!slots) return NULL;
  for (int64_t index = 0; index < size; index++)
    if (old[index].number) *different_find_number(slots, 4 * size, old[index].bits) = old[index];
  free(old);
  return slots;
}

static int64_t different_numbers(const uint64_t *bits, int64_t rows, int64_t sample, int64_t least_repeated,
                                 uint64_t *values, int64_t *counts, int64_t *places) {
  int64_t found = 0, size = DIFFERENT_SLOTS;
  different_number *slots = (different_number *)calloc((size_t)size, sizeof(different_number)), *grown;
  if (!slots) return DIFFERENT_NO_MEMORY;
  for (int64_t row = 0; row < rows; row++) {
    if (row == sample && sample - found < least_repeated) {
      found = DIFFERENT_MANY;
      break;
    }
    different_number *slot = different_find_number(slots, size, bits[row]);
    if (!slot->number) {
      values[found] = slot->bits = bits[row];
      counts[found++] = 0;
      slot->number = found;
    }
    int64_t number = slot->number - 1;
    counts[number]++;
    if (places) places[row] = number;
    if (4 * found > size) {
      if (!(grown = different_grow_numbers(slots, size))) {
        found = DIFFERENT_NO_MEMORY;
        break;
      }
      slots = grown;
      size *= 4;
    }
  }
  free(slots);
  return found;
}

/* Finds the different ones of numbers that lie in a range of at most `most`, in ascending order: their bits and counts,
   and for each row which one it is, unless `places` is NULL. Returns how many there are; at least one row is given. */
static int64_t different_near(const uint64_t *bits, int64_t rows, int is_signed, uint64_t most, uint64_t *values,
                              int64_t *counts, int64_t *places) {
  uint64_t turn = is_signed ? (uint64_t)1 << 63 : 0, least = bits[0] ^ turn, greatest = least;
  for (int64_t row = 1; row < rows; row++) {
    uint64_t ordered = bits[row] ^ turn;
    least = ordered < least ? ordered : least;
    greatest = ordered > greatest ? ordered : greatest;
  }
  if (rows > UINT32_MAX || greatest - least >= most || greatest - least >= 2 * (uint64_t)rows)
    return DIFFERENT_FAR;
  least ^= turn;
  int64_t found = 0, span = (int64_t)(greatest - (least ^ turn)) + 1;
  uint32_t *times = (uint32_t *)calloc((size_t)span, sizeof(uint32_t));
  if (!times) return DIFFERENT_NO_MEMORY;
  for (int64_t row = 0; row < rows; row++) times[bits[row] - least]++;
  for (int64_t index = 0; index < span; index++) {
    if (!times[index]) continue;
    values[found] = least + (uint64_t)index;
    counts[found] = times[index];
    times[index] = (uint32_t)found++;
  }
  for (int64_t row = 0; places && row < rows; row++) places[row] = times[bits[row] - least];
  free(times);
  return found;
}

#endif
