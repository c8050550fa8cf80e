// Steps of marker kernels with times of their ops, eager or in the pieces of a graph.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/clock.hpp"
#include "framework/exec/executor.hpp"
#include "framework/exec/lane_edges.hpp"
#include "framework/plan/policy.hpp"
#include "tests/gpu/capture_support.hpp"
#include "tests/gpu/marker_step.hpp"
#include "tests/gpu/runner_options.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail::test {

inline Schedule timed_schedule(const std::string& policy, int num_ubatches) {
  // More than two layers with experts right behind their dispatch, which these may tell the end of.
  using testing::kMoe;
  const ModelShape model{{kMoe, testing::kDense, testing::kShared, kMoe, kMoe, kMoe}};
  return policies().at(policy).make_schedule(
      {.model = model, .phase = WorkPhase::decode, .num_ubatches = num_ubatches});
}

/// Runs a step with times, eagerly or as replayed pieces.
class TimedStep {
 public:
  /// `host_lead`: as CudaExecutorOptions.
  TimedStep(const Schedule& schedule,
            std::int64_t spin_ns,
            GraphMode mode,
            HostLead* host_lead = nullptr)
      : schedule_(schedule),
        mode_(mode),
        body(schedule, spin_ns, spin_ns),
        runner(with_lead(host_lead), walk_by(HandOff::inline_walk)) {
    warm_up(runner, schedule_, body);
  }

  /// `starts` and `ends`: what the kernels of the ops do, from now on.
  void use(TimeStampUse starts, TimeStampUse ends) {
    body.time_stamps = starts;
    body.end_stamps = ends;
    pieces_ = mode_ == GraphMode::none
                  ? nullptr
                  : runner.capture(schedule_, body, PassKind::full, mode_, true);
  }

  void run(OpTimes& times, bool gated = false) {
    body.reset(3);
    if (pieces_ != nullptr) {
      runner.replay(*pieces_, &times, gated);
    } else {
      runner.run_eager(schedule_, body, PassKind::full, &times, gated);
    }
    EXPECT_TRUE(body.errors(3).empty()) << first_of(body.errors(3));
  }

  const StepEvents& events() const {
    return pieces_ != nullptr ? pieces_->events() : runner.executor().eager_events();
  }

 private:
  static CudaExecutorOptions with_lead(HostLead* host_lead) {
    auto options = own_gpu();
    options.host_lead = host_lead;
    return options;
  }

  const Schedule schedule_;
  const GraphMode mode_;

 public:
  MarkerStep body;
  CudaStepRunner runner;

 private:
  std::unique_ptr<CapturedStep> pieces_;
};

/// [ops] the op whose start may tell the end of each: at once behind it in the same ubatch and
/// lane, without a wait between them, and no other lane waits for it; -1 = none. `exchanged`: of
/// exchanges, else of all others.
inline std::vector<int> followers(const Schedule& schedule, bool exchanged) {
  LaneEdges edges;
  find_lane_edges(schedule, PassKind::full, edges);
  std::vector<int> all(schedule.ops.size(), -1);
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    if (edges.before[i] < 0 || edges.wait_for[i] >= 0) {
      continue;
    }
    const auto before = static_cast<std::size_t>(edges.before[i]);
    const Op& op = schedule.ops[before];
    if (is_exchange(op.phase) == exchanged && op.ubatch == schedule.ops[i].ubatch &&
        edges.records[before] == 0) {
      all[before] = static_cast<int>(i);
    }
  }
  return all;
}

/// Those of `next` (followers) that tell an end in an eager step where all ops write when they
/// begin: of each two phases that follow each other in a ubatch, all but the first two.
inline std::vector<int> behind_two_alike(const Schedule& schedule, std::vector<int> next) {
  std::map<std::tuple<int, Phase, Phase>, int> counts;
  for (std::size_t i = 0; i < next.size(); ++i) {
    if (next[i] >= 0) {
      const Op& op = schedule.ops[i];
      const Phase phase = schedule.ops[static_cast<std::size_t>(next[i])].phase;
      next[i] = ++counts[{op.ubatch, op.phase, phase}] > 2 ? next[i] : -1;
    }
  }
  return next;
}

/// Keeps the calling thread busy.
inline void be_late(std::int64_t late_ns) {
  const auto until_ns = now_ns() + late_ns;
  while (now_ns() < until_ns) {
  }
}

inline int num_of_kind(const StepEvents& events, EndKind kind) {
  return static_cast<int>(std::count_if(events.ends.begin(),
                                        events.ends.end(),
                                        [kind](const EndSource& end) { return end.kind == kind; }));
}

}  // namespace dovetail::test
