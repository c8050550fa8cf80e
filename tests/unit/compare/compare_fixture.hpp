// A run folder of two policies, for the tests of compare.
#pragma once

#include <string>

#include <gtest/gtest.h>

#include "framework/compare/compare.hpp"
#include "tests/unit/compare/synthetic_run.hpp"

namespace dovetail {

inline SyntheticRun timed_run(const std::string& policy, const std::string& started_at) {
  SyntheticRun run = make_synthetic_run(2, policy);
  run.started_at = started_at;
  add_synthetic_profile(run);
  return run;
}

/// A run folder with "b_sequential" (first by time), "a_dual" (first by name).
class Compare : public ::testing::Test {
 protected:
  void SetUp() override {
    baseline_ = timed_run("b_sequential", "2025-01-01T00:00:00Z");
    baseline_.ranks[0].step_ns = {100'000, 120'000, 110'000};
    baseline_.ranks[1].step_ns = {105'000, 115'000, 90'000};
    // The baseline's compute alone takes 60 us rather than 71.
    for (SyntheticRank& rank : baseline_.ranks) {
      rank.profiles[0].passes[1].op_end_ns[4] -= 11'000;
    }
    policy_ = timed_run("a_dual", "2025-01-01T00:01:00Z");
    for (SyntheticRank& rank : policy_.ranks) {
      rank.step_ns = {50'000, 55'000, 60'000};
      rank.decision.ubatched = 1;
    }
  }

  CompareReport compare(const CompareOptions& options = {}) {
    baseline_.write(folder_.path());
    policy_.write(folder_.path());
    return compare_policies({folder_.path()}, options);
  }

  TemporaryFolder folder_;
  SyntheticRun baseline_;
  SyntheticRun policy_;
};

}  // namespace dovetail
