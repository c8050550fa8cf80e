// What each data fault changes, where, and that it changes nothing in other iterations.
#include "framework/step/data_fault.hpp"

#include <map>
#include <string>
#include <vector>

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/step/fault.hpp"
#include "tests/unit/step/planted_fault.hpp"

namespace dovetail {
namespace {
constexpr int kTokens = 5;
constexpr int kHidden = 6;
constexpr int kExperts = 8;

TEST(DataFault, IsOfItsRankAndKind) {
  const auto fault = config(FaultKind::flipped_element, "combine");
  EXPECT_EQ(InjectedFault(fault, Rank(1), at::kCPU).data(), nullptr);
  EXPECT_EQ(InjectedFault(config(FaultKind::hang, "combine"), Rank(0), at::kCPU).data(), nullptr);
  Planted planted(fault);
  EXPECT_TRUE(planted.data().is_at(1, 0, Phase::combine));
  EXPECT_FALSE(planted.data().is_at(1, 1, Phase::combine));
  EXPECT_FALSE(planted.data().is_at(0, 0, Phase::combine));
  EXPECT_FALSE(planted.data().is_at(1, 0, Phase::dispatch));
  EXPECT_NO_THROW(planted.fault.before({1, 0, Phase::combine, Lane::comm, {}}));
}

// Its place may be of another policy only: that has more ubatches.
TEST(InjectedFault, ThatEndsTheRunNeedNotHappenInEveryPolicy) {
  for (const auto kind : {FaultKind::exception, FaultKind::kill}) {
    const auto fault = config(kind, "combine");
    InjectedFault missed(fault, Rank(0), at::kCPU);
    missed.set_iteration(3);
    EXPECT_NO_THROW(missed.set_iteration(InjectedFault::kNever));
  }
}

TEST(InjectedFault, OfTheContextsComesBeforeAllIterations) {
  auto stated = config(FaultKind::exception, "combine");
  stated.iteration = kContextIteration;
  const Op op = {1, 0, Phase::combine, Lane::comm, {}};
  InjectedFault fault(stated, Rank(0), at::kCPU);
  fault.before(op);
  fault.set_iteration(kContextIteration);
  EXPECT_THROW(fault.before(op), std::runtime_error);
  EXPECT_THROW(fault.set_iteration(0), RunError);  // nobody has run that op
  InjectedFault without_contexts(stated, Rank(0), at::kCPU);
  EXPECT_THROW(without_contexts.set_iteration(0), RunError);
  InjectedFault elsewhere(stated, Rank(1), at::kCPU);
  EXPECT_NO_THROW(elsewhere.set_iteration(0));
}

TEST(DataFault, MustHappenInItsIteration) {
  const auto fault = config(FaultKind::flipped_element, "combine");
  Planted planted(fault);
  EXPECT_NO_THROW(planted.fault.set_iteration(3));  // the next step of the same iteration
  EXPECT_THROW(planted.fault.set_iteration(4), RunError);
  planted.data().changed_rows(at::randn({kTokens, kHidden}));
  EXPECT_NO_THROW(planted.fault.set_iteration(-1));
  Planted captured(fault, false);
  captured.fault.set_capturing(true);
  captured.data().changed_rows(at::randn({kTokens, kHidden}));
  captured.fault.set_capturing(false);
  captured.fault.set_iteration(3);
  EXPECT_NO_THROW(captured.fault.set_iteration(4));
  Planted elsewhere(fault, false);
  elsewhere.fault.set_iteration(1);
  EXPECT_NO_THROW(elsewhere.fault.set_iteration(-1));
}

/// Numbers of elements that differ, by row.
std::map<std::int64_t, std::int64_t> changed_elements(const at::Tensor& a, const at::Tensor& b) {
  std::map<std::int64_t, std::int64_t> changed;
  for (std::int64_t row = 0; row < a.size(0); ++row) {
    const auto number = a.select(0, row).ne(b.select(0, row)).sum().item<std::int64_t>();
    if (number > 0) {
      changed[row] = number;
    }
  }
  return changed;
}

TEST(DataFault, FlipsTheSignOfOneElement) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    for (const int element : {-1, 0, 4}) {
      auto fault = config(FaultKind::flipped_element, "combine");
      fault.element = element;
      const at::Tensor rows = at::randn({kTokens, kHidden}).to(dtype);
      const at::Tensor before = rows.clone();
      Planted planted(fault);
      const at::Tensor changed = planted.data().changed_rows(rows);
      EXPECT_TRUE(planted.data().has_acted());
      EXPECT_TRUE(rows.equal(before));
      EXPECT_EQ(changed_elements(changed, rows), (std::map<std::int64_t, std::int64_t>{{2, 1}}));
      EXPECT_TRUE(changed.abs().equal(rows.abs()));
      const auto at = element >= 0 ? element : rows.select(0, 2).abs().argmax().item<int>();
      EXPECT_NE(changed[2][at].item<float>(), rows[2][at].item<float>());
      Planted other(fault, false);
      EXPECT_TRUE(other.data().changed_rows(rows).equal(rows));
      EXPECT_FALSE(other.data().has_acted());
    }
  }
}

