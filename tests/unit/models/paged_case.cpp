#include "tests/unit/models/paged_case.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>

namespace dovetail {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Element by element in double precision.
at::Tensor slow_attention(const DenseRequest& request) {
  const auto query = request.queries.accessor<float, 3>();
  const auto key = request.keys.accessor<float, 3>();
  const auto value = request.values.accessor<float, 3>();
  const std::int64_t size = query.size(2);
  const std::int64_t group = query.size(1) / key.size(1);
  at::Tensor result = at::zeros(request.queries.sizes(), at::kDouble);
  auto out = result.accessor<double, 3>();
  for (std::int64_t row = 0; row < query.size(0); ++row) {
    for (std::int64_t head = 0; head < query.size(1); ++head) {
      double total = 0;
      std::vector<double> sum(static_cast<std::size_t>(size), 0.0);
      for (std::int64_t t = 0; t <= request.context_length + row; ++t) {
        double score = 0;
        for (std::int64_t i = 0; i < size; ++i) {
          score += double{query[row][head][i]} * double{key[t][head / group][i]};
        }
        const double share = std::exp(score / std::sqrt(static_cast<double>(size)));
        total += share;
        for (std::int64_t i = 0; i < size; ++i) {
          sum[static_cast<std::size_t>(i)] += share * double{value[t][head / group][i]};
        }
      }
      for (std::int64_t i = 0; i < size; ++i) {
        out[row][head][i] = sum[static_cast<std::size_t>(i)] / total;
      }
    }
  }
  return result;
}

std::vector<std::int64_t> lengths_of(const std::vector<DenseRequest>& requests) {
  std::vector<std::int64_t> lengths;
  for (const DenseRequest& request : requests) {
    lengths.push_back(request.keys.size(0));
  }
  return lengths;
}

at::Tensor tables_of(const KvPages& pages) {
  std::size_t most = 1;
  for (const auto& of_request : pages.pages) {
    most = std::max(most, of_request.size());
  }
  at::Tensor tables =
      at::full({std::ssize(pages.pages), static_cast<std::int64_t>(most)}, -1, at::kInt);
  for (std::size_t r = 0; r < pages.pages.size(); ++r) {
    for (std::size_t i = 0; i < pages.pages[r].size(); ++i) {
      tables.accessor<int, 2>()[static_cast<int>(r)][static_cast<int>(i)] = pages.pages[r][i];
    }
  }
  return tables;
}

}  // namespace

DenseRequest random_request(const Sizes& sizes, std::int64_t context, std::int64_t length) {
  return {.context_length = context,
          .queries = at::randn({length, sizes.heads, sizes.head_dim}),
          .keys = at::randn({context + length, sizes.kv_heads, sizes.head_dim}),
          .values = at::randn({context + length, sizes.kv_heads, sizes.head_dim})};
}

PagedCase put_into_pages(const std::vector<DenseRequest>& requests, const KvPages& pages) {
  const auto& keys = requests.front().keys;
  PagedCase result;
  result.keys =
      at::full({pages.num_pages, pages.page_size, keys.size(1), keys.size(2)}, kNan, at::kFloat);
  result.values = result.keys.clone();
  result.block_tables = tables_of(pages);
  std::vector<at::Tensor> queries;
  std::int64_t row = 0;
  for (std::size_t r = 0; r < requests.size(); ++r) {
    for (std::int64_t t = 0; t < requests[r].keys.size(0); ++t) {
      const auto slot = pages.slot(r, t);
      const auto page = slot / pages.page_size;
      const auto place = slot % pages.page_size;
      result.keys[page][place].copy_(requests[r].keys[t]);
      result.values[page][place].copy_(requests[r].values[t]);
    }
    queries.push_back(requests[r].queries);
    result.segments.push_back({.token_start = row,
                               .query_length = requests[r].queries.size(0),
                               .context_length = requests[r].context_length});
    row += requests[r].queries.size(0);
  }
  result.queries = at::cat(queries);
  return result;
}

KvPages neighbouring_pages(const std::vector<DenseRequest>& requests, int page_size) {
  KvPages pages = allocate_kv_pages(lengths_of(requests), page_size, 0, 1);
  std::int32_t next = 0;
  for (auto& of_request : pages.pages) {
    std::iota(of_request.begin(), of_request.end(), next);
    next += static_cast<std::int32_t>(of_request.size());
  }
  return pages;
}

PagedCase scattered(const std::vector<DenseRequest>& requests, int page_size, std::uint64_t seed) {
  const auto needed = allocate_kv_pages(lengths_of(requests), page_size, 0, seed).num_pages;
  return put_into_pages(
      requests, allocate_kv_pages(lengths_of(requests), page_size, (needed + 3) * page_size, seed));
}

double worst_error(const at::Tensor& result, const std::vector<DenseRequest>& requests) {
  std::vector<at::Tensor> expected;
  for (const DenseRequest& request : requests) {
    expected.push_back(slow_attention(request));
  }
  return (result.to(at::kDouble) - at::cat(expected)).abs().max().item<double>();
}

}  // namespace dovetail
