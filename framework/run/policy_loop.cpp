#include "framework/run/policy_loop.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "framework/base/file_system.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/plan/rounds.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/run/active_policy.hpp"
#include "framework/run/experiment_points.hpp"
#include "framework/run/given_inputs.hpp"
#include "framework/run/recorded_inputs.hpp"
#include "framework/run/reference_run.hpp"
#include "framework/run/stop_rule.hpp"
#include "framework/run/taken_policies.hpp"

namespace dovetail {
namespace {

/// A policy of the experiment that is to be measured.
struct Measured {
  PolicyChoice choice;
  std::vector<int> ends;  ///< of its iterations in each round
  std::unique_ptr<ActivePolicy> active;
};

class PolicyLoop {
 public:
  explicit PolicyLoop(const PolicyLoopSetup& setup)
      : setup_(setup),
        given_(std::make_shared<GivenInputs>(setup.given)),
        maker_(setup),
        taken_(setup) {
    maker_.on_failure = [this](const std::string& problem) { mark_others_failed(problem); };
  }

  PolicyLoopResult run() {
    const auto& experiment = setup_.run.experiment;
    for (std::size_t i = 0; i < setup_.policies.size(); ++i) {
      const auto& policy = experiment.policies[i];
      const auto choice = choice_of(policy, setup_.policies[i]);
      if (!taken_.take(policy, [&] { return maker_.spec_of(choice); })) {
        measured_.push_back({choice, {}, nullptr});
      } else if (const auto chosen = taken_.recorded_choice(policy)) {
        keep(*chosen);
      }
    }
    for (const auto& one : measured_) {
      taken_.make_folder(one.choice.policy.name);
    }
    if (!measured_.empty()) {
      maker_.agree_on_contexts();
      run_rounds();
    }
    if (!stopped_) {
      run_references();
    }
    return {stopped_, taken_.all()};
  }

 private:
  PolicyChoice choice_of(const PolicyConfig& policy, const ResolvedPolicy& resolved) const {
    return {setup_.run, policy, resolved, setup_.folder / policy.name, policy.name, given_};
  }

  /// What others are compared with, or have to follow.
  void keep(const ChosenExperts& chosen) {
    if (!replays_baseline(setup_.run.experiment)) {
      chosen_.push_back(chosen);
    } else if (chosen.policy == setup_.run.experiment.verify.baseline) {
      replay(chosen);
    }
  }

  /// All policies in each round, one after another; in a run of one round each is concluded before
  /// the next one begins.
  void run_rounds() {
    const auto& experiment = measured_.front().choice.run.experiment;
    const int variants = setup_.workload.num_variants;
    std::vector<int> iterations;
    for (const auto& one : measured_) {
      iterations.push_back(one.choice.policy.execution.iterations);
    }
    stop_.emplace(setup_.run, experiment.execution.precision, measured_.size());
    rounds_.count = rounds_of_run(experiment.execution, variants, iterations);
    rounds_.began_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
                           std::chrono::system_clock::now().time_since_epoch())
                           .count();
    for (auto& one : measured_) {
      one.ends = round_ends(one.choice.policy.execution.iterations, variants, rounds_.count);
    }
    try {
      bool is_enough = false;
      for (int round = 0; round < rounds_.count && !stopped_ && !is_enough; ++round) {
        const auto order = order_of(round);
        for (std::size_t place = 0; place < order.size() && !stopped_; ++place) {
          run_turn(order[place], round, static_cast<int>(place));
        }
        is_enough = !stopped_ && may_be_enough(round) && stop_->is_enough();
      }
      for (auto& one : measured_) {
        conclude(one, is_enough);
      }
    } catch (const AgreedError& error) {
      mark_others_failed(error.what());
      throw;
    }
    maker_.drop_caches();
  }

  /// Drawn, but in one round the experiment's. A baseline whose routing the others take goes first
  /// in the first round.
  std::vector<std::size_t> order_of(int round) const {
    const auto& experiment = setup_.run.experiment;
    auto order = round_order(experiment.execution.round_seed, round, measured_.size());
    if (rounds_.count == 1) {
      std::sort(order.begin(), order.end());
    } else if (round == 0 && replays_baseline(experiment)) {
      std::stable_partition(order.begin(), order.end(), [&](std::size_t place) {
        return measured_[place].choice.policy.name == experiment.verify.baseline;
      });
    }
    return order;
  }

  /// Whether the run may end behind that round, which is not known before all policies have run it.
  bool may_be_enough(int round) const { return stop_->is_on() && round + 1 >= kLeastPreciseRounds; }

