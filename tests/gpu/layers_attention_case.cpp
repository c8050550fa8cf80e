#include "tests/gpu/layers_attention_case.hpp"

#include <cmath>
#include <limits>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/full.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

#include "framework/base/check.hpp"
#include "models/layers/rms_norm.hpp"
#include "models/layers/rotary.hpp"
#include "tests/gpu/layers_support.hpp"

namespace dovetail::test {
namespace {

constexpr double kEpsilon = 1e-6;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

at::Tensor table_of(const AttentionCase& test_case) {
  const std::int64_t head_dim = test_case.sizes.dims.head_dim;
  const Rotary rotary(
      head_dim, {.theta = 1e6, .mrope = {.section = {head_dim / 2, 0, 0}}}, at::kCPU);
  return rotary.table(test_case.positions, at::kBFloat16);
}

at::Tensor block_tables(const KvPages& pages) {
  std::size_t most = 1;
  for (const auto& of_request : pages.pages) {
    most = std::max(most, of_request.size());
  }
  at::Tensor tables =
      at::full({static_cast<std::int64_t>(pages.pages.size()), static_cast<std::int64_t>(most)},
               -1,
               at::kInt);
  auto* to = tables.mutable_data_ptr<std::int32_t>();
  for (std::size_t request = 0; request < pages.pages.size(); ++request) {
    std::copy(pages.pages[request].begin(), pages.pages[request].end(), to + request * most);
  }
  return tables;
}

at::Tensor norm_on_gpu(const at::Tensor& norm) {
  return norm.defined() ? to_gpu(norm) : norm;
}

}  // namespace

std::string AttentionSizes::describe() const {
  std::string text = "heads " + std::to_string(dims.heads) + ", kv_heads " +
                     std::to_string(dims.kv_heads) + ", head_dim " + std::to_string(dims.head_dim) +
                     ", page_size " + std::to_string(page_size) + ", padding rows " +
                     std::to_string(padding_rows) + ", padding segments " +
                     std::to_string(padding_segments) + ", context+query:";
  for (const auto& [context, query] : requests) {
    text += " " + std::to_string(context) + "+" + std::to_string(query);
  }
  return text;
}

AttentionCase make_attention_case(const AttentionSizes& sizes, std::mt19937_64& random) {
  AttentionCase result;
  result.sizes = sizes;
  result.sizes.dims.norm_epsilon = kEpsilon;
  const AttentionDims& dims = sizes.dims;
  std::vector<std::int64_t> lengths;
  for (const auto& [context, query] : sizes.requests) {
    lengths.push_back(context + query);
  }
  const auto needed = allocate_kv_pages(lengths, sizes.page_size, 0, 1).num_pages;
  result.pages =
      allocate_kv_pages(lengths, sizes.page_size, (needed + 3) * sizes.page_size, random());
  result.keys =
      at::full({result.pages.num_pages, sizes.page_size, dims.kv_heads, dims.head_dim}, kNan);
  result.values = result.keys.clone();
  std::vector<std::int64_t> positions;
  std::vector<std::int64_t> slots;
  for (std::size_t request = 0; request < sizes.requests.size(); ++request) {
    const auto [context, query] = sizes.requests[request];
    std::vector<std::int64_t> context_slots;
    for (std::int64_t position = 0; position < context; ++position) {
      context_slots.push_back(result.pages.slot(request, position));
    }
    for (at::Tensor* cache : {&result.keys, &result.values}) {
      const auto scale = cache == &result.keys ? 1.5 : 1.0;
      cache->flatten(0, 1).index_copy_(
          0,
          at::tensor(context_slots, at::kLong),
          random_bf16_values({context, dims.kv_heads, dims.head_dim}, random, scale));
    }
    result.inputs.segments.push_back({.token_start = static_cast<std::int64_t>(positions.size()),
                                      .query_length = query,
                                      .context_length = context});
    for (std::int64_t i = 0; i < query; ++i) {
      positions.push_back(context + i);
      slots.push_back(result.pages.slot(request, context + i));
    }
  }
  result.rows = static_cast<std::int64_t>(positions.size());
  positions.insert(positions.end(), static_cast<std::size_t>(sizes.padding_rows), 0);
  slots.insert(slots.end(), static_cast<std::size_t>(sizes.padding_rows), -1);
  const std::int64_t rows = result.rows + sizes.padding_rows;
  result.x = random_bf16_values({rows, dims.heads + 2 * dims.kv_heads, dims.head_dim}, random);
  if (sizes.has_norms) {
    result.q_norm =
        (random_bf16_values({dims.head_dim}, random, 0.3) + 2).to(at::kBFloat16).to(at::kFloat);
    result.k_norm =
        (random_bf16_values({dims.head_dim}, random, 0.3) + 1.5).to(at::kBFloat16).to(at::kFloat);
  }
  result.positions = at::tensor(positions, at::kLong);
  result.slot_mapping = at::tensor(slots, at::kLong);
  result.inputs.num_tokens = rows;
  result.inputs.slot_mapping = to_gpu(result.slot_mapping, at::kLong);
  result.inputs.block_tables =
      to_gpu(with_padding_tables(block_tables(result.pages), sizes.padding_segments), at::kInt);
  result.inputs.on_device =
      device_segments(result.inputs.segments, sizes.padding_segments, at::Device(at::kCUDA));
  return result;
}

AttentionResult run_self_attention(const AttentionCase& test_case, Numerics numerics) {
  const AttentionDims& dims = test_case.sizes.dims;
  const auto options = at::TensorOptions().dtype(at::kBFloat16).device(at::kCUDA);
  const std::int64_t all = (dims.heads + 2 * dims.kv_heads) * dims.head_dim;
  const AttentionWeights weights = {.qkv = at::eye(all, options),
                                    .qkv_bias = {},
                                    .output = at::eye(dims.heads * dims.head_dim, options),
                                    .output_bias = {},
                                    .q_norm = norm_on_gpu(test_case.q_norm),
                                    .k_norm = norm_on_gpu(test_case.k_norm)};
  AttentionResult result = {
      .attended = {}, .keys = to_gpu(test_case.keys), .values = to_gpu(test_case.values)};
  const at::Tensor x = to_gpu(test_case.x).view({test_case.x.size(0), all});
  const at::Tensor table = table_of(test_case).to(at::Device(at::kCUDA));
  poison_free_memory();
  result.attended =
      self_attention(
          dims, weights, x, table, test_case.inputs, result.keys, result.values, numerics)
          .view({x.size(0), dims.heads, dims.head_dim});
  check_gpu();
  return result;
}

at::Tensor turned_heads(const AttentionCase& test_case) {
  const AttentionDims& dims = test_case.sizes.dims;
  const at::Tensor table = table_of(test_case);
  const at::Tensor x = test_case.x.to(at::kBFloat16);
  const auto turned = [&](std::int64_t first, std::int64_t count, const at::Tensor& norm) {
    const at::Tensor heads = x.narrow(1, first, count);
    return rotate(
        norm.defined() ? rms_norm(heads, norm.to(at::kBFloat16), dims.norm_epsilon) : heads, table);
  };
  return at::cat({turned(0, dims.heads, test_case.q_norm),
                  turned(dims.heads, dims.kv_heads, test_case.k_norm),
                  x.narrow(1, dims.heads + dims.kv_heads, dims.kv_heads)},
                 1)
      .to(at::kFloat);
}

at::Tensor exact_attention(const at::Tensor& queries,
                           const at::Tensor& keys,
                           const at::Tensor& values) {
  const std::int64_t group = queries.size(1) / keys.size(1);
  const auto of_heads = [&](const at::Tensor& x) {
    return x.to(at::kDouble).repeat_interleave(group, 1).transpose(0, 1);  // [heads, keys, dim]
  };
  const at::Tensor q = queries.to(at::kDouble).transpose(0, 1);
  at::Tensor scores = at::matmul(q, of_heads(keys).transpose(1, 2)) /
                      std::sqrt(static_cast<double>(queries.size(2)));
  const at::Tensor last = at::arange(queries.size(0), at::kLong) + keys.size(0) - queries.size(0);
  const at::Tensor hidden = at::arange(keys.size(0), at::kLong).unsqueeze(0) > last.unsqueeze(1);
  scores = scores.masked_fill(hidden, -std::numeric_limits<double>::infinity());
  return at::matmul(at::softmax(scores, -1), of_heads(values)).transpose(0, 1).contiguous();
}

at::Tensor exact_attention(const AttentionCase& test_case,
                           const at::Tensor& queries,
                           const at::Tensor& keys,
                           const at::Tensor& values) {
  std::vector<at::Tensor> results;
  const auto& segments = test_case.inputs.segments;
  for (std::size_t request = 0; request < segments.size(); ++request) {
    const AttentionSegment& segment = segments[request];
    std::vector<std::int64_t> slots;
    for (std::int64_t key = 0; key < segment.context_length + segment.query_length; ++key) {
      slots.push_back(test_case.pages.slot(request, key));
    }
    const auto of_request = [&](const at::Tensor& cache) {
      return cache.flatten(0, 1).index_select(0, at::tensor(slots, at::kLong));
    };
    results.push_back(exact_attention(queries.narrow(0, segment.token_start, segment.query_length),
                                      of_request(keys),
                                      of_request(values)));
  }
  return at::cat(results);
}

void poison_free_memory() {
  constexpr std::int64_t kLarge = std::int64_t{64} << 20;  // floats
  constexpr std::int64_t kSmall = std::int64_t{1} << 18;   // 1 MiB: the allocator's other pool
  const auto options = at::TensorOptions().dtype(at::kFloat).device(at::kCUDA);
  std::vector<at::Tensor> held = {at::full({kLarge}, kNan, options)};
  for (int i = 0; i < 8; ++i) {
    held.push_back(at::full({kSmall}, kNan, options));
  }
}

}  // namespace dovetail::test
