// What wraps an exchange passes every call on: one that it keeps to itself would leave a back end
// without the bounds of a step, or a measurement without its bytes, in silence.
#include "framework/comm/exchange/emulated_link.hpp"

#include <string>
#include <vector>

#include <ATen/ops/ones.h>
#include <gtest/gtest.h>

namespace dovetail {
namespace {

/// Notes its calls, and gives back what can be told apart.
class NotingExchange final : public Exchange, private ExchangePlans, private HostBuffers {
 public:
  explicit NotingExchange(std::vector<std::string>& calls) : calls_(calls) {}

  void prepare(int ubatch, const RoutedTokens& tokens) override {
    note("prepare", ubatch);
    prepared = tokens;
  }

  void dispatch(int ubatch, int group) override { note("dispatch", ubatch, group); }

  ExpertRows arrange(int ubatch, int group) override {
    note("arrange", ubatch, group);
    return {.rows = arranged, .offsets = offsets};
  }

  void reduce(int ubatch, int group, const at::Tensor& expert_rows) override {
    note("reduce", ubatch, group);
    reduced = expert_rows;
  }

  void combine(int ubatch, int group) override { note("combine", ubatch, group); }

  at::Tensor finish(int ubatch) override {
    note("finish", ubatch);
    return finished;
  }

  ExchangePlans& plans() override { return *this; }

  TrafficMeter& meter() override { return meter_; }

  StepBuffers& buffers() override { return *this; }

  RoutedTokens prepared;
  at::Tensor reduced;
  const at::Tensor arranged = at::ones({3, 2});
  const at::Tensor offsets = at::ones({1}, at::kInt);
  const at::Tensor finished = at::ones({4, 2});

 private:
  std::shared_ptr<ExchangePlan> plan(int /*ubatch*/) override { return nullptr; }

  void prepare_again(int /*ubatch*/,
                     const RoutedTokens& /*tokens*/,
                     std::shared_ptr<ExchangePlan> /*plan*/) override {}

  void adopt(int /*ubatch*/, std::shared_ptr<ExchangePlan> /*plan*/) override {}

  std::int64_t bytes() const override { return 0; }

  std::vector<at::Tensor> received_rows(int /*ubatch*/,
                                        Phase /*phase*/,
                                        std::optional<int> /*group*/) override {
    return {};
  }

  void note(const char* call, int ubatch, int group = 0) {
    calls_.push_back(call + (" " + std::to_string(ubatch)) +
                     (group == 0 ? "" : " group " + std::to_string(group)));
  }

  std::vector<std::string>& calls_;
  TrafficMeter meter_;
};

TEST(EmulatedLink, EveryCallReachesTheExchangeBehindIt) {
  std::vector<std::string> calls;
  auto behind = std::make_unique<NotingExchange>(calls);
  auto& inner = *behind;
  EmulatedLink link(std::move(behind), {.latency_us = 0.0, .gbytes_per_s = 1.0}, {});
  const RoutedTokens tokens = {.hidden = at::ones({4, 2}),
                               .expert_ids = at::ones({4, 1}, at::kLong),
                               .weights = at::ones({4, 1}),
                               .layer = 9};
  link.prepare(1, tokens);
  EXPECT_TRUE(inner.prepared.hidden.is_same(tokens.hidden));
  EXPECT_TRUE(inner.prepared.expert_ids.is_same(tokens.expert_ids));
  EXPECT_TRUE(inner.prepared.weights.is_same(tokens.weights));
  EXPECT_EQ(inner.prepared.layer, 9);
  link.dispatch(2, 1);
  const auto rows = link.arrange(3, 2);
  EXPECT_TRUE(rows.rows.is_same(inner.arranged));
  EXPECT_TRUE(rows.offsets.is_same(inner.offsets));
  link.reduce(4, 3, rows.rows);
  EXPECT_TRUE(inner.reduced.is_same(rows.rows));
  link.combine(5, 4);
  EXPECT_TRUE(link.finish(6).is_same(inner.finished));
  EXPECT_EQ(calls,
            (std::vector<std::string>{"prepare 1",
                                      "dispatch 2 group 1",
                                      "arrange 3 group 2",
                                      "reduce 4 group 3",
                                      "combine 5 group 4",
                                      "finish 6"}));
}

TEST(EmulatedLink, WhatOnlySomeNeedIsThatOfTheExchangeBehindIt) {
  std::vector<std::string> calls;
  auto behind = std::make_unique<NotingExchange>(calls);
  auto& inner = *behind;
  EmulatedLink link(std::move(behind), {}, {});
  EXPECT_EQ(&link.plans(), &inner.plans());
  EXPECT_EQ(&link.meter(), &inner.meter());
  EXPECT_EQ(&link.buffers(), &inner.buffers());
  EXPECT_TRUE(calls.empty());
}

}  // namespace
}  // namespace dovetail
