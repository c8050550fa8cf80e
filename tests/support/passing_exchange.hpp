// Exchanges that pass their calls on to another one, for twins that change something on the way.
#pragma once

#include <map>

#include <ATen/core/Tensor.h>

#include "framework/comm/exchange/exchange.hpp"

namespace dovetail::test {

/// Changes nothing. `inner` outlives it.
class PassingExchange : public Exchange {
 public:
  explicit PassingExchange(Exchange& inner) : inner_(inner) {}

  void prepare(int ubatch, const RoutedTokens& tokens) override { inner_.prepare(ubatch, tokens); }

  void dispatch(int ubatch, int group) override { inner_.dispatch(ubatch, group); }

  ExpertRows arrange(int ubatch, int group) override { return inner_.arrange(ubatch, group); }

  void reduce(int ubatch, int group, const at::Tensor& expert_rows) override {
    inner_.reduce(ubatch, group, expert_rows);
  }

  void combine(int ubatch, int group) override { inner_.combine(ubatch, group); }

  at::Tensor finish(int ubatch) override { return inner_.finish(ubatch); }

  ExchangePlans& plans() override { return inner_.plans(); }

  TrafficMeter& meter() override { return inner_.meter(); }

  StepBuffers& buffers() override { return inner_.buffers(); }

 private:
  Exchange& inner_;
};

/// Says of each group the offsets that it had first.
class FrozenOffsets final : public PassingExchange {
 public:
  using PassingExchange::PassingExchange;

  ExpertRows arrange(int ubatch, int group) override {
    auto arranged = PassingExchange::arrange(ubatch, group);
    const auto known = first_.find(group);
    if (known == first_.end()) {
      first_.emplace(group, arranged.offsets.clone());
    } else {
      arranged.offsets = known->second;
    }
    return arranged;
  }

 private:
  std::map<int, at::Tensor> first_;
};

}  // namespace dovetail::test
