/* The text grammar of penstock.io.grammar: which texts are integers and floats, and their values. */

#ifndef PENSTOCK_NUMBERS_H
#define PENSTOCK_NUMBERS_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

/* NUMBER_HARD: the text is a FLOAT by its form; its value, which may be infinite, is not found here. */
enum number { NUMBER_GOOD = 0, NUMBER_BAD, NUMBER_HARD };

static inline int is_digit(uint8_t byte) { return (uint8_t)(byte - '0') < 10; }

static inline enum number parse_int(const uint8_t* at, const uint8_t* end, int64_t* value) {
  int negative = at < end && *at == '-';
  at += negative;
  if (at == end || end - at > 19 || (*at == '0' && (negative || end - at > 1))) return NUMBER_BAD;
  uint64_t magnitude = 0; /* 19 digits fit */
  for (; at < end; at++) {
    if (!is_digit(*at)) return NUMBER_BAD;
    magnitude = 10 * magnitude + (uint64_t)(*at - '0');
  }
  if (magnitude > (uint64_t)INT64_MAX + negative) return NUMBER_BAD;
  *value = (int64_t)(negative ? 0 - magnitude : magnitude);
  return NUMBER_GOOD;
}

static inline int text_is(const uint8_t* at, const uint8_t* end, const char* text) {
  size_t size = strlen(text);
  return (size_t)(end - at) == size && !memcmp(at, text, size);
}

/* true and false in the three spellings of the grammar, and integers. */
static inline enum number parse_boolean(const uint8_t* at, const uint8_t* end, int64_t* value) {
  int yes = text_is(at, end, "true") || text_is(at, end, "True") || text_is(at, end, "TRUE");
  if (!yes && !text_is(at, end, "false") && !text_is(at, end, "False") && !text_is(at, end, "FALSE"))
    return parse_int(at, end, value);
  *value = yes;
  return NUMBER_GOOD;
}

/* What parse_float finds: `digits` times ten to the power of `exponent`, and whether that is all. */
typedef struct {
  uint64_t digits;
  int64_t exponent;
  int is_exact;
} decimal;

/* Reads digits into `number`; leading zeros do not count. Beyond 19 that do, the number is not exact. */
static inline const uint8_t* read_digits(const uint8_t* at, const uint8_t* end, decimal* number) {
  for (; at < end && is_digit(*at); at++) {
    if (number->digits >= UINT64_C(1000000000000000000)) number->is_exact = 0;
    else number->digits = 10 * number->digits + (uint64_t)(*at - '0');
  }
  return at;
}

/* Reads an exponent from behind its e; NULL where there is none. */
static inline const uint8_t* read_exponent(const uint8_t* at, const uint8_t* end, decimal* number) {
  int negative = at < end && *at == '-';
  if (at < end && (*at == '-' || *at == '+')) at++;
  if (at == end) return NULL;
  int64_t exponent = 0;
  for (; at < end && is_digit(*at); at++)
    if (exponent < 100000) exponent = 10 * exponent + (*at - '0');
  number->exponent += negative ? -exponent : exponent;
  return at;
}

static inline enum number special_float(const uint8_t* at, const uint8_t* end, double* value) {
  *value = (double)NAN;
  if (text_is(at, end, "NaN") || text_is(at, end, "nan")) return NUMBER_GOOD;
  int negative = at < end && *at == '-';
  at += negative;
  *value = negative ? -(double)INFINITY : (double)INFINITY;
  return text_is(at, end, "Infinity") || text_is(at, end, "inf") || text_is(at, end, "Inf") ? NUMBER_GOOD : NUMBER_BAD;
}

/* The nearest double, where one multiplication or division of exact doubles gives it (Clinger's fast path). */
static inline enum number by_doubles(const decimal* number, double* value) {
  static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                  1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
  if (FLT_EVAL_METHOD != 0 || number->digits > UINT64_C(1) << 53) return NUMBER_HARD;
  if (number->exponent < -22 || number->exponent > 22) return NUMBER_HARD;
  double digits = (double)number->digits;
  *value = number->exponent < 0 ? digits / powers[-number->exponent] : digits * powers[number->exponent];
  return NUMBER_GOOD;
}

/* The nearest double, where the number is an integer or a quotient of integers that 128 bits hold. */
static inline enum number by_integers(const decimal* number, double* value) {
#ifdef __SIZEOF_INT128__
  static const uint64_t powers[] = {
      1ull,          10ull,          100ull,          1000ull,          10000ull,          100000ull,          1000000ull,
      10000000ull,   100000000ull,   1000000000ull,   10000000000ull,   100000000000ull,   1000000000000ull,
      10000000000000ull, 100000000000000ull, 1000000000000000ull, 10000000000000000ull, 100000000000000000ull,
      1000000000000000000ull, 10000000000000000000ull};
  if (number->exponent < -19 || number->exponent > 19 || number->digits <= UINT64_C(1) << 53) return NUMBER_HARD;
  unsigned __int128 whole = number->digits;
  int shift = 0, is_rest = 0;
  if (number->exponent < 0) {
    uint64_t divisor = powers[-number->exponent];
    shift = 64 + __builtin_clzll(number->digits);
    unsigned __int128 dividend = whole << shift;
    whole = dividend / divisor; /* of 64 bits at least */
    is_rest = whole * divisor != dividend;
  } else {
    whole *= powers[number->exponent];
  }
  uint64_t high = (uint64_t)(whole >> 64);
  int excess = (high ? 128 - __builtin_clzll(high) : 64 - __builtin_clzll((uint64_t)whole)) - 53;
  unsigned __int128 half = (unsigned __int128)1 << (excess - 1), below = whole & (2 * half - 1);
  uint64_t rounded = (uint64_t)(whole >> excess);
  rounded += below > half || (below == half && (is_rest || (rounded & 1)));
  *value = ldexp((double)rounded, excess - shift);
  return NUMBER_GOOD;
#else
  return NUMBER_HARD;
#endif
}

static inline enum number parse_float(const uint8_t* at, const uint8_t* end, double* value) {
  decimal number = {0, 0, 1};
  int negative = at < end && *at == '-';
  const uint8_t* whole = at + negative;
  const uint8_t* next = read_digits(whole, end, &number);
  ptrdiff_t places = next - whole;
  if (places > 1 && *whole == '0') return NUMBER_BAD;
  if (next < end && *next == '.') {
    const uint8_t* fraction = next + 1;
    next = read_digits(fraction, end, &number);
    number.exponent = -(next - fraction);
    places += next - fraction;
  }
  if (!places) return special_float(at, end, value);
  if (next < end && (*next == 'e' || *next == 'E')) next = read_exponent(next + 1, end, &number);
  if (next != end) return NUMBER_BAD;
  if (!number.is_exact || (by_doubles(&number, value) && by_integers(&number, value))) return NUMBER_HARD;
  if (negative) *value = -*value;
  return NUMBER_GOOD;
}

/* Whether a finite double is infinite as float32: from half a unit above its largest number on. */
static inline int overflows_float32(double value) {
  double magnitude = fabs(value);
  return magnitude >= 0x1.ffffffp127 && magnitude <= DBL_MAX;
}

#endif
