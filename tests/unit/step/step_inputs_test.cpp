#include "framework/step/step_inputs.hpp"

#include <random>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/plan/split.hpp"

namespace dovetail {
namespace {

/// A request's id, tokens of this step, and context.
using Requests = std::vector<Request>;

StepWorkload workload_of(const Requests& requests) {
  StepWorkload workload;
  workload.batch.requests = requests;
  for (const Request& request : requests) {
    for (std::int64_t i = 0; i < request.query_length; ++i) {
      workload.input_ids.push_back(1000 * request.id + request.context_length + i);
      workload.positions.push_back(request.context_length + i);
      workload.request_ids.push_back(request.id);
    }
  }
  return workload;
}

Requests random_requests(std::mt19937& random) {
  Requests requests;
  const auto count = random() % 6;
  for (std::uint64_t i = 0; i < count; ++i) {
    requests.push_back({.id = static_cast<std::int64_t>(100 + i),
                        .query_length = static_cast<std::int64_t>(random() % 9),
                        .context_length = static_cast<std::int64_t>(random() % 9)});
  }
  return requests;
}

/// Room for two more tokens a request than it needs now.
KvPages pages_for(const Requests& requests, int page_size, std::uint64_t seed) {
  std::vector<std::int64_t> tokens;
  for (const Request& request : requests) {
    tokens.push_back(request.context_length + request.query_length + 2);
  }
  return allocate_kv_pages(tokens, page_size, 0, seed);
}

TEST(StepInputs, SlicesCoverEveryInputByItsTokenDimension) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int trial = 0; trial < 200; ++trial) {
    auto requests = random_requests(random);
    requests.push_back({.id = 1, .query_length = 1, .context_length = 0});
    auto workload = workload_of(requests);
    const auto tokens = workload.batch.num_tokens();
    // M-RoPE positions: [3, tokens], each element names its row and its token.
    for (std::int64_t i = 0; i < 3 * tokens; ++i) {
      workload.mrope_positions.push_back(1000 * (i / tokens) + i % tokens);
    }
    const at::Tensor embeds = at::arange(tokens * 4, at::kFloat).view({tokens, 4});
    const auto pages = pages_for(requests, static_cast<int>(1 + random() % 4), seed);
    const auto inputs = make_step_inputs(workload, pages, embeds, at::kCPU);
    const auto num_ubatches = static_cast<int>(1 + random() % 5);
    std::vector<at::Tensor> ids;
    std::vector<at::Tensor> embeds_parts;
    std::vector<at::Tensor> positions;
    std::vector<at::Tensor> slots;
    for (const auto& slice : split_batch(inputs.batch, {}, num_ubatches)) {
      const auto ubatch = slice_inputs(inputs, slice);
      EXPECT_EQ(ubatch.input_ids.size(0), ubatch.num_tokens);
      EXPECT_EQ(ubatch.positions.sizes(), (at::IntArrayRef{3, ubatch.num_tokens}));
      ids.push_back(ubatch.input_ids);
      embeds_parts.push_back(ubatch.embeds);
      positions.push_back(ubatch.positions);
      slots.push_back(ubatch.slot_mapping);
    }
    EXPECT_TRUE(at::equal(at::cat(ids), inputs.input_ids));
    EXPECT_TRUE(at::equal(at::cat(embeds_parts), embeds));
    EXPECT_TRUE(at::equal(at::cat(positions, 1), inputs.positions));
    EXPECT_TRUE(at::equal(at::cat(slots), inputs.slot_mapping));
    EXPECT_EQ(inputs.positions[2][tokens - 1].item<std::int64_t>(), 2000 + tokens - 1);
  }
}

TEST(StepInputs, SlotsAndBlockTablesNameThePagesOfEachSegment) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int trial = 0; trial < 200; ++trial) {
    const auto requests = random_requests(random);
    const auto workload = workload_of(requests);
    const auto pages = pages_for(requests, static_cast<int>(1 + random() % 4), seed);
    const auto inputs = make_step_inputs(workload, pages, {}, at::kCPU);
    for (const auto& slice : split_batch(inputs.batch, {}, static_cast<int>(1 + random() % 5))) {
      const auto ubatch = slice_inputs(inputs, slice);
      EXPECT_FALSE(ubatch.embeds.defined());
      ASSERT_EQ(ubatch.segments.size(), slice.segments.size());
      ASSERT_EQ(ubatch.block_tables.size(0), static_cast<std::int64_t>(slice.segments.size()));
      EXPECT_EQ(ubatch.block_tables.scalar_type(), at::kInt);
      std::int64_t row = 0;
      for (std::size_t s = 0; s < ubatch.segments.size(); ++s) {
        const auto& segment = ubatch.segments[s];
        const auto request = static_cast<std::size_t>(slice.segments[s].request);
        EXPECT_EQ(segment.token_start, row);
        // Every page, in order; then nothing.
        const at::Tensor table = ubatch.block_tables[static_cast<std::int64_t>(s)];
        for (std::int64_t i = 0; i < table.size(0); ++i) {
          const auto& own = pages.pages[request];
          EXPECT_EQ(table[i].item<int>(),
                    i < std::ssize(own) ? own[static_cast<std::size_t>(i)] : -1);
        }
        for (std::int64_t i = 0; i < segment.query_length; ++i, ++row) {
          const auto position = segment.context_length + i;
          EXPECT_EQ(ubatch.positions[row].item<std::int64_t>(), position);
          EXPECT_EQ(ubatch.slot_mapping[row].item<std::int64_t>(), pages.slot(request, position));
          EXPECT_EQ(ubatch.input_ids[row].item<std::int64_t>(),
                    1000 * requests[request].id + position);
        }
      }
      EXPECT_EQ(row, ubatch.num_tokens);
    }
  }
}

