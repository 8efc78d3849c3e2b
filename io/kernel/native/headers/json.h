/* Scalars of JSON as Python's `json` reads them: which texts are floats, unsigned integers, and what strings stand for. */

#ifndef PENSTOCK_JSON_H
#define PENSTOCK_JSON_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "numbers.h"
#include "words.h"

/* Whether a text that parse_float takes is a float as JSON has it, or a word that Python writes for one. */
static inline int is_json_float(const uint8_t* at, const uint8_t* end) {
  if (text_is(at, end, "NaN") || text_is(at, end, "Infinity") || text_is(at, end, "-Infinity")) return 1;
  at += at < end && *at == '-';
  if (at == end || !is_digit(*at)) return 0;
  while (at < end && is_digit(*at)) at++;
  if (at == end) return 0;
  return *at != '.' || (end - at > 1 && is_digit(at[1]));
}

static inline int parse_unsigned(const uint8_t* at, const uint8_t* end, uint64_t* value) {
  uint64_t found = 0;
  if (at == end || (*at == '0' && end - at > 1)) return 0;
  for (; at < end; at++) {
    uint64_t digit = (uint64_t)*at - '0';
    if (!is_digit(*at) || found > (UINT64_MAX - digit) / 10) return 0;
    found = 10 * found + digit;
  }
  *value = found;
  return 1;
}

/* The quote that closes the string that begins at a quote, or NULL. */
static inline const uint8_t* json_string_end(const uint8_t* at, const uint8_t* end) {
  if (at == end || *at != '"') return NULL;
  for (at++; (at = find_either(at, end, end, '"', '\\')) < end && *at == '\\';) at += end - at > 1 ? 2 : 1;
  return at < end ? at : NULL;
}

static inline int hex_digit(uint8_t byte) {
  if (is_digit(byte)) return byte - '0';
  byte |= 0x20;
  return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* Writes a character of at most 16 bits, no surrogate, as UTF-8. */
static inline uint8_t* put_character(uint8_t* out, unsigned code) {
  if (code < 0x80) {
    *out++ = (uint8_t)code;
    return out;
  }
  if (code < 0x800) {
    *out++ = (uint8_t)(0xC0 | code >> 6);
  } else {
    *out++ = (uint8_t)(0xE0 | code >> 12);
    *out++ = (uint8_t)(0x80 | (code >> 6 & 0x3F));
  }
  *out++ = (uint8_t)(0x80 | (code & 0x3F));
  return out;
}

/* Reads an escape from behind its backslash; NULL where it is none, or a surrogate. */
static inline const uint8_t* read_escape(const uint8_t* at, const uint8_t* end, unsigned* code) {
  static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
  if (at == end) return NULL;
  if (*at != 'u') {
    const char* letter = *at ? strchr(letters, *at) : NULL;
    if (!letter) return NULL;
    *code = (uint8_t)meant[letter - letters];
    return at + 1;
  }
  if (end - at < 5) return NULL;
  *code = 0;
  for (int index = 1; index < 5; index++) {
    int digit = hex_digit(at[index]);
    if (digit < 0) return NULL;
    *code = *code << 4 | (unsigned)digit;
  }
  return *code >= 0xD800 && *code < 0xE000 ? NULL : at + 5;
}

/* Writes what is between the quotes of a string, which is never longer; returns its end, or NULL for what is no string,
   or has surrogates. Whether it is UTF-8 is not checked. */
static inline uint8_t* read_json_string(uint8_t* out, const uint8_t* at, const uint8_t* end) {
  while (at < end) {
    const uint8_t* stop = find_byte(at, end, end, '\\');
    size_t size = (size_t)(stop - at);
    int has_control = 0;
    for (size_t index = 0; index < size; index++) has_control |= at[index] < 0x20;
    if (has_control) return NULL;
    memcpy(out, at, size);
    out += size;
    if (stop == end) break;
    unsigned code;
    at = read_escape(stop + 1, end, &code);
    if (!at) return NULL;
    out = put_character(out, code);
  }
  return out;
}

#endif
