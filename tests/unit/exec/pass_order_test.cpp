// The three passes of proven schedules on real lanes: never two exchanges at once, always in the
// schedule's order, also where only ops that a pass leaves out say so.
#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <random>
#include <thread>

#include <gtest/gtest.h>

#include "framework/exec/host_executor.hpp"
#include "framework/exec/runner.hpp"
#include "framework/exec/simulated_executor.hpp"
#include "framework/plan/schedule_check.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

constexpr std::array<PassKind, 3> kPasses = {
    PassKind::full, PassKind::compute_only, PassKind::comm_only};

/// Watches the exchanges of a step as a wire would that takes one at a time, in one order.
class ExchangeWatch final : public StepBody {
 public:
  explicit ExchangeWatch(const Schedule& schedule) {
    for (const Op& op : schedule.ops) {
      if (is_exchange(op.phase)) {
        expected_.push_back(op);
      }
    }
  }

  std::function<void(const Op&)> hook;  ///< runs inside each exchange; may be empty

  void run(const Op& op) override {
    if (!is_exchange(op.phase)) {
      return;
    }
    num_at_once_ += num_inside_.fetch_add(1) > 0 ? 1 : 0;
    const auto place = num_begun_.fetch_add(1);
    num_out_of_order_ += place < expected_.size() && expected_[place] == op ? 0 : 1;
    if (hook) {
      hook(op);
    }
    num_inside_.fetch_sub(1);
  }

  int num_at_once() const { return num_at_once_; }

  int num_out_of_order() const { return num_out_of_order_; }

  std::size_t num_begun() const { return num_begun_; }

  std::size_t num_expected() const { return expected_.size(); }

 private:
  std::vector<Op> expected_;
  std::atomic<int> num_inside_{0};
  std::atomic<std::size_t> num_begun_{0};
  std::atomic<int> num_at_once_{0};
  std::atomic<int> num_out_of_order_{0};
};

/// embed, attention, route, dispatch on the comm lane, experts, combine on the compute lane,
/// output: the experts alone order the two exchanges.
Schedule through_the_experts() {
  return {"through_the_experts",
          1,
          {testing::kMoe},
          {{kNoLayer, 0, Phase::embed, Lane::compute, {}},
           {0, 0, Phase::attention, Lane::compute, {}},
           {0, 0, Phase::route, Lane::compute, {}},
           {0, 0, Phase::dispatch, Lane::comm, {2}},
           {0, 0, Phase::experts, Lane::compute, {3}},
           {0, 0, Phase::combine, Lane::compute, {}},
           {kNoLayer, 0, Phase::output, Lane::compute, {}}}};
}

void expect_order(Runner& runner, const Schedule& schedule) {
  for (const PassKind pass : kPasses) {
    ExchangeWatch body(schedule);
    std::uint64_t wire = 0;  // not atomic: ThreadSanitizer sees exchanges that nothing orders
    body.hook = [&wire](const Op& op) {
      wire = wire * 31 + static_cast<std::uint64_t>(op.layer);
      if (op.lane == Lane::comm) {
        std::this_thread::yield();
      }
    };
    runner.run(schedule, body, pass);
    ASSERT_EQ(body.num_begun(), pass == PassKind::compute_only ? 0 : body.num_expected());
    ASSERT_EQ(body.num_at_once(), 0) << to_string(pass);
    ASSERT_EQ(body.num_out_of_order(), 0) << to_string(pass);
  }
}

TEST(PassOrder, ProvenSchedulesExchangeOneAtATimeInEveryPass) {
  std::mt19937_64 random(testing::fresh_seed());
  HostExecutor executor({});
  Runner threads(executor, {HandOff::threads, std::chrono::seconds(60)});
  Runner walking(executor, {HandOff::inline_walk, std::chrono::seconds(60)});
  for (int i = 0; i < 150; ++i) {
    for (const auto& schedule : {testing::random_schedule(random),
                                 testing::random_lean_schedule(random),
                                 through_the_experts()}) {
      ASSERT_TRUE(schedule_errors(schedule).empty());
      expect_order(threads, schedule);
      expect_order(walking, schedule);
      ASSERT_FALSE(HasFatalFailure());
    }
  }
}

/// The simulated executor has no threads; its times say the same.
TEST(PassOrder, SimulatedExchangesDoNotOverlap) {
  std::mt19937_64 random(testing::fresh_seed());
  for (int i = 0; i < 200; ++i) {
    for (const auto& schedule : {testing::random_lean_schedule(random), through_the_experts()}) {
      for (const PassKind pass : {PassKind::full, PassKind::comm_only}) {
        const auto step = simulate(
            schedule, [](const Op&) { return 100.0; }, {}, pass);
        std::int64_t end = 0;
        for (std::size_t op = 0; op < schedule.ops.size(); ++op) {
          if (is_exchange(schedule.ops[op].phase)) {
            ASSERT_GE(step.times.start_ns[op], end) << to_string(pass) << ", op " << op;
            end = step.times.end_ns[op];
          }
        }
      }
    }
  }
}

/// The twin: a schedule that is refused because nothing orders its exchanges. Run all the same,
/// both are on the wire at once; each waits there until the other has come, so this does not depend
/// on luck.
TEST(PassOrder, TwoExchangesAtOnceAreNoticed) {
  Schedule schedule = through_the_experts();
  schedule.ops[4].waits.clear();
  EXPECT_FALSE(schedule_errors(schedule).empty());
  HostExecutor executor({});
  Runner runner(executor, {HandOff::inline_walk, std::chrono::seconds(60)});
  for (const PassKind pass : {PassKind::full, PassKind::comm_only}) {
    ExchangeWatch body(schedule);
    body.hook = [&body](const Op&) {
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
      while (body.num_begun() < 2 && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::yield();
      }
    };
    runner.run(schedule, body, pass);
    EXPECT_EQ(body.num_at_once(), 1) << to_string(pass);
  }
}

/// The other twin: in order by time, not by the schedule.
TEST(PassOrder, AnotherOrderIsNoticed) {
  const Schedule schedule = through_the_experts();
  Schedule swapped = schedule;
  std::swap(swapped.ops[3].phase, swapped.ops[5].phase);
  ExchangeWatch body(schedule);
  for (const Op& op : swapped.ops) {
    body.run(op);
  }
  EXPECT_EQ(body.num_at_once(), 0);
  EXPECT_EQ(body.num_out_of_order(), 2);
}

}  // namespace
}  // namespace dovetail
