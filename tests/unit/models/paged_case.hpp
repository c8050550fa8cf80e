// Batches of requests in a paged cache, and attention in double precision by plain loops over the
// keys and values of each request in order: these know neither pages nor slots.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/plan/kv_pages.hpp"
#include "models/layers/attention.hpp"

namespace dovetail {

struct Sizes {
  std::int64_t heads = 6;
  std::int64_t kv_heads = 2;
  std::int64_t head_dim = 10;
};

/// One request: its queries are the last rows of its keys.
struct DenseRequest {
  std::int64_t context_length = 0;
  at::Tensor queries;  ///< [query_length, heads, head_dim]
  at::Tensor keys;     ///< [context_length + query_length, kv_heads, head_dim]
  at::Tensor values;
};

DenseRequest random_request(const Sizes& sizes, std::int64_t context, std::int64_t length);

/// Requests, one after another in the batch, in a cache whose other slots are NaN.
struct PagedCase {
  std::vector<AttentionSegment> segments;
  at::Tensor queries;
  at::Tensor keys;
  at::Tensor values;
  at::Tensor block_tables;

  at::Tensor attend() const {
    return attend_to_context(queries, segments, block_tables, keys, values);
  }
};

PagedCase put_into_pages(const std::vector<DenseRequest>& requests, const KvPages& pages);

/// In scattered pages; three pages belong to nobody.
PagedCase scattered(const std::vector<DenseRequest>& requests, int page_size, std::uint64_t seed);

/// Every request's pages in order, one request after another.
KvPages neighbouring_pages(const std::vector<DenseRequest>& requests, int page_size);

/// Largest difference of attend()'s result and the plain loops; NaN where the result holds one.
double worst_error(const at::Tensor& result, const std::vector<DenseRequest>& requests);

}  // namespace dovetail
