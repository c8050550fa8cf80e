#include "framework/plan/agreement.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <string>

#include "framework/base/check.hpp"
#include "framework/base/error.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();

VetoReason reason_of(std::int64_t value) {
  const bool known = value > 0 && value < static_cast<std::int64_t>(names<VetoReason>().size());
  return known ? static_cast<VetoReason>(value) : VetoReason::rank_veto;
}

/// True where every token of every rank is a request's one new token.
bool one_token_each(const AgreementMessage& reduced) {
  return reduced.min_query_length == 1 && reduced.max_query_length == 1;
}

/// Decode rules hold only for one token each.
std::int64_t threshold_of(const AgreementMessage& reduced, const AgreementRule& rule) {
  return rule.phase != WorkPhase::prefill && one_token_each(reduced) ? rule.decode_threshold
                                                                     : rule.prefill_threshold;
}

/// What segments read of the cache and of each other.
struct KeyCounts {
  std::int64_t segments = 0;
  std::int64_t keys = 0;
  std::int64_t context = 0;
  std::int64_t key_length = 0;

  void add(std::int64_t context_length, std::int64_t query_length) {
    ++segments;
    keys += context_length + query_length;
    context = std::max(context, context_length);
    key_length = std::max(key_length, context_length + query_length);
  }
};

KeyCounts count_keys(const Batch& batch) {
  KeyCounts counts;
  for (const auto& request : batch.requests) {
    if (request.query_length > 0) {
      counts.add(request.context_length, request.query_length);
    }
  }
  return counts;
}

KeyCounts count_keys(const Batch& batch, const UbatchSlice& slice) {
  KeyCounts counts;
  for (const auto& segment : slice.segments) {
    const auto& request = batch.requests.at(static_cast<std::size_t>(segment.request));
    counts.add(request.context_length + segment.query_start, segment.query_length);
  }
  return counts;
}

using PerUbatch = std::array<std::int64_t, kMaxUbatches>;

PerUbatch max_of_each(const PerUbatch& a, const PerUbatch& b) {
  PerUbatch out{};
  for (std::size_t u = 0; u < out.size(); ++u) {
    out[u] = std::max(a[u], b[u]);
  }
  return out;
}

/// What the table of step times has against ubatches.
VetoReason reason_of_table(const AgreementMessage& reduced, const StepTimeCurves& curves) {
  const auto estimate = estimate_step_times(curves, load_of(reduced));
  if (!estimate) {
    return VetoReason::table_has_no_point;
  }
  return estimate->prefers_candidate() ? VetoReason::none : VetoReason::table_prefers_plain;
}

/// The first reason that holds.
VetoReason find_reason(const AgreementMessage& reduced, const AgreementRule& rule) {
  if (reduced.sum_tokens == 0) {
    return VetoReason::no_work;
  }
  if (reduced.vetoes > 0) {
    return reason_of(reduced.veto_reason);
  }
  if (reduced.min_tokens < threshold_of(reduced, rule)) {
    return VetoReason::below_threshold;
  }
  return rule.step_times != nullptr ? reason_of_table(reduced, *rule.step_times) : VetoReason::none;
}

}  // namespace

AgreementMessage make_message(const RankStep& step) {
  DOVETAIL_CHECK(step.slices.size() <= kMaxUbatches,
                 "ubatches: " + std::to_string(step.slices.size()));
  AgreementMessage message;
  const std::int64_t tokens = step.batch.num_tokens();
  message.min_tokens = tokens > 0 ? tokens : kLargest;
  message.max_tokens = tokens;
  message.sum_tokens = tokens;
  message.max_requests = static_cast<std::int64_t>(step.batch.requests.size());
  for (std::size_t u = 0; u < step.slices.size(); ++u) {
    const auto counts = count_keys(step.batch, step.slices[u]);
    message.max_ubatch_tokens[u] = step.slices[u].num_tokens;
    message.max_ubatch_segments[u] = counts.segments;
    message.max_ubatch_keys[u] = counts.keys;
    message.max_ubatch_context[u] = counts.context;
  }
  const auto whole = count_keys(step.batch);
  message.max_segments = whole.segments;
  message.max_keys = whole.keys;
  message.max_context = whole.context;
  message.max_key_length = whole.key_length;
  const bool votes_against = step.veto != VetoReason::none;
  message.vetoes = votes_against ? 1 : 0;
  message.veto_rank = votes_against ? step.rank.value : kLargest;
  message.veto_reason = static_cast<std::int64_t>(step.veto);
  message.min_query_length = kLargest;
  for (const auto& request : step.batch.requests) {
    if (request.query_length > 0) {
      message.min_query_length = std::min(message.min_query_length, request.query_length);
      message.max_query_length = std::max(message.max_query_length, request.query_length);
      ++message.sum_requests;
      message.sum_context_tokens += request.context_length;
    }
  }
  message.schedule_digest_min = std::bit_cast<std::int64_t>(step.schedule_digest);
  message.schedule_digest_max = message.schedule_digest_min;
  message.graph_cache_digest_min = std::bit_cast<std::int64_t>(step.graph_cache_digest);
  message.graph_cache_digest_max = message.graph_cache_digest_min;
  message.status = static_cast<std::int64_t>(step.status);
  return message;
}

