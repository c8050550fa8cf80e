// Which bits of a step's results enter which number, and which slots no step writes.
#include "framework/step/step_hash.hpp"

#include <algorithm>
#include <set>
#include <vector>

#include <ATen/ops/arange.h>
#include <gtest/gtest.h>

#include "tests/unit/run/fake_architecture.hpp"

namespace dovetail {
namespace {

using testing::fake_experiment;
using testing::make_fake_model;

constexpr const char* kWorkload =
    R"(workload: {requests: {lengths: [3, 1], context_lengths: [5, 2]},
           seed: 4, steps: 2, variants: 2}
execution: {iterations: 2, page_size: 4}
policies: [{name: sequential}]
)";

/// Results of all steps with numbers of their own in every element.
class Results {
 public:
  Results()
      : experiment_(fake_experiment(kWorkload)),
        model_(make_fake_model()),
        workload_(make_workload(experiment_.workload, nullptr, 100, 1, Rank(0))),
        iteration_(workload_, {}, experiment_.execution, *model_, 4, at::kCPU),
        outputs_(make_outputs(
            iteration_, *model_, {.logits_all = true, .layers = true, .routing = true})) {
    float next = 1;
    for (auto& outputs : outputs_) {
      for (auto* tensor : {&outputs.hidden, &outputs.logits, &outputs.logits_all}) {
        fill(*tensor, next);
      }
      for (auto& layer : outputs.layers) {
        fill(layer, next);
      }
      fill(outputs.expert_ids, next);
      fill(outputs.router_logits, next);
    }
    for (auto* tensors : {&iteration_.cache().keys, &iteration_.cache().values}) {
      for (auto& tensor : *tensors) {
        fill(tensor, next);
      }
    }
  }

  StepHasher hasher() { return {workload_, iteration_, outputs_}; }

  std::vector<StepOutputs>& outputs() { return outputs_; }

  Iteration& iteration() { return iteration_; }

  /// An element of the keys or values of a slot.
  static at::Tensor at_slot(const at::Tensor& cache, std::int64_t slot) {
    return cache.flatten(0, 1)[slot][0][0];
  }

 private:
  static void fill(at::Tensor& tensor, float& next) {
    tensor.copy_(at::arange(tensor.numel()).view(tensor.sizes()).add(next));
    next += static_cast<float>(tensor.numel());
  }

  Experiment experiment_;
  std::unique_ptr<Model> model_;
  RankWorkload workload_;
  Iteration iteration_;
  std::vector<StepOutputs> outputs_;
};

/// All numbers of all steps.
std::vector<StepHash> all_of(const StepHasher& hasher, std::size_t steps) {
  std::vector<StepHash> all;
  for (std::size_t step = 0; step < steps; ++step) {
    all.push_back(hasher.of_step(step));
  }
  return all;
}

TEST(StepHash, EachTensorEntersItsNumberOfItsStepOnly) {
  Results results;
  const auto hasher = results.hasher();
  const auto before = all_of(hasher, 4);
  const auto untouched = hasher.of_untouched();
  const auto expect_change =
      [&](at::Tensor element, std::size_t step, std::int64_t StepHash::*part) {
        const auto value = element.item<float>();
        element.add_(1);
        auto wanted = before;
        const auto after = all_of(hasher, 4);
        EXPECT_NE(after[step].*part, before[step].*part) << step;
        wanted[step].*part = after[step].*part;
        EXPECT_EQ(after, wanted) << step;
        EXPECT_EQ(hasher.of_untouched(), untouched);
        element.fill_(value);
      };
  for (std::size_t step = 0; step < 4; ++step) {
    auto& outputs = results.outputs()[step];
    expect_change(outputs.hidden[3][2], step, &StepHash::outputs);
    expect_change(outputs.logits[1][7], step, &StepHash::outputs);
    expect_change(outputs.logits_all[0][9], step, &StepHash::outputs);
    expect_change(outputs.layers[1][2][0], step, &StepHash::outputs);
    expect_change(outputs.expert_ids[1][3][1], step, &StepHash::routing);
    expect_change(outputs.router_logits[0][1][5], step, &StepHash::routing);
    const auto slots = results.iteration().steps()[step].slot_mapping;
    for (std::int64_t token = 0; token < slots.numel(); ++token) {
      for (const auto* tensors :
           {&results.iteration().cache().keys, &results.iteration().cache().values}) {
        expect_change(Results::at_slot((*tensors)[1], slots[token].item<std::int64_t>()),
                      step,
                      &StepHash::kv);
      }
    }
  }
  EXPECT_EQ(all_of(hasher, 4), before);
}

TEST(StepHash, UntouchedAreAllOtherSlots) {
  Results results;
  const auto hasher = results.hasher();
  std::set<std::int64_t> written;
  for (const auto& step : results.iteration().steps()) {
    for (std::int64_t token = 0; token < step.slot_mapping.numel(); ++token) {
      EXPECT_TRUE(written.insert(step.slot_mapping[token].item<std::int64_t>()).second)
          << "two tokens in a slot";
    }
  }
  EXPECT_EQ(written.size(), 2U * 2 * (3 + 1));
  const auto before = all_of(hasher, 4);
  std::set<std::int64_t> seen = {hasher.of_untouched()};
  const auto slots = results.iteration().pages_of(0).num_slots();
  std::int64_t untouched = 0;
  for (std::int64_t slot = 0; slot < slots; ++slot) {
    if (written.count(slot) == 0) {
      ++untouched;
      Results::at_slot(results.iteration().cache().values[0], slot).add_(1);
      EXPECT_TRUE(seen.insert(hasher.of_untouched()).second) << slot;
    }
  }
  EXPECT_EQ(untouched, results.iteration().untouched_slots().numel());
  EXPECT_GE(untouched, 2 * (5 + 2)) << "contexts";
  EXPECT_EQ(all_of(hasher, 4), before);
}

TEST(StepHash, PoisonIsOfOneVariant) {
  Results results;
  const auto hasher = results.hasher();
  const auto before = all_of(hasher, 4);
  const auto untouched = hasher.of_untouched();
  results.iteration().poison_steps(1);
  const auto after = all_of(hasher, 4);
  EXPECT_EQ(std::vector(after.begin(), after.begin() + 2),
            std::vector(before.begin(), before.begin() + 2));
  EXPECT_NE(after[2].kv, before[2].kv);
  EXPECT_NE(after[3].kv, before[3].kv);
  EXPECT_EQ(hasher.of_untouched(), untouched);
}

}  // namespace
}  // namespace dovetail
