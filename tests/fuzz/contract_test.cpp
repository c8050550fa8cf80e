// The twins: what a reader must not do is seen.
#include <new>
#include <set>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "tests/fuzz/mutate.hpp"
#include "tests/fuzz/target.hpp"

namespace dovetail::fuzz {
namespace {

void throw_input_error(const std::string& message) {
  is_read("a.yaml:", [&] { throw InputError(message); });
}

TEST(Contract, TakesInputsAndRefusals) {
  EXPECT_TRUE(is_read("a.yaml:", [] {}));
  EXPECT_FALSE(is_read("a.yaml:", [] { throw InputError("a.yaml:3:1: unknown key"); }));
}

TEST(Contract, IsBrokenByOtherExceptions) {
  EXPECT_THROW(is_read("a", [] { throw std::out_of_range("at"); }), BrokenContract);
  EXPECT_THROW(is_read("a", [] { throw std::bad_alloc(); }), BrokenContract);
  EXPECT_THROW(is_read("a", [] { throw RunError("a"); }), BrokenContract);
  EXPECT_THROW(is_read("a", [] { require(false, "the dump is another one"); }), BrokenContract);
}

TEST(Contract, IsBrokenByMessages) {
  EXPECT_THROW(throw_input_error("unknown key"), BrokenContract) << "where";
  EXPECT_THROW(throw_input_error("a.yaml: \x1b[2J"), BrokenContract) << "not for terminals";
  EXPECT_THROW(throw_input_error("a.yaml: \xff"), BrokenContract);
  EXPECT_THROW(throw_input_error("a.yaml: " + std::string(5000, 'x')), BrokenContract);
}

TEST(Mutator, GivesTheSameInputsForOneSeed) {
  const std::vector<std::string> seeds = {"abcdefgh", "0123456789"};
  std::set<std::string> all;
  Mutator first(seeds, {"{"}, 1);
  Mutator again(seeds, {"{"}, 1);
  Mutator other(seeds, {"{"}, 2);
  int num_equal = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto bytes = first.next();
    all.insert(bytes);
    ASSERT_EQ(bytes, again.next());
    num_equal += bytes == other.next() ? 1 : 0;
  }
  EXPECT_GT(all.size(), 700U);
  EXPECT_LT(num_equal, 50);
}

}  // namespace
}  // namespace dovetail::fuzz
