// Numbers and text as they stand in YAML.
#include "framework/config/yaml_text.hpp"

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "tests/support/input_error.hpp"
#include "tests/unit/config/config_samples.hpp"

namespace dovetail {
namespace {

TEST(YamlText, WholeNumbers) {
  EXPECT_EQ(parse_int("0"), 0);
  EXPECT_EQ(parse_int("-12"), -12);
  EXPECT_EQ(parse_int("9223372036854775807"), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(parse_unsigned("18446744073709551615"), std::numeric_limits<std::uint64_t>::max());
  for (const char* text : {"",
                           "-",
                           "+1",
                           "1.0",
                           "1e3",
                           "0x1f",
                           "0o7",
                           "007",
                           "1_000",
                           " 1",
                           "1 ",
                           "nan",
                           "9223372036854775808"}) {
    EXPECT_FALSE(parse_int(text).has_value()) << text;
  }
  for (const char* text : {"", "-1", "01", "18446744073709551616"}) {
    EXPECT_FALSE(parse_unsigned(text).has_value()) << text;
  }
}

TEST(YamlText, Numbers) {
  EXPECT_EQ(parse_number("1"), 1.0);
  EXPECT_EQ(parse_number("-2.5e-3"), -2.5e-3);
  for (const char* text :
       {"", "nan", ".nan", "inf", "-inf", ".inf", "1e999", "0x10", "1.0f", "1,5"}) {
    EXPECT_FALSE(parse_number(text).has_value()) << text;
  }
}

TEST(YamlText, AnyDoubleReadsBackToTheBit) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 20'000; ++i) {
    const double value = std::bit_cast<double>(random());
    if (std::isfinite(value)) {
      const std::string text = write_number(value);
      const auto back = parse_number(text);
      ASSERT_TRUE(back.has_value()) << text;
      ASSERT_EQ(std::bit_cast<std::uint64_t>(*back), std::bit_cast<std::uint64_t>(value)) << text;
      ASSERT_FALSE(parse_int(text).has_value()) << text;
    }
  }
  EXPECT_EQ(write_number(2.0), "2.0");
}

TEST(YamlText, WriteTextQuotesWhatYamlWouldTakeForSomethingElse) {
  for (const char* plain :
       {"a", "a/b.json", "qwen3-moe_tiny", "./a", "/abs", "3rd", "none", "...", ".."}) {
    EXPECT_EQ(write_text(plain), plain);
  }
  for (const char* other :
       {"", "1", "1.5", "-a", "true", "null", "~", "nan", "a b", "a: b", "{a", "a#"}) {
    EXPECT_EQ(write_text(other), '"' + std::string(other) + '"');
  }
  EXPECT_EQ(write_text("a\"\\"), "\"a\\\"\\\\\"");
  EXPECT_EQ(write_text("a\n\r\tb"), R"("a\n\r\tb")");
}

TEST(YamlText, RefusesWhatIsNoText) {
  const auto error = [](const std::string& text) {
    return testing::input_error_of([&] { check_text(text, "x"); });
  };
  EXPECT_EQ(error("a: ä日😀\r\n\tb\n"), "");
  EXPECT_EQ(error("a\nbc\x04"), "x:2:3: a control character; allowed: UTF-8 text");
  EXPECT_EQ(error(std::string("a\0b", 3)), "x:1:2: a control character; allowed: UTF-8 text");
  EXPECT_EQ(error("a\rb"), "x:1:2: a control character; allowed: UTF-8 text");
  EXPECT_EQ(error("ä\n\xff"), "x:2:1: a byte that is not UTF-8; allowed: UTF-8 text");
  // Overlong, surrogate, beyond the last code point, cut off.
  for (const char* bad :
       {"\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe6\x97", "\x80"}) {
    EXPECT_NE(error(bad).find("x:1:1: a byte that is not UTF-8"), std::string::npos);
  }
}

}  // namespace
}  // namespace dovetail
