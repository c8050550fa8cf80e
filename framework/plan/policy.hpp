// Overlap policies. A policy is a pure function from the shape of a model, the phase of work, the
// number of ubatches and options to a schedule.
#pragma once

#include <optional>
#include <string>

#include "framework/base/registry.hpp"
#include "framework/base/types.hpp"
#include "framework/config/experiment.hpp"
#include "framework/plan/phase.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// What a policy may look at. It never sees the batch, the rank, a stream or a thread.
struct PolicyInput {
  ModelShape model;
  WorkPhase phase = WorkPhase::prefill;
  int num_ubatches = 1;
  std::optional<StagesConfig> stages = std::nullopt;  ///< of `staged`; none = the phase's preset
  int num_groups = 1;                                 ///< of `expert_groups` and `staged`
};

/// Takes every list of layers, also an empty one and one of dense layers, and every number of
/// ubatches from min_ubatches to max_ubatches of its row. Throws InputError for another input.
using PolicyFunction = Schedule (*)(const PolicyInput&);

struct Policy {
  PolicyFunction make_schedule = nullptr;  ///< null for auto: its candidate has the schedule
  int min_ubatches = 1;
  int max_ubatches = 1;
  int default_ubatches = 1;
  int max_groups = 1;  ///< into which it cuts the experts of a rank; 1 = it does not
  int default_groups = 1;
};

/// All policies, by name: sequential, shared_expert, dual_batch, expert_groups, staged, auto.
const Registry<Policy>& policies();

/// Throws InputError naming policy, number and what is allowed unless min <= num_ubatches <= max.
void check_num_ubatches(const std::string& policy, int num_ubatches, int min, int max);

}  // namespace dovetail
