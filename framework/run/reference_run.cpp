#include "framework/run/reference_run.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "framework/mpi/collectives.hpp"
#include "framework/run/experiment_points.hpp"

namespace dovetail {
namespace {

bool are_equal(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& one, const auto& other) {
    return one.equal(other);
  });
}

}  // namespace

std::vector<ChosenExperts> find_other_choices(const RunContext& context,
                                              const std::vector<ChosenExperts>& chosen) {
  const auto& experiment = context.experiment;
  const auto baseline = std::find_if(chosen.begin(), chosen.end(), [&](const auto& one) {
    return one.policy == experiment.verify.baseline;
  });
  if (!is_judged_naturally(experiment) || baseline == chosen.end()) {
    return {};
  }
  std::vector<std::int64_t> differs;
  differs.reserve(chosen.size());
  for (const auto& one : chosen) {
    const bool is_equal = are_equal(one.expert_ids, baseline->expert_ids) &&
                          are_equal(one.context_expert_ids, baseline->context_expert_ids);
    differs.push_back(is_equal ? 0 : 1);
  }
  all_reduce(context.ranks.groups.world, differs, Reduction::max, patient(context.ranks.wait));
  std::vector<ChosenExperts> others;
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    if (differs[i] != 0) {
      others.push_back(chosen[i]);
    }
  }
  return others;
}

Experiment reference_experiment(const Experiment& experiment) {
  auto reference = experiment;
  auto policy = find_policy(experiment, experiment.verify.baseline);
  policy.execution.warmup = 0;
  policy.execution.iterations = experiment.workload.variants;
  policy.execution.rounds = 1;
  policy.execution.precision = 0;
  reference.execution.rounds = 1;
  reference.execution.precision = 0;
  reference.policies = {policy};
  reference.record.timing = TimingDetail::steps;
  reference.faults.clear();
  return reference;
}

}  // namespace dovetail
