#include "framework/plan/synthetic_routing.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <variant>

#include "framework/base/check.hpp"
#include "framework/base/hash.hpp"

namespace dovetail {
namespace {

constexpr std::uint64_t kRoutingStream =
    0x726f7574696e67;  // "routing": apart from the seed's other uses

std::uint64_t layer_hash(std::uint64_t seed, int layer) {
  return combine_hash(combine_hash(mix_bits(kRoutingStream), seed),
                      static_cast<std::uint64_t>(layer));
}

std::vector<int> prime_factors(int value) {
  std::vector<int> factors;
  for (int factor = 2; value > 1; ++factor) {
    for (; value % factor == 0; value /= factor) {
      factors.push_back(factor);
    }
  }
  return factors;
}

/// An order of all experts of which every part from the beginning is spread evenly over equal
/// blocks of experts: the digits of n in the mixed radix `radices`, lowest first, choose a block,
/// then a block within it, and so on (van der Corput's sequence, with the digits at each place
/// shifted by a hash, as in Owen's scrambling).
std::vector<std::int64_t> spread_order(int num_experts,
                                       const std::vector<int>& radices,
                                       std::uint64_t hash) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(num_experts));
  for (int n = 0; n < num_experts; ++n) {
    int rest = n;
    int blocks = 1;  // number of blocks at this level, and which of them
    int block = 0;
    for (const int radix : radices) {
      const auto place = static_cast<std::uint64_t>(blocks) << 32U | static_cast<unsigned>(block);
      const auto shift =
          static_cast<int>(combine_hash(hash, place) % static_cast<std::uint64_t>(radix));
      block = block * radix + (rest % radix + shift) % radix;
      blocks *= radix;
      rest /= radix;
    }
    order[static_cast<std::size_t>(n)] = block;
  }
  return order;
}

void balanced_ids(std::uint64_t hash,
                  int num_experts,
                  int top_k,
                  const StepWorkload& step,
                  std::vector<std::int64_t>& ids) {
  const std::vector<int> radices = prime_factors(num_experts);
  // Tokens after which every expert has been taken equally often, and a token's choices end.
  const std::int64_t period = num_experts / std::gcd(num_experts, top_k);
  std::vector<std::int64_t> order;
  std::int64_t order_of = -1;
  for (const std::int64_t index : step.global_index) {
    if (index / period != order_of) {
      order_of = index / period;
      order = spread_order(
          num_experts, radices, combine_hash(hash, static_cast<std::uint64_t>(order_of)));
    }
    for (int choice = 0; choice < top_k; ++choice) {
      const std::int64_t pair = index * top_k + choice;
      ids.push_back(order[static_cast<std::size_t>(pair % num_experts)]);
    }
  }
}

/// Balanced over groups. A token's j-th group stands offset_j places behind its first one in a
/// round of all groups, so each group is each token's j-th once in num_groups tokens, and gets k
/// pairs.
class GroupTurns {
 public:
  GroupTurns(std::uint64_t hash, int num_experts, int top_k, const ExpertGroups& groups)
      : hash_(hash),
        groups_(groups),
        size_(num_experts / groups.num_groups),
        top_k_(top_k),
        period_(std::int64_t{groups.num_groups} * (size_ / std::gcd(size_, top_k))) {
    DOVETAIL_CHECK(top_k <= groups.num_chosen * size_, "more choices than experts of the groups");
  }

  void append(std::int64_t index, std::vector<std::int64_t>& ids) {
    if (index / period_ != order_of_) {
      begin_period(index / period_);
    }
    const std::int64_t turn = index % period_;
    for (int j = 0; j < groups_.num_chosen; ++j) {
      const int group = group_at(turn, j);
      const std::int64_t first = pairs_before(turn, group);
      for (int i = 0; i < choices_of(j); ++i) {
        const auto place = static_cast<std::size_t>((first + i) % size_);
        ids.push_back(group * size_ + experts_[static_cast<std::size_t>(group)][place]);
      }
    }
  }

 private:
  void begin_period(std::int64_t number) {
    order_of_ = number;
    const auto of_period = combine_hash(hash_, static_cast<std::uint64_t>(number));
    order_ = spread_order(groups_.num_groups, prime_factors(groups_.num_groups), of_period);
    experts_.clear();
    for (int group = 0; group < groups_.num_groups; ++group) {
      experts_.push_back(
          spread_order(static_cast<int>(size_),
                       prime_factors(static_cast<int>(size_)),
                       combine_hash(of_period, static_cast<std::uint64_t>(group) + 1)));
    }
  }

  /// Of a token's k experts, those of its j-th group.
  int choices_of(int j) const {
    return top_k_ / groups_.num_chosen + (j < top_k_ % groups_.num_chosen ? 1 : 0);
  }

  int offset(int j) const { return j * groups_.num_groups / groups_.num_chosen; }

  int group_at(std::int64_t turn, int j) const {
    const auto place = static_cast<std::size_t>((turn + offset(j)) % groups_.num_groups);
    return static_cast<int>(order_[place]);
  }

  /// Pairs of the group in earlier tokens of the period.
  std::int64_t pairs_before(std::int64_t turn, int group) const {
    std::int64_t pairs = turn / groups_.num_groups * top_k_;
    for (std::int64_t before = turn - turn % groups_.num_groups; before < turn; ++before) {
      for (int other = 0; other < groups_.num_chosen; ++other) {
        pairs += group_at(before, other) == group ? choices_of(other) : 0;
      }
    }
    return pairs;
  }

