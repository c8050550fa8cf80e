#include "framework/compare/table.hpp"

#include <limits>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

TEST(TextTable, AlignsColumnsAlsoWithUtf8) {
  TextTable table({{"policy", TextTable::Align::left}, {"p50 [µs]"}});
  table.add_row({"sequential", "12.0"});
  table.add_row({"ü", "1234567890.0"});
  EXPECT_EQ(table.to_string(),
            "policy          p50 [µs]\n"
            "----------  ------------\n"
            "sequential          12.0\n"
            "ü           1234567890.0\n");
}

TEST(TextTable, LeavesNoTrailingBlanks) {
  TextTable table({{"a", TextTable::Align::left}, {"note", TextTable::Align::left}});
  table.add_row({"x", ""});
  EXPECT_EQ(table.to_string(), "a  note\n-  ----\nx\n");
}

TEST(TextTable, IsCutIntoBlocksWhereItIsTooWide) {
  TextTable table({{"policy", TextTable::Align::left}, {"first"}, {"second"}, {"third"}});
  table.add_row({"a", "1", "2", "3"});
  const std::string whole = table.to_string();
  EXPECT_EQ(
      whole,
      "policy  first  second  third\n------  -----  ------  -----\na           1       2      3\n");
  EXPECT_EQ(table.to_string(28), whole) << "it fits";
  EXPECT_EQ(table.to_string(27),
            "policy  first  second\n------  -----  ------\na           1       2\n\n"
            "policy  third\n------  -----\na           3\n");
  EXPECT_EQ(table.to_string(3),
            "policy  first\n------  -----\na           1\n\n"
            "policy  second\n------  ------\na            2\n\n"
            "policy  third\n------  -----\na           3\n")
      << "a column that alone is wider stays whole";
  EXPECT_EQ(table.to_string(22, 2),
            "policy  first  second\n------  -----  ------\na           1       2\n\n"
            "policy  first  third\n------  -----  -----\na           1      3\n");
}

TEST(TextTable, RefusesARowOfAnotherWidth) {
  TextTable table({{"a"}, {"b"}});
  EXPECT_THROW(table.add_row({"1"}), ContractError);
}

TEST(Format, PrintsNumbersAndDashes) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(format_ms(1'234'567), "1.235");
  EXPECT_EQ(format_us(1'250), "1.2");
  EXPECT_EQ(format_percent(0.125), "12.5 %");
  EXPECT_EQ(format_percent(nan), "-");
  EXPECT_EQ(format_fixed(nan, 2), "-");
  EXPECT_EQ(format_error(0), "0");
  EXPECT_EQ(format_error(1.25e-7), "1.25e-07");
  EXPECT_EQ(format_error(std::numeric_limits<double>::infinity()), "inf");
}

}  // namespace
}  // namespace dovetail
