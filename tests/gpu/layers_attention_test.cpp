// Self-attention in bfloat16 on a GPU: decode, prefill, and prefill over cached context, against
// double precision. Cache slots outside of the contexts, and all free memory, are NaN.
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/cuda/CUDAGraph.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <c10/cuda/CUDAGuard.h>
#include <gtest/gtest.h>

#include "models/layers/cuda/kernels.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/layers_attention_case.hpp"
#include "tests/gpu/layers_support.hpp"

namespace dovetail::test {
namespace {

using Requests = std::vector<std::pair<std::int64_t, std::int64_t>>;

const Requests kDecode = {{0, 1},
                          {1, 1},
                          {14, 1},
                          {15, 1},
                          {16, 1},
                          {62, 1},
                          {63, 1},
                          {64, 1},
                          {65, 1},
                          {254, 1},
                          {1023, 1},
                          {3000, 1}};
const Requests kPrefill = {{0, 1}, {0, 5}, {0, 130}, {0, 64}, {0, 257}};
const Requests kMixed = {{0, 7}, {100, 1}, {2000, 5}, {17, 130}, {1, 1}, {64, 64}, {0, 1}};

const std::vector<AttentionDims> kDims = {{.heads = 4, .kv_heads = 4, .head_dim = 64},
                                          {.heads = 8, .kv_heads = 2, .head_dim = 128},
                                          {.heads = 32, .kv_heads = 4, .head_dim = 128},
                                          {.heads = 6, .kv_heads = 2, .head_dim = 24},
                                          {.heads = 12, .kv_heads = 1, .head_dim = 256},
                                          {.heads = 5, .kv_heads = 1, .head_dim = 40},
                                          {.heads = 2, .kv_heads = 2, .head_dim = 8}};

/// Shares are rounded by at most half a step each, results once; a query may have flipped a
/// rounding of its own.
double tolerance(const AttentionCase& test_case) {
  return kBf16Step * std::max(test_case.x.abs().max().item<double>(), 4.0);
}

/// All that must hold of a call.
void check_case(const AttentionSizes& sizes, std::mt19937_64& random) {
  SCOPED_TRACE(sizes.describe());
  const AttentionCase test_case = make_attention_case(sizes, random);
  const AttentionDims& dims = sizes.dims;
  const std::int64_t rows = test_case.rows;
  const AttentionResult result = run_self_attention(test_case);
  const at::Tensor turned = turned_heads(test_case);
  const at::Tensor keys = result.keys.cpu().to(at::kFloat);
  const at::Tensor values = result.values.cpu().to(at::kFloat);

  const at::Tensor slots = test_case.slot_mapping.narrow(0, 0, rows);
  const auto written = [&](const at::Tensor& cache) {
    return cache.flatten(0, 1).index_select(0, slots);
  };
  const at::Tensor new_keys = turned.narrow(0, 0, rows).narrow(1, dims.heads, dims.kv_heads);
  const at::Tensor new_values =
      turned.narrow(0, 0, rows).narrow(1, dims.heads + dims.kv_heads, dims.kv_heads);
  EXPECT_EQ(bitwise_difference(written(values), new_values), "") << "values in the cache";
  const double largest = new_keys.abs().max().item<double>();
  EXPECT_EQ(difference(written(keys), new_keys, 0, 2 * kBf16Step * largest), "") << "keys";
  const auto flipped = (written(keys) != new_keys).sum().item<std::int64_t>();
  EXPECT_LE(flipped, new_keys.numel() / 20 + 4) << "keys that the CPU rounds otherwise";

  // Everything else in the cache is as it was.
  for (const bool of_keys : {true, false}) {
    at::Tensor before = (of_keys ? test_case.keys : test_case.values).clone();
    at::Tensor after = (of_keys ? keys : values).clone();
    before.flatten(0, 1).index_fill_(0, slots, 0);
    after.flatten(0, 1).index_fill_(0, slots, 0);
    EXPECT_EQ(bitwise_difference(after, before), "") << "slots of others";
  }

  const at::Tensor wanted =
      exact_attention(test_case, turned.narrow(0, 0, rows).narrow(1, 0, dims.heads), keys, values);
  EXPECT_EQ(difference(result.attended.narrow(0, 0, rows), wanted, kBf16Step, tolerance(test_case)),
            "");
  EXPECT_TRUE((result.attended.narrow(0, rows, sizes.padding_rows) == 0).all().item<bool>())
      << "padding rows must be zero";
}

TEST(LayersAttention, Decode) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  for (const AttentionDims& dims : kDims) {
    check_case({.dims = dims, .page_size = 16, .requests = kDecode}, random);
  }
  for (const int page_size : {1, 3, 50, 256}) {
    check_case({.dims = kDims[1],
                .page_size = page_size,
                .requests = kDecode,
                .padding_rows = 5,
                .padding_segments = 3},
               random);
  }
  check_case({.dims = kDims[2], .requests = {{37, 1}}, .padding_segments = 7}, random);
  check_case({.dims = kDims[2], .requests = {{37, 1}}, .padding_rows = 7}, random);
  check_case({.dims = kDims[1], .requests = kDecode, .has_norms = false}, random);
}

/// Beyond the keys that the greatest number of splits has at the least size of a split.
TEST(LayersAttention, DecodeOverLongContexts) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  const Requests requests = {{4094, 1}, {4095, 1}, {4096, 1}, {6000, 1}, {12345, 1}};
  check_case({.dims = kDims[1], .page_size = 16, .requests = requests}, random);
  check_case({.dims = kDims[3], .page_size = 50, .requests = requests}, random);
}

