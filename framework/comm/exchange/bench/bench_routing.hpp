// Routings for `dovetail bench exchange`: which experts the tokens of a rank choose.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "framework/comm/exchange/exchange.hpp"

namespace dovetail {

enum class BenchRouting {
  balanced,   ///< distinct experts, all equally likely
  zipf,       ///< expert e (from 0) with a likelihood of (e + 1)^-1.2
  one_sided,  ///< experts of the last rank, as far as it has enough
  empty       ///< no expert: padding only
};

/// In order; names as on the command line.
std::vector<std::string> bench_routing_names();

/// Throws InputError that lists the names.
BenchRouting bench_routing(const std::string& name);

/// [num_tokens][top_k] experts of the tokens of `rank`, distinct in a token. Depends on nothing but
/// the arguments.
std::vector<std::int64_t> bench_experts(BenchRouting routing,
                                        const ExchangeShape& shape,
                                        int rank,
                                        std::int64_t num_tokens,
                                        std::uint64_t seed);

}  // namespace dovetail
