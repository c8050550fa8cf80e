// A padded against the batch that it was loaded with: every input in its place, padding as
// promised, outputs brought back to the rows that they belong to.
#include "framework/step/padded_batch.hpp"

#include <algorithm>
#include <random>

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/plan/kv_pages.hpp"
#include "framework/plan/split.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kHidden = 4;
constexpr std::int64_t kVocabulary = 3;
constexpr int kLayers = 2;
constexpr int kTopK = 2;

StepInputs random_inputs(std::mt19937& random, bool is_mrope) {
  StepWorkload workload;
  std::vector<std::int64_t> kv_tokens;
  const auto count = random() % 6;
  for (std::uint64_t i = 0; i < count; ++i) {
    const Request request = {.id = static_cast<std::int64_t>(100 + i),
                             .query_length = static_cast<std::int64_t>(random() % 7),
                             .context_length = static_cast<std::int64_t>(random() % 9)};
    for (std::int64_t token = 0; token < request.query_length; ++token) {
      workload.input_ids.push_back(1000 * request.id + request.context_length + token);
      workload.positions.push_back(request.context_length + token);
    }
    workload.batch.requests.push_back(request);
    kv_tokens.push_back(request.context_length + request.query_length + 1);
  }
  const auto tokens = workload.batch.num_tokens();
  for (std::int64_t i = 0; is_mrope && i < 3 * tokens; ++i) {
    workload.mrope_positions.push_back(1000 * (i / std::max<std::int64_t>(tokens, 1)) + i);
  }
  const auto pages = allocate_kv_pages(kv_tokens, 1 + static_cast<int>(random() % 4), 0, random());
  return make_step_inputs(workload, pages, {}, at::kCPU);
}

/// Bounds that are at least what the slices need.
StepBounds bounds_for(const StepInputs& inputs,
                      const std::vector<UbatchSlice>& slices,
                      std::mt19937& random) {
  StepBounds bounds;
  bounds.num_ubatches = static_cast<int>(slices.size());
  for (std::size_t u = 0; u < slices.size(); ++u) {
    bounds.tokens[u] = slices[u].num_tokens + static_cast<std::int64_t>(random() % 3);
    bounds.segments[u] = static_cast<std::int64_t>(slices[u].segments.size() + random() % 3);
    for (const auto& segment : slices[u].segments) {
      const auto& request = inputs.batch.requests[static_cast<std::size_t>(segment.request)];
      const auto context = request.context_length + segment.query_start;
      bounds.keys[u] += context + segment.query_length;
      bounds.context[u] = std::max(bounds.context[u], context);
    }
  }
  return bounds;
}

PaddedShape shape_for(const StepInputs& inputs) {
  PaddedShape shape;
  shape.dims.hidden = kHidden;
  shape.dims.vocabulary = kVocabulary;
  shape.dims.top_k = kTopK;
  shape.dims.num_experts = 4;
  shape.num_layers = kLayers;
  shape.max_pages = inputs.block_tables.size(1) + 1;
  shape.is_mrope = inputs.positions.dim() == 2;
  shape.replays_routing = true;
  shape.selection = {
      .logits = true, .logits_all = true, .layers = true, .routing = true, .replays_routing = true};
  return shape;
}

at::Tensor random_routing(const StepInputs& inputs) {
  return at::randint(0, 50, {kLayers, inputs.batch.num_tokens(), kTopK}, at::kLong);
}

template <class T>
std::vector<T> values(const at::Tensor& tensor) {
  const auto flat = tensor.contiguous();
  return {flat.const_data_ptr<T>(), flat.const_data_ptr<T>() + flat.numel()};
}

