// The per-step agreement of all ranks: a fixed-size message, the operator that reduces it, and the
// pure decision on the result.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "framework/base/ids.hpp"
#include "framework/base/types.hpp"
#include "framework/plan/batch.hpp"
#include "framework/plan/step_bounds.hpp"
#include "framework/plan/step_time_curves.hpp"

namespace dovetail {

/// What every rank contributes, also an idle one. All fields are int64, so that the message is one
/// flat MPI datatype. Each field names the operator that reduces it. All ranks run the same
/// version.
///
/// The message does not ask "do you hold this graph?": keys, captures and evictions follow from
/// agreed values only, so the caches of all ranks evolve alike, and what one holds all hold. The
/// digest of the caches proves it before every step.
struct AgreementMessage {
  static constexpr std::int64_t kVersion = 3;

  std::int64_t version = kVersion;      ///< min and max must be equal: checked by decide()
  std::int64_t version_max = kVersion;  ///< max
  std::int64_t min_tokens =
      0;  ///< min over ranks that have tokens (an idle rank contributes the largest int64)
  std::int64_t max_tokens = 0;      ///< max
  std::int64_t sum_tokens = 0;      ///< sum
  std::int64_t max_requests = 0;    ///< max
  std::int64_t max_segments = 0;    ///< max: requests that compute at least one token
  std::int64_t max_keys = 0;        ///< max: sum over these requests of context and query length
  std::int64_t max_context = 0;     ///< max: longest context of such a request
  std::int64_t max_key_length = 0;  ///< max: longest context and query length of one
  std::array<std::int64_t, kMaxUbatches> max_ubatch_tokens{};    ///< max of each
  std::array<std::int64_t, kMaxUbatches> max_ubatch_segments{};  ///< max of each
  std::array<std::int64_t, kMaxUbatches> max_ubatch_keys{};      ///< max of each: sum over segments
  std::array<std::int64_t, kMaxUbatches> max_ubatch_context{};   ///< max of each: longest of a
                                                                 ///< segment, what lies in earlier
                                                                 ///< ubatches included
  std::int64_t vetoes = 0;                                       ///< sum: ranks that vote against
  std::int64_t veto_rank = 0;    ///< min: lowest rank that votes against (others: largest int64)
  std::int64_t veto_reason = 0;  ///< of veto_rank: the reason (taken together with veto_rank)
  std::int64_t min_query_length = 0;     ///< min over ranks that have work; equal to max = uniform
  std::int64_t max_query_length = 0;     ///< max
  std::int64_t schedule_digest_min = 0;  ///< min, of the policy's digest as int64
  std::int64_t schedule_digest_max =
      0;  ///< max: differs from the min = ranks disagree on the schedule
  std::int64_t graph_cache_digest_min = 0;  ///< min, of the cache's digest as int64
  std::int64_t graph_cache_digest_max = 0;  ///< max: differs from the min = graphs differ
  std::int64_t status = 0;                  ///< max, of RankStatus
  std::int64_t sum_requests = 0;            ///< sum: requests that compute at least one token
  std::int64_t sum_context_tokens = 0;      ///< sum, over these requests

  friend bool operator==(const AgreementMessage&, const AgreementMessage&) = default;
};

/// How a rank stands before a step; the worst over all ranks counts. A rank that has failed sends
/// no message: it ends all ranks by the failure channel.
enum class RankStatus : std::int64_t { well = 0, stop_requested = 1 };

/// What one rank knows before a step.
struct RankStep {
  Rank rank;
  const Batch& batch;  ///< empty on an idle rank
  std::span<const UbatchSlice> slices;
  std::uint64_t schedule_digest = 0;   ///< of the schedule and of what else the policy decides by
  VetoReason veto = VetoReason::none;  ///< none = votes for ubatches
  RankStatus status = RankStatus::well;
  std::uint64_t graph_cache_digest = 0;  ///< of the rank's GraphCache; 0 where there is none
};

/// The message that this rank contributes. Throws ContractError for more than kMaxUbatches slices.
AgreementMessage make_message(const RankStep& step);

/// The reduction of two messages: associative and commutative.
AgreementMessage reduce(const AgreementMessage& a, const AgreementMessage& b);

/// What all ranks do in this step; equal on all ranks because it is a function of the reduced
/// message and agreed settings.
struct StepDecision {
  bool ubatched = false;
  VetoReason reason = VetoReason::none;
  int veto_rank = -1;
  bool stop = false;  ///< a rank asks for a graceful stop after this step
  StepBounds bounds;  ///< padded by the rule (padded_bounds); of the split where ubatched, else of
                      ///< the whole batch as one ubatch
  bool graphs_differ = false;  ///< ranks hold different graphs: every rank drops all of its own
};

struct AgreementRule {
  int num_ubatches = 1;
  WorkPhase phase = WorkPhase::prefill;
  std::int64_t prefill_threshold = 0;  ///< tokens; ubatch iff min_tokens >= threshold
  std::int64_t decode_threshold = 0;  ///< used instead where the phase is decode or mixed and every
                                      ///< request of every rank has a query length of 1
  const StepTimeCurves* step_times = nullptr;  ///< auto only; equal on all ranks
  BoundsRule bounds;                           ///< how the step is padded; equal on all ranks
};

/// The bounds of the step, not padded: cut into `num_ubatches` where `ubatched`, else of the whole
/// batch as one ubatch.
StepBounds exact_bounds(const AgreementMessage& reduced, int num_ubatches, bool ubatched);

/// The part of the agreed step on which its step time depends.
StepLoad load_of(const AgreementMessage& reduced);

/// Pure. The first reason that holds is given: no_work, a rank's veto, below_threshold; with step
/// times: table_has_no_point, and table_prefers_plain where the candidate is not faster. Throws
/// RunError where versions or schedules differ between ranks.
StepDecision decide(const AgreementMessage& reduced, const AgreementRule& rule);

}  // namespace dovetail
