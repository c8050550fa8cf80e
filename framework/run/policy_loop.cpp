#include "framework/run/policy_loop.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "framework/base/failure_text.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/record/recorder.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/run/experiment_points.hpp"
#include "framework/run/given_inputs.hpp"
#include "framework/run/policy_run.hpp"
#include "framework/run/progress.hpp"
#include "framework/run/recorded_inputs.hpp"
#include "framework/run/reference_run.hpp"

namespace dovetail {
namespace {

/// What a rank says of its own file, in words that all ranks use: what happens to all is said once.
std::string for_all_ranks(std::string text, const std::string& file_name) {
  for (auto at = text.find(file_name); at != std::string::npos; at = text.find(file_name, at)) {
    text.replace(at, file_name.size(), "rank-*.h5");
  }
  return text;
}

/// The file of a rank whose peers could not make theirs.
void mark_failed(std::optional<RankRecorder>& recorder) {
  try {
    if (recorder) {
      recorder->finish(RunStatus::failed, "another rank could not make its result file");
    }
  } catch (const hdf5::Hdf5Error&) {
    recorder.reset();  // the disk is full here, too
  }
}

class PolicyLoop {
 public:
  explicit PolicyLoop(const PolicyLoopSetup& setup)
      : setup_(setup), given_(setup.given), progress_(setup.run.is_first_rank()) {}

  PolicyLoopResult run() {
    const auto& experiment = setup_.run.experiment;
    for (std::size_t i = 0; i < setup_.policies.size() && !stopped_; ++i) {
      const auto& policy = experiment.policies[i];
      const auto chosen = take_earlier(policy, setup_.policies[i])
                              ? recorded_choice(policy)
                              : run_and_choose(policy, setup_.policies[i]);
      if (!chosen) {
        continue;
      }
      if (!replays_baseline(experiment)) {
        chosen_.push_back(*chosen);
      } else if (policy.name == experiment.verify.baseline) {
        replay(*chosen);
      }
    }
    if (!stopped_) {
      run_references();
    }
    return {stopped_, earlier_};
  }

 private:
  /// Takes the policy's files from where it was measured. Collective over the world; false where
  /// there is no such place, or a rank would not measure the same.
  bool take_earlier(const PolicyConfig& policy, const ResolvedPolicy& resolved) {
    const auto& run = setup_.run;
    const auto* earlier = find_earlier(setup_.identity.options.earlier, policy.name);
    if (earlier == nullptr || !is_baseline_as_then(policy)) {
      return false;
    }
    const std::filesystem::path from = earlier->folder;
    const auto spec = spec_of(run, policy, resolved);
    const auto file = from / rank_file_name(run.ranks.rank().value);
    std::array<std::int64_t, 1> alike = {is_measured_alike(file, spec) ? 1 : 0};
    all_reduce(run.ranks.groups.world, alike, Reduction::min, patient(run.ranks.wait));
    if (alike[0] == 0) {
      return false;
    }
    run_on_all_ranks(run.ranks.groups.world, patient(run.ranks.wait), [&] {
      if (run.is_first_rank()) {
        link_rank_files(from, setup_.folder / policy.name);
      }
    });
    earlier_.push_back(*earlier);
    return true;
  }

  /// False where the policy depends on a baseline that this run has measured, or has not come to.
  bool is_baseline_as_then(const PolicyConfig& policy) const {
    const auto& experiment = setup_.run.experiment;
    return !depend_on_baseline(experiment) || policy.name == experiment.verify.baseline ||
           find_earlier(earlier_, experiment.verify.baseline) != nullptr;
  }

  /// The experts that the baseline has chosen, from its files; nothing of the other policies, whose
  /// references came with their files, and where routing is not recorded. Collective.
  std::optional<ChosenExperts> recorded_choice(const PolicyConfig& policy) {
    const auto& experiment = setup_.run.experiment;
    if (policy.name != experiment.verify.baseline ||
        !experiment.record.has(RecordedOutput::routing)) {
      return std::nullopt;
    }
    const auto folder = (setup_.folder / policy.name).string();
    ChosenExperts chosen{policy.name, {}, {}};
    run_on_all_ranks(setup_.run.ranks.groups.world, patient(setup_.run.ranks.wait), [&] {
      const auto& workload = setup_.workload;
      chosen.expert_ids = read_routing(
          folder, workload.steps, kStepRouting, setup_.model.shape(), setup_.model.dims());
      if (!workload.context_steps.empty()) {
        chosen.context_expert_ids = read_routing(folder,
                                                 workload.context_steps,
                                                 kContextRouting,
                                                 setup_.model.shape(),
                                                 setup_.model.dims());
      }
    });
    return chosen;
  }

  /// Nothing where nobody asks for the routing.
  std::optional<ChosenExperts> run_and_choose(const PolicyConfig& policy,
                                              const ResolvedPolicy& resolved) {
    const auto outputs =
        run_one(setup_.run, policy, resolved, setup_.folder / policy.name, policy.name);
    if (!outputs.front().expert_ids.defined()) {
      return std::nullopt;
    }
    return ChosenExperts{
        policy.name, routing_of(outputs), routing_of(iteration_->context_outputs())};
  }