void expect_inputs(const PaddedBatch& padded,
                   const StepInputs& inputs,
                   const std::vector<UbatchSlice>& slices,
                   const at::Tensor& routing) {
  for (std::size_t u = 0; u < slices.size(); ++u) {
    SCOPED_TRACE("ubatch " + std::to_string(u));
    const auto expected = slice_inputs(inputs, slices[u]);
    const auto& work = padded.ubatches()[u];
    const auto& got = work.inputs;
    const auto count = slices[u].num_tokens;
    const auto padding = got.num_tokens - count;
    ASSERT_EQ(got.num_tokens, padded.bounds().tokens[u]);
    EXPECT_TRUE(at::equal(got.input_ids.narrow(0, 0, count), expected.input_ids));
    EXPECT_TRUE(at::equal(got.slot_mapping.narrow(0, 0, count), expected.slot_mapping));
    EXPECT_TRUE(at::equal(got.positions.narrow(-1, 0, count), expected.positions));
    EXPECT_TRUE(
        at::equal(got.slot_mapping.narrow(0, count, padding), at::full({padding}, -1, at::kLong)));
    EXPECT_TRUE(
        at::equal(got.input_ids.narrow(0, count, padding), at::full({padding}, 0, at::kLong)));
    const auto ids = padded.expert_ids().narrow(1, work.token_start, got.num_tokens);
    EXPECT_TRUE(
        at::equal(ids.narrow(1, 0, count), routing.narrow(1, slices[u].token_start, count)));
    EXPECT_TRUE(ids.narrow(1, count, padding).eq(-1).all().item<bool>());

    ASSERT_EQ(got.segments.size(), expected.segments.size());
    const auto starts = values<std::int32_t>(got.on_device.query_starts);
    const auto lengths = values<std::int32_t>(got.on_device.key_lengths);
    const auto key_starts = values<std::int32_t>(got.on_device.key_starts);
    const auto last_rows = values<std::int64_t>(got.on_device.last_rows);
    ASSERT_EQ(std::ssize(lengths), padded.bounds().segments[u]);
    std::int32_t keys = 0;
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      const bool is_real = s < expected.segments.size();
      const auto segment = is_real ? expected.segments[s] : AttentionSegment{.token_start = count};
      EXPECT_EQ(starts[s], segment.token_start);
      EXPECT_EQ(starts[s + 1], segment.token_start + segment.query_length);
      EXPECT_EQ(lengths[s], segment.context_length + segment.query_length);
      EXPECT_EQ(key_starts[s], keys);
      keys += lengths[s];
      EXPECT_EQ(key_starts[s + 1], keys);
      EXPECT_EQ(last_rows[s], is_real ? segment.token_start + segment.query_length - 1 : 0);
      const auto table = got.block_tables.select(0, static_cast<std::int64_t>(s));
      const auto columns = inputs.block_tables.size(1);
      EXPECT_TRUE(is_real ? at::equal(table.narrow(0, 0, columns),
                                      expected.block_tables.select(0, static_cast<int>(s)))
                          : table.eq(-1).all().item<bool>());
    }
  }
}

/// Writes into every row of the padded's outputs what names the row.
void write_outputs(PaddedBatch& padded) {
  auto& outputs = padded.outputs();
  const auto name_rows = [](at::Tensor& tensor, int first) {
    tensor.copy_(at::arange(tensor.numel(), at::kFloat).view(tensor.sizes()).add(first));
  };
  name_rows(outputs.hidden, 0);
  name_rows(outputs.logits, 10000);
  name_rows(outputs.logits_all, 20000);
  for (auto& layer : outputs.layers) {
    name_rows(layer, 30000);
  }
  outputs.expert_ids.copy_(
      at::arange(outputs.expert_ids.numel(), at::kInt).view(outputs.expert_ids.sizes()));
  name_rows(outputs.router_logits, 40000);
  outputs.natural_ids.copy_(outputs.expert_ids.add(50000));
}

