/* Sums of doubles and of their squares, exact: whole numbers of 2^-1074 in words of 64 bits (Kulisch's accumulator). */

#ifndef PENSTOCK_SUMS_H
#define PENSTOCK_SUMS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

typedef __int128 sums_wide;
typedef unsigned __int128 sums_uwide;

/* A sum by exponent holds so many rows: a square has 106 bits. */
#define SUMS_ROWS (1 << 20)
/* Exponents of finite doubles, the least two of which have the same unit. */
#define SUMS_PLACES 2046
/* Words of a sum of doubles, and of products of two and of three, each with 64 bits to spare. */
#define SUMS_WORDS 36
#define SUMS_WORDS2 70
#define SUMS_WORDS3 103

typedef struct {
  int64_t nan, positive, negative, zeros;
  double least, greatest;
  uint64_t plus[SUMS_WORDS], minus[SUMS_WORDS], squares[SUMS_WORDS2];
} sums_floats;

typedef struct {
  sums_wide totals[SUMS_PLACES];
  sums_uwide squares[SUMS_PLACES];
} sums_by_place;

typedef struct {
  int64_t zeros;
  uint64_t least, greatest;
  sums_wide total;
  sums_uwide squares; /* and `carries` times 2^128 */
  uint64_t carries;
} sums_ints;

static inline uint64_t sums_bits(double value) {
  uint64_t bits;
  memcpy(&bits, &value, 8);
  return bits;
}

/* A finite double is its mantissa times 2^place, in units of 2^-1074. */
static inline uint64_t sums_mantissa(uint64_t bits, int *place) {
  int exponent = (int)(bits >> 52 & 0x7FF);
  *place = exponent - (exponent != 0);
  return (bits & (((uint64_t)1 << 52) - 1)) | (uint64_t)(exponent != 0) << 52;
}

/* Adds value * 2^shift. */
static inline void sums_add(uint64_t *words, sums_uwide value, int shift) {
  uint64_t *word = words + (shift >> 6);
  int bits = shift & 63;
  uint64_t low = (uint64_t)value, high = (uint64_t)(value >> 64);
  uint64_t parts[3] = {low << bits, bits ? high << bits | low >> (64 - bits) : high, bits ? high >> (64 - bits) : 0};
  uint64_t carry = 0;
  for (int index = 0; index < 3; index++) {
    sums_uwide sum = (sums_uwide)word[index] + parts[index] + carry;
    word[index] = (uint64_t)sum;
    carry = (uint64_t)(sum >> 64);
  }
  for (word += 3; carry; word++) carry = ++*word == 0;
}

/* Adds up to SUMS_ROWS doubles; `scratch` is zero before and after. */
static void sums_add_floats(sums_floats *sums, sums_by_place *scratch, const double *values, int64_t count) {
  int first = SUMS_PLACES, last = -1;
  double least = sums->least, greatest = sums->greatest;
  int64_t zeros = 0;
  for (int64_t row = 0; row < count; row++) {
    double value = values[row] + 0.0; /* one zero */
    uint64_t bits = sums_bits(value);
    if ((bits >> 52 & 0x7FF) == 0x7FF) {
      sums->nan += value != value;
      sums->positive += value == INFINITY;
      sums->negative += value == -INFINITY;
      continue;
    }
    int place;
    uint64_t mantissa = sums_mantissa(bits, &place);
    int64_t sign = (int64_t)bits >> 63;
    scratch->totals[place] += ((int64_t)mantissa ^ sign) - sign;
    scratch->squares[place] += (sums_uwide)mantissa * mantissa;
    zeros += value == 0;
    least = value < least ? value : least;
    greatest = value > greatest ? value : greatest;
    first = place < first ? place : first;
    last = place > last ? place : last;
  }
  sums->zeros += zeros;
  sums->least = least;
  sums->greatest = greatest;
  for (int place = first; place <= last; place++) {
    sums_wide total = scratch->totals[place];
    if (!total && !scratch->squares[place]) continue;
    sums_add(total < 0 ? sums->minus : sums->plus, total < 0 ? -(sums_uwide)total : (sums_uwide)total, place);
    sums_add(sums->squares, scratch->squares[place], 2 * place);
    scratch->totals[place] = 0;
    scratch->squares[place] = 0;
  }
}

