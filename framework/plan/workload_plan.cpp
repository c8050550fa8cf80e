#include "framework/plan/workload_plan.hpp"

#include <algorithm>
#include <iterator>
#include <string>

#include "framework/base/check.hpp"
#include "framework/base/error.hpp"
#include "framework/plan/workload.hpp"

namespace dovetail {
namespace {

/// The requests of all variants, in order of id: each variant repeats those that were planned. The
/// ids that a trace states are those of variant 0; the others' are drawn.
std::vector<PlannedRequest> plan_variants(const WorkloadConfig& config,
                                          const RequestTrace* trace,
                                          int world_size) {
  auto requests = plan_requests(config, trace, world_size);
  const auto count = std::ssize(requests);
  if (count > kMaxRequests / config.variants) {
    throw InputError(
        "workload.variants: more requests than fit over all ranks and variants; allowed: " +
        std::to_string(kMaxRequests));
  }
  for (std::int64_t copy = 1; copy < config.variants; ++copy) {
    for (std::int64_t i = 0; i < count; ++i) {
      PlannedRequest request = requests[static_cast<std::size_t>(i)];
      request.id += copy * count;
      request.trace = nullptr;
      requests.push_back(request);
    }
  }
  return requests;
}

}  // namespace

std::int64_t num_cache_tokens(const WorkloadConfig& config, const PlannedRequest& request) {
  return request.context_length + config.steps * request.length;
}

WorkloadPlan::WorkloadPlan(const WorkloadConfig& config,
                           const RequestTrace* trace,
                           std::int64_t vocabulary,
                           int world_size)
    : config_(config), world_size_(world_size) {
  DOVETAIL_CHECK(vocabulary > 0, "empty vocabulary");
  if (trace != nullptr) {
    check_token_ids(*trace, vocabulary);
  }
  requests_ = plan_variants(config, trace, world_size);
  count_tokens();
}

std::vector<std::vector<OwnRequest>> WorkloadPlan::by_rank(std::optional<Rank> only) const {
  std::vector<std::vector<OwnRequest>> all(static_cast<std::size_t>(world_size_));
  std::int64_t step_tokens = 0;
  std::int64_t context_tokens = 0;
  const std::int64_t of_a_variant = std::ssize(requests_) / config_.variants;
  for (const PlannedRequest& request : requests_) {
    if (request.id % of_a_variant == 0) {
      step_tokens = 0;
    }
    if (!only || request.rank == only->value) {
      auto& own = all[static_cast<std::size_t>(request.rank)];
      own.push_back({request, step_tokens, context_tokens, {}});
      if (config_.positions == PositionKind::mrope) {
        own.back().layout =
            mrope_layout(config_.seed, request.id, num_cache_tokens(config_, request));
      }
    }
    step_tokens += request.length;
    context_tokens += request.context_length;
  }
  return all;
}

/// Bounds the memory of every rank, and finds how many context steps the longest context takes.
void WorkloadPlan::count_tokens() {
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(world_size_), 0);
  std::vector<std::int64_t> context_tokens(tokens);
  for (const PlannedRequest& request : requests_) {
    const auto rank = static_cast<std::size_t>(request.rank);
    const bool is_filled = config_.context == ContextFill::prefill;
    const std::int64_t context = is_filled ? request.context_length : 0;
    context_tokens[rank] += context;
    tokens[rank] += context + config_.steps * request.length;
    if (tokens[rank] > kMaxRankTokens) {
      throw InputError(
          "workload.requests: more tokens on rank " + std::to_string(rank) +
          " than fit over all steps and contexts; allowed: " + std::to_string(kMaxRankTokens));
    }
  }
  const std::int64_t most = *std::max_element(context_tokens.begin(), context_tokens.end());
  num_context_steps_ = (most + kMaxContextStepTokens - 1) / kMaxContextStepTokens;
}

}  // namespace dovetail
