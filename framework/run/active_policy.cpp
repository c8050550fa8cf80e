#include "framework/run/active_policy.hpp"

#include <algorithm>
#include <array>
#include <bit>

#include "framework/base/failure_text.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/plan/rounds.hpp"
#include "framework/record/run_folder.hpp"

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

}  // namespace

std::unique_ptr<ActivePolicy> PolicyMaker::make(const PolicyChoice& choice,
                                                const RecordedRounds& rounds) {
  const auto& run = choice.run;
  auto active = std::make_unique<ActivePolicy>();
  active->given = choice.given;
  set_stage("making the KV cache and the outputs");
  run_on_all_ranks(run.ranks.groups.world, patient(run.ranks.wait), [&] {
    active->iteration = &cache_for(choice, rounds.count == 1);
    active->outputs = make_outputs(
        *active->iteration, setup_.model, select_outputs(run.experiment, *choice.given));
  });
  set_stage("making the result files");
  make_recorder(choice, rounds, active->recorder);
  set_stage("");
  active->run.emplace(PolicyRunSetup{.run = run,
                                     .policy = choice.policy,
                                     .resolved = choice.resolved,
                                     .device = setup_.device,
                                     .model = setup_.model,
                                     .workload = setup_.workload,
                                     .given = *active->given,
                                     .iteration = *active->iteration,
                                     .outputs = active->outputs,
                                     .num_rounds = rounds.count,
                                     .on_iteration =
                                         [this, title = choice.title](int finished, int all) {
                                           progress_.show(title, finished, all);
                                         },
                                     .on_failure =
                                         [this](const std::string& problem) {
                                           if (on_failure) {
                                             on_failure(problem);
                                           }
                                         }},
                      *active->recorder);
  return active;
}

void PolicyMaker::agree_on_contexts() {
  std::array<std::int64_t, 1> steps = {std::ssize(setup_.workload.context_steps)};
  const auto& ranks = setup_.run.ranks;
  all_reduce(ranks.groups.world, steps, Reduction::max, patient(ranks.wait));
  has_contexts_ = steps[0] > 0;
}

/// A cache whose contexts were filled with other experts is another one. `is_alone`: no other
/// policy is active, and two caches need not fit.
Iteration& PolicyMaker::cache_for(const PolicyChoice& choice, bool is_alone) {
  const auto& execution = choice.policy.execution;
  const auto found = std::find_if(caches_.begin(), caches_.end(), [&](const Cache& cache) {
    return (cache.given == choice.given || !has_contexts_) && cache.iteration.suits(execution);
  });
  if (found != caches_.end()) {
    return found->iteration;
  }
  if (is_alone) {
    caches_.clear();
  }
  return caches_
      .emplace_back(Cache{choice.given,
                          Iteration(setup_.workload,
                                    *choice.given,
                                    execution,
                                    setup_.model,
                                    choice.run.experiment.workload.seed,
                                    setup_.device.device())})
      .iteration;
}

RankFileSpec PolicyMaker::spec_of(const PolicyChoice& choice) const {
  return rank_file_spec(choice.run,
                        setup_.identity,
                        choice.policy,
                        choice.resolved,
                        setup_.workload,
                        *choice.given,
                        setup_.model);
}

void PolicyMaker::make_recorder(const PolicyChoice& choice,
                                const RecordedRounds& rounds,
                                std::optional<RankRecorder>& recorder) {
  const auto& run = choice.run;
  const auto name = rank_file_name(run.ranks.rank().value);
  try {
    run_on_all_ranks(run.ranks.groups.world, run.ranks.wait, [&] {
      try {
        auto spec = spec_of(choice);
        const auto& execution = choice.policy.execution;
        spec.rounds = rounds.count;
        spec.round_seed = std::bit_cast<std::int64_t>(execution.round_seed);
        spec.round_warmup = std::min(kRoundWarmup, execution.warmup);
        spec.rounds_began_ns = rounds.began_ns;
        recorder.emplace(choice.folder / name, spec);
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

}  // namespace dovetail
