#include "framework/compare/routing_diff.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

constexpr std::size_t kLayers = 3;
constexpr std::size_t kRows = 6;
constexpr std::size_t kExperts = 6;
constexpr RowBounds kBounds = {.row = 0.01, .element = 0.05};
constexpr float kStep = 0.3F;       // between the logits of neighbouring ranks
constexpr float kNearTie = 0.004F;  // either side of a tie

/// Two runs of 3 layers and k = 2: request 10 with positions 0 to 3 and request 11 with 0 and 1.
/// The order of the experts names layer and row.
struct TwoRuns {
  RoutedRows rows = {.request = {10, 10, 10, 10, 11, 11},
                     .position = {0, 1, 2, 3, 0, 1},
                     .is_given = std::vector<char>(kRows, 0),
                     .top_k = 2,
                     .num_experts = kExperts};
  std::array<LayerRouting, kLayers> policy;
  std::array<LayerRouting, kLayers> baseline;

  TwoRuns() {
    for (std::size_t layer = 0; layer < kLayers; ++layer) {
      for (std::size_t row = 0; row < kRows; ++row) {
        for (std::size_t expert = 0; expert < kExperts; ++expert) {
          const auto place = (expert + layer + row) % kExperts;
          baseline[layer].logits.push_back(1 - kStep * static_cast<float>(place));
        }
        for (std::size_t place = 0; place < 2; ++place) {
          baseline[layer].natural_ids.push_back(expert_at(layer, row, place));
        }
      }
      baseline[layer].expert_ids = baseline[layer].natural_ids;
    }
    policy = baseline;
  }

  /// The expert of that place in the order of the row's logits.
  static std::int32_t expert_at(std::size_t layer, std::size_t row, std::size_t place) {
    return static_cast<std::int32_t>((place + 2 * kExperts - layer - row) % kExperts);
  }

  static float& logit(LayerRouting& run, std::size_t layer, std::size_t row, std::size_t place) {
    return run.logits[row * kExperts + static_cast<std::size_t>(expert_at(layer, row, place))];
  }

  /// The policy's router takes the third expert for the second.
  void choose_third(std::size_t layer, std::size_t row) {
    auto& run = policy[layer];
    run.natural_ids[2 * row + 1] = expert_at(layer, row, 2);
    if (rows.is_given[row] == 0) {
      run.expert_ids[2 * row + 1] = expert_at(layer, row, 2);
    }
  }

  /// The same, because both are so close that rounding decides.
  void flip(std::size_t layer, std::size_t row, float near = kNearTie) {
    const float second = logit(baseline[layer], layer, row, 1);
    logit(baseline[layer], layer, row, 2) = second - near;
    logit(policy[layer], layer, row, 2) = second + near;
    choose_third(layer, row);
  }

  void give_all() { rows.is_given.assign(kRows, 1); }

  RoutingDiff compare(bool exact = false) const {
    RoutingComparison comparison(rows, exact);
    for (std::size_t layer = 0; layer < kLayers; ++layer) {
      comparison.add_layer(kBounds, policy[layer], baseline[layer]);
    }
    return comparison.result();
  }
};

void expect_mismatch(const RoutingDiff& diff,
                     std::int64_t layer,
                     std::int64_t row,
                     const char* what) {
  EXPECT_EQ(diff.num_mismatches, 1);
  ASSERT_TRUE(diff.first_mismatch.has_value());
  EXPECT_EQ(diff.first_mismatch->layer, layer);
  EXPECT_EQ(diff.first_mismatch->row, row);
  EXPECT_NE(diff.first_mismatch->what.find(what), std::string::npos) << diff.first_mismatch->what;
}

TEST(RoutingDiff, EqualRunsAreJudgedWhole) {
  for (const bool exact : {false, true}) {
    const RoutingDiff diff = TwoRuns().compare(exact);
    EXPECT_EQ(diff.num_judged, 18);
    EXPECT_EQ(diff.num_mismatches + diff.num_different + diff.num_reordered, 0);
    EXPECT_EQ(diff.excluded_from, std::vector<std::int64_t>(kRows, kNeverExcluded));
    EXPECT_EQ(diff.logits_share, 0);
  }
}

