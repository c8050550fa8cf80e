// Runner and host executor over random schedules and the policies: order, results, threads, times,
// passes.
#include "framework/exec/runner.hpp"

#include <algorithm>
#include <map>
#include <mutex>
#include <random>
#include <sched.h>
#include <set>

#include <gtest/gtest.h>

#include "framework/base/clock.hpp"
#include "framework/base/error.hpp"
#include "framework/exec/host_executor.hpp"
#include "framework/plan/policy.hpp"
#include "tests/unit/exec/recording_body.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using testing::kDense;
using testing::kMoe;
using testing::kShared;
using testing::RecordingBody;

RunnerOptions options_of(HandOff hand_off, bool may_spin = true) {
  return {hand_off, std::chrono::seconds(60), may_spin ? kShortSpin : std::chrono::nanoseconds{0}};
}

Schedule dual_batch(std::vector<LayerShape> layers, int num_ubatches) {
  return policies()
      .at("dual_batch")
      .make_schedule({{std::move(layers)}, WorkPhase::prefill, num_ubatches});
}

/// Each op once; waits and the op before on the same lane finished before each start; compute ops
/// in schedule order.
void check_order(const Schedule& schedule, const RecordingBody& body) {
  std::map<std::tuple<int, int, Phase, int>, RecordingBody::Record> by_op;
  for (const auto* records : {&body.compute_records(), &body.comm_records()}) {
    for (const auto& record : *records) {
      const bool fresh =
          by_op
              .emplace(
                  std::tuple(record.op.layer, record.op.ubatch, record.op.phase, record.op.group),
                  record)
              .second;
      ASSERT_TRUE(fresh) << "an op ran twice";
    }
  }
  ASSERT_EQ(by_op.size(), schedule.ops.size());
  std::array<std::uint64_t, 2> lane_end = {0, 0};
  const auto record_of = [&](const Op& op) {
    return by_op.at({op.layer, op.ubatch, op.phase, op.group});
  };
  for (const auto& op : schedule.ops) {
    const auto record = record_of(op);
    for (const int wait : op.waits) {
      EXPECT_LT(record_of(schedule.ops[static_cast<std::size_t>(wait)]).end, record.begin);
    }
    auto& end = lane_end.at(static_cast<std::size_t>(op.lane));
    EXPECT_LE(end, record.begin);
    end = record.end;
  }
}

TEST(Runner, RandomSchedulesAreRunInOrderWithEqualResultsInEveryMode) {
  std::mt19937_64 random(testing::fresh_seed());
  HostExecutor executor({});
  Runner spinning(executor, options_of(HandOff::threads, true));
  Runner sleeping(executor, options_of(HandOff::threads, false));
  Runner walking(executor, options_of(HandOff::inline_walk));
  std::map<std::string, std::array<std::uint64_t, kMaxUbatches>> result_of_model;
  for (int i = 0; i < 700; ++i) {
    const Schedule schedule = testing::random_schedule(random);
    std::string model =
        std::to_string(schedule.num_ubatches) + "u" + std::to_string(schedule.num_groups) + "g";
    for (const auto& layer : schedule.layers) {
      model += layer.is_moe ? (layer.has_shared_experts ? "s" : "m") : "d";
    }
    for (Runner* runner : {&spinning, &sleeping, &walking}) {
      RecordingBody body(schedule);
      runner->run(schedule, body);
      check_order(schedule, body);
      // Any legal schedule of a model computes the same.
      const auto [place, fresh] = result_of_model.emplace(model, body.result());
      EXPECT_EQ(place->second, body.result()) << model;
    }
  }
}

TEST(Runner, EachUbatchHasOneThreadOfItsOwnForLife) {
  const Schedule schedule = dual_batch({kDense, kShared, kMoe}, 4);
  HostExecutor executor({});
  Runner runner(executor, options_of(HandOff::threads));
  std::map<int, std::set<std::thread::id>> threads;
  std::set<std::thread::id> comm_threads;
  for (int step = 0; step < 20; ++step) {
    RecordingBody body(schedule);
    runner.run(schedule, body);
    for (const auto& record : body.compute_records()) {
      threads[record.op.ubatch].insert(record.thread);
    }
    for (const auto& record : body.comm_records()) {
      comm_threads.insert(record.thread);
    }
  }
  std::set<std::thread::id> all = comm_threads;
  all.insert(std::this_thread::get_id());
  for (const auto& [ubatch, ids] : threads) {
    EXPECT_EQ(ids.size(), 1U) << "ubatch " << ubatch;
    all.insert(ids.begin(), ids.end());
  }
  EXPECT_EQ(comm_threads.size(), 1U);
  EXPECT_EQ(all.size(), 4U + 1U + 1U);
}

