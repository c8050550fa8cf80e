// What the host executor promises by itself: overlap, the worker's life, order of calls.
#include "framework/exec/host_executor.hpp"

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/exec/runner.hpp"
#include "framework/plan/policy.hpp"
#include "tests/unit/exec/recording_body.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using testing::kMoe;
using testing::kShared;
using testing::RecordingBody;

Schedule make(const std::string& policy, std::vector<LayerShape> layers, int num_ubatches) {
  return policies().at(policy).make_schedule(
      {{std::move(layers)}, WorkPhase::prefill, num_ubatches});
}

/// The dispatch of one ubatch and a compute op each wait for the other to have begun: this ends
/// only if both lanes run at the same time.
void expect_overlap(const Schedule& schedule, Op comm, Op compute) {
  const auto same = [](const Op& a, const Op& b) {
    return a.layer == b.layer && a.ubatch == b.ubatch && a.phase == b.phase;
  };
  for (const HandOff hand_off : {HandOff::threads, HandOff::inline_walk}) {
    HostExecutor executor({});
    Runner runner(executor, {hand_off, std::chrono::seconds(60)});
    std::atomic<bool> comm_began{false};
    std::atomic<bool> compute_began{false};
    RecordingBody body(schedule);
    body.hook = [&](const Op& op) {
      const bool is_comm = same(op, comm);
      if (!is_comm && !same(op, compute)) {
        return;
      }
      (is_comm ? comm_began : compute_began).store(true);
      const auto& other = is_comm ? compute_began : comm_began;
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
      while (!other.load()) {
        if (std::chrono::steady_clock::now() > deadline) {
          throw TimeoutError("no overlap");
        }
        std::this_thread::yield();
      }
    };
    EXPECT_NO_THROW(runner.run(schedule, body));
  }
}

TEST(HostExecutor, OverlapIsReal) {
  expect_overlap(make("dual_batch", {kMoe}, 2),
                 {0, 0, Phase::dispatch, Lane::comm, {}},
                 {0, 1, Phase::attention, Lane::compute, {}});
  expect_overlap(make("dual_batch", {kShared}, 2),
                 {0, 1, Phase::combine, Lane::comm, {}},
                 {0, 1, Phase::shared_experts, Lane::compute, {}});
  expect_overlap(make("shared_expert", {kShared}, 1),
                 {0, 0, Phase::dispatch, Lane::comm, {}},
                 {0, 0, Phase::shared_experts, Lane::compute, {}});
}

/// The first dispatch waits until the experts that need it have begun, at most `limit`.
class LateDispatch final : public StepBody {
 public:
  explicit LateDispatch(std::chrono::milliseconds limit) : limit_(limit) {}

  void run(const Op& op) override {
    if (op.layer != 0 || op.ubatch != 0) {
      return;
    }
    if (op.phase == Phase::experts) {
      began_.store(true);
    } else if (op.phase == Phase::dispatch) {
      const auto deadline = std::chrono::steady_clock::now() + limit_;
      while (!began_.load() && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::yield();
      }
      was_overtaken = began_.load();
    }
  }

  bool was_overtaken = false;

 private:
  const std::chrono::milliseconds limit_;
  std::atomic<bool> began_{false};
};