  std::uint64_t hash_;
  ExpertGroups groups_;
  std::int64_t size_;  ///< of a group
  int top_k_;
  std::int64_t period_;  ///< tokens
  std::int64_t order_of_ = -1;
  std::vector<std::int64_t> order_;
  std::vector<std::vector<std::int64_t>> experts_;  ///< the order of each group, from 0
};

/// Experts in order of popularity: a seeded shuffle (Fisher and Yates).
std::vector<std::int64_t> popularity_order(int num_experts, std::uint64_t hash) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(num_experts));
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t left = order.size(); left > 1; --left) {
    std::swap(order[left - 1], order[combine_hash(hash, left) % left]);
  }
  return order;
}

/// When each expert is drawn, and its place in the order of popularity.
using Arrivals = std::vector<std::pair<double, std::size_t>>;

/// Leaves the experts of the groups whose first ones arrive first.
void keep_best_groups(Arrivals& arrivals,
                      const std::vector<std::int64_t>& order,
                      const ExpertGroups& groups) {
  if (!groups.are_limited()) {
    return;
  }
  const std::int64_t size = std::ssize(order) / groups.num_groups;
  const auto group_of = [&](std::size_t place) {
    return static_cast<std::size_t>(order[place] / size);
  };
  Arrivals firsts;
  for (int group = 0; group < groups.num_groups; ++group) {
    firsts.emplace_back(std::numeric_limits<double>::infinity(), group);
  }
  for (const auto& [time, place] : arrivals) {
    auto& first = firsts[group_of(place)].first;
    first = std::min(first, time);
  }
  std::sort(firsts.begin(), firsts.end());
  std::vector<bool> is_chosen(firsts.size());
  for (int i = 0; i < groups.num_chosen; ++i) {
    is_chosen[firsts[static_cast<std::size_t>(i)].second] = true;
  }
  std::erase_if(arrivals, [&](const auto& each) { return !is_chosen[group_of(each.second)]; });
}

void zipf_ids(double exponent,
              std::uint64_t hash,
              int num_experts,
              int top_k,
              const ExpertGroups& groups,
              const StepWorkload& step,
              std::vector<std::int64_t>& ids) {
  const auto order =
      popularity_order(num_experts, combine_hash(hash, std::numeric_limits<std::uint64_t>::max()));
  std::vector<double> log_weight;
  log_weight.reserve(order.size());
  for (int e = 0; e < num_experts; ++e) {
    log_weight.push_back(-exponent * std::log(e + 1.0));
  }
  Arrivals arrivals;
  for (std::size_t token = 0; token < step.request_ids.size(); ++token) {
    const std::uint64_t of_token =
        combine_hash(combine_hash(hash, static_cast<std::uint64_t>(step.request_ids[token])),
                     static_cast<std::uint64_t>(step.positions[token]));
    arrivals.resize(order.size());
    for (std::size_t e = 0; e < order.size(); ++e) {
      const std::uint64_t bits = combine_hash(of_token, e);
      const double uniform = (static_cast<double>(bits >> 11U) + 0.5) * 0x1p-53;
      // The logarithm of an exponential variate of rate exp(log_weight): no weight underflows.
      arrivals[e] = {std::log(-std::log(uniform)) - log_weight[e], e};
    }
    keep_best_groups(arrivals, order, groups);
    DOVETAIL_CHECK(top_k <= std::ssize(arrivals), "more choices than experts of the groups");
    std::partial_sort(arrivals.begin(), arrivals.begin() + top_k, arrivals.end());
    for (int choice = 0; choice < top_k; ++choice) {
      ids.push_back(order[arrivals[static_cast<std::size_t>(choice)].second]);
    }
  }
}

}  // namespace

bool is_synthetic(const RoutingConfig& routing) {
  return std::holds_alternative<BalancedRouting>(routing) ||
         std::holds_alternative<ZipfRouting>(routing);
}

std::vector<std::int64_t> synthetic_expert_ids(const RoutingConfig& routing,
                                               std::uint64_t seed,
                                               int num_layers,
                                               int first_layer,
                                               int num_experts,
                                               int top_k,
                                               const StepWorkload& step,
                                               const ExpertGroups& groups) {
  DOVETAIL_CHECK(is_synthetic(routing), "a routing that is not synthetic");
  DOVETAIL_CHECK(top_k >= 1 && top_k <= num_experts, "more choices than experts");
  DOVETAIL_CHECK_EQ(num_experts % groups.num_groups, 0);
  std::vector<std::int64_t> ids;
  ids.reserve(static_cast<std::size_t>(num_layers) * step.positions.size() *
              static_cast<std::size_t>(top_k));
  const auto of_variant =
      step.variant == 0 ? seed : combine_hash(seed, static_cast<std::uint64_t>(step.variant));
  for (int layer = first_layer; layer < first_layer + num_layers; ++layer) {
    const std::uint64_t hash = layer_hash(of_variant, layer);
    if (const auto* zipf = std::get_if<ZipfRouting>(&routing)) {
      zipf_ids(zipf->exponent, hash, num_experts, top_k, groups, step, ids);
    } else if (groups.are_limited()) {
      GroupTurns turns(hash, num_experts, top_k, groups);
      for (const std::int64_t index : step.global_index) {
        turns.append(index, ids);
      }
    } else {
      balanced_ids(hash, num_experts, top_k, step, ids);
    }
  }
  return ids;
}

}  // namespace dovetail
