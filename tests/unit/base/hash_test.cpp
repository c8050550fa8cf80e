// Hashes against published numbers, and their parts against each other.
#include "framework/base/hash.hpp"

#include <cstdint>
#include <set>

#include <gtest/gtest.h>

namespace dovetail {
namespace {

TEST(Hash, MixBitsIsSplitMix64) {
  EXPECT_EQ(mix_bits(0), 0xe220a8397b1dcdafULL);
  EXPECT_EQ(mix_bits(0x9e3779b97f4a7c15ULL), 0x6e789e6aa1b965f4ULL)
      << "the second number of seed 0";
}

TEST(Hash, BytesAreFoldedInOneByOne) {
  EXPECT_EQ(combine_hash_bytes(7, ""), 7U);
  EXPECT_EQ(combine_hash_bytes(7, "a\xff"), combine_hash(combine_hash(7, 0x61), 0xff));
}

TEST(Hash, OfNumbersTellsTheirOrderAndNumber) {
  std::set<std::uint64_t> seen;
  for (std::uint64_t a = 0; a < 30; ++a) {
    EXPECT_TRUE(seen.insert(hash_of({a})).second) << a;
    for (std::uint64_t b = 0; b < 30; ++b) {
      EXPECT_TRUE(seen.insert(hash_of({a, b})).second) << a << " " << b;
      EXPECT_TRUE(seen.insert(hash_of({a, b, 0})).second) << a << " " << b;
    }
  }
}

TEST(Hash, Fnv1aKnownAnswers) {
  const auto of = [](std::string_view text) {
    Fnv1a hash;
    hash.add_bytes(text);
    return hash.value();
  };
  EXPECT_EQ(of(""), 0xcbf29ce484222325ULL);
  EXPECT_EQ(of("a"), 0xaf63dc4c8601ec8cULL);
  EXPECT_EQ(of("foobar"), 0x85944171f73967e8ULL);
  EXPECT_NE(of("\xff"), of("\x7f"));
}

TEST(Hash, Fnv1aOfANumberIsThatOfItsBytesTheLowestFirst) {
  Fnv1a number;
  number.add_number(0x0807060504030201ULL);
  Fnv1a bytes;
  bytes.add_bytes("\x01\x02\x03\x04\x05\x06\x07\x08");
  EXPECT_EQ(number.value(), bytes.value());
}

}  // namespace
}  // namespace dovetail