TEST(RoutingDiff, AChoiceThatItsOwnLogitsDoNotMakeIsAMismatch) {
  TwoRuns runs;
  runs.choose_third(1, 4);
  expect_mismatch(runs.compare(), 1, 4, "are not the best by the router's logits");
  std::swap(runs.policy, runs.baseline);
  expect_mismatch(runs.compare(), 1, 4, "of the baseline are not the best");
  // A near tie in the baseline excuses nothing that the policy's logits do not show.
  runs = TwoRuns();
  runs.flip(1, 4);
  TwoRuns::logit(runs.policy[1], 1, 4, 2) = TwoRuns::logit(runs.baseline[1], 1, 4, 2);
  expect_mismatch(runs.compare(), 1, 4, "are not the best by the router's logits");
}

TEST(RoutingDiff, LogitsAreComparedAsRows) {
  TwoRuns runs;
  TwoRuns::logit(runs.policy[2], 2, 3, 5) += 0.04F;
  expect_mismatch(runs.compare(), 2, 3, "logits differ by");
  runs = TwoRuns();
  TwoRuns::logit(runs.policy[2], 2, 3, 5) += 0.005F;
  const RoutingDiff diff = runs.compare();
  EXPECT_EQ(diff.num_mismatches, 0);
  const double rms = std::sqrt((1 + .49 + .16 + .01 + .04 + .25) / 6);
  EXPECT_NEAR(diff.logits_share, 0.005 / rms / 0.05, 1e-4);
  // All elements of a row, each far below its own bound.
  runs = TwoRuns();
  for (std::size_t place = 0; place < kExperts; ++place) {
    TwoRuns::logit(runs.policy[2], 2, 3, place) += 0.015F;
  }
  EXPECT_EQ(runs.compare().num_mismatches, 1);
  EXPECT_NEAR(runs.compare().logits_share, 0.015 / rms / (0.01 * (1 + 4 / std::sqrt(12.0))), 1e-3);
}

TEST(RoutingDiff, ASmallRowIsMeasuredByWhatIsUsualInItsLayer) {
  TwoRuns runs;
  for (std::size_t place = 0; place < kExperts; ++place) {
    for (auto* side : {&runs.policy, &runs.baseline}) {
      TwoRuns::logit((*side)[2], 2, 3, place) *= 0.01F;
    }
  }
  TwoRuns::logit(runs.policy[2], 2, 3, 5) += 0.0005F;  // 9 % of the row's own rms
  EXPECT_EQ(runs.compare().num_mismatches, 0);
}

TEST(RoutingDiff, NearTieIsCountedWithItsGapAndOneBeyondTheBoundIsAMismatch) {
  TwoRuns runs;
  runs.flip(1, 1);
  RoutingDiff diff = runs.compare();
  EXPECT_EQ(diff.num_different, 1);
  EXPECT_EQ(diff.num_mismatches, 0);
  EXPECT_NEAR(diff.max_gap, kNearTie, 1e-6);
  const double size = 0.704;  // of the policy's third expert in the baseline: 0.7 - 0.004; rms 0.57
  EXPECT_NEAR(diff.max_gap_share, kNearTie / (std::sqrt(2.0) * 0.05 * size), 1e-3);
  // Logits that agree within wide bounds may still be too far apart for a choice.
  RoutingComparison comparison(runs.rows, false);
  constexpr RowBounds wide_rows = {.row = 1, .element = 0.011};
  runs = TwoRuns();
  runs.flip(0, 1, 0.012F);
  TwoRuns::logit(runs.policy[0], 0, 1, 1) -= 0.004F;
  comparison.add_layer({.row = 1, .element = 0.04}, runs.policy[0], runs.baseline[0]);
  EXPECT_EQ(comparison.result().num_mismatches, 0);
  RoutingComparison tight(runs.rows, false);
  tight.add_layer(wide_rows, runs.policy[0], runs.baseline[0]);
  EXPECT_GT(tight.result().num_mismatches, 1) << "the logits, and the choice";
}

