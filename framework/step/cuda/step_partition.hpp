// How the steps of a policy share out the SMs of a GPU between compute and the exchange beside it.
#pragma once

#include "framework/cuda/green_partition.hpp"
#include "framework/plan/schedule.hpp"
#include "framework/step/step_setup.hpp"

namespace dovetail {

/// SMs that the GEMMs of steps with the policy's schedule of that index
/// (ResolvedExecution::comm_sms_of) leave to the exchange beside them; 0 where there is nothing to
/// exchange, nothing beside it, or no bound. Equal on all ranks.
int sms_left_to_exchange(const StepSetup& setup, const Schedule& schedule, int schedule_index);

/// The partition of steps that leave SMs to the exchange; null = they share all SMs, or the policy
/// has no such steps (the plain schedule has no comm lane). Collective over the world. Throws
/// AgreedError where the driver of a rank's GPU cannot cut it so.
const GreenPartition* find_partition(const StepSetup& setup);

}  // namespace dovetail