  void run_turn(std::size_t which, int round, int place) {
    auto& one = measured_[which];
    if (!one.active) {
      begin(one);
    }
    const bool is_last = round + 1 == rounds_.count;
    run_part(which, round, place);
    auto& run = *one.active->run;
    if (is_last || stopped_ || may_be_enough(round)) {
      run.record_timed();
    }
    if (rounds_.count == 1) {
      conclude(one, false);
      return;
    }
    if (!is_last && !stopped_) {
      run.profile_round(round);
    }
    // On a GPU an engine has a speed of its own, by where its memory lies, which may differ by 2
    // per cent. Rounds average over it where each has an engine anew; of engines that stay alive
    // they would find it again in each round, and call it a difference of the policies.
    run.leave(setup_.device.is_gpu());
  }

  /// The policy's iterations of the round.
  void run_part(std::size_t which, int round, int place) {
    const auto& one = measured_[which];
    auto& run = *one.active->run;
    const int end = one.ends[static_cast<std::size_t>(round)];
    stopped_ = run.run_round({.index = round, .place = place, .end = end});
    if (stop_->is_on() && !stopped_) {
      stop_->add(which, run.take_step_ns(), setup_.workload.steps_per_iteration());
    }
  }

  /// In a run of several rounds the baseline's choice is there before any other policy begins.
  void begin(Measured& one) {
    one.choice.given = given_;
    one.active = maker_.make(one.choice, rounds_);
    one.active->run->begin();
    if (rounds_.count > 1 && replays_baseline(setup_.run.experiment) &&
        one.choice.policy.name == setup_.run.experiment.verify.baseline) {
      one.active->run->run_each_variant();
      keep(*choice_by(one));
    }
  }

  /// Ends a policy that has begun. `is_enough`: before its last iteration, measured well.
  void conclude(Measured& one, bool is_enough) {
    if (!one.active) {
      return;
    }
    one.active->run->conclude(stopped_, is_enough);
    const bool is_kept = rounds_.count > 1 && replays_baseline(setup_.run.experiment);
    if (const auto chosen = is_kept ? std::nullopt : choice_by(one)) {
      keep(*chosen);
    }
    one.active.reset();
  }

  /// Nothing where nobody asks for the routing.
  static std::optional<ChosenExperts> choice_by(const Measured& one) {
    const auto& active = *one.active;
    if (!active.outputs.front().expert_ids.defined()) {
      return std::nullopt;
    }
    return ChosenExperts{one.choice.policy.name,
                         routing_of(active.outputs),
                         routing_of(active.iteration->context_outputs())};
  }

  /// Where a policy fails, the others end with it: their files say so.
  void mark_others_failed(const std::string& problem) {
    for (auto& one : measured_) {
      if (one.active && problem.rfind("policy " + one.choice.policy.name + ":", 0) != 0) {
        try {
          one.active->recorder->finish(RunStatus::failed, "ended with " + problem);
        } catch (const std::exception&) {
          continue;  // the file stays `running`, like that of a process that was killed
        }
      }
    }
  }

  /// From now on the experts are given: of the steps, and of contexts, which are filled anew on all
  /// ranks.
  void replay(const ChosenExperts& chosen) {
    auto given = std::make_shared<GivenInputs>(*given_);
    given->expert_ids = chosen.expert_ids;
    given->context_expert_ids = chosen.context_expert_ids;
    given->routing = RoutingSource::replayed;
    given_ = std::move(given);
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
      const auto folder = setup_.folder / other.policy / kReferenceFolder;
      replay(other);
      const PolicyChoice choice = {
          run, reference.policies.front(), resolved, folder, other.policy + " (reference)", given_};
      if (taken_.keeps_reference(folder, [&] { return maker_.spec_of(choice); })) {
        continue;
      }
      taken_.make_folder(std::filesystem::path(other.policy) / kReferenceFolder);
      run_on_all_ranks(run.ranks.groups.world, run.ranks.wait, [&] {
        if (run.is_first_rank() && !path_exists(folder)) {
          create_policy_folder(folder.parent_path(), kReferenceFolder);
        }
      });
      measured_.clear();
      measured_.push_back({choice, {}, nullptr});
      run_rounds();
      if (stopped_) {
        return;
      }
    }
  }

  const PolicyLoopSetup& setup_;
  std::shared_ptr<const GivenInputs> given_;
  PolicyMaker maker_;
  TakenPolicies taken_;
  RecordedRounds rounds_;
  std::optional<StopRule> stop_;
  std::vector<Measured> measured_;
  std::vector<ChosenExperts> chosen_;
  bool stopped_ = false;
};

}  // namespace

PolicyLoopResult run_policies(const PolicyLoopSetup& setup) {
  return PolicyLoop(setup).run();
}

}  // namespace dovetail
