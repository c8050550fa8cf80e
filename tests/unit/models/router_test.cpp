// The router against the same rule in double, written down from the papers: ids, weights and the
// scores that decide, with groups, biases, normalisation and factors.
#include "models/layers/router.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "tests/unit/models/row_check.hpp"

namespace dovetail {
namespace {

using Row = std::vector<double>;

struct Oracle {
  Row deciding;
  std::vector<std::size_t> ids;
  Row weights;
};

std::vector<std::size_t> in_order(const Row& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(
      order.begin(), order.end(), [&](auto a, auto b) { return values[a] > values[b]; });
  return order;
}

Row scores_of(const Row& logits, RouterScore score) {
  Row scores;
  double sum = 0;
  for (const double logit : logits) {
    scores.push_back(score == RouterScore::sigmoid ? 1 / (1 + std::exp(-logit)) : std::exp(logit));
    sum += scores.back();
  }
  for (double& each : scores) {
    each /= score == RouterScore::sigmoid ? 1 : sum;
  }
  return scores;
}

std::set<std::size_t> allowed_groups(const Row& deciding, const ExpertGroups& groups) {
  const std::size_t size = deciding.size() / static_cast<std::size_t>(groups.num_groups);
  Row of_groups;
  for (std::size_t first = 0; first < deciding.size(); first += size) {
    Row members(deciding.begin() + static_cast<std::ptrdiff_t>(first),
                deciding.begin() + static_cast<std::ptrdiff_t>(first + size));
    std::sort(members.rbegin(), members.rend());
    of_groups.push_back(groups.score == GroupScore::best ? members[0] : members[0] + members[1]);
  }
  const auto order = in_order(of_groups);
  return {order.begin(), order.begin() + groups.num_chosen};
}

/// `given`: experts chosen before; empty = the rule chooses.
Oracle route(const Row& logits,
             const Row& bias,
             const RouterRule& rule,
             std::vector<std::size_t> given) {
  const Row scores = scores_of(logits, rule.score);
  Oracle result = {.deciding = scores, .ids = std::move(given), .weights = {}};
  for (std::size_t e = 0; e < bias.size(); ++e) {
    result.deciding[e] += bias[e];
  }
  const auto groups = allowed_groups(result.deciding, rule.groups);
  const std::size_t size = logits.size() / static_cast<std::size_t>(rule.groups.num_groups);
  for (const std::size_t expert : in_order(result.deciding)) {
    if (std::ssize(result.ids) < rule.top_k && groups.contains(expert / size)) {
      result.ids.push_back(expert);
    }
  }
  double sum = 0;
  for (const std::size_t id : result.ids) {
    sum += scores[id];
  }
  for (const std::size_t id : result.ids) {
    result.weights.push_back(scores[id] / (rule.normalize ? sum : 1) * rule.scale);
  }
  return result;
}

Row row_of(const at::Tensor& rows, std::int64_t row) {
  Row values;
  for (std::int64_t i = 0; rows.defined() && i < rows.size(-1); ++i) {
    values.push_back((rows.dim() == 1 ? rows : rows[row])[i].item<double>());
  }
  return values;
}

std::vector<RouterRule> rules() {
  const auto sum = GroupScore::sum_of_two;
  return {{.top_k = 6, .groups = {8, 3}, .scale = 16},
          {.top_k = 6, .scale = 2},
          {.top_k = 5, .groups = {4, 2}, .normalize = true, .scale = 0.5},
          {.top_k = 8,
           .score = RouterScore::sigmoid,
           .groups = {8, 4, sum},
           .normalize = true,
           .scale = 2.5},
          {.top_k = 4, .score = RouterScore::sigmoid, .groups = {4, 1, sum}, .scale = 3},
          {.top_k = 8, .score = RouterScore::sigmoid, .normalize = true, .scale = 2.827}};
}

void expect_row(const Routing& routing, std::int64_t row, const Oracle& wanted) {
  for (std::size_t i = 0; i < wanted.ids.size(); ++i) {
    const auto choice = static_cast<std::int64_t>(i);
    ASSERT_EQ(routing.expert_ids[row][choice].item<std::int64_t>(),
              static_cast<std::int64_t>(wanted.ids[i]))
        << "row " << row;
    ASSERT_NEAR(routing.weights[row][choice].item<double>(),
                wanted.weights[i],
                2e-6 * std::max(1.0, wanted.weights[i]))
        << "row " << row;
  }
  for (std::size_t e = 0; routing.scores.defined() && e < wanted.deciding.size(); ++e) {
    ASSERT_NEAR(
        routing.scores[row][static_cast<std::int64_t>(e)].item<double>(), wanted.deciding[e], 1e-6);
  }
}

TEST(RouterRule, MatchesTheRuleInDouble) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  at::manual_seed(seed);
  for (const RouterRule& rule : rules()) {
    const bool is_sigmoid = rule.score == RouterScore::sigmoid;
    const at::Tensor logits = at::randn({100, 32}) * 2;
    const at::Tensor bias = is_sigmoid ? at::randn({32}) * 0.3 : at::Tensor();
    for (const auto numerics : {Numerics::fast, Numerics::batch_invariant}) {
      const Routing routing = route_top_k(logits, bias, rule, numerics);
      const Routing replayed =
          route_replayed(logits, bias, (routing.expert_ids + 1).remainder(32), rule, numerics);
      ASSERT_EQ(routing.scores.defined(), is_sigmoid);
      EXPECT_TRUE(at::equal(replayed.natural_ids, routing.expert_ids));
      for (std::int64_t row = 0; row < logits.size(0); ++row) {
        const Row values = row_of(logits, row);
        const Row added = row_of(bias, 0);
        expect_row(routing, row, route(values, added, rule, {}));
        std::vector<std::size_t> given;
        for (const double id : row_of(replayed.expert_ids, row)) {
          given.push_back(static_cast<std::size_t>(id));
        }
        expect_row(replayed, row, route(values, added, rule, given));
      }
    }
  }
}

/// The choice that is recorded is the one that dovetail_core makes of the recorded scores.
TEST(RouterRule, AgreesWithTheChoiceThatVerificationMakes) {
  at::manual_seed(std::random_device{}());
  for (const RouterRule& rule : rules()) {
    const at::Tensor logits = (at::randn({200, 32}) * 2).to(at::kBFloat16);  // ties
    const at::Tensor bias =
        rule.score == RouterScore::sigmoid ? (at::randn({32}) * 4).round().div(8) : at::Tensor();
    const Routing routing = route_top_k(logits, bias, rule);
    const at::Tensor deciding =
        (routing.scores.defined() ? routing.scores : logits.to(at::kFloat)).contiguous();
    for (std::int64_t row = 0; row < 200; ++row) {
      const auto best = best_experts({deciding.const_data_ptr<float>() + row * 32, 32},
                                     rule.groups,
                                     static_cast<int>(rule.top_k));
      for (std::int64_t i = 0; i < rule.top_k; ++i) {
        ASSERT_EQ(routing.expert_ids[row][i].item<std::int64_t>(),
                  best[static_cast<std::size_t>(i)]);
      }
    }
  }
}

TEST(RouterRule, BiasChangesChoicesAndNotWeights) {
  const RouterRule rule = {.top_k = 1, .score = RouterScore::sigmoid};
  const at::Tensor logits = at::tensor({1.0F, 0.5F, -2.0F}).view({1, 3});
  const Routing routing = route_top_k(logits, at::tensor({0.0F, 0.0F, 5.0F}), rule);
  EXPECT_EQ(routing.expert_ids.item<std::int64_t>(), 2);
  EXPECT_NEAR(routing.weights.item<double>(), 1 / (1 + std::exp(2.0)), 1e-7);
  EXPECT_EQ(route_top_k(logits, {}, rule).expert_ids.item<std::int64_t>(), 0);
  EXPECT_THROW(route_top_k(logits, at::zeros({3}), {.top_k = 1}), ContractError);
}

TEST(RouterRule, PaddingChoosesNothing) {
  const RouterRule rule = {
      .top_k = 2, .score = RouterScore::sigmoid, .groups = {2, 1, GroupScore::sum_of_two}};
  const at::Tensor slots = at::tensor({3, -1}, at::kLong);
  const Routing routing = route_tokens(at::zeros({2, 4}), at::zeros({4}), {}, slots, rule);
  EXPECT_TRUE(at::equal(routing.expert_ids, at::tensor({0, 1, -1, -1}, at::kLong).view({2, 2})));
}

TEST(RouterRule, BatchInvariantRowsDependOnThemselves) {
  at::manual_seed(5);
  for (const RouterRule& rule : rules()) {
    const at::Tensor bias =
        rule.score == RouterScore::sigmoid ? at::randn({32}) * 0.3 : at::Tensor();
    const auto of = [&](at::Tensor Routing::*field) {
      return [&, field](const at::Tensor& rows) {
        return route_top_k(rows, bias, rule, Numerics::batch_invariant).*field;
      };
    };
    std::mt19937_64 random(3);
    const at::Tensor logits = at::randn({90, 32});
    EXPECT_EQ(count_changed_bits(of(&Routing::weights), logits, random), 0);
    EXPECT_EQ(count_changed_bits(of(&Routing::expert_ids), logits, random), 0);
    if (rule.score == RouterScore::sigmoid) {
      EXPECT_EQ(count_changed_bits(of(&Routing::scores), logits, random), 0);
    }
  }
}

}  // namespace
}  // namespace dovetail
