#include "framework/compare/routing_diff.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <map>
#include <span>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

enum class Relation { equal, reordered, different };

Relation relate(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  if (std::equal(a.begin(), a.end(), b.begin())) {
    return Relation::equal;
  }
  std::vector<std::int32_t> sorted_a(a.begin(), a.end());
  std::vector<std::int32_t> sorted_b(b.begin(), b.end());
  std::sort(sorted_a.begin(), sorted_a.end());
  std::sort(sorted_b.begin(), sorted_b.end());
  return sorted_a == sorted_b ? Relation::reordered : Relation::different;
}

bool has_no_expert(std::span<const std::int32_t> ids) {
  return std::find(ids.begin(), ids.end(), -1) != ids.end();
}

std::string print_ids(std::span<const std::int32_t> ids) {
  std::string text;
  for (const std::int32_t id : ids) {
    text += " " + std::to_string(id);
  }
  return text;
}

std::string describe(std::span<const std::int32_t> policy,
                     std::span<const std::int32_t> baseline,
                     float policy_margin,
                     float baseline_margin) {
  char margins[80];
  std::snprintf(margins,
                sizeof(margins),
                ", margin %.9g against %.9g",
                static_cast<double>(policy_margin),
                static_cast<double>(baseline_margin));
  return "experts" + print_ids(policy) + " against" + print_ids(baseline) + margins;
}

class Comparison {
 public:
  Comparison(const RoutingPair& pair, double max_margin, bool exact)
      : pair_(pair), max_margin_(max_margin), exact_(exact) {
    result_.excluded_from.assign(static_cast<std::size_t>(pair.num_tokens), kNeverExcluded);
  }

  RoutingDiff run() {
    for (std::int64_t layer = 0; layer < pair_.num_layers; ++layer) {
      std::vector<std::size_t> flipped;
      for (std::size_t token = 0; token < result_.excluded_from.size(); ++token) {
        if (result_.excluded_from[token] > layer && judge(layer, token)) {
          flipped.push_back(token);
        }
      }
      exclude(layer, flipped);
    }
    return std::move(result_);
  }

 private:
  /// True for a flip.
  bool judge(std::int64_t layer, std::size_t token) {
    const auto row = static_cast<std::size_t>(layer) * result_.excluded_from.size() + token;
    const auto k = static_cast<std::size_t>(pair_.top_k);
    const std::span policy(pair_.policy_experts.data() + row * k, k);
    const std::span baseline(pair_.baseline_experts.data() + row * k, k);
    const float policy_margin = pair_.policy_margin[row];
    const float baseline_margin = pair_.baseline_margin[row];
    const Relation relation = relate(policy, baseline);
    ++result_.num_judged;
    const bool same_margin = std::bit_cast<std::uint32_t>(policy_margin) ==
                             std::bit_cast<std::uint32_t>(baseline_margin);
    if (exact_ ? relation == Relation::equal && same_margin : relation == Relation::equal) {
      return false;
    }
    if (!exact_ && relation == Relation::reordered) {
      ++result_.num_reordered;
      return false;
    }
    const bool near_tie = policy_margin < max_margin_ || baseline_margin < max_margin_;
    const bool comparable = !std::isnan(policy_margin) && !std::isnan(baseline_margin) &&
                            has_no_expert(policy) == has_no_expert(baseline);
    if (!exact_ && near_tie && comparable) {
      ++result_.num_flips;
      return true;
    }
    if (result_.num_mismatches++ == 0) {
      result_.first_mismatch = {layer,
                                static_cast<std::int64_t>(token),
                                describe(policy, baseline, policy_margin, baseline_margin)};
    }
    return false;
  }

  void exclude(std::int64_t layer, const std::vector<std::size_t>& flipped) {
    std::map<std::int64_t, std::int64_t> first_flip;  // request -> lowest flipped position
    for (const std::size_t token : flipped) {
      result_.excluded_from[token] = layer;
      const auto [entry, is_new] =
          first_flip.try_emplace(pair_.request[token], pair_.position[token]);
      entry->second = std::min(entry->second, pair_.position[token]);
    }
    if (flipped.empty()) {
      return;
    }
    for (std::size_t token = 0; token < result_.excluded_from.size(); ++token) {
      const auto entry = first_flip.find(pair_.request[token]);
      if (entry != first_flip.end() && pair_.position[token] > entry->second) {
        result_.excluded_from[token] = std::min(result_.excluded_from[token], layer + 1);
      }
    }
  }

  const RoutingPair& pair_;
  double max_margin_;
  bool exact_;
  RoutingDiff result_;
};

}  // namespace

double RoutingDiff::excluded_share(std::int64_t num_layers) const {
  if (excluded_from.empty()) {
    return 0;
  }
  const auto excluded = std::count_if(excluded_from.begin(),
                                      excluded_from.end(),
                                      [&](std::int64_t from) { return from < num_layers; });
  return static_cast<double>(excluded) / static_cast<double>(excluded_from.size());
}

RoutingDiff diff_routing(const RoutingPair& pair, double max_margin, bool exact) {
  const auto tokens = static_cast<std::size_t>(pair.num_tokens);
  const std::size_t rows = static_cast<std::size_t>(pair.num_layers) * tokens;
  const std::size_t ids = rows * static_cast<std::size_t>(pair.top_k);
  DOVETAIL_CHECK_EQ(pair.policy_experts.size(), ids);
  DOVETAIL_CHECK_EQ(pair.baseline_experts.size(), ids);
  DOVETAIL_CHECK_EQ(pair.policy_margin.size(), rows);
  DOVETAIL_CHECK_EQ(pair.baseline_margin.size(), rows);
  DOVETAIL_CHECK_EQ(pair.request.size(), tokens);
  DOVETAIL_CHECK_EQ(pair.position.size(), tokens);
  return Comparison(pair, max_margin, exact).run();
}

}  // namespace dovetail
