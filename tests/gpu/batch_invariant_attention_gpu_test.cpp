// Attention under `numerics: batch_invariant` on a GPU: rows of a prefill have the same bits in
// every chunk and batch, rows of a decode step in every batch and frame.
#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/layers_attention_case.hpp"
#include "tests/gpu/layers_support.hpp"

namespace dovetail::test {
namespace {

const std::vector<AttentionDims> kDims = {{.heads = 4, .kv_heads = 4, .head_dim = 64},
                                          {.heads = 32, .kv_heads = 4, .head_dim = 128},
                                          {.heads = 12, .kv_heads = 1, .head_dim = 256}};

/// Rows [first, first + count) of a request.
struct Part {
  std::size_t request;
  std::int64_t first;
  std::int64_t count;
};

/// Requests without context, computed at once; their keys and values are in `caches` from then on.
struct Whole {
  AttentionCase test_case;
  AttentionResult result;
};

Whole compute_whole(const AttentionDims& dims,
                    const std::vector<std::int64_t>& lengths,
                    std::mt19937_64& random) {
  AttentionSizes sizes = {.dims = dims, .page_size = 16, .requests = {}};
  for (const std::int64_t length : lengths) {
    sizes.requests.emplace_back(0, length);
  }
  Whole whole = {.test_case = make_attention_case(sizes, random), .result = {}};
  whole.result = run_self_attention(whole.test_case, Numerics::batch_invariant);
  return whole;
}

/// Rows of the whole's tensors that the parts have, in their order.
at::Tensor rows_of(const Whole& whole, const std::vector<Part>& parts) {
  std::vector<std::int64_t> rows;
  for (const Part& part : parts) {
    const auto start = whole.test_case.inputs.segments[part.request].token_start;
    for (std::int64_t i = 0; i < part.count; ++i) {
      rows.push_back(start + part.first + i);
    }
  }
  return at::tensor(rows, at::kLong);
}

/// The parts as a batch of their own over the keys and values of the whole.
AttentionCase batch_of(const Whole& whole, const std::vector<Part>& parts, std::int64_t padding) {
  AttentionCase batch = whole.test_case;
  batch.keys = whole.result.keys.cpu().to(at::kFloat);
  batch.values = whole.result.values.cpu().to(at::kFloat);
  const at::Tensor rows = rows_of(whole, parts);
  batch.rows = rows.size(0);
  batch.x = at::cat({whole.test_case.x.index_select(0, rows),
                     whole.test_case.x.narrow(0, 0, 1).expand({padding, -1, -1})});
  const auto padded = [&](const at::Tensor& x, int value) {
    return at::cat({x.index_select(0, rows), at::full({padding}, value, at::kLong)});
  };
  batch.positions = padded(whole.test_case.positions, 0);
  batch.slot_mapping = padded(whole.test_case.slot_mapping, -1);
  batch.inputs.num_tokens = batch.rows + padding;
  batch.inputs.slot_mapping = to_gpu(batch.slot_mapping, at::kLong);
  batch.inputs.segments.clear();
  std::vector<std::int64_t> requests;
  std::int64_t start = 0;
  for (const Part& part : parts) {
    batch.inputs.segments.push_back(
        {.token_start = start, .query_length = part.count, .context_length = part.first});
    requests.push_back(static_cast<std::int64_t>(part.request));
    start += part.count;
  }
  const at::Tensor tables = whole.test_case.inputs.block_tables.cpu();
  batch.inputs.block_tables =
      to_gpu(with_padding_tables(tables.index_select(0, at::tensor(requests, at::kLong)), padding),
             at::kInt);
  batch.inputs.on_device = device_segments(batch.inputs.segments, padding, at::Device(at::kCUDA));
  return batch;
}

std::string changed_by(const AttentionCase& batch, const at::Tensor& expected, Numerics numerics) {
  const at::Tensor result = run_self_attention(batch, numerics).attended;
  return bitwise_difference(result.narrow(0, 0, batch.rows), expected);
}

TEST(BatchInvariantAttention, ChunksHaveTheBitsOfTheWhole) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  for (const AttentionDims& dims : kDims) {
    const Whole whole = compute_whole(dims, {700, 40, 1, 300}, random);
    const std::vector<std::vector<Part>> batches = {{{0, 0, 700}},
                                                    {{0, 0, 1}},
                                                    {{0, 1, 1}},
                                                    {{0, 699, 1}},
                                                    {{0, 0, 333}},
                                                    {{0, 333, 200}},
                                                    {{0, 533, 167}, {1, 39, 1}, {2, 0, 1}},
                                                    {{3, 64, 65}, {0, 500, 1}, {1, 0, 40}},
                                                    {{3, 299, 1}, {0, 640, 1}, {1, 20, 1}}};
    for (std::size_t i = 0; i < batches.size(); ++i) {
      SCOPED_TRACE(testing::Message() << "head_dim " << dims.head_dim << ", batch " << i);
      AttentionCase batch = batch_of(whole, batches[i], i % 2 == 0 ? 0 : 5);
      const at::Tensor expected =
          whole.result.attended.cpu().index_select(0, rows_of(whole, batches[i]));
      // As a driver states the bound outside of the phase decode.
      auto& bounds = batch.inputs.on_device;
      bounds.max_query_length = std::max<std::int64_t>(bounds.max_query_length, 2);
      EXPECT_EQ(changed_by(batch, expected, Numerics::batch_invariant), "");
      bounds.max_query_length += 100;
      bounds.max_key_length += 1000;
      bounds.max_keys += 5000;
      bounds.has_context = true;
      EXPECT_EQ(changed_by(batch, expected, Numerics::batch_invariant), "") << "wider bounds";
    }
  }
}

TEST(BatchInvariantAttention, DecodeRowsHaveTheSameBitsInEveryBatch) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  bool fast_differs = false;
  for (const AttentionDims& dims : kDims) {
    std::vector<std::int64_t> lengths = {9000, 700, 256, 257, 1, 3000};
    lengths.insert(lengths.end(), 150, 20);
    const Whole whole = compute_whole(dims, lengths, random);
    std::vector<Part> all;
    for (std::size_t request = 0; request < lengths.size(); ++request) {
      all.push_back({request, lengths[request] - 1, 1});
    }
    const AttentionCase together = batch_of(whole, all, 3);
    const at::Tensor expected =
        run_self_attention(together, Numerics::batch_invariant).attended.cpu();
    const at::Tensor expected_of_fast = run_self_attention(together).attended.cpu();
    // Flash attention has computed the same rows.
    EXPECT_EQ(difference(expected.narrow(0, 0, std::ssize(all)),
                         whole.result.attended.cpu().index_select(0, rows_of(whole, all)),
                         2 * kBf16Step,
                         2 * kBf16Step * together.x.abs().max().item<double>()),
              "");
    for (std::int64_t request = 0; request < 6; ++request) {
      SCOPED_TRACE(testing::Message() << "head_dim " << dims.head_dim << ", request " << request);
      AttentionCase alone = batch_of(whole, {all[static_cast<std::size_t>(request)]}, 0);
      const at::Tensor row = expected.narrow(0, request, 1);
      EXPECT_EQ(changed_by(alone, row, Numerics::batch_invariant), "");
      const at::Tensor row_of_fast = expected_of_fast.narrow(0, request, 1);
      fast_differs = fast_differs || !changed_by(alone, row_of_fast, Numerics::fast).empty();
      alone.inputs.on_device.max_key_length += 20'000;
      EXPECT_EQ(changed_by(alone, row, Numerics::batch_invariant), "") << "a wider bound";
    }
  }
  EXPECT_TRUE(fast_differs) << "the comparison notices nothing, or splits by batch change no bit";
}

}  // namespace
}  // namespace dovetail::test
