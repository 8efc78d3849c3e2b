/* Whether bytes are the same, without a call for the few that most texts have. */

#ifndef PENSTOCK_SAME_H
#define PENSTOCK_SAME_H

#include <stdint.h>
#include <string.h>

static inline int same_bytes(const uint8_t *one, const uint8_t *other, int64_t size) {
  uint64_t words[4];
  uint32_t halves[4];
  if (size > 16) return !memcmp(one, other, (size_t)size);
  if (size >= 8) {
    memcpy(&words[0], one, 8);
    memcpy(&words[1], other, 8);
    memcpy(&words[2], one + size - 8, 8);
    memcpy(&words[3], other + size - 8, 8);
    return !((words[0] ^ words[1]) | (words[2] ^ words[3]));
  }
  if (size >= 4) {
    memcpy(&halves[0], one, 4);
    memcpy(&halves[1], other, 4);
    memcpy(&halves[2], one + size - 4, 4);
    memcpy(&halves[3], other + size - 4, 4);
    return !((halves[0] ^ halves[1]) | (halves[2] ^ halves[3]));
  }
  return !size || (one[0] == other[0] && one[size >> 1] == other[size >> 1] && one[size - 1] == other[size - 1]);
}

#endif