TEST(RoutingDiff, NaturalFlipExcludesItsRowNowAndLaterTokensOfItsRequestFromTheNextLayer) {
  TwoRuns runs;
  runs.flip(1, 1);
  const RoutingDiff diff = runs.compare();
  EXPECT_EQ(diff.excluded_from,
            (std::vector<std::int64_t>{kNeverExcluded, 1, 2, 2, kNeverExcluded, kNeverExcluded}));
  EXPECT_EQ(diff.num_judged, 18 - 3) << "layer 2 of rows 1, 2 and 3 is not judged";
}

TEST(RoutingDiff, WhatAFlipTouchedIsNotJudgedAgain) {
  TwoRuns runs;
  runs.flip(0, 0);
  runs.choose_third(1, 0);  // its own row, later
  TwoRuns::logit(runs.policy[1], 1, 0, 0) += 3;
  runs.choose_third(2, 3);  // a later token of the request
  const RoutingDiff diff = runs.compare();
  EXPECT_EQ(diff.num_different, 1);
  EXPECT_EQ(diff.num_mismatches, 0);
  // Twins: another request, and a later token in the same layer.
  for (const auto& [layer, row] :
       std::vector<std::pair<std::size_t, std::size_t>>{{2, 4}, {0, 3}}) {
    TwoRuns twin = runs;
    twin.choose_third(layer, row);
    EXPECT_EQ(twin.compare().num_mismatches, 1) << layer << " " << row;
  }
  TwoRuns earlier;
  earlier.flip(0, 2);
  earlier.choose_third(2, 1);
  EXPECT_EQ(earlier.compare().num_mismatches, 1);
}

TEST(RoutingDiff, GivenExpertsKeepTrajectoriesTogetherAndNothingIsExcluded) {
  TwoRuns runs;
  runs.give_all();
  runs.flip(0, 0);
  runs.flip(1, 1);
  const RoutingDiff diff = runs.compare();
  EXPECT_EQ(diff.num_different, 2);
  EXPECT_EQ(diff.num_mismatches, 0);
  EXPECT_EQ(diff.num_judged, 18);
  EXPECT_EQ(diff.excluded_from, std::vector<std::int64_t>(kRows, kNeverExcluded));
}

TEST(RoutingDiff, GivenExpertsMustBeUsedInTheirOrder) {
  TwoRuns runs;
  runs.give_all();
  runs.policy[2].expert_ids[2 * 5 + 1] = TwoRuns::expert_at(2, 5, 4);
  expect_mismatch(runs.compare(), 2, 5, "were used, those of the baseline are");
  runs = TwoRuns();
  runs.give_all();
  std::swap(runs.policy[2].expert_ids[0], runs.policy[2].expert_ids[1]);
  expect_mismatch(runs.compare(), 2, 0, "were used, those of the baseline are");
}

TEST(RoutingDiff, WhatANaturalRouterChoosesMustBeUsed) {
  TwoRuns runs;
  runs.policy[2].expert_ids[2 * 5 + 1] = TwoRuns::expert_at(2, 5, 4);
  expect_mismatch(runs.compare(), 2, 5, "were used, the router chose");
}

TEST(RoutingDiff, NothingExcusesNaNOrAMissingExpert) {
  TwoRuns runs;
  runs.flip(1, 0);
  TwoRuns::logit(runs.policy[1], 1, 0, 5) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(runs.compare().num_mismatches, 2) << "the logits, and the choice by them";
  for (const std::int32_t id : {-1, 6}) {
    runs = TwoRuns();
    runs.policy[1].natural_ids[1] = id;
    runs.policy[1].expert_ids[1] = id;
    EXPECT_EQ(runs.compare().num_mismatches, 1);
  }
}

TEST(RoutingDiff, DenseLayersHaveNothingToJudge) {
  TwoRuns runs;
  for (auto* side : {&runs.policy, &runs.baseline}) {
    auto& layer = (*side)[1];
    std::fill(layer.expert_ids.begin(), layer.expert_ids.end(), -1);
    layer.natural_ids = layer.expert_ids;
    std::fill(layer.logits.begin(), layer.logits.end(), std::numeric_limits<float>::quiet_NaN());
  }
  for (const bool exact : {false, true}) {
    EXPECT_EQ(runs.compare(exact).num_mismatches, 0);
    EXPECT_EQ(runs.compare(exact).num_judged, 12);
  }
  runs.policy[1] = TwoRuns().policy[1];  // twin: dense on one side only
  EXPECT_GT(runs.compare().num_mismatches, 0);
}

