#include "framework/comm/exchange/bench/bench_pattern.hpp"

#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>

namespace dovetail {

void BenchPattern::clear() const {
  receive.fill_(-1);
  receive.select(0, rank).copy_(wanted.select(0, rank));
}

std::int64_t BenchPattern::wrong_words() const {
  return receive.ne(wanted).sum().item<std::int64_t>();
}

BenchPattern make_pattern(int rank, int num_ranks, std::int64_t bytes, at::Device device) {
  const auto options = at::TensorOptions().dtype(at::kInt).device(device);
  const auto words = at::arange(bytes / 4, options).unsqueeze(0);
  const auto peers = at::arange(num_ranks, options).unsqueeze(1);
  constexpr int from = 1 << 20;
  constexpr int to = 1 << 10;
  BenchPattern pattern;
  pattern.send = words.add(peers, to).add(rank * from).contiguous();
  pattern.wanted = words.add(peers, from).add(rank * to).contiguous();
  pattern.receive = at::empty_like(pattern.wanted);
  pattern.rank = rank;
  pattern.clear();
  return pattern;
}

}  // namespace dovetail
