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

/// What the table of step times has against ubatches.
VetoReason reason_of_table(const AgreementMessage& reduced, const StepTimeCurves& curves) {
  const auto estimate = estimate_step_times(curves, load_of(reduced));
  if (!estimate) {
    return VetoReason::table_has_no_point;
  }
  return estimate->candidate_ms < estimate->plain_ms ? VetoReason::none
                                                     : VetoReason::table_prefers_plain;
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
    message.max_ubatch_tokens[u] = step.slices[u].num_tokens;
  }
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
  for (std::size_t u = 0; u < out.max_ubatch_tokens.size(); ++u) {
    out.max_ubatch_tokens[u] = std::max(a.max_ubatch_tokens[u], b.max_ubatch_tokens[u]);
  }
  out.vetoes = a.vetoes + b.vetoes;
  out.veto_rank = std::min(a.veto_rank, b.veto_rank);
  if (a.veto_rank == b.veto_rank) {
    out.veto_reason = std::max(a.veto_reason, b.veto_reason);
  } else {
    out.veto_reason = a.veto_rank < b.veto_rank ? a.veto_reason : b.veto_reason;
  }
  out.graph_mode = std::min(a.graph_mode, b.graph_mode);
  out.min_query_length = std::min(a.min_query_length, b.min_query_length);
  out.max_query_length = std::max(a.max_query_length, b.max_query_length);
  out.holds_graph = std::min(a.holds_graph, b.holds_graph);
  out.schedule_digest_min = std::min(a.schedule_digest_min, b.schedule_digest_min);
  out.schedule_digest_max = std::max(a.schedule_digest_max, b.schedule_digest_max);
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

StepDecision decide(const AgreementMessage& reduced, const AgreementRule& rule) {
  if (reduced.version != reduced.version_max) {
    throw RunError("ranks run different versions of the agreement message: " +
                   std::to_string(reduced.version) + " to " + std::to_string(reduced.version_max));
  }
  if (reduced.status >= static_cast<std::int64_t>(RankStatus::failed)) {
    throw RunError("a rank reports a failure before the step");
  }
  if (reduced.schedule_digest_min != reduced.schedule_digest_max) {
    throw RunError("ranks hold different schedules or step times for this step");
  }
  StepDecision decision;
  decision.stop = reduced.status == static_cast<std::int64_t>(RankStatus::stop_requested);
  decision.padded_tokens = reduced.max_tokens;
  if (rule.num_ubatches <= 1) {
    return decision;
  }
  if (reduced.sum_tokens == 0) {
    decision.reason = VetoReason::no_work;
  } else if (reduced.vetoes > 0) {
    decision.reason = reason_of(reduced.veto_reason);
    decision.veto_rank = static_cast<int>(reduced.veto_rank);
  } else if (reduced.min_tokens < threshold_of(reduced, rule)) {
    decision.reason = VetoReason::below_threshold;
  } else if (rule.step_times != nullptr) {
    decision.reason = reason_of_table(reduced, *rule.step_times);
  }
  decision.ubatched = decision.reason == VetoReason::none;
  return decision;
}

}  // namespace dovetail