TEST(LayersAttention, DecodeOfManySegmentsInOneSplit) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  Requests requests;
  for (int i = 0; i < 300; ++i) {
    requests.emplace_back(static_cast<std::int64_t>(random() % 200), 1);
  }
  check_case({.dims = kDims[1], .page_size = 16, .requests = requests, .padding_rows = 2}, random);
}

TEST(LayersAttention, PrefillWithoutContext) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  for (const AttentionDims& dims : kDims) {
    check_case({.dims = dims, .requests = kPrefill, .padding_rows = 9, .padding_segments = 2},
               random);
  }
  check_case({.dims = kDims[2], .requests = {{0, 2}}}, random);
  check_case({.dims = kDims[1], .requests = kPrefill, .padding_rows = 3, .has_norms = false},
             random);
}

TEST(LayersAttention, PrefillOverContextAndMixed) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  for (const AttentionDims& dims : kDims) {
    check_case({.dims = dims, .requests = kMixed, .padding_rows = 3, .padding_segments = 2},
               random);
  }
  for (const int page_size : {1, 3, 50, 256}) {
    check_case({.dims = kDims[1], .page_size = page_size, .requests = kMixed}, random);
  }
}

TEST(LayersAttention, OnlyPaddingAndNothing) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  for (const std::int64_t rows : {0, 4}) {
    for (const std::int64_t max_query_length : {0, 1, 20}) {
      SCOPED_TRACE(testing::Message() << rows << " rows, bound " << max_query_length);
      AttentionCase test_case = make_attention_case(
          {.dims = kDims[1], .requests = {{3, 1}}, .padding_rows = rows}, random);
      // The frame of a step in which this rank has nothing to do, with the bounds of the others.
      test_case.x = test_case.x.narrow(0, 1, rows);
      test_case.positions = test_case.positions.narrow(0, 1, rows);
      test_case.inputs.segments.clear();
      test_case.inputs.num_tokens = rows;
      test_case.inputs.slot_mapping = test_case.inputs.slot_mapping.narrow(0, 1, rows);
      test_case.inputs.on_device = device_segments({}, 1, at::Device(at::kCUDA));
      test_case.inputs.on_device.max_query_length = max_query_length;
      test_case.inputs.on_device.max_key_length = 256;
      test_case.inputs.on_device.max_keys = 1024;
      test_case.inputs.on_device.has_context = true;
      const AttentionResult result = run_self_attention(test_case);
      EXPECT_EQ(result.attended.size(0), rows);
      EXPECT_TRUE((result.attended == 0).all().item<bool>());
      EXPECT_EQ(bitwise_difference(result.keys, test_case.keys), "");
    }
  }
}

TEST(LayersAttention, LargerBoundsThanNeededChangeNothingThatMatters) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  for (const Requests& requests : {kDecode, kPrefill, kMixed}) {
    AttentionCase test_case =
        make_attention_case({.dims = kDims[1], .requests = requests, .padding_rows = 3}, random);
    SegmentTensors& bounds = test_case.inputs.on_device;
    const bool is_decode = bounds.max_query_length == 1;
    const at::Tensor exact = run_self_attention(test_case).attended;
    bounds.max_query_length += is_decode ? 0 : 100;
    bounds.max_key_length += 1000;
    bounds.max_keys += 5000;
    EXPECT_EQ(
        difference(run_self_attention(test_case).attended, exact, kBf16Step, tolerance(test_case)),
        "");
    bounds.has_context = true;  // gathers what could be read directly
    EXPECT_EQ(
        difference(run_self_attention(test_case).attended, exact, kBf16Step, tolerance(test_case)),
        "");
  }
}