TEST(DataFault, SwapsTwoTokens) {
  const at::Tensor rows = at::randn({kTokens, kHidden});
  Planted planted(config(FaultKind::swapped_tokens, "combine"));
  const at::Tensor changed = planted.data().changed_rows(rows);
  for (int row = 0; row < kTokens; ++row) {
    const int from = row == 2 ? 3 : row == 3 ? 2 : row;
    EXPECT_TRUE(changed[row].equal(rows[from])) << row;
  }
  Planted other(config(FaultKind::swapped_tokens, "combine"), false);
  EXPECT_TRUE(other.data().changed_rows(rows).equal(rows));
  Planted of_another_kind(config(FaultKind::stale_buffer, "combine"));
  EXPECT_TRUE(of_another_kind.data().changed_rows(rows).equal(rows));
}

UbatchState routed() {
  UbatchState state;
  state.expert_ids =
      at::tensor(std::vector<std::int64_t>{7, 1, 2, 0, 1, 3, 0, 1, 4, 5, 6, 7, -1, -1, -1})
          .view({kTokens, 3});
  state.weights = at::full({kTokens, 3}, 0.25, at::kFloat);
  return state;
}

TEST(DataFault, ReplacesAnExpertByOneThatWasNotChosen) {
  for (const int choice : {0, 1, -1}) {
    auto fault = config(FaultKind::wrong_expert, "route");
    fault.choice = choice;
    auto state = routed();
    Planted planted(fault);
    planted.data().change_routing(state, kExperts);
    EXPECT_TRUE(planted.data().has_acted());
    const auto place = choice < 0 ? 2 : choice;
    auto expected = routed();
    expected.expert_ids[2][place] = 2;  // the token has 0, 1 and 4
    EXPECT_TRUE(state.expert_ids.equal(expected.expert_ids)) << state.expert_ids;
    EXPECT_TRUE(state.weights.equal(expected.weights));
    EXPECT_TRUE(
        planted.data().changed_experts(routed().expert_ids, kExperts).equal(expected.expert_ids));
    Planted other(fault, false);
    other.data().change_routing(state = routed(), kExperts);
    EXPECT_TRUE(state.expert_ids.equal(routed().expert_ids));
  }
}

TEST(DataFault, DropsAWeight) {
  for (const int choice : {0, -1}) {
    auto fault = config(FaultKind::dropped_weight, "route");
    fault.choice = choice;
    auto state = routed();
    Planted planted(fault);
    planted.data().change_routing(state, kExperts);
    auto expected = routed();
    expected.weights[2][choice < 0 ? 2 : 0] = 0;
    EXPECT_TRUE(state.weights.equal(expected.weights)) << state.weights;
    EXPECT_TRUE(state.expert_ids.equal(expected.expert_ids));
    Planted other(fault, false);
    other.data().change_routing(state = routed(), kExperts);
    EXPECT_TRUE(state.weights.equal(routed().weights));
  }
}

