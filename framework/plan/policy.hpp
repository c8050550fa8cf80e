// Overlap policies: pure functions from (model shape, phase of work, number of ubatches, options)
// to a schedule.
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
  std::optional<StagesConfig> stages = std::nullopt;  ///< staged only; default: the phase's preset
};

/// Throws InputError when the input does not suit the policy (e.g. dual_batch with one ubatch).
using PolicyFunction = Schedule (*)(const PolicyInput&);

struct Policy {
  PolicyFunction make_schedule = nullptr;  ///< null for auto: its candidate has the schedule
  int min_ubatches = 1;
  int max_ubatches = 1;
  int default_ubatches = 1;
};

/// All policies, by name: sequential, shared_expert, dual_batch, staged, auto.
const Registry<Policy>& policies();

/// Throws InputError naming policy, number and what is allowed unless min <= num_ubatches <= max.
void check_num_ubatches(const std::string& policy, int num_ubatches, int min, int max);

}  // namespace dovetail
