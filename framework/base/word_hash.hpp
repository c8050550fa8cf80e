// The parts of a content hash: a sum over words, so that any number of threads can share the work
// in any order. Shared with device code.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "framework/base/hash.hpp"

namespace dovetail {

inline constexpr std::int64_t kHashedWordBytes = 8;

/// What word `index` of a content adds to its sum. A bijection of the word for each index, so a
/// single changed word always changes the sum; `start` and index decide which, so words that change
/// places, or parameters that change names, do not cancel.
DOVETAIL_HOST_DEVICE constexpr std::uint64_t hash_word(std::uint64_t start,
                                                       std::int64_t index,
                                                       std::uint64_t word) {
  // Multiples of an odd number are distinct mod 2^64.
  return mix_bits((start + static_cast<std::uint64_t>(index) * 0xD1342543DE82EF95U) ^ word);
}

/// Word `index` of `size` bytes at any address, little-endian; the last may be short, and is filled
/// up with zeros.
DOVETAIL_HOST_DEVICE inline std::uint64_t word_from_bytes(const unsigned char* bytes,
                                                          std::int64_t size,
                                                          std::int64_t index) {
  const std::int64_t begin = index * kHashedWordBytes;
  const std::int64_t left = size - begin;
  std::uint64_t word = 0;
  for (int i = 0; i < kHashedWordBytes; ++i) {
    if (i < left) {
      word |= static_cast<std::uint64_t>(bytes[begin + i]) << (8 * i);
    }
  }
  return word;
}

/// The sum (mod 2^64) over all words of `size` bytes at any address.
inline std::uint64_t sum_of_words(std::uint64_t start,
                                  const unsigned char* bytes,
                                  std::int64_t size) {
  static_assert(std::endian::native == std::endian::little, "words are read as they lie");
  const std::int64_t whole_words = size / kHashedWordBytes;
  std::uint64_t sum = 0;
  for (std::int64_t index = 0; index < whole_words; ++index) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes + index * kHashedWordBytes, sizeof word);
    sum += hash_word(start, index, word);
  }
  if (whole_words * kHashedWordBytes < size) {
    sum += hash_word(start, whole_words, word_from_bytes(bytes, size, whole_words));
  }
  return sum;
}

/// The hash of a content of `size` bytes from the sum (mod 2^64) over its words: a bijection of the
/// sum.
DOVETAIL_HOST_DEVICE constexpr std::uint64_t finish_hash(std::uint64_t start,
                                                         std::int64_t size,
                                                         std::uint64_t sum) {
  return combine_hash(combine_hash(start, static_cast<std::uint64_t>(size)), sum);
}

}  // namespace dovetail
