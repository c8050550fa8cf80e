#include "framework/device/step_inputs.hpp"

#include <random>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>
#include <gtest/gtest.h>

#include "framework/plan/split.hpp"

namespace dovetail {
namespace {

RankWorkload random_workload(std::mt19937& random) {
  RankWorkload workload;
  const auto num_requests = random() % 6;
  for (std::uint64_t request = 0; request < num_requests; ++request) {
    const auto length = static_cast<std::int64_t>(1 + random() % 9);
    workload.batch.requests.push_back({.id = static_cast<std::int64_t>(100 + request),
                                       .query_length = length,
                                       .context_length = 0});
    for (std::int64_t position = 0; position < length; ++position) {
      workload.input_ids.push_back(static_cast<std::int64_t>(random() % 1000));
      workload.positions.push_back(position);
      workload.request_ids.push_back(static_cast<std::int64_t>(100 + request));
    }
  }
  return workload;
}

TEST(StepInputs, SlicesCoverEveryInputByItsTokenDimension) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int trial = 0; trial < 200; ++trial) {
    auto inputs = make_step_inputs(random_workload(random), at::kCPU);
    const auto tokens = inputs.batch.num_tokens();
    // M-RoPE positions: [3, tokens], each element names its row and its token.
    const auto mrope = at::stack(
        {at::arange(tokens), at::arange(1000, 1000 + tokens), at::arange(2000, 2000 + tokens)});
    inputs.positions = mrope;
    const auto num_ubatches = static_cast<int>(1 + random() % 5);
    std::vector<at::Tensor> ids;
    std::vector<at::Tensor> positions;
    std::vector<at::Tensor> slots;
    for (const auto& slice : split_batch(inputs.batch, {}, num_ubatches)) {
      const auto ubatch = slice_inputs(inputs, slice);
      EXPECT_EQ(ubatch.input_ids.size(0), ubatch.num_tokens);
      EXPECT_EQ(ubatch.positions.sizes(), (at::IntArrayRef{3, ubatch.num_tokens}));
      ids.push_back(ubatch.input_ids);
      positions.push_back(ubatch.positions);
      slots.push_back(ubatch.slot_mapping);
    }
    EXPECT_TRUE(at::equal(at::cat(ids), inputs.input_ids));
    EXPECT_TRUE(at::equal(at::cat(positions, 1), mrope));
    EXPECT_TRUE(at::equal(at::cat(slots), inputs.slot_mapping));
  }
}

TEST(StepInputs, SegmentsOfACutRequestContinueItsContext) {
  RankWorkload workload;
  workload.batch.requests = {{.id = 4, .query_length = 3}, {.id = 5, .query_length = 7}};
  for (std::int64_t token = 0; token < 10; ++token) {
    workload.input_ids.push_back(token);
    workload.positions.push_back(token < 3 ? token : token - 3);
  }
  const auto inputs = make_step_inputs(workload, at::kCPU);
  const auto slices = split_batch(inputs.batch, {}, 2);  // tokens 0..4 and 5..9
  const auto first = slice_inputs(inputs, slices[0]);
  ASSERT_EQ(first.segments.size(), 2U);
  EXPECT_EQ(first.segments[1].token_start, 3);
  EXPECT_EQ(first.segments[1].query_length, 2);
  EXPECT_EQ(first.segments[1].context_length, 0);
  const auto second = slice_inputs(inputs, slices[1]);
  ASSERT_EQ(second.segments.size(), 1U);
  EXPECT_EQ(second.segments[0].token_start, 0);
  EXPECT_EQ(second.segments[0].query_length, 5);
  EXPECT_EQ(second.segments[0].context_length, 2);  // what the first ubatch has written
  EXPECT_EQ(second.segments[0].kv_start, 3);
}

TEST(StepOutputs, PoisonMarksEverything) {
  RankWorkload workload;
  workload.batch.requests = {{.id = 0, .query_length = 2}};
  workload.input_ids = {1, 2};
  workload.positions = {0, 1};
  const auto inputs = make_step_inputs(workload, at::kCPU);
  const ModelDims dims = {.hidden = 4, .vocabulary = 5, .top_k = 2};
  auto outputs =
      make_step_outputs(inputs,
                        dims,
                        3,
                        {.logits = true, .logits_all = true, .layers = true, .routing = true},
                        at::kCPU);
  outputs.hidden.zero_();
  outputs.layers[2].zero_();
  outputs.poison();
  EXPECT_TRUE(outputs.hidden.isnan().all().item<bool>());
  EXPECT_TRUE(outputs.logits.isnan().all().item<bool>());
  EXPECT_TRUE(outputs.logits_all.isnan().all().item<bool>());
  EXPECT_TRUE(outputs.layers[2].isnan().all().item<bool>());
  EXPECT_TRUE(outputs.margin.isnan().all().item<bool>());
  EXPECT_TRUE(outputs.expert_ids.eq(-1).all().item<bool>());
  EXPECT_EQ(outputs.logits.size(0), 1);
}

}  // namespace
}  // namespace dovetail