TEST(Runner, InlineRunsComputeOnTheMainThread) {
  const Schedule schedule = dual_batch({kMoe}, 3);
  HostExecutor executor({});
  Runner runner(executor, options_of(HandOff::inline_walk));
  RecordingBody body(schedule);
  runner.run(schedule, body);
  for (const auto& record : body.compute_records()) {
    EXPECT_EQ(record.thread, std::this_thread::get_id());
  }
  for (const auto& record : body.comm_records()) {
    EXPECT_NE(record.thread, std::this_thread::get_id());
  }
}

TEST(Runner, UbatchesWithUnequalNumbersOfOpsAreLegal) {
  // Not a model's schedule: ubatch 1 ends early, ubatch 3 has no op at all.
  Schedule schedule{"uneven", 4, {}, {}};
  for (const int ubatch : {0, 1, 0, 2, 2, 0, 2, 0}) {
    schedule.ops.push_back(
        {static_cast<int>(schedule.ops.size()), ubatch, Phase::attention, Lane::compute, {}});
  }
  schedule.layers.assign(8, kDense);
  HostExecutor executor({});
  for (const HandOff hand_off : {HandOff::threads, HandOff::inline_walk}) {
    Runner runner(executor, options_of(hand_off));
    for (int step = 0; step < 50; ++step) {
      RecordingBody body(schedule);
      runner.run(schedule, body);
      check_order(schedule, body);
    }
  }
}

TEST(Runner, AnEmptyScheduleEnds) {
  const Schedule schedule{"empty", 2, {}, {}};
  HostExecutor executor({});
  for (const HandOff hand_off : {HandOff::threads, HandOff::inline_walk}) {
    Runner runner(executor, options_of(hand_off));
    RecordingBody body(schedule);
    runner.run(schedule, body);
    EXPECT_TRUE(body.compute_records().empty());
  }
}

TEST(Runner, TakesSchedulesOfDifferentSizesInTurn) {
  HostExecutor executor({});
  Runner runner(executor, options_of(HandOff::threads));
  for (const int n : {2, 8, 3, 2, 5, 8}) {
    const Schedule schedule = dual_batch({kShared, kDense, kMoe}, n);
    RecordingBody body(schedule);
    runner.run(schedule, body);
    check_order(schedule, body);
  }
  const Schedule too_many{"too many", 9, {}, {}};
  RecordingBody body(too_many);
  EXPECT_THROW(runner.run(too_many, body), ContractError);
}

TEST(Runner, PassesLeaveOutOneSide) {
  const Schedule schedule = dual_batch({kShared, kDense, kMoe}, 3);
  HostExecutor executor({});
  for (const HandOff hand_off : {HandOff::threads, HandOff::inline_walk}) {
    Runner runner(executor, options_of(hand_off));
    for (const PassKind pass : {PassKind::full, PassKind::compute_only, PassKind::comm_only}) {
      RecordingBody body(schedule);
      OpTimes times;
      runner.run(schedule, body, pass, &times);
      std::size_t ran = 0;
      for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
        const bool runs = runs_in(pass, schedule.ops[i].phase);
        ran += runs ? 1 : 0;
        EXPECT_EQ(times.start_ns[i] >= 0, runs);
        EXPECT_EQ(times.end_ns[i] >= 0, runs);
      }
      EXPECT_EQ(body.compute_records().size() + body.comm_records().size(), ran);
      EXPECT_EQ(body.compute_records().empty(), pass == PassKind::comm_only);
      EXPECT_EQ(body.comm_records().empty(), pass == PassKind::compute_only);
    }
  }
}

