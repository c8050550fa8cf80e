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

/// Experts in order of popularity: a seeded shuffle (Fisher and Yates).
std::vector<std::int64_t> popularity_order(int num_experts, std::uint64_t hash) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(num_experts));
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t left = order.size(); left > 1; --left) {
    std::swap(order[left - 1], order[combine_hash(hash, left) % left]);
  }
  return order;
}

void zipf_ids(double exponent,
              std::uint64_t hash,
              int num_experts,
              int top_k,
              const StepWorkload& step,
              std::vector<std::int64_t>& ids) {
  const auto order =
      popularity_order(num_experts, combine_hash(hash, std::numeric_limits<std::uint64_t>::max()));
  std::vector<double> log_weight;
  log_weight.reserve(order.size());
  for (int e = 0; e < num_experts; ++e) {
    log_weight.push_back(-exponent * std::log(e + 1.0));
  }
  std::vector<std::pair<double, std::size_t>> arrivals(order.size());
  for (std::size_t token = 0; token < step.request_ids.size(); ++token) {
    const std::uint64_t of_token =
        combine_hash(combine_hash(hash, static_cast<std::uint64_t>(step.request_ids[token])),
                     static_cast<std::uint64_t>(step.positions[token]));
    for (std::size_t e = 0; e < order.size(); ++e) {
      const std::uint64_t bits = combine_hash(of_token, e);
      const double uniform = (static_cast<double>(bits >> 11U) + 0.5) * 0x1p-53;
      // The logarithm of an exponential variate of rate exp(log_weight): no weight underflows.
      arrivals[e] = {std::log(-std::log(uniform)) - log_weight[e], e};
    }
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
                                               const StepWorkload& step) {
  DOVETAIL_CHECK(is_synthetic(routing), "a routing that is not synthetic");
  DOVETAIL_CHECK(top_k >= 1 && top_k <= num_experts, "more choices than experts");
  std::vector<std::int64_t> ids;
  ids.reserve(static_cast<std::size_t>(num_layers) * step.positions.size() *
              static_cast<std::size_t>(top_k));
  const auto of_variant =
      step.variant == 0 ? seed : combine_hash(seed, static_cast<std::uint64_t>(step.variant));
  for (int layer = first_layer; layer < first_layer + num_layers; ++layer) {
    const std::uint64_t hash = layer_hash(of_variant, layer);
    if (const auto* zipf = std::get_if<ZipfRouting>(&routing)) {
      zipf_ids(zipf->exponent, hash, num_experts, top_k, step, ids);
    } else {
      balanced_ids(hash, num_experts, top_k, step, ids);
    }
  }
  return ids;
}

}  // namespace dovetail
