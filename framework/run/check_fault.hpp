// What an injected fault needs of model, schedules and batches: known once these are.
#pragma once

#include <span>

#include "framework/config/experiment.hpp"
#include "framework/plan/workload.hpp"
#include "framework/run/resolve.hpp"
#include "framework/step/architecture.hpp"

namespace dovetail {

/// Throws InputError where the data fault that the experiment has for this policy, if there is one,
/// names a place that model and schedule do not have, or in which it could not act. Local; equal on
/// all ranks.
void check_fault(const Experiment& experiment,
                 const PolicyConfig& policy,
                 const ResolvedPolicy& resolved,
                 const Architecture& architecture);

/// The same of the fault's token, on the rank that the fault names; on others nothing.
void check_fault_token(const Experiment& experiment,
                       const PolicyConfig& policy,
                       const ResolvedPolicy& resolved,
                       const RankWorkload& workload,
                       Rank rank);

/// Throws InputError where a fault in an op (exception, hang, slow, kill, capture, delay) names one
/// that no policy in which it is to happen has. `resolved`: of the experiment's policies, in their
/// order. Local; equal on all ranks.
void check_step_faults(const Experiment& experiment,
                       std::span<const ResolvedPolicy> resolved,
                       const Architecture& architecture);

/// Of a run that has come to its end: throws RunError where it has a fault that would have ended
/// it. Local; equal on all ranks.
void require_faults_happened(const Experiment& experiment);

}  // namespace dovetail
