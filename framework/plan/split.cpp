#include "framework/plan/split.hpp"

#include <algorithm>
#include <string>

#include "framework/base/check.hpp"
#include "framework/base/error.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

/// Sums of squares of token counts stay within int64 below this.
constexpr std::int64_t kMaxBatchTokens = std::int64_t{1} << 31;

/// First token of each request, and the total at the end: [requests + 1].
std::vector<std::int64_t> token_starts(const Batch& batch) {
  std::vector<std::int64_t> starts{0};
  starts.reserve(batch.requests.size() + 1);
  for (const auto& request : batch.requests) {
    DOVETAIL_CHECK(request.query_length >= 0 && request.query_length < kMaxBatchTokens,
                   "query_length of request " + std::to_string(request.id));
    starts.push_back(starts.back() + request.query_length);
    DOVETAIL_CHECK(starts.back() < kMaxBatchTokens, "a batch has fewer than 2^31 tokens");
  }
  return starts;
}

std::vector<std::int64_t> midpoint_boundaries(std::int64_t num_tokens, int num_parts) {
  std::vector<std::int64_t> boundaries;
  for (int i = 0; i <= num_parts; ++i) {
    boundaries.push_back(i * num_tokens / num_parts);
  }
  return boundaries;
}

std::vector<std::int64_t> size_boundaries(std::int64_t num_tokens,
                                          const std::vector<std::int64_t>& sizes,
                                          int num_parts) {
  if (sizes.size() != static_cast<std::size_t>(num_parts)) {
    throw InputError("split sizes: " + counted(std::ssize(sizes), "size") + " for " +
                     counted(num_parts, "ubatch") + "; one for each is needed");
  }
  std::vector<std::int64_t> boundaries{0};
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    if (sizes[i] < 0) {
      throw InputError("split sizes: size " + std::to_string(i) + " is " +
                       std::to_string(sizes[i]) + "; it must be at least 0");
    }
    const std::int64_t left = num_tokens - boundaries.back();
    const bool is_last = i + 1 == sizes.size();
    boundaries.push_back(boundaries.back() + (is_last ? left : std::min(sizes[i], left)));
  }
  return boundaries;
}

std::vector<std::int64_t> ubatch_boundaries(const Batch& batch,
                                            const SplitRule& rule,
                                            int num_ubatches) {
  const auto starts = token_starts(batch);
  if (rule.kind == "token_midpoint") {
    return midpoint_boundaries(starts.back(), num_ubatches);
  }
  if (rule.kind == "request") {
    return request_boundaries(starts, num_ubatches);
  }
  if (rule.kind == "balanced") {
    return balanced_boundaries(batch, rule.key_cost, num_ubatches);
  }
  if (rule.kind == "sizes") {
    return size_boundaries(starts.back(), rule.sizes, num_ubatches);
  }
  std::vector<std::string> known;
  for (const auto& kind : split_kinds()) {
    known.push_back(kind.name);
  }
  throw InputError("unknown split '" + rule.kind + "'; known: " + join_names(known));
}

}  // namespace

SplitRule split_rule(const SplitConfig& split, const WorkCosts& costs) {
  SplitRule rule = {.kind = split.kind, .sizes = split.sizes, .key_cost = {}};
  if (costs.flops_per_token > 0) {
    const double of_only =
        std::max(costs.flops_per_only_key, costs.bytes_per_only_key * costs.flops_per_byte);
    rule.key_cost = {.of_several = costs.flops_per_key / costs.flops_per_token,
                     .of_only = of_only / costs.flops_per_token};
  }
  return rule;
}

const std::vector<Description>& split_kinds() {
  static const std::vector<Description> kinds = {
      {"token_midpoint", "equal token counts; may cut inside a request"},
      {"request", "best balance on request boundaries"},
      {"balanced", "equal cost of linear layers and attention; may cut inside a request"},
      {"sizes", "tokens of each ubatch as stated; the last takes the rest"},
  };
  return kinds;
}

std::vector<UbatchSlice> split_batch(const Batch& batch, const SplitRule& rule, int num_ubatches) {
  DOVETAIL_CHECK(num_ubatches >= 1, "num_ubatches = " + std::to_string(num_ubatches));
  const auto boundaries = ubatch_boundaries(batch, rule, num_ubatches);
  std::vector<UbatchSlice> slices;
  for (std::size_t u = 0; u + 1 < boundaries.size(); ++u) {
    slices.push_back(slice_tokens(batch, boundaries[u], boundaries[u + 1] - boundaries[u]));
  }
  return slices;
}

UbatchSlice slice_tokens(const Batch& batch, std::int64_t token_start, std::int64_t num_tokens) {
  const auto starts = token_starts(batch);
  DOVETAIL_CHECK(token_start >= 0 && num_tokens >= 0 && token_start <= starts.back() &&
                     num_tokens <= starts.back() - token_start,
                 "tokens [" + std::to_string(token_start) + ", +" + std::to_string(num_tokens) +
                     ") of " + std::to_string(starts.back()));
  UbatchSlice slice{token_start, num_tokens, {}};
  const std::int64_t token_end = token_start + num_tokens;
  for (std::size_t i = 0; i < batch.requests.size(); ++i) {
    const std::int64_t first = std::max(token_start, starts[i]);
    const std::int64_t last = std::min(token_end, starts[i + 1]);
    if (first < last) {
      slice.segments.push_back({static_cast<int>(i), first - starts[i], last - first, first});
    }
  }
  return slice;
}

}  // namespace dovetail
