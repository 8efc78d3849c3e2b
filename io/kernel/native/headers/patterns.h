/* The patterns of texts, as `penstock.io.kernel.shared.statistics` has them; which characters a text has. */

#ifndef PENSTOCK_PATTERNS_H
#define PENSTOCK_PATTERNS_H

#include <stdint.h>
#include <string.h>

/* 1 + the index in PATTERNS. */
enum {
  PATTERN_NONE,
  PATTERN_EMPTY,
  PATTERN_WHITESPACE,
  PATTERN_INTEGER,
  PATTERN_NUMBER,
  PATTERN_DATE,
  PATTERN_DATETIME,
  PATTERN_UUID,
  PATTERN_IP,
  PATTERN_EMAIL,
  PATTERN_URL,
  PATTERN_JSON,
  PATTERN_INVALID_UTF8 = 255
};

/* The longest IPv6 address. */
#define PATTERN_IP_MOST 39

static inline int pattern_digit(uint8_t byte) { return byte >= '0' && byte <= '9'; }
static inline int pattern_alpha(uint8_t byte) { return (byte | 32) >= 'a' && (byte | 32) <= 'z'; }
static inline int pattern_alnum(uint8_t byte) { return pattern_digit(byte) || pattern_alpha(byte); }
static inline int pattern_hex(uint8_t byte) { return pattern_digit(byte) || ((byte | 32) >= 'a' && (byte | 32) <= 'f'); }
static inline int pattern_space(uint8_t byte) { return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r'; }
static inline int pattern_blank(uint8_t byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }
static inline int pattern_sign(uint8_t byte) { return byte == '+' || byte == '-'; }

static inline const uint8_t *pattern_digits(const uint8_t *at, const uint8_t *end) {
  while (at < end && pattern_digit(*at)) at++;
  return at;
}

/* INTEGER, NUMBER or NONE. */
static inline int pattern_number(const uint8_t *at, const uint8_t *end) {
  at += at < end && pattern_sign(*at);
  const uint8_t *whole = at, *point = pattern_digits(at, end);
  int digits = point > whole, is_integer = 1;
  at = point;
  if (at < end && *at == '.') {
    at = pattern_digits(point + 1, end);
    digits |= at > point + 1;
    is_integer = 0;
  }
  if (!digits) return PATTERN_NONE;
  if (at < end && (*at | 32) == 'e') {
    at++;
    at += at < end && pattern_sign(*at);
    const uint8_t *exponent = at;
    at = pattern_digits(at, end);
    if (at == exponent) return PATTERN_NONE;
    is_integer = 0;
  }
  return at < end ? PATTERN_NONE : is_integer ? PATTERN_INTEGER : PATTERN_NUMBER;
}

/* Two digits as a number, or -1. */
static inline int pattern_two(const uint8_t *at, const uint8_t *end) {
  return end - at >= 2 && pattern_digit(at[0]) && pattern_digit(at[1]) ? 10 * (at[0] - '0') + at[1] - '0' : -1;
}

/* Behind `2024-02-29`, or NULL. */
static inline const uint8_t *pattern_year_first(const uint8_t *at, const uint8_t *end) {
  if (end - at < 10 || pattern_digits(at, at + 4) < at + 4 || (at[4] != '-' && at[4] != '/') || at[7] != at[4])
    return NULL;
  int month = pattern_two(at + 5, end), day = pattern_two(at + 8, end);
  return month >= 1 && month <= 12 && day >= 1 && day <= 31 ? at + 10 : NULL;
}

/* Behind a number from 1 to 31 of one or two digits and the sign behind it, or NULL. */
static inline const uint8_t *pattern_day(const uint8_t *at, const uint8_t *end, uint8_t sign) {
  const uint8_t *stop = pattern_digits(at, end);
  int day = stop - at == 1 ? *at - '0' : stop - at == 2 ? pattern_two(at, stop) : 0;
  return day >= 1 && day <= 31 && stop < end && *stop == sign ? stop + 1 : NULL;
}

static inline int pattern_year_last(const uint8_t *at, const uint8_t *end) {
  const uint8_t *stop = pattern_digits(at, end);
  if (stop == end || (*stop != '.' && *stop != '/' && *stop != '-')) return 0;
  if (!(at = pattern_day(at, end, *stop)) || !(at = pattern_day(at, end, *stop))) return 0;
  return end - at == 4 && pattern_digits(at, end) == end;
}

/* Whether [at, end) is a time of day and a zone or none. */
static inline int pattern_clock(const uint8_t *at, const uint8_t *end) {
  int hour = pattern_two(at, end), minute, second;
  if (hour < 0 || hour > 23 || end - at < 5 || at[2] != ':') return 0;
  if ((minute = pattern_two(at + 3, end)) < 0 || minute > 59) return 0;
  at += 5;
  if (at < end && *at == ':') {
    if ((second = pattern_two(at + 1, end)) < 0 || second > 60) return 0;
    at += 3;
    if (at < end && (*at == '.' || *at == ',')) {
      const uint8_t *stop = pattern_digits(at + 1, end);
      if (stop - at < 2 || stop - at > 10) return 0;
      at = stop;
    }
  }
  if (at == end || (end - at == 1 && (*at == 'Z' || *at == 'z'))) return 1;
  if (!pattern_sign(*at) || (hour = pattern_two(at + 1, end)) < 0 || hour > 23) return 0;
  at += 3;
  at += at < end && *at == ':';
  return end - at == 2 && (minute = pattern_two(at, end)) >= 0 && minute <= 59;
}

static inline int pattern_date(const uint8_t *at, const uint8_t *end) {
  const uint8_t *stop = pattern_year_first(at, end);
  if (!stop) return pattern_year_last(at, end) ? PATTERN_DATE : PATTERN_NONE;
  if (stop == end) return PATTERN_DATE;
  return (*stop == 'T' || *stop == ' ') && pattern_clock(stop + 1, end) ? PATTERN_DATETIME : PATTERN_NONE;
}

static inline int pattern_uuid(const uint8_t *at, const uint8_t *end) {
  if (end - at != 36) return 0;
  for (int index = 0; index < 36; index++) {
    int is_dash = index == 8 || index == 13 || index == 18 || index == 23;
    if (is_dash ? at[index] != '-' : !pattern_hex(at[index])) return 0;
  }
  return 1;
}

static inline int pattern_ipv4(const uint8_t *at, const uint8_t *end) {
  for (int part = 0; part < 4; part++) {
    const uint8_t *stop = pattern_digits(at, end);
    if (stop == at || stop - at > 3 || (*at == '0' && stop - at > 1)) return 0;
    int number = 0;
    for (; at < stop; at++) number = 10 * number + *at - '0';
    if (number > 255 || (part < 3 ? at == end || *at != '.' : at != end)) return 0;
    at++;
  }
  return 1;
}

static inline int pattern_ipv6(const uint8_t *at, const uint8_t *end) {
  int groups = 0, is_short = 0;
  if (end - at >= 2 && at[0] == ':' && at[1] == ':') {
    is_short = 1;
    at += 2;
  }
  while (at < end) {
    const uint8_t *start = at;
    while (at < end && pattern_hex(*at)) at++;
    if (at == start || at - start > 4) return 0;
    groups++;
    if (at == end) break;
    if (*at++ != ':' || at == end) return 0;
    if (*at == ':') {
      if (is_short) return 0;
      is_short = 1;
      at++;
    }
  }
  return is_short ? groups <= 7 : groups == 8;
}

/* A character of an atom of RFC 5322. */
static inline int pattern_atom(uint8_t byte) {
  return pattern_alnum(byte) || (byte && strchr("!#$%&'*+/=?^_`{|}~-", byte) != NULL);
}

static inline int pattern_email(const uint8_t *at, const uint8_t *sign, const uint8_t *end) {
  int is_open = 0; /* whether an atom or label may end here */
  for (; at < sign; at++) {
    if (*at == '.' ? !is_open : !pattern_atom(*at)) return 0;
    is_open = *at != '.';
  }
  if (!is_open) return 0;
  int labels = 1, is_start = 1;
  for (at = sign + 1; at < end; at++) {
    if (*at == '.') {
      if (is_start || at[-1] == '-') return 0;
      labels++;
      is_start = 1;
    } else if (pattern_alnum(*at) || (*at == '-' && !is_start)) {
      is_start = 0;
    } else {
      return 0;
    }
  }
  return labels > 1 && !is_start && end[-1] != '-';
}

static inline int pattern_url(const uint8_t *at, const uint8_t *colon, const uint8_t *end) {
  if (!pattern_alpha(*at) || end - colon < 4 || colon[1] != '/' || colon[2] != '/') return 0;
  for (; at < colon; at++)
    if (!pattern_alnum(*at) && *at != '+' && *at != '.' && *at != '-') return 0;
  for (at = colon + 3; at < end; at++)
    if (*at <= ' ' || *at == 0x7F) return 0;
  return 1;
}

static inline int pattern_json(const uint8_t *at, const uint8_t *end) {
  while (at < end && pattern_space(*at)) at++;
  while (at < end && pattern_space(end[-1])) end--;
  if (end - at < 2 || !((*at == '{' && end[-1] == '}') || (*at == '[' && end[-1] == ']'))) return 0;
  int is_object = *at++ == '{';
  while (pattern_space(*at)) at++;
  if (at == end - 1) return 1;
  if (is_object) return *at == '"';
  return pattern_digit(*at) || (*at && strchr("[{\"-tfn", *at) != NULL);
}

/* `has_signs` is whether there is a `:` or `@`. */
static inline int pattern_of(const uint8_t *text, int64_t size, int has_signs) {
  const uint8_t *end = text + size, *at = text;
  int found;
  if (!size) return PATTERN_EMPTY;
  if (pattern_blank(*text)) {
    while (at < end && pattern_blank(*at)) at++;
    if (at == end) return PATTERN_WHITESPACE;
    return pattern_json(text, end) ? PATTERN_JSON : PATTERN_NONE;
  }
  if (pattern_digit(*text) || pattern_sign(*text) || *text == '.') {
    if ((found = pattern_number(text, end))) return found;
    if (pattern_digit(*text)) {
      if ((found = pattern_date(text, end))) return found;
      if (pattern_ipv4(text, end)) return PATTERN_IP;
    }
  }
  if (pattern_uuid(text, end)) return PATTERN_UUID;
  /* The rest begins with a bracket, or has one of these signs. */
  if (!has_signs) at = end;
  while (at < end && *at != ':' && *at != '@') at++;
  if (at < end && *at == ':') {
    if (size <= PATTERN_IP_MOST && pattern_ipv6(text, end)) return PATTERN_IP;
    if (pattern_url(text, at, end)) return PATTERN_URL;
  } else if (at < end && pattern_email(text, at, end)) {
    return PATTERN_EMAIL;
  }
  return (*text == '{' || *text == '[') && pattern_json(text, end) ? PATTERN_JSON : PATTERN_NONE;
}

/* Behind the character at `at`, or NULL where there is none: by table 3-7 of the Unicode standard. */
static inline const uint8_t *pattern_character(const uint8_t *at, const uint8_t *end) {
  uint8_t lead = *at++, least = 0x80, most = 0xBF;
  int more = lead < 0x80 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
  if (!more) return at;
  if (lead < 0xC2 || lead > 0xF4 || end - at < more) return NULL;
  if (lead == 0xE0) least = 0xA0;
  if (lead == 0xED) most = 0x9F;
  if (lead == 0xF0) least = 0x90;
  if (lead == 0xF4) most = 0x8F;
  if (*at < least || *at > most) return NULL;
  for (int index = 1; index < more; index++)
    if ((at[index] & 0xC0) != 0x80) return NULL;
  return at + more;
}

#define PATTERN_HIGHS 0x8080808080808080ULL

/* Up to 8 bytes, and zeros. */
static inline uint64_t pattern_word(const uint8_t *at, int64_t size) {
  uint64_t word = 0;
  uint32_t first, last;
  if (size >= 8) {
    memcpy(&word, at, 8);
  } else if (size >= 4) {
    memcpy(&first, at, 4);
    memcpy(&last, at + size - 4, 4);
    word = first | (uint64_t)last << 8 * (size - 4);
  } else if (size) {
    word = at[0] | (uint64_t)at[size >> 1] << 8 * (size >> 1) | (uint64_t)at[size - 1] << 8 * (size - 1);
  }
  return word;
}

/* High bits of bytes that are `byte`; none if there are none. */
static inline uint64_t pattern_matches(uint64_t word, uint8_t byte) {
  uint64_t differences = word ^ (0x0101010101010101ULL * byte);
  return (differences - 0x0101010101010101ULL) & ~differences & PATTERN_HIGHS;
}

/* The high bit of a byte is set if any byte has it; those of `signs` if there is any `:` or `@`. */
static inline uint64_t pattern_scan(const uint8_t *text, int64_t size, uint64_t *signs) {
  uint64_t word = pattern_word(text, size), any = word;
  *signs = pattern_matches(word, ':') | pattern_matches(word, '@');
  for (int64_t at = 8; at < size; at += 8) {
    word = pattern_word(text + (at + 8 <= size ? at : size - 8), 8);
    any |= word;
    *signs |= pattern_matches(word, ':') | pattern_matches(word, '@');
  }
  return any & PATTERN_HIGHS;
}

/* How many bytes do not continue a character. */
static inline int64_t pattern_characters(const uint8_t *text, int64_t size) {
  int64_t count = 0;
  for (int64_t index = 0; index < size; index++) count += (text[index] & 0xC0) != 0x80;
  return count;
}

/* The pattern, and how many characters there are. */
static inline uint8_t pattern_describe(const uint8_t *text, int64_t size, int64_t *characters) {
  uint64_t signs;
  *characters = size;
  if (pattern_scan(text, size, &signs)) {
    *characters = pattern_characters(text, size);
    for (const uint8_t *at = text; at < text + size;)
      if (!(at = pattern_character(at, text + size))) return PATTERN_INVALID_UTF8;
  }
  return (uint8_t)pattern_of(text, size, signs != 0);
}

#endif
