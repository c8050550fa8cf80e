// The first policy of an experiment on this rank, made as `dovetail run` makes it, for tests of
// what runs and records its steps.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/config/experiment.hpp"
#include "framework/run/policy_run.hpp"
#include "framework/run/recording.hpp"
#include "framework/step/architecture.hpp"
#include "framework/step/step_driver.hpp"
#include "framework/step/weight_source.hpp"

namespace dovetail::test {

/// Members are made in the order in which they need each other. Calls are collective over the
/// world.
class PolicyCase {
 public:
  /// `experiment` is YAML. One group of all ranks; where it says `device: cuda` each on its GPU,
  /// else on the CPU. The weights come from `source`.
  PolicyCase(const std::string& experiment, WeightSource& source);

  /// Agrees on the first step and makes it ready to run; iterations count for the injected fault.
  AgreedStep prepare(int iteration = 0);

  /// Made at the first call; not to be used together with run().
  StepDriver& driver();

  /// Runs the whole policy and returns the finished file of this rank. `on_iteration` as in
  /// PolicyRunSetup.
  std::filesystem::path run(const std::filesystem::path& folder,
                            std::function<void(int finished, int all)> on_iteration);

  /// What this rank's file of the policy would say with that clock.
  RankFileSpec file_spec(const ClockOffset& clock) const;

  /// Called at each poll, from any thread of the policy; may be empty. Set while nothing runs.
  std::function<void()> on_poll;

  /// Every floating-point output of the first step.
  std::vector<at::Tensor> outputs_written();
  /// Keys and values of the first step's tokens, one tensor a layer and side.
  std::vector<at::Tensor> cache_written();

  const StepOutputs& outputs() const { return outputs_.front(); }

  const StepWorkload& step() const { return workload_.steps.front(); }

 private:
  const PolicyConfig& policy() const { return experiment_.policies.front(); }

  Experiment experiment_;
  RankGrid grid_;
  RankGroups groups_;
  SignalWatch signals_;
  FailureChannel failures_;
  RunContext context_;
  RankDevice device_;
  std::unique_ptr<Architecture> architecture_;
  RankWorkload workload_;
  ResolvedPolicy resolved_;
  std::unique_ptr<Model> model_;
  GivenInputs given_;
  Iteration iteration_;
  std::vector<StepOutputs> outputs_;
  std::optional<InjectedFault> fault_;
  std::vector<StepCuts> cuts_;
  std::unique_ptr<StepDriver> driver_;
};

/// Fails where one of the tensors is not all NaN or, with `is_nan` false, holds a NaN.
void expect_all_nan(const std::vector<at::Tensor>& tensors, bool is_nan);

}  // namespace dovetail::test