TEST(LayersAttention, SwappedPagesOrLostKeysAreSeen) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  for (const Requests& requests : {Requests{{40, 1}, {30, 1}}, Requests{{40, 3}, {30, 2}}}) {
    AttentionCase test_case =
        make_attention_case({.dims = kDims[1], .page_size = 4, .requests = requests}, random);
    const at::Tensor wanted = run_self_attention(test_case).attended;
    const auto is_seen = [&] {
      return !difference(
                  run_self_attention(test_case).attended, wanted, kBf16Step, tolerance(test_case))
                  .empty();
    };
    EXPECT_FALSE(is_seen());
    const at::Tensor tables = test_case.inputs.block_tables.clone();
    test_case.inputs.block_tables[0][2] = tables[1][2];
    EXPECT_TRUE(is_seen()) << "a page of another request";
    test_case.inputs.block_tables.copy_(tables);
    test_case.inputs.on_device.key_lengths[0] -= 8;
    test_case.inputs.on_device.key_starts[1] -= 8;
    test_case.inputs.on_device.key_starts[2] -= 8;
    EXPECT_TRUE(is_seen()) << "eight keys too few";
  }
}

/// The decode kernel alone, by number of splits; queries lie between other data.
void check_splits(int splits, const AttentionDims& dims, std::mt19937_64& random) {
  const AttentionCase test_case =
      make_attention_case({.dims = dims, .page_size = 16, .requests = kDecode}, random);
  // The last key of each segment is one of the context here.
  std::vector<AttentionSegment> segments;
  for (AttentionSegment segment : test_case.inputs.segments) {
    segment.context_length = std::max<std::int64_t>(segment.context_length - 1, 0);
    segments.push_back(segment);
  }
  // Segment 0 has no context, so give it its own key.
  at::Tensor keys = test_case.keys.clone();
  at::Tensor values = test_case.values.clone();
  const std::int64_t slot = test_case.pages.slot(0, 0);
  keys.flatten(0, 1)[slot].fill_(0.5);
  values.flatten(0, 1)[slot].fill_(0.25);
  const SegmentTensors on_device = device_segments(segments, 2, at::Device(at::kCUDA));
  const at::Tensor tables =
      to_gpu(with_padding_tables(test_case.inputs.block_tables.cpu().to(at::kInt), 2), at::kInt);
  const at::Tensor all = to_gpu(test_case.x);
  const at::Tensor on_gpu_keys = to_gpu(keys);
  const at::Tensor on_gpu_values = to_gpu(values);
  const std::int64_t rows = test_case.rows;
  at::Tensor result = at::full({rows + 3, dims.heads, dims.head_dim},
                               std::numeric_limits<float>::quiet_NaN(),
                               all.options());
  gpu::DecodeArguments arguments = {
      .queries = all.const_data_ptr(),
      .query_stride = all.size(1) * all.size(2),
      .result = result.mutable_data_ptr(),
      .tokens = rows + 3,
      .heads = dims.heads,
      .cache = {.keys = on_gpu_keys.const_data_ptr(),
                .values = on_gpu_values.const_data_ptr(),
                .page_size = 16,
                .kv_heads = dims.kv_heads,
                .head_dim = dims.head_dim},
      .segments = {.query_starts = on_device.query_starts.const_data_ptr<std::int32_t>(),
                   .key_lengths = on_device.key_lengths.const_data_ptr<std::int32_t>(),
                   .key_starts = on_device.key_starts.const_data_ptr<std::int32_t>(),
                   .block_tables = tables.const_data_ptr<std::int32_t>(),
                   .table_stride = tables.stride(0),
                   .count = tables.size(0)},
      .scale = 1 / std::sqrt(static_cast<float>(dims.head_dim)),
      .splits = splits};
  const at::Tensor partial = at::full({gpu::decode_partial_floats(arguments)},
                                      std::numeric_limits<float>::quiet_NaN(),
                                      all.options().dtype(at::kFloat));
  arguments.partial = partial.mutable_data_ptr<float>();
  gpu::launch_decode_attention(arguments, nullptr);
  check_gpu();
  AttentionCase wanted_case = test_case;
  wanted_case.inputs.segments = segments;
  const at::Tensor wanted =
      exact_attention(wanted_case, test_case.x.narrow(1, 0, dims.heads), keys, values);
  // Shares: half a step each, of values below the largest; the result: half a step.
  const double absolute = kBf16Step / 2 * test_case.values.nan_to_num(0).abs().max().item<double>();
  EXPECT_EQ(difference(result.narrow(0, 0, rows), wanted, kBf16Step, absolute), "");
  EXPECT_TRUE((result.narrow(0, rows, 3) == 0).all().item<bool>());
}

