#include "framework/comm/exchange/bench/bench_bandwidth.hpp"

#include <algorithm>

namespace dovetail {

std::int64_t logical_bytes(std::int64_t tokens, int num_ranks, int top_k, std::int64_t row_bytes) {
  return tokens * std::min(num_ranks, top_k) * row_bytes;
}

BenchBandwidth bench_bandwidth(const BenchBytes& bytes, int num_ranks, double us) {
  if (us <= 0) {
    return {};
  }
  const auto gbs = [us](std::int64_t of) { return static_cast<double>(of) * 1e-3 / us; };
  BenchBandwidth bandwidth = {.wire_gbs = gbs(bytes.wire),
                              .logical_gbs = gbs(bytes.logical),
                              .choices_gbs = gbs(bytes.choices)};
  bandwidth.bus_gbs = bandwidth.logical_gbs * (num_ranks - 1) / num_ranks;
  return bandwidth;
}

}  // namespace dovetail