/// What injected faults need, and that nothing else lets an op start early.
TEST(HostExecutor, ChangedEdgesAreWhatOpsWaitFor) {
  const Schedule schedule = make("dual_batch", {kMoe}, 2);
  for (const bool skips : {true, false}) {
    HostExecutorOptions options;
    if (skips) {
      options.change_edges = [](const Schedule& ops, PassKind /*pass*/, LaneEdges& edges) {
        for (std::size_t i = 0; i < ops.ops.size(); ++i) {
          if (ops.ops[i].phase == Phase::experts && ops.ops[i].ubatch == 0) {
            edges.wait_for[i] = -1;
          }
        }
      };
    }
    HostExecutor executor(options);
    Runner runner(executor, {HandOff::threads, std::chrono::seconds(60)});
    LateDispatch body(skips ? std::chrono::milliseconds(30'000) : std::chrono::milliseconds(100));
    runner.run(schedule, body);
    EXPECT_EQ(body.was_overtaken, skips);
  }
}

TEST(HostExecutor, NeverTouchesTheWorkerWithoutCommOps) {
  std::atomic<int> comm_threads{0};
  HostExecutorOptions options;
  options.thread_init = [&](int role) {
    comm_threads += role == HostExecutor::kCommThread ? 1 : 0;
  };
  HostExecutor executor(options);
  Runner runner(executor, {HandOff::threads, std::chrono::seconds(60)});
  const Schedule sequential = make("sequential", {kShared, kMoe}, 1);
  RecordingBody body(sequential);
  runner.run(sequential, body);
  EXPECT_EQ(comm_threads.load(), 0);
  const Schedule dual = make("dual_batch", {kMoe}, 2);
  RecordingBody left_out(dual);
  runner.run(dual, left_out, PassKind::compute_only);
  EXPECT_EQ(comm_threads.load(), 0);
  RecordingBody full(dual);
  runner.run(dual, full);
  EXPECT_EQ(comm_threads.load(), 1);
}

TEST(HostExecutor, RefusesCallsOutOfOrder) {
  const Schedule schedule = make("dual_batch", {kMoe}, 2);
  HostExecutor executor({});
  RecordingBody body(schedule);
  executor.begin_step(schedule, body, PassKind::full, nullptr);
  executor.enqueue(0);
  EXPECT_THROW(executor.enqueue(2), ContractError);
  EXPECT_THROW(executor.enqueue(0), ContractError);
  executor.abort_step();
  executor.begin_step(schedule, body, PassKind::full, nullptr);
  executor.enqueue(0);
  EXPECT_THROW(executor.end_step(), ContractError) << "ops are missing";
  executor.abort_step();
}

TEST(HostExecutor, AbortDropsWhatIsPending) {
  const Schedule schedule = make("dual_batch", {kMoe}, 8);
  HostExecutor executor({});
  for (int round = 0; round < 200; ++round) {
    RecordingBody body(schedule);
    executor.begin_step(schedule, body, PassKind::full, nullptr);
    const int stop_at = round % 32;
    for (int i = 0; i < stop_at; ++i) {
      executor.enqueue(i);
    }
    executor.abort_step();
    const std::size_t done = body.comm_records().size();
    EXPECT_LE(done, static_cast<std::size_t>(stop_at) / 4);
    RecordingBody next(schedule);
    executor.begin_step(schedule, next, PassKind::full, nullptr);
    for (int i = 0; i < static_cast<int>(schedule.ops.size()); ++i) {
      executor.enqueue(i);
    }
    executor.end_step();
    EXPECT_EQ(next.comm_records().size(), 16U);
    EXPECT_EQ(body.comm_records().size(), done) << "an aborted op ran later";
  }
}

TEST(HostExecutor, AFailureOfTheCommLaneSurfacesAtALaterCall) {
  const Schedule schedule = make("dual_batch", {kMoe}, 2);
  for (const PassKind pass : {PassKind::full, PassKind::comm_only}) {
    HostExecutor executor({});
    RecordingBody body(schedule);
    body.hook = [&](const Op& op) {
      if (op.phase == Phase::dispatch && op.ubatch == 1) {
        throw RunError("wire");
      }
    };
    executor.begin_step(schedule, body, pass, nullptr);
    try {
      for (int i = 0; i < static_cast<int>(schedule.ops.size()); ++i) {
        executor.enqueue(i);
      }
      executor.end_step();
      FAIL();
    } catch (const OpError& error) {
      EXPECT_EQ(error.place().phase, "dispatch");
      EXPECT_EQ(error.place().ubatch, 1);
    }
    executor.abort_step();
    EXPECT_EQ(body.comm_records().size(), 1U) << "nothing on the lane after the failure";
  }
}

}  // namespace
}  // namespace dovetail