  RankFileSpec spec_of(const RunContext& run,
                       const PolicyConfig& policy,
                       const ResolvedPolicy& resolved) const {
    return rank_file_spec(
        run, setup_.identity, policy, resolved, setup_.workload, given_, setup_.model);
  }

  /// Returns what the last timed iteration has left.
  std::vector<StepOutputs> run_one(const RunContext& run,
                                   const PolicyConfig& policy,
                                   const ResolvedPolicy& resolved,
                                   const std::filesystem::path& folder,
                                   const std::string& title) {
    const auto& experiment = run.experiment;
    std::vector<StepOutputs> outputs;
    set_stage("making the KV cache and the outputs");
    run_on_all_ranks(run.ranks.groups.world, patient(run.ranks.wait), [&] {
      if (!iteration_ || !iteration_->suits(policy.execution)) {
        iteration_.reset();  // two caches need not fit
        iteration_.emplace(setup_.workload,
                           given_,
                           policy.execution,
                           setup_.model,
                           experiment.workload.seed,
                           setup_.device.device());
      }
      outputs = make_outputs(*iteration_, setup_.model, select_outputs(experiment, given_));
    });
    set_stage("making the result files");
    std::optional<RankRecorder> recorder;
    make_recorder(run, policy, resolved, folder, recorder);
    set_stage("");
    stopped_ = run_policy(
        {.run = run,
         .policy = policy,
         .resolved = resolved,
         .device = setup_.device,
         .model = setup_.model,
         .workload = setup_.workload,
         .given = given_,
         .iteration = *iteration_,
         .outputs = outputs,
         .on_iteration = [&](int finished, int all) { progress_.show(title, finished, all); }},
        *recorder);
    return outputs;
  }

  /// Collective over the world: where a rank cannot make its file, as on a full disk, no policy is
  /// run. Throws AgreedError.
  void make_recorder(const RunContext& run,
                     const PolicyConfig& policy,
                     const ResolvedPolicy& resolved,
                     const std::filesystem::path& folder,
                     std::optional<RankRecorder>& recorder) {
    const auto name = rank_file_name(run.ranks.rank().value);
    try {
      run_on_all_ranks(run.ranks.groups.world, run.ranks.wait, [&] {
        try {
          recorder.emplace(
              folder / name,
              rank_file_spec(
                  run, setup_.identity, policy, resolved, setup_.workload, given_, setup_.model));
          record_inputs(*recorder, setup_.workload, run.experiment.workload.positions);
        } catch (const hdf5::Hdf5Error& error) {
          throw RunError(for_all_ranks(error.what(), name));
        }
      });
    } catch (const AgreedError&) {
      mark_failed(recorder);
      throw;
    }
  }

  /// From now on the experts are given: of the steps, and of contexts, which are filled anew on all
  /// ranks.
  void replay(const ChosenExperts& chosen) {
    given_.expert_ids = chosen.expert_ids;
    given_.context_expert_ids = chosen.context_expert_ids;
    given_.routing = RoutingSource::replayed;
    iteration_.reset();
  }

  /// The baseline once more with the experts of each policy that chose others.
  void run_references() {
    const auto& experiment = setup_.run.experiment;
    const auto others = find_other_choices(setup_.run, chosen_);
    if (others.empty()) {
      return;
    }
    const auto reference = reference_experiment(experiment);
    const RunContext run = {.ranks = setup_.run.ranks,
                            .signals = setup_.run.signals,
                            .failures = setup_.run.failures,
                            .experiment = reference};
    const auto& policies = experiment.policies;
    const auto baseline = std::find_if(policies.begin(), policies.end(), [&](const auto& policy) {
      return policy.name == experiment.verify.baseline;
    });
    const auto& resolved = setup_.policies[static_cast<std::size_t>(baseline - policies.begin())];
    for (const auto& other : others) {
      const auto folder = setup_.folder / other.policy;
      run_on_all_ranks(run.ranks.groups.world, run.ranks.wait, [&] {
        if (run.is_first_rank()) {
          create_policy_folder(folder, kReferenceFolder);
        }
      });
      replay(other);
      run_one(run,
              reference.policies.front(),
              resolved,
              folder / kReferenceFolder,
              other.policy + " (reference)");
      if (stopped_) {
        return;
      }
    }
  }

  const PolicyLoopSetup& setup_;
  GivenInputs given_;
  Progress progress_;
  std::optional<Iteration> iteration_;
  std::vector<ChosenExperts> chosen_;
  std::vector<EarlierPolicy> earlier_;  ///< those that were taken
  bool stopped_ = false;
};

}  // namespace

PolicyLoopResult run_policies(const PolicyLoopSetup& setup) {
  return PolicyLoop(setup).run();
}

}  // namespace dovetail