TEST(Runner, TimesAreOrderedAsTheOpsAre) {
  const Schedule schedule = dual_batch({kShared, kMoe}, 3);
  HostExecutor executor({});
  for (const HandOff hand_off : {HandOff::threads, HandOff::inline_walk}) {
    Runner runner(executor, options_of(hand_off));
    OpTimes times;
    for (int step = 0; step < 20; ++step) {
      RecordingBody body(schedule);
      const std::int64_t before = now_ns();
      runner.run(schedule, body, PassKind::full, &times);
      const std::int64_t after = now_ns();
      ASSERT_EQ(times.start_ns.size(), schedule.ops.size());
      std::array<std::int64_t, 2> lane_end = {before, before};
      std::int64_t enqueued = before;
      for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
        const Op& op = schedule.ops[i];
        EXPECT_LE(enqueued, times.enqueued_ns[i]);
        enqueued = times.enqueued_ns[i];
        EXPECT_LE(times.enqueued_ns[i], times.start_ns[i]);
        EXPECT_LE(times.start_ns[i], times.end_ns[i]);
        EXPECT_LE(times.end_ns[i], after);
        for (const int wait : op.waits) {
          EXPECT_LE(times.end_ns[static_cast<std::size_t>(wait)], times.start_ns[i]);
        }
        auto& end = lane_end.at(static_cast<std::size_t>(op.lane));
        EXPECT_LE(end, times.start_ns[i]);
        end = times.end_ns[i];
        const bool handed_over =
            hand_off == HandOff::threads && i > 0 && op.ubatch != schedule.ops[i - 1].ubatch;
        EXPECT_GE(times.hand_off_wait_ns[i], 0);
        if (!handed_over) {
          EXPECT_EQ(times.hand_off_wait_ns[i], 0);
        }
      }
    }
  }
}

TEST(Runner, ThreadInitRunsOnceInEveryThread) {
  std::mutex mutex;
  std::map<int, std::set<std::thread::id>> seen;
  int calls = 0;
  HostExecutorOptions options;
  options.thread_init = [&](int role) {
    const std::lock_guard<std::mutex> lock(mutex);
    seen[role].insert(std::this_thread::get_id());
    ++calls;
  };
  HostExecutor executor(options);
  Runner threads(executor, options_of(HandOff::threads));
  Runner walking(executor, options_of(HandOff::inline_walk));
  const Schedule schedule = dual_batch({kMoe}, 3);
  for (int step = 0; step < 3; ++step) {
    RecordingBody body(schedule);
    threads.run(schedule, body);
    RecordingBody again(schedule);
    walking.run(schedule, again);
  }
  EXPECT_EQ(calls, 5);
  EXPECT_EQ(seen.size(), 5U);
  for (const int role : {0, 1, 2, -1, HostExecutor::kCommThread}) {
    EXPECT_EQ(seen[role].size(), 1U) << role;
  }
  EXPECT_EQ(*seen[-1].begin(), std::this_thread::get_id());
}

/// The CPUs on which ops were.
class CpuBody final : public StepBody {
 public:
  void run(const Op& /*op*/) override { cpus.insert(sched_getcpu()); }

  std::set<int> cpus;  ///< guarded by the baton
};

void move_to(const std::vector<int>& cpus) {
  cpu_set_t all;
  CPU_ZERO(&all);
  for (const int cpu : cpus) {
    CPU_SET(static_cast<unsigned>(cpu), &all);
  }
  ASSERT_EQ(sched_setaffinity(0, sizeof all, &all), 0);
}

TEST(Runner, ThreadsOfOneCoreFollowTheCaller) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE && cpus.size() < 3; ++cpu) {
    if (CPU_ISSET(static_cast<unsigned>(cpu), &before)) {
      cpus.push_back(cpu);
    }
  }
  HostExecutor executor({std::chrono::seconds(60), {}, {}, false});
  RunnerOptions options = options_of(HandOff::threads);
  options.on_one_core = true;
  Runner runner(executor, options);
  for (int i = 0; i < 10; ++i) {
    const int cpu = cpus[static_cast<std::size_t>(i) % cpus.size()];
    move_to({cpu});
    CpuBody body;
    runner.run(dual_batch({kMoe, kMoe}, i % 2 + 2), body, PassKind::compute_only);
    EXPECT_EQ(body.cpus, std::set<int>{cpu}) << "step " << i;
  }
  EXPECT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
  EXPECT_EQ(options.baton_spin().count(), 0);
}

}  // namespace
}  // namespace dovetail
