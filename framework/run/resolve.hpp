// What an experiment asks for, resolved once by all ranks together: where `auto` stood there is a
// name, schedules are made and proven, the shapes of steps are known. Whatever comes behind takes
// it from here.
#pragma once

#include <string>
#include <vector>

#include "framework/config/resolved_execution.hpp"
#include "framework/config/validate.hpp"
#include "framework/plan/agreed_step.hpp"
#include "framework/plan/grid.hpp"
#include "framework/plan/policy_schedules.hpp"
#include "framework/plan/workload.hpp"
#include "framework/run/run_context.hpp"
#include "framework/step/architecture.hpp"

namespace dovetail {

/// A policy as it is run; equal on all ranks.
struct ResolvedPolicy {
  ResolvedExecution execution;
  PolicySchedules schedules;
  SplitRule split;
  BoundsRule bounds;  ///< of steps on a GPU; on the CPU nothing is padded
};

/// The name of a GPU that is planned for and that nobody has looked at.
inline constexpr const char* kUnknownGpu = "unknown GPU";

/// Where the ranks are, as far as settings depend on it.
struct ResolvedPlace {
  DeviceKind device = DeviceKind::cpu;  ///< cpu or cuda
  std::string device_name = "cpu";      ///< or the GPU's
  int world_size = 1;
  std::string gpus_apart;  ///< see DevicePlacement; what nobody has looked at is not
  int ranks_per_host = 0;  ///< of this rank's host; 0 = nobody has looked
};

/// A policy but for its bounds: its execution against what the device can run, its schedules
/// proven, a table of step times of this setting only (on kUnknownGpu: of any GPU). Local. Throws
/// InputError "policy <name>:
/// ...".
ResolvedPolicy resolve_policy(const Experiment& experiment,
                              const PolicyConfig& policy,
                              const Architecture& architecture,
                              const ResolvedPlace& place,
                              const Capabilities& capabilities);

/// Throws InputError "policy <name>, rank <rank>: ..." where the rank's requests do not fit into
/// the policy's cache. Local.
void check_cache(const PolicyConfig& policy, const RankWorkload& workload, Rank rank);

/// Takes over how steps on a GPU are padded, from the messages of all ranks, reduced, one a step.
void set_bounds(ResolvedPolicy& resolved,
                const ExecutionConfig& execution,
                std::span<const AgreementMessage> reduced);

/// The messages of a rank that bounds are made of, one a step.
std::vector<AgreementMessage> bounds_messages(const ResolvedPolicy& resolved,
                                              const RankWorkload& workload,
                                              Rank rank);

/// Every policy, in the experiment's order: resolve_policy, what needs this rank's workload (the
/// cache holds it), files that all ranks read alike, bounds. Collective over the world. Throws
/// AgreedError.
std::vector<ResolvedPolicy> resolve_policies(const RunContext& context,
                                             const Architecture& architecture,
                                             const ResolvedPlace& place,
                                             const RankWorkload& workload,
                                             const Capabilities& capabilities);

/// Throws InputError for logits of a pipeline stage that is not the last: it has hidden states
/// only.
void check_recorded_outputs(const RecordConfig& record, const ModelDims& dims);

}  // namespace dovetail