void expect_outputs(PaddedBatch& padded,
                    const StepInputs& inputs,
                    const std::vector<UbatchSlice>& slices) {
  const auto selection = shape_for(inputs).selection;
  auto stored = make_step_outputs(inputs, shape_for(inputs).dims, kLayers, selection, at::kCPU);
  write_outputs(padded);
  padded.store(stored);
  const auto& from = padded.outputs();
  std::vector<bool> has_logits(inputs.batch.requests.size());
  for (std::size_t u = 0; u < slices.size(); ++u) {
    const auto start = padded.ubatches()[u].token_start;
    const auto first = slices[u].token_start;
    const auto count = slices[u].num_tokens;
    const auto same = [&](const at::Tensor& to, const at::Tensor& in_padded, int dimension) {
      return at::equal(to.narrow(dimension, first, count),
                       in_padded.narrow(dimension, start, count));
    };
    EXPECT_TRUE(same(stored.hidden, from.hidden, 0));
    EXPECT_TRUE(same(stored.logits_all, from.logits_all, 0));
    EXPECT_TRUE(same(stored.layers[1], from.layers[1], 0));
    EXPECT_TRUE(same(stored.expert_ids, from.expert_ids, 1));
    EXPECT_TRUE(same(stored.router_logits, from.router_logits, 1));
    EXPECT_TRUE(same(stored.natural_ids, from.natural_ids, 1));
    for (std::size_t s = 0; s < slices[u].segments.size(); ++s) {
      const auto& segment = slices[u].segments[s];
      const auto request = static_cast<std::size_t>(segment.request);
      if (segment.query_start + segment.query_length ==
          inputs.batch.requests[request].query_length) {
        has_logits[request] = true;
        EXPECT_TRUE(at::equal(
            stored.logits.select(0, segment.request),
            from.logits.select(0, padded.ubatches()[u].request_start + static_cast<int>(s))));
      }
    }
  }
  for (std::size_t request = 0; request < has_logits.size(); ++request) {
    EXPECT_EQ(has_logits[request], inputs.batch.requests[request].query_length > 0);
    if (!has_logits[request]) {
      EXPECT_TRUE(stored.logits.select(0, static_cast<int>(request)).isnan().all().item<bool>());
    }
  }
}

TEST(PaddedBatch, HoldsTheBatchThatWasLoadedLastAndBringsItsRowsBack) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int trial = 0; trial < 100; ++trial) {
    const auto inputs = random_inputs(random, trial % 3 == 0);
    const auto slices = split_batch(inputs.batch, {}, 1 + static_cast<int>(random() % 4));
    PaddedBatch padded(bounds_for(inputs, slices, random), shape_for(inputs), at::kCPU);
    const auto* const address = padded.ubatches().front().inputs.slot_mapping.const_data_ptr();
    for (int load = 0; load < 2; ++load) {  // what an earlier load has left must be gone
      const auto routing = random_routing(inputs);
      padded.load(inputs, slices, routing);
      expect_inputs(padded, inputs, slices, routing);
    }
    expect_outputs(padded, inputs, slices);
    EXPECT_EQ(padded.ubatches().front().inputs.slot_mapping.const_data_ptr(), address);
  }
}

TEST(PaddedBatch, ABatchOutsideOfTheBoundsIsRefused) {
  std::mt19937 random(1);
  auto inputs = random_inputs(random, false);
  while (inputs.batch.num_tokens() < 4) {
    inputs = random_inputs(random, false);
  }
  const auto slices = split_batch(inputs.batch, {}, 1);
  auto bounds = bounds_for(inputs, slices, random);
  bounds.tokens[0] = inputs.batch.num_tokens() - 1;
  PaddedBatch narrow(bounds, shape_for(inputs), at::kCPU);
  EXPECT_THROW(narrow.load(inputs, slices, random_routing(inputs)), ContractError);
  bounds = bounds_for(inputs, slices, random);
  --bounds.keys[0];
  PaddedBatch short_of_keys(bounds, shape_for(inputs), at::kCPU);
  EXPECT_THROW(short_of_keys.load(inputs, slices, random_routing(inputs)), ContractError);
}

}  // namespace
}  // namespace dovetail
