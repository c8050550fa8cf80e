#include "framework/run/taken_policies.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <iostream>

#include "framework/mpi/collectives.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/run/experiment_points.hpp"
#include "framework/run/recorded_inputs.hpp"
#include "framework/run/resumed_run.hpp"

namespace dovetail {

bool TakenPolicies::take(const PolicyConfig& policy, const std::function<RankFileSpec()>& spec) {
  if (is_resumed()) {
    return keep(policy, spec());
  }
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
         find_earlier(all_, experiment.verify.baseline) != nullptr ||
         is_kept(experiment.verify.baseline);
}

bool TakenPolicies::is_kept(const std::string& policy) const {
  return std::find(kept_.begin(), kept_.end(), policy) != kept_.end();
}

/// Of any rank, the first rank's own words where it has some; empty = of none. Collective.
std::string TakenPolicies::find_difference(const std::filesystem::path& folder,
                                           const RankFileSpec& spec) const {
  const auto& ranks = setup_.run.ranks;
  const auto file = folder / rank_file_name(ranks.rank().value);
  run_on_all_ranks(
      ranks.groups.world, patient(ranks.wait), [&] { require_same_build(file, spec); });
  auto difference = find_measured_difference(file, spec);
  std::array<std::int64_t, 1> differs = {difference.empty() ? 0 : 1};
  all_reduce(ranks.groups.world, differs, Reduction::max, patient(ranks.wait));
  return differs[0] != 0 && difference.empty() ? "the file of another rank is not complete"
                                               : difference;
}

bool TakenPolicies::keep(const PolicyConfig& policy, const RankFileSpec& spec) {
  auto difference = find_difference(setup_.folder / policy.name, spec);
  if (difference.empty() && !has_its_baseline(policy)) {
    difference = "it depends on the baseline, which is measured again";
  }
  if (difference.empty()) {
    kept_.push_back(policy.name);
  }
  if (setup_.run.is_first_rank()) {
    std::cout << "policy " << policy.name
              << (difference.empty() ? " is complete and stays as it is"
                                     : " is measured again: " + difference)
              << std::endl;
  }
  return difference.empty();
}

bool TakenPolicies::keeps_reference(const std::filesystem::path& folder,
                                    const std::function<RankFileSpec()>& spec) {
  return is_resumed() && find_difference(folder, spec()).empty();
}

void TakenPolicies::make_folder(const std::filesystem::path& policy) const {
  const auto& run = setup_.run;
  if (!is_resumed()) {
    return;
  }
  run_on_all_ranks(run.ranks.groups.world, patient(run.ranks.wait), [&] {
    if (run.is_first_rank()) {
      if (const auto kept = make_folder_anew(setup_.folder, policy); !kept.empty()) {
        std::cout << "what policy " << policy.string() << " had left is kept in " << kept.string()
                  << std::endl;
      }
    }
  });
}

std::optional<ChosenExperts> TakenPolicies::recorded_choice(const PolicyConfig& policy) const {
  const auto& experiment = setup_.run.experiment;
  const bool is_asked_for = policy.name == experiment.verify.baseline ||
                            (is_kept(policy.name) && is_judged_naturally(experiment));
  if (!is_asked_for || !experiment.record.has(RecordedOutput::routing)) {
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