TEST(RoutingDiff, OrderAloneIsCountedInToleranceAndAMismatchWhenExact) {
  TwoRuns runs;
  const float first = TwoRuns::logit(runs.baseline[0], 0, 2, 0);
  TwoRuns::logit(runs.baseline[0], 0, 2, 1) = first - kNearTie;
  TwoRuns::logit(runs.policy[0], 0, 2, 1) = first + kNearTie;
  std::swap(runs.policy[0].natural_ids[4], runs.policy[0].natural_ids[5]);
  runs.policy[0].expert_ids = runs.policy[0].natural_ids;
  const RoutingDiff diff = runs.compare();
  EXPECT_EQ(diff.num_reordered, 1);
  EXPECT_EQ(diff.num_mismatches + diff.num_different, 0);
  EXPECT_EQ(diff.excluded_from, std::vector<std::int64_t>(kRows, kNeverExcluded));
  EXPECT_EQ(runs.compare(true).num_mismatches, 2) << "bits of logits, and the choice";
}

TEST(RoutingDiff, ExactExcusesNoFlipAndSeesBitsOfLogits) {
  TwoRuns runs;
  float& logit = TwoRuns::logit(runs.policy[1], 1, 5, 4);
  logit = std::nextafter(logit, 1.0F);
  expect_mismatch(runs.compare(true), 1, 5, "1 logit differs in bits");
  EXPECT_EQ(runs.compare().num_mismatches, 0);
}

TEST(RoutingDiff, TiesGoToTheLowerId) {
  TwoRuns runs;
  for (auto* side : {&runs.policy, &runs.baseline}) {
    auto& layer = (*side)[0];  // row 0: experts in the order of their ids
    layer.logits[2] = layer.logits[1];
  }
  EXPECT_EQ(runs.compare().num_mismatches, 0);
  runs.policy[0].natural_ids[1] = 2;
  runs.policy[0].expert_ids[1] = 2;
  EXPECT_EQ(runs.compare().num_mismatches, 1);
}

TEST(RoutingDiff, SizesAreChecked) {
  TwoRuns runs;
  runs.policy[0].logits.pop_back();
  EXPECT_THROW(runs.compare(), ContractError);
}

/// The obviously right version of "touched by a flip": follow every row that a row reads.
TEST(RoutingDiff, ExclusionIsTheClosureOfWhatFlipsReach) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    TwoRuns runs;
    for (int i = 0; i < 4; ++i) {
      runs.flip(random() % kLayers, random() % kRows);
    }
    // touched[layer][row]: the output of the layer.
    std::vector<std::vector<bool>> touched(kLayers, std::vector<bool>(kRows, false));
    for (std::size_t layer = 0; layer < kLayers; ++layer) {
      for (std::size_t row = 0; row < kRows; ++row) {
        for (std::size_t other = 0; layer > 0 && other < kRows; ++other) {
          if (runs.rows.request[other] == runs.rows.request[row] &&
              runs.rows.position[other] <= runs.rows.position[row] && touched[layer - 1][other]) {
            touched[layer][row] = true;
          }
        }
        if (runs.policy[layer].expert_ids[2 * row + 1] !=
            runs.baseline[layer].expert_ids[2 * row + 1]) {
          touched[layer][row] = true;
        }
      }
    }
    const RoutingDiff diff = runs.compare();
    EXPECT_EQ(diff.num_mismatches, 0);
    for (std::size_t layer = 0; layer < kLayers; ++layer) {
      for (std::size_t row = 0; row < kRows; ++row) {
        ASSERT_EQ(diff.excluded_from[row] <= static_cast<std::int64_t>(layer), touched[layer][row])
            << "layer " << layer << ", row " << row;
      }
    }
  }
}

}  // namespace
}  // namespace dovetail