/* Adds a magnitude and its square, each `count` times. */
static inline void sums_add_times(uint64_t *total, uint64_t *squares, uint64_t magnitude, int place, uint64_t count) {
  sums_uwide square = (sums_uwide)magnitude * magnitude;
  sums_add(total, (sums_uwide)magnitude * count, place);
  sums_add(squares, (sums_uwide)(uint64_t)square * count, 2 * place);
  sums_add(squares, (square >> 64) * count, 2 * place + 64);
}

/* As sums_add_floats, each value `counts` times, for few values. */
static void sums_add_counted_floats(sums_floats *sums, const double *values, const int64_t *counts, int64_t rows) {
  for (int64_t row = 0; row < rows; row++) {
    double value = values[row] + 0.0;
    uint64_t bits = sums_bits(value);
    int64_t count = counts[row];
    sums->nan += value != value ? count : 0;
    sums->positive += value == INFINITY ? count : 0;
    sums->negative += value == -INFINITY ? count : 0;
    if ((bits >> 52 & 0x7FF) == 0x7FF || !count) continue;
    int place;
    uint64_t mantissa = sums_mantissa(bits, &place);
    sums_add_times(bits >> 63 ? sums->minus : sums->plus, sums->squares, mantissa, place, (uint64_t)count);
    sums->zeros += value == 0 ? count : 0;
    sums->least = value < sums->least ? value : sums->least;
    sums->greatest = value > sums->greatest ? value : sums->greatest;
  }
}

/* Adds integers, each `counts` times, to sums in units of 1; the bounds are those of values that are there. */
static void sums_add_counted_ints(sums_floats *sums, uint64_t *least, uint64_t *greatest, const uint64_t *values,
                                  const int64_t *counts, int64_t rows, int is_signed) {
  uint64_t turn = is_signed ? (uint64_t)1 << 63 : 0;
  int is_first = 1;
  for (int64_t row = 0; row < rows; row++) {
    if (!counts[row]) continue;
    uint64_t bits = values[row], ordered = bits ^ turn;
    int is_negative = is_signed && (int64_t)bits < 0;
    sums_add_times(is_negative ? sums->minus : sums->plus, sums->squares, is_negative ? 0 - bits : bits, 0,
                   (uint64_t)counts[row]);
    sums->zeros += bits == 0 ? counts[row] : 0;
    if (is_first || ordered < (*least ^ turn)) *least = bits;
    if (is_first || ordered > (*greatest ^ turn)) *greatest = bits;
    is_first = 0;
  }
}

/* Adds integers; their bounds are compared as int64 or uint64. */
static inline void sums_add_ints(sums_ints *sums, const uint64_t *values, int64_t count, int is_signed) {
  uint64_t turn = is_signed ? (uint64_t)1 << 63 : 0;
  uint64_t least = sums->least ^ turn, greatest = sums->greatest ^ turn;
  for (int64_t row = 0; row < count; row++) {
    uint64_t bits = values[row], ordered = bits ^ turn;
    sums_wide value = is_signed ? (sums_wide)(int64_t)bits : (sums_wide)bits;
    uint64_t magnitude = is_signed && (int64_t)bits < 0 ? 0 - bits : bits;
    sums_uwide square = (sums_uwide)magnitude * magnitude;
    sums->total += value;
    sums->squares += square;
    sums->carries += sums->squares < square;
    sums->zeros += bits == 0;
    least = ordered < least ? ordered : least;
    greatest = ordered > greatest ? ordered : greatest;
  }
  sums->least = least ^ turn;
  sums->greatest = greatest ^ turn;
}

/* Adds finite doubles times weights; [0] has what is positive, [1] what is negative. */
static void sums_add_weighted(uint64_t weight[][SUMS_WORDS], uint64_t total[][SUMS_WORDS2],
                              uint64_t squares[][SUMS_WORDS3], const double *values, const double *weights,
                              int64_t count) {
  for (int64_t row = 0; row < count; row++) {
    int place, weight_place;
    uint64_t bits = sums_bits(values[row]), weight_bits = sums_bits(weights[row]);
    uint64_t mantissa = sums_mantissa(bits, &place), factor = sums_mantissa(weight_bits, &weight_place);
    int weight_sign = (int)(weight_bits >> 63), sign = weight_sign ^ (int)(bits >> 63);
    sums_uwide product = (sums_uwide)factor * mantissa;
    int product_place = weight_place + place;
    sums_add(weight[weight_sign], factor, weight_place);
    sums_add(total[sign], product, product_place);
    sums_add(squares[weight_sign], (sums_uwide)(uint64_t)product * mantissa, product_place + place);
    sums_add(squares[weight_sign], (product >> 64) * mantissa, product_place + place + 64);
  }
}

#endif