TEST(StepInputs, SegmentsOfACutRequestContinueItsContext) {
  const Requests requests = {{.id = 4, .query_length = 3, .context_length = 0},
                             {.id = 5, .query_length = 7, .context_length = 20}};
  const auto inputs =
      make_step_inputs(workload_of(requests), pages_for(requests, 4, 1), {}, at::kCPU);
  const auto slices = split_batch(inputs.batch, {}, 2);  // tokens 0..4 and 5..9
  const auto first = slice_inputs(inputs, slices[0]);
  ASSERT_EQ(first.segments.size(), 2U);
  EXPECT_EQ(first.segments[1].token_start, 3);
  EXPECT_EQ(first.segments[1].query_length, 2);
  EXPECT_EQ(first.segments[1].context_length, 20);
  const auto second = slice_inputs(inputs, slices[1]);
  ASSERT_EQ(second.segments.size(), 1U);
  EXPECT_EQ(second.segments[0].token_start, 0);
  EXPECT_EQ(second.segments[0].query_length, 5);
  EXPECT_EQ(second.segments[0].context_length, 22);  // and what the first ubatch has written
  EXPECT_TRUE(at::equal(second.block_tables[0], first.block_tables[1]));
  EXPECT_FALSE(at::equal(first.block_tables[0], first.block_tables[1]));
}

TEST(StepInputs, WorkloadsThatDoNotFitAreContractErrors) {
  const Requests requests = {{.id = 4, .query_length = 3, .context_length = 6}};
  const auto good = workload_of(requests);
  const auto pages = pages_for(requests, 1, 1);
  EXPECT_NO_THROW(make_step_inputs(good, pages, {}, at::kCPU));
  auto bad = good;
  bad.positions[1] = 8;  // not the next position
  EXPECT_THROW(make_step_inputs(bad, pages, {}, at::kCPU), ContractError);
  bad = good;
  bad.input_ids.pop_back();
  EXPECT_THROW(make_step_inputs(bad, pages, {}, at::kCPU), ContractError);
  const auto longer = workload_of({{.id = 4, .query_length = 6, .context_length = 6}});
  EXPECT_THROW(make_step_inputs(longer, pages, {}, at::kCPU), ContractError);
  EXPECT_THROW(make_step_inputs(good, KvPages{}, {}, at::kCPU), ContractError);
  EXPECT_THROW(make_step_inputs(good, pages, at::arange(8.0).view({2, 4}), at::kCPU),
               ContractError);
}

TEST(StepOutputs, RouterLogitsHaveTheRoutersDtype) {
  const Requests requests = {{.id = 0, .query_length = 2, .context_length = 0}};
  const auto inputs =
      make_step_inputs(workload_of(requests), pages_for(requests, 1, 1), {}, at::kCPU);
  for (const bool is_float32 : {false, true}) {
    const ModelDims dims = {.hidden = 4,
                            .vocabulary = 5,
                            .num_experts = 3,
                            .top_k = 2,
                            .has_float32_router = is_float32,
                            .dtype = at::kBFloat16};
    const auto outputs =
        make_step_outputs(inputs, dims, 3, {.layers = true, .routing = true}, at::kCPU);
    EXPECT_EQ(outputs.router_logits.scalar_type(), is_float32 ? at::kFloat : at::kBFloat16);
    EXPECT_EQ(outputs.hidden.scalar_type(), at::kBFloat16);
    EXPECT_EQ(outputs.layers[1].scalar_type(), at::kBFloat16);
  }
}

TEST(StepOutputs, PoisonMarksEverything) {
  const Requests requests = {{.id = 0, .query_length = 2, .context_length = 0}};
  const auto inputs =
      make_step_inputs(workload_of(requests), pages_for(requests, 1, 1), {}, at::kCPU);
  ModelDims dims = {.hidden = 4, .vocabulary = 5, .top_k = 2};
  const OutputSelection all = {
      .logits = true, .logits_all = true, .layers = true, .routing = true, .replays_routing = true};
  auto outputs = make_step_outputs(inputs, dims, 3, all, at::kCPU);
  outputs.hidden.zero_();
  outputs.layers[2].zero_();
  outputs.poison();
  EXPECT_TRUE(outputs.hidden.isnan().all().item<bool>());
  EXPECT_TRUE(outputs.logits.isnan().all().item<bool>());
  EXPECT_TRUE(outputs.logits_all.isnan().all().item<bool>());
  EXPECT_TRUE(outputs.layers[2].isnan().all().item<bool>());
  EXPECT_TRUE(outputs.router_logits.isnan().all().item<bool>());
  EXPECT_TRUE(outputs.natural_ids.eq(-1).all().item<bool>());
  EXPECT_TRUE(outputs.expert_ids.eq(-1).all().item<bool>());
  EXPECT_EQ(outputs.logits.size(0), 1);
  // A stage that is not the last has no logits.
  dims.is_last_stage = false;
  outputs = make_step_outputs(inputs, dims, 3, all, at::kCPU);
  EXPECT_TRUE(outputs.hidden.isnan().all().item<bool>());
  EXPECT_FALSE(outputs.logits.defined());
  EXPECT_FALSE(outputs.logits_all.defined());
}

}  // namespace
}  // namespace dovetail