AgreementMessage reduce(const AgreementMessage& a, const AgreementMessage& b) {
  AgreementMessage out;
  out.version = std::min(a.version, b.version);
  out.version_max = std::max(a.version_max, b.version_max);
  out.min_tokens = std::min(a.min_tokens, b.min_tokens);
  out.max_tokens = std::max(a.max_tokens, b.max_tokens);
  out.sum_tokens = a.sum_tokens + b.sum_tokens;
  out.max_requests = std::max(a.max_requests, b.max_requests);
  out.max_segments = std::max(a.max_segments, b.max_segments);
  out.max_keys = std::max(a.max_keys, b.max_keys);
  out.max_context = std::max(a.max_context, b.max_context);
  out.max_key_length = std::max(a.max_key_length, b.max_key_length);
  out.max_ubatch_tokens = max_of_each(a.max_ubatch_tokens, b.max_ubatch_tokens);
  out.max_ubatch_segments = max_of_each(a.max_ubatch_segments, b.max_ubatch_segments);
  out.max_ubatch_keys = max_of_each(a.max_ubatch_keys, b.max_ubatch_keys);
  out.max_ubatch_context = max_of_each(a.max_ubatch_context, b.max_ubatch_context);
  out.vetoes = a.vetoes + b.vetoes;
  out.veto_rank = std::min(a.veto_rank, b.veto_rank);
  if (a.veto_rank == b.veto_rank) {
    out.veto_reason = std::max(a.veto_reason, b.veto_reason);
  } else {
    out.veto_reason = a.veto_rank < b.veto_rank ? a.veto_reason : b.veto_reason;
  }
  out.min_query_length = std::min(a.min_query_length, b.min_query_length);
  out.max_query_length = std::max(a.max_query_length, b.max_query_length);
  out.schedule_digest_min = std::min(a.schedule_digest_min, b.schedule_digest_min);
  out.schedule_digest_max = std::max(a.schedule_digest_max, b.schedule_digest_max);
  out.graph_cache_digest_min = std::min(a.graph_cache_digest_min, b.graph_cache_digest_min);
  out.graph_cache_digest_max = std::max(a.graph_cache_digest_max, b.graph_cache_digest_max);
  out.status = std::max(a.status, b.status);
  out.sum_requests = a.sum_requests + b.sum_requests;
  out.sum_context_tokens = a.sum_context_tokens + b.sum_context_tokens;
  return out;
}

StepLoad load_of(const AgreementMessage& reduced) {
  const double context_tokens = reduced.sum_requests > 0
                                    ? static_cast<double>(reduced.sum_context_tokens) /
                                          static_cast<double>(reduced.sum_requests)
                                    : 0.0;
  return {reduced.max_tokens, context_tokens, one_token_each(reduced)};
}

StepBounds exact_bounds(const AgreementMessage& reduced, int num_ubatches, bool ubatched) {
  StepBounds bounds;
  bounds.query_length = reduced.max_query_length;
  bounds.key_length = reduced.max_key_length;
  if (!ubatched) {
    bounds.tokens[0] = reduced.max_tokens;
    bounds.segments[0] = reduced.max_segments;
    bounds.keys[0] = reduced.max_keys;
    bounds.context[0] = reduced.max_context;
    return bounds;
  }
  bounds.num_ubatches = num_ubatches;
  bounds.tokens = reduced.max_ubatch_tokens;
  bounds.segments = reduced.max_ubatch_segments;
  bounds.keys = reduced.max_ubatch_keys;
  bounds.context = reduced.max_ubatch_context;
  return bounds;
}

StepDecision decide(const AgreementMessage& reduced, const AgreementRule& rule) {
  if (reduced.version != reduced.version_max) {
    throw RunError("ranks run different versions of the agreement message: " +
                   std::to_string(reduced.version) + " to " + std::to_string(reduced.version_max));
  }
  if (reduced.schedule_digest_min != reduced.schedule_digest_max) {
    throw RunError("ranks hold different schedules or step times for this step");
  }
  StepDecision decision;
  decision.stop = reduced.status != static_cast<std::int64_t>(RankStatus::well);
  decision.graphs_differ = reduced.graph_cache_digest_min != reduced.graph_cache_digest_max;
  if (rule.num_ubatches > 1) {
    decision.reason = find_reason(reduced, rule);
    decision.ubatched = decision.reason == VetoReason::none;
    if (reduced.sum_tokens > 0 && reduced.vetoes > 0) {
      decision.veto_rank = static_cast<int>(reduced.veto_rank);
    }
  }
  const StepBounds exact = exact_bounds(reduced, rule.num_ubatches, decision.ubatched);
  decision.bounds = padded_bounds(exact, rule.bounds);
  return decision;
}

}  // namespace dovetail
