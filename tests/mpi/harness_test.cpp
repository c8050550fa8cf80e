// The harness that all MPI tests stand on: the verdict of several ranks, and a passing run.
#include <gtest/gtest.h>

#include "tests/support/mpi_world.hpp"
#include "tests/support/verdict.hpp"

namespace dovetail::test {
namespace {

const Report kPassed{"A.b", Outcome::passed, ""};
const Report kSkipped{"A.b", Outcome::skipped, "no such device\n"};
const Report kFailed{"A.b", Outcome::failed, "x.cpp:1: bad\nworse\n"};

TEST(Harness, JudgesAgreement) {
  EXPECT_EQ(judge({kPassed}).outcome, Outcome::passed);
  EXPECT_EQ(judge({kPassed, kPassed, kPassed}).outcome, Outcome::passed);
  EXPECT_TRUE(judge({kPassed, kPassed}).lines.empty());
  EXPECT_EQ(judge({kSkipped, kSkipped}).outcome, Outcome::skipped);
}

TEST(Harness, OneFailureFailsAllAndNamesTheRank) {
  const Verdict verdict = judge({kPassed, kFailed, kPassed});
  EXPECT_EQ(verdict.outcome, Outcome::failed);
  EXPECT_EQ(verdict.lines, (std::vector<std::string>{"[rank 1] x.cpp:1: bad", "[rank 1] worse"}));
  EXPECT_EQ(judge({kFailed, kPassed}).outcome, Outcome::failed);
  EXPECT_EQ(judge({kFailed, kSkipped}).outcome, Outcome::failed);
}

TEST(Harness, DisagreementIsAFailure) {
  EXPECT_EQ(judge({kPassed, kSkipped}).outcome, Outcome::failed);
  EXPECT_EQ(judge({kSkipped, kPassed}).outcome, Outcome::failed);
  EXPECT_EQ(judge({kPassed, {"A.c", Outcome::passed, ""}}).outcome, Outcome::failed);
}

TEST(Harness, KnowsItsWorld) {
  EXPECT_EQ(world_rank(), session().rank().value);
  EXPECT_GE(world_rank(), 0);
  EXPECT_LT(world_rank(), world_size());
}

}  // namespace
}  // namespace dovetail::test
