#include <gtest/gtest.h>

#include "framework/base/check.hpp"
#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/types.hpp"
#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

TEST(Error, InputErrorNamesFilePlaceAndExitCode) {
  const InputError error("a.yaml", 3, 7, "unknown key 'x'");
  EXPECT_STREQ(error.what(), "a.yaml:3:7: unknown key 'x'");
  EXPECT_EQ(error.exit_code(), 2);
  EXPECT_STREQ(InputError("a.json", 0, 0, "no").what(), "a.json: no");
}

TEST(Error, OpErrorNamesWhatIsKnown) {
  const OpError error({.rank = 1, .ubatch = 0, .layer = 3, .phase = "experts"}, "boom");
  EXPECT_STREQ(error.what(), "rank 1, ubatch 0, layer 3, phase experts: boom");
  EXPECT_EQ(error.exit_code(), 3);
  EXPECT_STREQ(OpError({.ubatch = 2, .phase = "embed"}, "x").what(), "ubatch 2, phase embed: x");
}

TEST(Check, ThrowsWithTextAndBothSides) {
  EXPECT_NO_THROW(DOVETAIL_CHECK(1 + 1 == 2, "arithmetic"));
  EXPECT_NO_THROW(DOVETAIL_CHECK_EQ(2, 2));
  try {
    DOVETAIL_CHECK_EQ(1 + 1, 3);
    FAIL() << "no exception";
  } catch (const ContractError& error) {
    EXPECT_NE(std::string(error.what()).find("1 + 1 == 3: 2 against 3"), std::string::npos);
  }
  // Safe as the body of an unbraced branch.
  if (false)
    DOVETAIL_CHECK(false, "not reached");
  else
    SUCCEED();
}

TEST(Types, NamesRoundTrip) {
  for (const auto name : names<DType>()) {
    EXPECT_EQ(to_string(*parse<DType>(name)), name);
  }
  EXPECT_EQ(parse<HandOff>("inline"), HandOff::inline_walk);
  EXPECT_FALSE(parse<WorkPhase>("Prefill").has_value());
  EXPECT_EQ(size_of(DType::bfloat16), 2U);
  EXPECT_EQ(size_of(DType::int64), 8U);
}

TEST(JoinNames, AreReadableWhateverAFileHasForNames) {
  EXPECT_EQ(join_names(std::vector<std::string>{"a\x01", std::string(300, 'b'), "\xff"}),
            "a?, " + std::string(300, 'b') + ", ?");
}

TEST(Registry, ErrorListsKnownNames) {
  Registry<int> registry("policy");
  registry.add("sequential", "one after the other", 1);
  registry.add("dual_batch", "two ubatches", 2);
  EXPECT_EQ(registry.at("dual_batch"), 2);
  EXPECT_EQ(testing::input_error_of([&] { registry.at("dual"); }),
            "unknown policy 'dual'; known: sequential, dual_batch");
}

}  // namespace
}  // namespace dovetail
