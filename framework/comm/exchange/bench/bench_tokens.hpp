// Tokens for `dovetail bench exchange` whose results every rank knows without an exchange.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>

#include "framework/comm/exchange/bench/bench_routing.hpp"
#include "framework/comm/exchange/exchange.hpp"

namespace dovetail {

/// Of a rank, whose sums are exact in every dtype for up to 16 experts a token: elements 0 to 3
/// that name rank, token and column, weights 0.5 and 1.
struct BenchTokens {
  at::Tensor hidden;
  at::Tensor expert_ids;
  at::Tensor weights;

  RoutedTokens routed() const { return {hidden, expert_ids, weights}; }

  /// Tokens that have chosen an expert.
  std::int64_t num_routed() const;
};

BenchTokens make_bench_tokens(BenchRouting routing,
                              const ExchangeShape& shape,
                              std::int64_t tokens,
                              std::uint64_t seed,
                              at::Device device);

/// Writes what these experts multiply their rows by in place of their numbers: 1 or 2.
at::Tensor& write_bench_factors(at::Tensor& expert_ids);

/// Elements of finish's `output` that are not as they should be: where experts multiply their rows
/// by their factors, or, not `scaled`, return them.
std::int64_t count_wrong(const BenchTokens& in, const at::Tensor& output, bool scaled = true);

}  // namespace dovetail