TEST(LayersAttention, DecodeKernelByNumberOfSplits) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  for (const AttentionDims& dims : kDims) {
    for (const int splits : {1, 2, 3, 7, 32}) {
      SCOPED_TRACE(testing::Message() << splits << " splits, heads " << dims.heads << ", kv_heads "
                                      << dims.kv_heads << ", head_dim " << dims.head_dim);
      check_splits(splits, dims, random);
    }
  }
}

TEST(LayersAttention, ACapturedCallFollowsItsInputs) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  for (const bool decode : {true, false}) {
    const AttentionDims dims = {.heads = 8, .kv_heads = 2, .head_dim = 128, .norm_epsilon = 1e-6};
    // The second batch has fewer rows and segments; both are padded to the same frame.
    const Requests first =
        decode ? Requests{{700, 1}, {30, 1}, {5, 1}} : Requests{{300, 20}, {0, 9}, {5, 1}};
    const Requests second = decode ? Requests{{90, 1}, {611, 1}} : Requests{{10, 11}, {200, 2}};
    const std::int64_t second_padding = decode ? 1 : 17;
    AttentionCase a = make_attention_case({.dims = dims, .requests = first}, random);
    AttentionCase b = make_attention_case(
        {.dims = dims, .requests = second, .padding_rows = second_padding, .padding_segments = 1},
        random);
    const auto on_gpu = at::TensorOptions().dtype(at::kBFloat16).device(at::kCUDA);
    const std::int64_t all = 12 * 128;
    const AttentionWeights weights = {.qkv = at::eye(all, on_gpu),
                                      .qkv_bias = {},
                                      .output = at::eye(8 * 128, on_gpu),
                                      .output_bias = {},
                                      .q_norm = to_gpu(a.q_norm),
                                      .k_norm = to_gpu(a.k_norm)};
    // A frame with room for both.
    const std::int64_t pages = std::max(a.keys.size(0), b.keys.size(0));
    const std::int64_t columns =
        std::max(a.inputs.block_tables.size(1), b.inputs.block_tables.size(1));
    const auto int32 = on_gpu.dtype(at::kInt);
    UbatchInputs inputs;
    inputs.num_tokens = a.x.size(0);
    inputs.slot_mapping = at::empty({a.x.size(0)}, on_gpu.dtype(at::kLong));
    inputs.block_tables = at::empty({3, columns}, int32);
    inputs.on_device = a.inputs.on_device;
    inputs.on_device.query_starts = at::empty({4}, int32);
    inputs.on_device.key_lengths = at::empty({3}, int32);
    inputs.on_device.key_starts = at::empty({4}, int32);
    inputs.on_device.max_query_length = decode ? 1 : 20;
    inputs.on_device.max_key_length = 1024;
    inputs.on_device.max_keys = 2048;
    const at::Tensor x = at::empty({a.x.size(0), all}, on_gpu);
    const at::Tensor table = at::full({2, a.x.size(0), 64}, 0.5, on_gpu);
    at::Tensor keys = at::empty({pages, 16, 2, 128}, on_gpu);
    at::Tensor values = at::empty({pages, 16, 2, 128}, on_gpu);
    const auto fill = [&](const AttentionCase& from) {
      x.copy_(from.x.view({from.x.size(0), all}));
      inputs.slot_mapping.copy_(from.inputs.slot_mapping);
      inputs.block_tables.fill_(-1);
      inputs.block_tables.narrow(1, 0, from.inputs.block_tables.size(1))
          .copy_(from.inputs.block_tables);
      inputs.on_device.query_starts.copy_(from.inputs.on_device.query_starts);
      inputs.on_device.key_lengths.copy_(from.inputs.on_device.key_lengths);
      inputs.on_device.key_starts.copy_(from.inputs.on_device.key_starts);
      keys.narrow(0, 0, from.keys.size(0)).copy_(from.keys);
      values.narrow(0, 0, from.values.size(0)).copy_(from.values);
    };
    const auto run = [&] { return self_attention(dims, weights, x, table, inputs, keys, values); };
    const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromPool());
    std::vector<at::Tensor> wanted;
    for (const AttentionCase* from : {&a, &b}) {
      fill(*from);
      wanted.push_back(run().clone());
    }
    check_gpu();
    EXPECT_NE(bitwise_difference(wanted[0], wanted[1]), "");
    at::cuda::CUDAGraph graph;
    graph.capture_begin();
    const at::Tensor result = run();
    graph.capture_end();
    for (const std::size_t index : {1, 0, 1}) {
      fill(index == 0 ? a : b);
      result.fill_(std::numeric_limits<float>::quiet_NaN());
      graph.replay();
      check_gpu();
      EXPECT_EQ(bitwise_difference(result, wanted[index]), "")
          << (decode ? "decode" : "prefill") << ", inputs " << index;
    }
  }
}

}  // namespace
}  // namespace dovetail::test
