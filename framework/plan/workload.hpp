// A rank's share of the experiment's workload: the inputs of its forward passes. They follow from
// the configuration, a trace and seeds alone. A request has the same id, length and tokens on every
// grid, as long as the requests of all ranks together are the same (planned_requests.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "framework/base/ids.hpp"
#include "framework/config/experiment.hpp"
#include "framework/plan/batch.hpp"
#include "framework/plan/request_trace.hpp"

namespace dovetail {

/// Most tokens of a rank in a forward pass that fills the KV cache.
inline constexpr std::int64_t kMaxContextStepTokens = 8192;

/// Most tokens of a rank over all forward passes of an iteration and of the context: they are all
/// held in memory.
inline constexpr std::int64_t kMaxRankTokens = 100'000'000;

/// Inputs of one forward pass of one rank, on the host. Vectors have one entry for each token, in
/// the order of the batch.
struct StepWorkload {
  int variant =
      0;  ///< of the iteration; 0 in a context step, which has the requests of all variants
  /// All requests of the rank and variant, in order of id; in a context step those from the first
  /// to the last that have tokens in it. context_length as of this step.
  Batch batch;
  /// In a context step: the place of the batch's first request among the rank's, of all variants.
  std::size_t first_request = 0;
  std::vector<std::int64_t> input_ids;  ///< in [0, vocabulary)
  std::vector<std::int64_t> positions;  ///< index within the request, the key of verification
  std::vector<std::int64_t>
      mrope_positions;  ///< [3, tokens] row-major (mrope_positions.hpp); empty for text
  std::vector<std::int64_t> request_ids;  ///< global request id of each token
  /// Place of the token among all tokens of the step, over all ranks, in order of request id. In a
  /// context step: its place among all context tokens, so that it is the same on every grid.
  std::vector<std::int64_t> global_index;
};

/// All forward passes of one rank. An iteration is the steps of one variant, always from the same
/// KV state; the context is filled before the first iteration.
///
/// A variant is a batch of the same shape with requests of its own: those of variant v have the
/// lengths of those of variant 0, and the ids behind those of variant v - 1.
struct RankWorkload {
  int num_variants = 1;
  /// Each computes the next `length` tokens of every request of its variant. All steps of variant 0
  /// come first, then those of variant 1, and so on; equally many of each.
  std::vector<StepWorkload> steps;
  /// With `context: prefill`: forward passes that fill the KV cache, of at most
  /// kMaxContextStepTokens tokens; requests are cut where needed. Equally many on all ranks: a rank
  /// that has less context has empty batches at the end. Empty where no rank has context, and with
  /// `context: random`.
  std::vector<StepWorkload> context_steps;
  std::vector<std::int64_t> kv_tokens;  ///< by request of the rank, of all variants: cache tokens
                                        ///< that it needs, context_length + steps * length
  /// Sum (mod 2^64) over requests and tokens: add up over ranks to compare runs. It covers ids,
  /// lengths, contexts and how they are filled, steps, token ids, positions and the kind of inputs;
  /// not the grid, the routing, nor the content of a folder of hidden states.
  std::uint64_t digest = 0;

  /// Steps of an iteration.
  std::size_t steps_per_iteration() const {
    return steps.size() / static_cast<std::size_t>(num_variants);
  }
};

/// Throws InputError for a token, also of a context, whose position (a row of it, for M-RoPE) is
/// not below `max_positions`; 0 = any. Pure.
void check_positions(const RankWorkload& workload, std::int64_t max_positions);

/// Number of requests of each rank, of one variant; 0 is an idle rank. Arguments and errors as for
/// make_workload.
std::vector<std::int64_t> requests_per_rank(const WorkloadConfig& config,
                                            const RequestTrace* trace,
                                            int world_size);

/// Pure. A token's id is the hash of (seed, request, position) mod `vocabulary`, on every rank and
/// in every step. A trace may state ids instead; they hold for variant 0. `trace` is null unless
/// requests are a file. Throws InputError as plan_requests does, for ids of a trace that are not in
/// the vocabulary (of any rank, so that all ranks throw the same), for more than kMaxRankTokens
/// tokens on a rank, and for more than kMaxRequests requests over all variants.
RankWorkload make_workload(const WorkloadConfig& config,
                           const RequestTrace* trace,
                           std::int64_t vocabulary,
                           int world_size,
                           Rank rank);

/// make_workload of every rank, for the work of little more than one.
std::vector<RankWorkload> make_workloads(const WorkloadConfig& config,
                                         const RequestTrace* trace,
                                         std::int64_t vocabulary,
                                         int world_size);

}  // namespace dovetail