TEST(DataFault, MovesAPosition) {
  for (const bool is_mrope : {false, true}) {
    UbatchInputs inputs;
    const at::Tensor positions =
        is_mrope ? at::arange(3 * kTokens).view({3, kTokens}) : at::arange(kTokens);
    inputs.positions = positions.clone();
    Planted other(config(FaultKind::wrong_position, "embed"), false);
    other.data().change_positions(inputs);
    EXPECT_TRUE(inputs.positions.equal(positions));
    Planted planted(config(FaultKind::wrong_position, "embed"));
    planted.data().change_positions(inputs);
    const at::Tensor moved = at::zeros_like(positions);
    moved.select(-1, 2).fill_(1);
    EXPECT_TRUE(inputs.positions.sub(positions).equal(moved));
  }
}

/// Writes the number of each row, from 1, to its slot, and reads all slots of the first two pages.
class SlotModel final : public Model {
 public:
  const ModelShape& shape() const override { return shape_; }

  const ModelDims& dims() const override { return dims_; }

  WeightsDigest weights_digest() const override { return {}; }

  std::int64_t weight_bytes() const override { return 0; }

  std::unique_ptr<Model> with_numerics(Numerics /*numerics*/) const override {
    return std::make_unique<SlotModel>();
  }

  void embed(UbatchState& /*state*/) const override {}

  void attention(int layer, UbatchState& state, KvCache& cache) const override {
    const auto index = static_cast<std::size_t>(layer);
    const auto slots = state.inputs.slot_mapping;
    for (auto* tensors : {&cache.keys, &cache.values}) {
      at::Tensor by_slot = tensors->at(index).flatten(0, 1);
      const at::Tensor rows = at::arange(1, slots.size(0) + 1).to(at::kFloat).view({-1, 1, 1});
      by_slot.index_copy_(0, slots, rows.expand({-1, by_slot.size(1), by_slot.size(2)}));
    }
    state.hidden =
        cache.keys[index].flatten(0, 1).narrow(0, 0, 8).select(1, 0).select(1, 0).clone();
  }

  void route(int, UbatchState&, const at::Tensor&) const override {}

  at::Tensor experts(int, const ExpertRows& rows) const override { return rows.rows; }

  void shared_experts(int, UbatchState&) const override {}

  void mlp(int, UbatchState&) const override {}

  void add_moe(int, UbatchState&, const at::Tensor&) const override {}

  at::Tensor output(const UbatchState& state) const override { return state.hidden; }

  at::Tensor logits(const at::Tensor& normed) const override { return normed; }

 private:
  ModelShape shape_;
  ModelDims dims_;
};

TEST(DataFault, LeavesASlotAsItWas) {
  const SlotModel model;
  for (const bool is_active : {true, false}) {
    KvCache cache;
    for (auto* tensors : {&cache.keys, &cache.values}) {
      for (int layer = 0; layer < 2; ++layer) {
        tensors->push_back(at::full({2, 4, 1, 3}, 90 + layer, at::kFloat));
      }
    }
    UbatchState state;
    const at::Tensor slots = at::tensor(std::vector<std::int64_t>{6, 1, 0, 7, 3});
    state.inputs.slot_mapping = slots;
    const void* const memory = cache.keys[1].const_data_ptr();
    Planted planted(config(FaultKind::stale_kv, "attention"), is_active);
    planted.data().attend(model, 1, state, cache);
    // Slots 6, 1, 0, 7, 3 get rows 1 to 5; row 3, token 2, was for slot 0.
    const float first = is_active ? 91 : 3;
    const at::Tensor expected = at::tensor(std::vector<float>{first, 2, 91, 5, 91, 91, 1, 4});
    EXPECT_TRUE(state.hidden.equal(expected)) << state.hidden;
    for (const auto* tensors : {&cache.keys, &cache.values}) {
      EXPECT_TRUE((*tensors)[1].flatten(0, 1).select(1, 0).select(1, 2).equal(expected));
      EXPECT_TRUE((*tensors)[0].equal(at::full({2, 4, 1, 3}, 90, at::kFloat)));
    }
    EXPECT_EQ(cache.keys[1].const_data_ptr(), memory);
    EXPECT_TRUE(state.inputs.slot_mapping.equal(slots));
    EXPECT_EQ(planted.data().has_acted(), is_active);
  }
}

}  // namespace
}  // namespace dovetail
