// What the workloads of all ranks are made of: the requests of all variants, and which rank holds
// them. Private to workload.cpp.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "framework/base/ids.hpp"
#include "framework/config/experiment.hpp"
#include "framework/plan/mrope_positions.hpp"
#include "framework/plan/planned_requests.hpp"
#include "framework/plan/request_trace.hpp"

namespace dovetail {

/// A request of a rank, and what lies before it.
struct OwnRequest {
  PlannedRequest planned;
  std::int64_t step_tokens_before = 0;     ///< tokens of a step, of all lower ids of all ranks
  std::int64_t context_tokens_before = 0;  ///< context tokens of all lower ids of all ranks
  MropeLayout layout;                      ///< with `positions: mrope`
};

/// Tokens of a request in the KV cache behind the last step.
std::int64_t num_cache_tokens(const WorkloadConfig& config, const PlannedRequest& request);

/// Pure. `config` and `trace` outlive it.
class WorkloadPlan {
 public:
  /// Arguments and errors as for make_workload.
  WorkloadPlan(const WorkloadConfig& config,
               const RequestTrace* trace,
               std::int64_t vocabulary,
               int world_size);

  /// Context steps of every rank: as many as the longest contexts of a rank take.
  std::int64_t num_context_steps() const { return num_context_steps_; }

  /// The requests of each rank, of all variants, in order of id; with `only` those of this rank,
  /// and none of others.
  std::vector<std::vector<OwnRequest>> by_rank(std::optional<Rank> only = std::nullopt) const;

 private:
  void count_tokens();

  const WorkloadConfig& config_;
  int world_size_;
  std::vector<PlannedRequest> requests_;  ///< of all variants
  std::int64_t num_context_steps_ = 0;
};

}  // namespace dovetail
