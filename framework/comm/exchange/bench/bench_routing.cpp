#include "framework/comm/exchange/bench/bench_routing.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "framework/base/registry.hpp"
#include "framework/base/seeded_values.hpp"

namespace dovetail {
namespace {

struct NamedRouting {
  const char* name;
  BenchRouting routing;
};

constexpr NamedRouting kRoutings[] = {{"balanced", BenchRouting::balanced},
                                      {"zipf", BenchRouting::zipf},
                                      {"one_sided", BenchRouting::one_sided},
                                      {"empty", BenchRouting::empty}};

/// How likely each expert is, next to the others.
std::vector<double> likelihoods(BenchRouting routing, const ExchangeShape& shape) {
  constexpr double exponent = -1.2;
  constexpr double hardly_ever = 1e-30;  // for those that one rank alone cannot serve
  std::vector<double> all(static_cast<std::size_t>(shape.num_experts), 1.0);
  for (std::size_t e = 0; e < all.size(); ++e) {
    if (routing == BenchRouting::zipf) {
      all[e] = std::pow(static_cast<double>(e + 1), exponent);
    } else if (routing == BenchRouting::one_sided &&
               static_cast<int>(e) < shape.num_experts - shape.experts_per_rank()) {
      all[e] = hardly_ever;
    }
  }
  return all;
}

}  // namespace

std::vector<std::string> bench_routing_names() {
  std::vector<std::string> names;
  for (const auto& known : kRoutings) {
    names.emplace_back(known.name);
  }
  return names;
}

BenchRouting bench_routing(const std::string& name) {
  for (const auto& known : kRoutings) {
    if (name == known.name) {
      return known.routing;
    }
  }
  throw InputError("unknown routing '" + printable(name) +
                   "'; known: " + join_names(bench_routing_names()));
}

/// The k experts with the earliest of exponentially distributed times are k draws without
/// replacement (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006).
std::vector<std::int64_t> bench_experts(BenchRouting routing,
                                        const ExchangeShape& shape,
                                        int rank,
                                        std::int64_t num_tokens,
                                        std::uint64_t seed) {
  const auto k = static_cast<std::size_t>(shape.top_k);
  std::vector<std::int64_t> experts(static_cast<std::size_t>(num_tokens) * k, -1);
  if (routing == BenchRouting::empty) {
    return experts;
  }
  const auto likely = likelihoods(routing, shape);
  std::vector<double> times(likely.size());
  std::vector<std::int64_t> order(likely.size());
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    const auto stream = static_cast<std::uint64_t>(rank) << 40 | static_cast<std::uint64_t>(token);
    RandomBlock block{};
    for (std::size_t e = 0; e < times.size(); ++e) {
      if (e % 4 == 0) {
        block = random_block(seed, stream, e / 4);
      }
      times[e] = -std::log((block.words[e % 4] + 0.5) * 0x1p-32) / likely[e];
    }
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + shape.top_k, order.end(), [&](auto a, auto b) {
      return times[static_cast<std::size_t>(a)] < times[static_cast<std::size_t>(b)];
    });
    std::copy_n(order.begin(), k, experts.begin() + token * shape.top_k);
  }
  return experts;
}

}  // namespace dovetail
