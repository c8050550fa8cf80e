#include "framework/compare/routing_diff.hpp"

#include <algorithm>
#include <limits>
#include <random>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"

namespace dovetail {
namespace {

constexpr double kMaxMargin = 0.01;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// 3 layers, k = 2, request 10 with positions 0..3 and request 11 with positions 0..1; everything
/// equal, margins large. Expert ids name layer and token.
RoutingPair equal_pair() {
  RoutingPair pair;
  pair.num_layers = 3;
  pair.num_tokens = 6;
  pair.top_k = 2;
  pair.request = {10, 10, 10, 10, 11, 11};
  pair.position = {0, 1, 2, 3, 0, 1};
  for (std::int32_t layer = 0; layer < 3; ++layer) {
    for (std::int32_t token = 0; token < 6; ++token) {
      pair.policy_experts.push_back(100 * layer + 10 * token);
      pair.policy_experts.push_back(100 * layer + 10 * token + 1);
    }
  }
  pair.baseline_experts = pair.policy_experts;
  pair.policy_margin.assign(18, 0.5F);
  pair.baseline_margin = pair.policy_margin;
  return pair;
}

std::size_t id_at(std::int64_t layer, std::int64_t token, std::int64_t slot) {
  return static_cast<std::size_t>((layer * 6 + token) * 2 + slot);
}

/// Makes one choice differ, with that margin on the policy's side.
void change_expert(RoutingPair& pair, std::int64_t layer, std::int64_t token, float margin) {
  pair.policy_experts[id_at(layer, token, 1)] = 9999;
  pair.policy_margin[static_cast<std::size_t>(layer * 6 + token)] = margin;
}

TEST(RoutingDiff, EqualRoutingJudgesEverything) {
  for (const bool exact : {false, true}) {
    const RoutingDiff diff = diff_routing(equal_pair(), kMaxMargin, exact);
    EXPECT_EQ(diff.num_judged, 18);
    EXPECT_EQ(diff.num_mismatches + diff.num_flips + diff.num_reordered, 0);
    EXPECT_EQ(diff.excluded_share(3), 0);
  }
}

TEST(RoutingDiff, WrongExpertWithLargeMarginIsAMismatchThatIsNamed) {
  RoutingPair pair = equal_pair();
  change_expert(pair, 1, 4, 0.5F);
  const RoutingDiff diff = diff_routing(pair, kMaxMargin, false);
  EXPECT_EQ(diff.num_mismatches, 1);
  EXPECT_EQ(diff.num_flips, 0);
  ASSERT_TRUE(diff.first_mismatch.has_value());
  EXPECT_EQ(diff.first_mismatch->layer, 1);
  EXPECT_EQ(diff.first_mismatch->token, 4);
  EXPECT_EQ(diff.first_mismatch->what, "experts 140 9999 against 140 141, margin 0.5 against 0.5");
}

TEST(RoutingDiff, FlipExcludesItsRowNowAndLaterTokensOfItsRequestFromTheNextLayer) {
  RoutingPair pair = equal_pair();
  change_expert(pair, 1, 1, 0.001F);
  const RoutingDiff diff = diff_routing(pair, kMaxMargin, false);
  EXPECT_EQ(diff.num_flips, 1);
  EXPECT_EQ(diff.num_mismatches, 0);
  EXPECT_EQ(diff.excluded_from,
            (std::vector<std::int64_t>{kNeverExcluded, 1, 2, 2, kNeverExcluded, kNeverExcluded}));
  EXPECT_EQ(diff.num_judged, 18 - 3) << "layer 2 of tokens 1, 2 and 3 is not judged";
  EXPECT_DOUBLE_EQ(diff.excluded_share(3), 3.0 / 6);
}

TEST(RoutingDiff, FlipInTheLastLayerExcludesItsOwnRowOnly) {
  RoutingPair pair = equal_pair();
  change_expert(pair, 2, 0, 0.001F);
  const RoutingDiff diff = diff_routing(pair, kMaxMargin, false);
  EXPECT_DOUBLE_EQ(diff.excluded_share(3), 1.0 / 6);
  EXPECT_EQ(diff.num_judged, 18);
}

TEST(RoutingDiff, WhatAFlipTouchedIsNotJudgedAgain) {
  RoutingPair pair = equal_pair();
  change_expert(pair, 0, 0, 0.001F);
  change_expert(pair, 1, 0, 0.5F);  // its own row, later
  change_expert(pair, 2, 3, 0.5F);  // a later token of the request
  const RoutingDiff diff = diff_routing(pair, kMaxMargin, false);
  EXPECT_EQ(diff.num_flips, 1);
  EXPECT_EQ(diff.num_mismatches, 0);
  // The negative twins: an earlier token, another request, and a later token in the same layer.
  for (const auto& [layer, token] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{2, 4}, {0, 3}}) {
    RoutingPair twin = pair;
    change_expert(twin, layer, token, 0.5F);
    EXPECT_EQ(diff_routing(twin, kMaxMargin, false).num_mismatches, 1) << layer << " " << token;
  }
  RoutingPair earlier = equal_pair();
  change_expert(earlier, 0, 2, 0.001F);
  change_expert(earlier, 2, 1, 0.5F);
  EXPECT_EQ(diff_routing(earlier, kMaxMargin, false).num_mismatches, 1);
}

TEST(RoutingDiff, MarginOfEitherRunExcusesAndTheBoundItselfDoesNot) {
  RoutingPair pair = equal_pair();
  change_expert(pair, 1, 0, 0.5F);
  pair.baseline_margin[6] = 0.001F;
  EXPECT_EQ(diff_routing(pair, kMaxMargin, false).num_flips, 1);
  pair.baseline_margin[6] = 0.25F;
  EXPECT_EQ(diff_routing(pair, 0.25, false).num_mismatches, 1);
  EXPECT_EQ(diff_routing(pair, 0.2500001, false).num_flips, 1);
}

TEST(RoutingDiff, NothingExcusesNaNOrAMissingExpert) {
  RoutingPair pair = equal_pair();
  change_expert(pair, 1, 0, kNaN);
  pair.baseline_margin[6] = 0.001F;
  EXPECT_EQ(diff_routing(pair, kMaxMargin, false).num_mismatches, 1);
  pair = equal_pair();
  change_expert(pair, 1, 0, 0.001F);
  pair.policy_experts[id_at(1, 0, 1)] = -1;
  EXPECT_EQ(diff_routing(pair, kMaxMargin, false).num_mismatches, 1);
}

TEST(RoutingDiff, DenseLayersAreEqualWhateverTheirMargin) {
  RoutingPair pair = equal_pair();
  for (std::int64_t token = 0; token < 6; ++token) {
    for (std::int64_t slot = 0; slot < 2; ++slot) {
      pair.policy_experts[id_at(1, token, slot)] = -1;
      pair.baseline_experts[id_at(1, token, slot)] = -1;
    }
    pair.policy_margin[static_cast<std::size_t>(6 + token)] = kNaN;
    pair.baseline_margin[static_cast<std::size_t>(6 + token)] = kNaN;
  }
  EXPECT_EQ(diff_routing(pair, kMaxMargin, false).num_mismatches, 0);
  EXPECT_EQ(diff_routing(pair, 0, true).num_mismatches, 0);
}

TEST(RoutingDiff, OrderAloneIsCountedInToleranceAndAMismatchWhenExact) {
  RoutingPair pair = equal_pair();
  std::swap(pair.policy_experts[id_at(0, 2, 0)], pair.policy_experts[id_at(0, 2, 1)]);
  const RoutingDiff diff = diff_routing(pair, kMaxMargin, false);
  EXPECT_EQ(diff.num_reordered, 1);
  EXPECT_EQ(diff.num_mismatches + diff.num_flips, 0);
  EXPECT_EQ(diff.excluded_share(3), 0);
  EXPECT_EQ(diff_routing(pair, kMaxMargin, true).num_mismatches, 1);
}

TEST(RoutingDiff, ExactExcusesNoFlipAndSeesMarginBits) {
  RoutingPair pair = equal_pair();
  change_expert(pair, 1, 1, 1e-9F);
  EXPECT_EQ(diff_routing(pair, kMaxMargin, true).num_mismatches, 1);
  pair = equal_pair();
  pair.policy_margin[5] = std::nextafter(0.5F, 1.0F);
  EXPECT_EQ(diff_routing(pair, kMaxMargin, true).num_mismatches, 1);
  EXPECT_EQ(diff_routing(pair, kMaxMargin, false).num_mismatches, 0);
}

TEST(RoutingDiff, SizesAreChecked) {
  RoutingPair pair = equal_pair();
  pair.policy_experts.pop_back();
  EXPECT_THROW(diff_routing(pair, kMaxMargin, false), ContractError);
}

/// The obviously right version of "touched by a flip": follow every row that a row reads.
TEST(RoutingDiff, ExclusionIsTheClosureOfWhatFlipsReach) {
  const unsigned seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 300; ++round) {
    RoutingPair pair = equal_pair();
    for (int i = 0; i < 4; ++i) {
      change_expert(pair,
                    static_cast<std::int64_t>(random() % 3),
                    static_cast<std::int64_t>(random() % 6),
                    0.001F);
    }
    // touched[layer][token]: the output of the layer.
    std::vector<std::vector<bool>> touched(3, std::vector<bool>(6, false));
    for (std::size_t layer = 0; layer < 3; ++layer) {
      for (std::size_t token = 0; token < 6; ++token) {
        for (std::size_t other = 0; layer > 0 && other < 6; ++other) {
          if (pair.request[other] == pair.request[token] &&
              pair.position[other] <= pair.position[token] && touched[layer - 1][other]) {
            touched[layer][token] = true;
          }
        }
        const std::size_t at = layer * 6 + token;
        if (pair.policy_experts[2 * at + 1] != pair.baseline_experts[2 * at + 1]) {
          touched[layer][token] = true;
        }
      }
    }
    const RoutingDiff diff = diff_routing(pair, kMaxMargin, false);
    for (std::size_t layer = 0; layer < 3; ++layer) {
      for (std::size_t token = 0; token < 6; ++token) {
        ASSERT_EQ(diff.excluded_from[token] <= static_cast<std::int64_t>(layer),
                  touched[layer][token])
            << "layer " << layer << ", token " << token;
      }
    }
  }
}

}  // namespace
}  // namespace dovetail
