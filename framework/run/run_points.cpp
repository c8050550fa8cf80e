#include "framework/run/run_points.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <iostream>
#include <map>
#include <optional>
#include <string>

#include "framework/mpi/collectives.hpp"
#include "framework/mpi/groups.hpp"
#include "framework/run/resumed_run.hpp"
#include "framework/run/set_up.hpp"
#include "framework/run/sweep_records.hpp"

namespace dovetail {
namespace {

/// What all points of one expert_parallel share; made once. Immovable.
struct SharedGroups {
  /// Collective over the world. Blocks inside MPI: start-up only.
  SharedGroups(const MpiSession& session, const SignalWatch& signals, int expert_parallel)
      : grid(make_grid(session.world_size(), expert_parallel)),
        groups(make_rank_groups(session, grid)),
        failures(groups.control, &signals) {}

  RankGrid grid;
  RankGroups groups;
  FailureChannel failures;
};

/// One a process, from the first point to the last.
class PointLoop {
 public:
  PointLoop(const MpiSession& session,
            const SignalWatch& signals,
            const ExperimentPoints& points,
            const RunOptions& options,
            const RunPoint& run_point)
      : session_(session),
        signals_(signals),
        points_(points),
        options_(options),
        run_point_(run_point),
        world_(session.world()) {
    // Communicators are made before the first point: making them blocks inside MPI.
    for (const auto& point : points.points) {
      const int size = point.parallel.expert_parallel;
      shared_.try_emplace(size, session, signals, size);
    }
  }

  int run_only() {
    std::array<std::int64_t, 1> done = {-1};
    on_first_rank([&] {
      if (!options_.resume.empty()) {
        done[0] = exit_code_of_complete_run(
                      options_.resume, points_.points.front(), session_.world_size())
                      .value_or(-1);
      }
    });
    all_reduce(world_, done, Reduction::max, wait_);
    return done[0] >= 0 ? static_cast<int>(done[0]) : run(0, options_);
  }

  /// Beside other processes that run other points of the sweep.
  int run_one_point(std::size_t point) {
    on_first_rank([&] {
      records_.emplace(points_, options_.out, session_.world_size(), SweepUse::one_point);
    });
    const int code = run_unless_done(point);
    print_tables();
    return code;
  }

  int run_sweep() {
    on_first_rank([&] {
      if (!options_.resume.empty()) {
        require_begun_sweep(options_.resume);
      }
      records_.emplace(
          points_, options_.resume.empty() ? options_.out : options_.resume, session_.world_size());
      print_what_is_there();
    });
    int exit_code = kExitDone;
    for (std::size_t point = 0; point < points_.points.size(); ++point) {
      const int code = run_unless_done(point);
      if (code != kExitDone && code != kExitMismatch) {
        print_tables();
        return code;
      }
      exit_code = std::max(exit_code, code);
      if (point + 1 < points_.points.size() && stop_requested()) {
        exit_code = kExitStopped;
        break;
      }
    }
    print_tables();
    return exit_code;
  }

 private:
  bool is_first_rank() const { return session_.rank().value == 0; }

  /// Collective: the others wait for the first rank, and hear of its failure.
  template <class Work>
  void on_first_rank(Work work) {
    run_on_all_ranks(world_, patient(wait_), [&] {
      if (is_first_rank()) {
        work();
      }
    });
  }

  int run(std::size_t point, const RunOptions& options) {
    const auto& own = points_.points[point];
    auto& shared = shared_.at(own.parallel.expert_parallel);
    int timeout_s = own.execution.timeout_s;
    for (const auto& policy : own.policies) {
      timeout_s = std::max(timeout_s, policy.execution.timeout_s);
    }
    shared.failures.set_run(std::chrono::seconds(timeout_s));
    const int code =
        run_point_({.ranks = {.session = session_,
                              .grid = shared.grid,
                              .groups = shared.groups,
                              .wait = make_wait_policy(own, shared.failures, signals_)},
                    .signals = signals_,
                    .failures = shared.failures,
                    .experiment = own},
                   options);
    shared.failures.set_run(std::nullopt);
    return code;
  }

  int run_unless_done(std::size_t point) {
    const auto description = points_.sweep.describe(point);
    auto options = options_;
    options.out.clear();
    options.resume.clear();
    on_first_rank([&] {
      if (const auto folder = records_->begin(point)) {
        options.out = folder->string();
        std::cout << description << std::endl;
        auto& failures = shared_.at(points_.points[point].parallel.expert_parallel).failures;
        auto advice = how_to_go_on(records_->result(), records_->folder(), options_.program);
        advice.resize(advice.find_last_not_of('\n') + 1);
        failures.set_interrupt_advice(std::move(advice));
      }
    });
    broadcast_text(world_, options.out, wait_);
    if (options.out.empty()) {
      return kExitDone;
    }
    std::string earlier;
    on_first_rank([&] { earlier = to_json_text(records_->earlier_policies(point)); });
    broadcast_text(world_, earlier, wait_);
    options.earlier = parse_earlier_policies(earlier);
    std::optional<AgreedError> failure;
    int code = kExitDone;
    try {
      code = run(point, options);
    } catch (const AgreedError& error) {
      failure = error;
    }
    on_first_rank([&] { records_->end(point, failure ? failure->what() : ""); });
    if (failure) {
      throw AgreedError(failure->exit_code(),
                        is_first_rank() ? failure->what() + (" (" + description + ")") : "");
    }
    return code;
  }

  /// Whether any rank was asked to stop.
  bool stop_requested() {
    std::array<std::int64_t, 1> asked = {signals_.stop_requested() ? 1 : 0};
    all_reduce(world_, asked, Reduction::max, wait_);
    return asked[0] != 0;
  }

  /// Of an earlier start of the sweep: "6 of 12 points are complete in results/x; going on with
  /// point 6".
  void print_what_is_there() const {
    const auto& points = records_->result().points;
    if (records_->result().num_complete() == 0) {
      return;
    }
    std::cout << records_->result().describe_progress() << " in " << records_->folder().string();
    const auto next = std::find_if(points.begin(), points.end(), [](const auto& point) {
      return point.status != SweepPointStatus::complete;
    });
    if (next != points.end()) {
      std::cout << "; going on with point " << next - points.begin();
    }
    std::cout << std::endl;
  }

  void print_tables() const {
    if (!is_first_rank()) {
      return;
    }
    const auto& folder = records_->folder();
    const auto& result = records_->result();
    std::cout << "results " << folder.string() << "\n"
              << to_text(result) << how_to_go_on(result, folder, options_.program);
    std::cout.flush();
  }

  const MpiSession& session_;
  const SignalWatch& signals_;
  const ExperimentPoints& points_;
  const RunOptions& options_;
  const RunPoint& run_point_;
  MpiComm world_;
  WaitPolicy wait_;
  std::map<int, SharedGroups> shared_;   ///< by expert_parallel
  std::optional<SweepRecords> records_;  ///< of a sweep, on the first rank only
};

}  // namespace

int run_points(const MpiSession& session,
               const SignalWatch& signals,
               const ExperimentPoints& points,
               const RunOptions& options,
               const RunPoint& run_point) {
  PointLoop loop(session, signals, points, options, run_point);
  if (options.point) {
    return loop.run_one_point(*options.point);
  }
  return points.is_sweep() ? loop.run_sweep() : loop.run_only();
}

}  // namespace dovetail
