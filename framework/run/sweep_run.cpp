#include "framework/run/sweep_run.hpp"

#include <array>
#include <iostream>
#include <map>
#include <optional>
#include <string>

#include "framework/mpi/collectives.hpp"
#include "framework/run/run_setup.hpp"
#include "framework/run/sweep_records.hpp"

namespace dovetail {
namespace {

/// One a process, from the first point to the last.
class SweepRun {
 public:
  SweepRun(const MpiSession& session,
           const SignalWatch& signals,
           const Sweep& sweep,
           const RunOptions& options,
           const Capabilities& capabilities,
           const RunPoint& run_point)
      : session_(session),
        signals_(signals),
        sweep_(sweep),
        options_(options),
        capabilities_(capabilities),
        run_point_(run_point),
        world_(session.world()) {
    // Communicators are made before the first point: making them blocks inside MPI.
    for (std::size_t point = 0; point < sweep.num_points(); ++point) {
      const int size = experiment(point).parallel.expert_parallel;
      shared_.try_emplace(size, session, size);
    }
    on_first_rank(
        wait_, [&] { records_.emplace(sweep, options.out, session.world_size(), capabilities); });
  }

  int run() {
    int exit_code = kExitDone;
    std::size_t point = 0;
    for (bool go_on = true; go_on && point < sweep_.num_points(); ++point) {
      const int code = run_one(point);
      if (code != kExitDone && code != kExitMismatch) {
        print_tables();
        return code;
      }
      exit_code = std::max(exit_code, code);
      go_on = !stop_requested();
    }
    print_tables();
    return exit_code;
  }

 private:
  Experiment experiment(std::size_t point) const {
    return point_experiment(sweep_, point, session_.world_size(), capabilities_);
  }

  bool is_first_rank() const { return session_.rank().value == 0; }

  /// Collective: the others wait for the first rank, and hear of its failure.
  template <class Work>
  void on_first_rank(const WaitPolicy& wait, Work work) {
    run_on_all_ranks(world_, patient(wait), [&] {
      if (is_first_rank()) {
        work();
      }
    });
  }

  int run_one(std::size_t point) {
    const auto own = experiment(point);
    auto& shared = shared_.at(own.parallel.expert_parallel);
    const RankContext context = {.session = session_,
                                 .signals = signals_,
                                 .experiment = own,
                                 .grid = shared.grid,
                                 .groups = shared.groups,
                                 .failures = shared.failures,
                                 .wait = make_wait_policy(own, shared.failures, signals_)};
    std::string out;
    on_first_rank(wait_, [&] {
      if (const auto folder = records_->begin(point)) {
        out = folder->string();
        std::cout << sweep_.describe(point) << std::endl;
      }
    });
    broadcast_text(world_, out, wait_);
    if (out.empty()) {
      return kExitDone;
    }
    auto options = options_;
    options.out = out;
    std::optional<AgreedError> failure;
    int code = kExitDone;
    try {
      code = run_point_(context, options);
    } catch (const AgreedError& error) {
      failure = error;
    }
    on_first_rank(wait_, [&] { records_->end(point, failure ? failure->what() : ""); });
    if (failure) {
      throw AgreedError(
          failure->exit_code(),
          is_first_rank() ? failure->what() + (" (" + sweep_.describe(point) + ")") : "");
    }
    return code;
  }

  /// Whether any rank was asked to stop.
  bool stop_requested() {
    std::array<std::int64_t, 1> asked = {signals_.stop_requested() ? 1 : 0};
    all_reduce(world_, asked, Reduction::max, wait_);
    return asked[0] != 0;
  }

  void print_tables() const {
    if (!is_first_rank()) {
      return;
    }
    const auto complete = records_->num_complete();
    std::cout << "results " << records_->folder().string() << "\n" << to_text(records_->result());
    if (complete < sweep_.num_points()) {
      std::cout << complete << " of " << sweep_.num_points()
                << " points are complete; the same command with --out "
                << records_->folder().string() << " runs the others\n";
    }
    std::cout.flush();
  }

  const MpiSession& session_;
  const SignalWatch& signals_;
  const Sweep& sweep_;
  const RunOptions& options_;
  const Capabilities& capabilities_;
  const RunPoint& run_point_;
  MpiComm world_;
  WaitPolicy wait_;
  std::map<int, SharedGroups> shared_;   ///< by expert_parallel
  std::optional<SweepRecords> records_;  ///< on the first rank only
};

}  // namespace

SharedGroups::SharedGroups(const MpiSession& session, int expert_parallel)
    : grid(make_grid(session.world_size(), expert_parallel)),
      groups(make_rank_groups(session, grid)),
      failures(groups.control) {}

int run_sweep(const MpiSession& session,
              const SignalWatch& signals,
              const Sweep& sweep,
              const RunOptions& options,
              const Capabilities& capabilities,
              const RunPoint& run_point) {
  return SweepRun(session, signals, sweep, options, capabilities, run_point).run();
}

int run_single(const MpiSession& session,
               const SignalWatch& signals,
               const Sweep& sweep,
               const RunOptions& options,
               const Capabilities& capabilities,
               const RunPoint& run_point) {
  const auto experiment = point_experiment(sweep, 0, session.world_size(), capabilities);
  SharedGroups shared(session, experiment.parallel.expert_parallel);
  return run_point({.session = session,
                    .signals = signals,
                    .experiment = experiment,
                    .grid = shared.grid,
                    .groups = shared.groups,
                    .failures = shared.failures,
                    .wait = make_wait_policy(experiment, shared.failures, signals)},
                   options);
}

}  // namespace dovetail
