#include "framework/run/taken_policies.hpp"

#include <array>
#include <cstdint>
#include <filesystem>

#include "framework/mpi/collectives.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/run/recorded_inputs.hpp"

namespace dovetail {

bool TakenPolicies::take(const PolicyConfig& policy, const std::function<RankFileSpec()>& spec) {
  const auto& run = setup_.run;
  const auto* earlier = find_earlier(setup_.identity.options.earlier, policy.name);
  if (earlier == nullptr || !has_its_baseline(policy)) {
    return false;
  }
  const std::filesystem::path from = earlier->folder;
  const auto file = from / rank_file_name(run.ranks.rank().value);
  std::array<std::int64_t, 1> alike = {is_measured_alike(file, spec()) ? 1 : 0};
  all_reduce(run.ranks.groups.world, alike, Reduction::min, patient(run.ranks.wait));
  if (alike[0] == 0) {
    return false;
  }
  run_on_all_ranks(run.ranks.groups.world, patient(run.ranks.wait), [&] {
    if (run.is_first_rank()) {
      link_rank_files(from, setup_.folder / policy.name);
    }
  });
  all_.push_back(*earlier);
  return true;
}

bool TakenPolicies::has_its_baseline(const PolicyConfig& policy) const {
  const auto& experiment = setup_.run.experiment;
  return !depend_on_baseline(experiment) || policy.name == experiment.verify.baseline ||
         find_earlier(all_, experiment.verify.baseline) != nullptr;
}

std::optional<ChosenExperts> TakenPolicies::recorded_choice(const PolicyConfig& policy) const {
  const auto& experiment = setup_.run.experiment;
  if (policy.name != experiment.verify.baseline ||
      !experiment.record.has(RecordedOutput::routing)) {
    return std::nullopt;
  }
  const auto folder = (setup_.folder / policy.name).string();
  ChosenExperts chosen{policy.name, {}, {}};
  run_on_all_ranks(setup_.run.ranks.groups.world, patient(setup_.run.ranks.wait), [&] {
    const auto& workload = setup_.workload;
    const auto& model = setup_.model;
    chosen.expert_ids =
        read_routing(folder, workload.steps, kStepRouting, model.shape(), model.dims());
    if (!workload.context_steps.empty()) {
      chosen.context_expert_ids = read_routing(
          folder, workload.context_steps, kContextRouting, model.shape(), model.dims());
    }
  });
  return chosen;
}

}  // namespace dovetail
