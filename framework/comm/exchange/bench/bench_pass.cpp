#include "framework/comm/exchange/bench/bench_pass.hpp"

#include <algorithm>
#include <iterator>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bucketize.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mul.h>

#include "framework/base/check.hpp"
#include "framework/base/order_statistics.hpp"
#include "framework/comm/exchange/bench/bench_tokens.hpp"

namespace dovetail {
namespace {

std::size_t index(BenchCall call) {
  return static_cast<std::size_t>(call);
}

}  // namespace

std::vector<BenchSpan> bench_spans(int num_groups) {
  std::vector<BenchSpan> spans = {{BenchCall::prepare}};
  for (int group = 0; group < num_groups; ++group) {
    spans.push_back({BenchCall::dispatch, group});
  }
  for (int group = 0; group < num_groups; ++group) {
    spans.push_back({BenchCall::arrange, group});
    spans.push_back({BenchCall::reduce, group});
  }
  for (int group = 0; group < num_groups; ++group) {
    spans.push_back({BenchCall::combine, group});
  }
  spans.push_back({BenchCall::finish});
  return spans;
}

BenchPass::BenchPass(Exchange& exchange, const ExchangeShape& shape, int num_groups)
    : exchange_(exchange),
      shape_(shape),
      num_groups_(num_groups),
      spans_(bench_spans(num_groups)),
      multiplied_(static_cast<std::size_t>(num_groups)) {}

at::Tensor BenchPass::run(const RoutedTokens& tokens,
                          BenchExperts experts,
                          const std::function<void()>& mark) {
  auto given = tokens;
  given.num_groups = num_groups_;
  ExpertRows arranged;
  at::Tensor output;
  for (const auto& [call, group] : spans_) {
    switch (call) {
      case BenchCall::prepare:
        exchange_.prepare(0, given);
        break;
      case BenchCall::dispatch:
        exchange_.dispatch(0, group);
        break;
      case BenchCall::arrange:
        arranged = exchange_.arrange(0, group);
        break;
      case BenchCall::reduce:
        exchange_.reduce(
            0, group, experts == BenchExperts::none ? arranged.rows : multiply(group, arranged));
        break;
      case BenchCall::combine:
        exchange_.combine(0, group);
        break;
      case BenchCall::finish:
        output = exchange_.finish(0);
        break;
    }
    if (mark) {
      mark();
    }
  }
  return output;
}

const at::Tensor& BenchPass::multiply(int group, const ExpertRows& arranged) {
  const auto& rows = arranged.rows;
  auto& own = multiplied_[static_cast<std::size_t>(group)];
  if (!own.rows.defined() || own.rows.size(0) != rows.size(0)) {
    own.positions = at::arange(rows.size(0), rows.options().dtype(at::kInt));
    own.experts = at::empty_like(own.positions);
    own.factors = at::empty({rows.size(0), 1}, rows.options());
    own.rows = at::empty_like(rows);
  }
  // An expert's rows end at its offset.
  at::bucketize_out(
      own.experts, own.positions, arranged.offsets, /*out_int32=*/true, /*right=*/true);
  own.experts.add_(shape_.ep_rank * shape_.experts_per_rank() + arranged.first_expert);
  own.factors.copy_(write_bench_factors(own.experts).unsqueeze(1));
  at::mul_out(own.rows, rows, own.factors);
  return own.rows;
}

BenchClock::BenchClock(int num_groups) : spans_(bench_spans(num_groups)) {}

void BenchClock::add(std::span<const double> gaps_us) {
  DOVETAIL_CHECK(gaps_us.size() % spans_.size() == 0, "a clock of passes that are not whole");
  for (std::size_t first = 0; first < gaps_us.size(); first += spans_.size()) {
    auto& pass = passes_.emplace_back();
    for (std::size_t i = 0; i < spans_.size(); ++i) {
      const double us = gaps_us[first + i];
      pass.calls[index(spans_[i].call)] += us;
      if (spans_[i] == BenchSpan{BenchCall::dispatch, 0}) {
        pass.first_dispatch = us;
      } else if (spans_[i] == BenchSpan{BenchCall::combine, 0}) {
        pass.first_combine = us;
      }
    }
  }
}

BenchTimes BenchClock::medians() const {
  const auto median_of = [this](const auto& get) {
    std::vector<double> values;
    std::transform(passes_.begin(), passes_.end(), std::back_inserter(values), get);
    return median(values);
  };
  BenchTimes times;
  for (std::size_t call = 0; call < kNumBenchCalls; ++call) {
    times.calls[call] = median_of([call](const BenchTimes& pass) { return pass.calls[call]; });
  }
  times.first_dispatch = median_of([](const BenchTimes& pass) { return pass.first_dispatch; });
  times.first_combine = median_of([](const BenchTimes& pass) { return pass.first_combine; });
  return times;
}

}  // namespace dovetail
