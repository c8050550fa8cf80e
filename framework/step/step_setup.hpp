// What the steps of a policy work with on one rank.
#pragma once

#include <vector>

#include "framework/comm/exchange/exchange.hpp"
#include "framework/config/experiment.hpp"
#include "framework/config/resolved_execution.hpp"
#include "framework/exec/host_lead.hpp"
#include "framework/exec/op_board.hpp"
#include "framework/mpi/ranks.hpp"
#include "framework/plan/policy_schedules.hpp"
#include "framework/step/fault.hpp"
#include "framework/step/iteration.hpp"
#include "framework/step/model.hpp"
#include "framework/step/rank_device.hpp"
#include "framework/step/step_inputs.hpp"

namespace dovetail {

/// Views, all equal on all ranks but for the batch; everything outlives the driver that takes them.
struct StepSetup {
  const Ranks& ranks;  ///< its waits are bounded by the policy's own timeout_s
  RankDevice& device;
  const ExecutionConfig& execution;
  const ResolvedExecution& resolved;
  const WorkloadConfig& workload;  ///< kind of work and of inputs
  const PolicySchedules& schedules;
  const Model& model;
  const GivenInputs& given;
  Iteration& iteration;
  std::vector<StepOutputs>& outputs;  ///< of each step
  InjectedFault* fault = nullptr;     ///< null = none
  OpBoard* board = nullptr;           ///< is told of each op; null = nobody is
  HostLead* host_lead = nullptr;      ///< of the policy's earlier drivers; null = there is none
  bool poisons_received = false;  ///< what the exchange has received is NaN before every full pass
};

/// The fault of the steps that fill the contexts, which begin; null = none. A silent fault is of
/// the policy's own steps only.
InjectedFault* begin_context_fault(const StepSetup& setup);

/// Of an exchange over the ep group for the model's layers.
ExchangeShape exchange_shape(const StepSetup& setup, int num_ubatches);

}  // namespace dovetail
