// What messages show of text from outside, and how numbers stand in records.
#include "framework/base/text.hpp"

#include <random>

#include <gtest/gtest.h>

namespace dovetail {
namespace {

TEST(Printable, IsShortAndOneLine) {
  EXPECT_EQ(printable(""), "");
  EXPECT_EQ(printable("a\nb\x01\x7f\t"), "a?b???");
  EXPECT_EQ(printable(std::string("a\0b", 3)), "a?b");
  EXPECT_EQ(printable(std::string(60, 'a')), std::string(60, 'a'));
  EXPECT_EQ(printable(std::string(61, 'a')), std::string(60, 'a') + "...");
  EXPECT_EQ(printable("abc", 2), "ab...");
}

TEST(Printable, KeepsCharactersWhole) {
  EXPECT_EQ(printable("Grüße, 日本, 😀"), "Grüße, 日本, 😀");
  EXPECT_EQ(printable(std::string(59, 'a') + "ä"), std::string(59, 'a') + "...");
  EXPECT_EQ(printable("a😀", 4), "a...");
  EXPECT_EQ(printable("a😀", 5), "a😀");
}

TEST(Printable, ReplacesWhatIsNoTextAndWhatTerminalsObey) {
  EXPECT_EQ(printable("a\xff"
                      "b\xc3"),
            "a?b?");
  EXPECT_EQ(printable("\x1b[2J"), "?[2J");
  EXPECT_EQ(printable("\xc2\x9b"
                      "2J"),
            "?2J")
      << "the same sequence, as one character";
  EXPECT_EQ(printable("\xc2\xa0"), "\xc2\xa0");
}

TEST(Printable, AnyBytesGiveShortUtf8WithoutControlCharacters) {
  std::mt19937_64 random(20'240'811);  // NOLINT(cert-msc51-cpp): deterministic on purpose
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes(random() % 100, '\0');
    for (char& byte : bytes) {
      byte = static_cast<char>(random() % 3 == 0 ? 0xc2 + random() % 2 : random() % 256);
    }
    const std::string shown = printable(bytes);
    ASSERT_LE(shown.size(), 63U);
    for (std::size_t i = 0; i < shown.size(); i += utf8_length(shown.substr(i))) {
      ASSERT_GT(utf8_length(shown.substr(i)), 0U);
      ASSERT_FALSE(is_control(shown[i]));
    }
  }
}

TEST(Utf8, LengthOfTheFirstCharacter) {
  EXPECT_EQ(utf8_length(""), 0U);
  EXPECT_EQ(utf8_length(std::string_view("\0", 1)), 1U);
  EXPECT_EQ(utf8_length("ab"), 1U);
  EXPECT_EQ(utf8_length("äb"), 2U);
  EXPECT_EQ(utf8_length("日b"), 3U);
  EXPECT_EQ(utf8_length("😀b"), 4U);
  // Overlong, surrogate, beyond the last code point, cut off, a continuation.
  for (const char* bad :
       {"\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe6\x97", "\x80"}) {
    EXPECT_EQ(utf8_length(bad), 0U);
  }
}

TEST(Counted, NamesOneAsOne) {
  EXPECT_EQ(counted(0, "rank"), "0 ranks");
  EXPECT_EQ(counted(1, "rank"), "1 rank");
  EXPECT_EQ(counted(2, "timed step"), "2 timed steps");
  EXPECT_EQ(counted(1, "ubatch"), "1 ubatch");
  EXPECT_EQ(counted(3, "ubatch"), "3 ubatches");
}

TEST(Hexadecimal, HasSixteenDigits) {
  EXPECT_EQ(hexadecimal(0), "0000000000000000");
  EXPECT_EQ(hexadecimal(255), "00000000000000ff");
  EXPECT_EQ(hexadecimal(~0ULL), "ffffffffffffffff");
}

}  // namespace
}  // namespace dovetail
