// Two runs of which one was changed, and what verify says of them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/compare/verify.hpp"
#include "tests/unit/compare/synthetic_run.hpp"

namespace dovetail {

using Change = std::function<void(SyntheticRun&)>;

class Verify : public ::testing::Test {
 protected:
  /// The baseline on `baseline_ranks`, the changed policy on 3 ranks.
  VerifyReport verify(const Change& change,
                      CompareMode mode = CompareMode::tolerance,
                      int baseline_ranks = 3,
                      const Change& change_baseline = {}) {
    const auto parent = folder_.path() / std::to_string(++runs_);
    SyntheticRun baseline = make_synthetic_run(baseline_ranks, "sequential");
    if (change_baseline) {
      change_baseline(baseline);
    }
    SyntheticRun policy = make_synthetic_run(3, "dual_batch");
    change(policy);
    baseline_dir_ = baseline.write(parent);
    policy_dir_ = policy.write(parent);
    return verify_policies(baseline_dir_, policy_dir_, {mode});
  }

  /// True if a problem has all the texts in it.
  static ::testing::AssertionResult names(const VerifyReport& report,
                                          const std::vector<std::string>& texts) {
    for (const std::string& problem : report.problems) {
      if (std::all_of(texts.begin(), texts.end(), [&](const std::string& text) {
            return problem.find(text) != std::string::npos;
          })) {
        return ::testing::AssertionSuccess();
      }
    }
    return ::testing::AssertionFailure() << to_text(report);
  }

  static float& element(SyntheticRun& run,
                        const std::string& output,
                        std::int64_t request,
                        std::int64_t position,
                        std::size_t column) {
    SyntheticRank& rank = run.rank_of(request);
    SyntheticTensor& tensor = rank.outputs.at(output);
    return tensor.values.at(
        rank.row_of(request, position) * static_cast<std::size_t>(tensor.columns) + column);
  }

  /// Row of a token in the tables of all layers.
  static std::size_t routed_row(const SyntheticRank& rank,
                                std::int64_t layer,
                                std::int64_t request,
                                std::int64_t position) {
    return static_cast<std::size_t>(layer) * rank.request_id.size() +
           rank.row_of(request, position);
  }

  /// Takes expert 7 for the last one, which the logits do not explain.
  static void change_expert(SyntheticRun& run,
                            std::int64_t layer,
                            std::int64_t request,
                            std::int64_t position) {
    SyntheticRank& rank = run.rank_of(request);
    rank.expert_ids.at(2 * routed_row(rank, layer, request, position) + 1) = 7;
  }

  /// The same by a near tie that falls the other way.
  static void flip_expert(SyntheticRun& run,
                          std::int64_t layer,
                          std::int64_t request,
                          std::int64_t position) {
    change_expert(run, layer, request, position);
    SyntheticRank& rank = run.rank_of(request);
    const std::size_t row = routed_row(rank, layer, request, position);
    rank.router_logits.at(row * SyntheticRun::kExperts + 7) = 2 + 1e-6F;
  }

  /// Says that the experts were given, and what the router would have chosen.
  static void give_experts(SyntheticRun& run) {
    for (SyntheticRank& rank : run.ranks) {
      rank.natural_ids = rank.expert_ids;
    }
  }

  TemporaryFolder folder_;
  std::filesystem::path baseline_dir_;
  std::filesystem::path policy_dir_;
  int runs_ = 0;
};

inline void no_change(SyntheticRun& /*run*/) {}

}  // namespace dovetail
