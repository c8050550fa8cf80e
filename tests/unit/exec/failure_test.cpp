// Exceptions and hangs in every phase of every ubatch: named, bounded, and the runner goes on.
#include <memory>
#include <mutex>
#include <random>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/exec/host_executor.hpp"
#include "framework/exec/op_failure.hpp"
#include "framework/exec/parker.hpp"
#include "framework/exec/runner.hpp"
#include "framework/plan/policy.hpp"
#include "tests/unit/exec/recording_body.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using testing::kDense;
using testing::kMoe;
using testing::kShared;
using testing::RecordingBody;

bool same(const Op& a, const Op& b) {
  return a.layer == b.layer && a.ubatch == b.ubatch && a.phase == b.phase && a.group == b.group;
}

RunnerOptions options_of(HandOff hand_off, std::chrono::milliseconds timeout) {
  return {hand_off, timeout};
}

TEST(Failure, OfEveryOpIsNamedAndTheRunnerIsUsedAgain) {
  HostExecutor executor({});
  for (const HandOff hand_off : {HandOff::threads, HandOff::inline_walk}) {
    Runner runner(executor, options_of(hand_off, std::chrono::seconds(60)));
    for (const auto& schedule : testing::all_policy_schedules({kDense, kShared, kMoe})) {
      if (schedule.num_ubatches > 4) {
        continue;
      }
      RecordingBody well(schedule);
      runner.run(schedule, well);
      for (const Op& bad : schedule.ops) {
        RecordingBody body(schedule);
        body.hook = [&bad](const Op& op) {
          if (same(op, bad)) {
            throw std::runtime_error("injected");
          }
        };
        try {
          runner.run(schedule, body);
          FAIL() << "not thrown: " << describe_op(0, bad);
        } catch (const OpError& error) {
          EXPECT_EQ(error.place().rank, -1);
          EXPECT_EQ(error.place().ubatch, bad.ubatch);
          EXPECT_EQ(error.place().layer, bad.layer);
          EXPECT_EQ(error.place().phase, to_string(bad.phase));
          EXPECT_EQ(error.what(), error.place().describe() + ": injected");
          EXPECT_THROW(std::rethrow_if_nested(error), std::runtime_error);
        }
        RecordingBody again(schedule);
        runner.run(schedule, again);
        EXPECT_EQ(again.result(), well.result());
      }
    }
  }
}

/// No op that depends on the failed one may run: nothing partial goes on.
TEST(Failure, StopsEverythingThatDependsOnIt) {
  HostExecutor executor({});
  const auto schedule =
      policies().at("dual_batch").make_schedule({{{kShared, kMoe}}, WorkPhase::prefill, 3});
  for (const HandOff hand_off : {HandOff::threads, HandOff::inline_walk}) {
    Runner runner(executor, options_of(hand_off, std::chrono::seconds(60)));
    for (std::size_t bad = 0; bad < schedule.ops.size(); ++bad) {
      RecordingBody body(schedule);
      body.hook = [&](const Op& op) {
        if (same(op, schedule.ops[bad])) {
          throw std::runtime_error("injected");
        }
      };
      EXPECT_THROW(runner.run(schedule, body), OpError);
      for (const auto* records : {&body.compute_records(), &body.comm_records()}) {
        for (const auto& record : *records) {
          const bool later_layer =
              record.op.layer > schedule.ops[bad].layer && schedule.ops[bad].layer != kNoLayer;
          EXPECT_FALSE(record.op.ubatch == schedule.ops[bad].ubatch && later_layer);
          EXPECT_NE(
              record.op.phase == Phase::output && record.op.ubatch == schedule.ops[bad].ubatch,
              true);
        }
      }
    }
  }
}

template <class Throw>
void expect_exit_code(const Throw& thrower, int exit_code, const std::string& message) {
  const auto schedule =
      policies().at("dual_batch").make_schedule({{{kMoe}}, WorkPhase::prefill, 2});
  HostExecutor executor({});
  for (const HandOff hand_off : {HandOff::threads, HandOff::inline_walk}) {
    for (const Phase phase : {Phase::experts, Phase::combine}) {
      Runner runner(executor, options_of(hand_off, std::chrono::seconds(60)));
      RecordingBody body(schedule);
      body.hook = [&](const Op& op) {
        if (op.phase == phase && op.ubatch == 1) {
          thrower();
        }
      };
      try {
        runner.run(schedule, body);
        FAIL();
      } catch (const Error& error) {
        EXPECT_EQ(error.exit_code(), exit_code);
        EXPECT_NE(std::string(error.what()).find(message), std::string::npos) << error.what();
      }
    }
  }
}

TEST(Failure, KeepsExitCodesAndPlaces) {
  expect_exit_code([] { throw InputError("f.json", 3, 0, "bad"); }, 2, "ubatch 1, layer 0, phase ");
  expect_exit_code([] { throw Error(kExitMismatch, "differs"); }, 4, ": differs");
  expect_exit_code([] { throw TimeoutError("peer 3 is silent"); }, 3, ": peer 3 is silent");
  expect_exit_code(
      [] {
        throw OpError({7, 6, 5, "route"}, "kept");
      },
      3,
      "rank 7, ubatch 6, layer 5, phase route: kept");
  expect_exit_code([] { throw std::bad_alloc(); }, 3, "ubatch 1, layer 0, phase ");
  expect_exit_code([] { throw 42; }, 3, "no std::exception");  // NOLINT
}

TEST(Failure, OfThreadInitFailsTheStepAndIsTriedAgain) {
  for (const int role : {0, 1, -1, HostExecutor::kCommThread}) {
    std::atomic<int> failures{1};
    HostExecutorOptions options;
    options.thread_init = [&failures, role](int me) {
      if (me == role && failures.fetch_sub(1) > 0) {
        throw std::runtime_error("no device");
      }
    };
    HostExecutor executor(options);
    Runner runner(
        executor,
        options_of(role == -1 ? HandOff::inline_walk : HandOff::threads, std::chrono::seconds(60)));
    const auto schedule =
        policies().at("dual_batch").make_schedule({{{kMoe}}, WorkPhase::prefill, 2});
    RecordingBody body(schedule);
    try {
      runner.run(schedule, body);
      FAIL() << role;
    } catch (const OpError& error) {
      EXPECT_NE(std::string(error.what()).find("no device"), std::string::npos);
    }
    RecordingBody again(schedule);
    runner.run(schedule, again);
    EXPECT_FALSE(again.comm_records().empty());
  }
}

/// An op that hangs until it is released, as a body would that waits for a peer without a deadline.
struct Hang {
  Parker parker;
  std::atomic<bool> released{false};

  void wait() {
    parker.wait_idle([this] { return released.load(); });
  }

  void release() {
    released.store(true);
    parker.wake();
  }
};

TEST(Hang, OfAnyOpIsBoundedAndNamedAndTheRunnerIsUsedAgain) {
  constexpr std::chrono::milliseconds timeout{150};
  const auto schedule =
      policies().at("dual_batch").make_schedule({{{kShared}}, WorkPhase::prefill, 2});
  HostExecutor patient({});
  Runner unhurried(patient, options_of(HandOff::inline_walk, std::chrono::seconds(60)));
  RecordingBody well(schedule);
  unhurried.run(schedule, well);
  for (const Op& bad : schedule.ops) {
    HostExecutor executor({timeout, {}, {}, true});
    Runner runner(executor, options_of(HandOff::threads, timeout));
    Hang hang;
    RecordingBody body(schedule);
    body.hook = [&](const Op& op) {
      if (same(op, bad)) {
        hang.wait();
      }
    };
    std::string message;
    try {
      runner.run(schedule, body);
    } catch (const TimeoutError& error) {
      message = error.what();
    }
    EXPECT_NE(message.find(std::string(to_string(bad.phase))), std::string::npos)
        << describe_op(0, bad) << ": " << message;
    RecordingBody refused(schedule);
    EXPECT_THROW(runner.run(schedule, refused), TimeoutError) << "the thread is still inside";
    EXPECT_TRUE(refused.compute_records().empty());
    hang.release();  // only now; the time-out was what ended the run
    RecordingBody again(schedule);
    bool ran = false;
    for (int attempt = 0; attempt < 100 && !ran; ++attempt) {
      try {
        runner.run(schedule, again);
        ran = true;
      } catch (const TimeoutError&) {  // the released thread was not given a core in time
      }
    }
    EXPECT_EQ(again.result(), well.result());
  }
}

/// What a thread that is left behind may touch to the end of the process.
struct LeftBehind {
  Schedule schedule = policies().at("dual_batch").make_schedule({{{kMoe}}, WorkPhase::prefill, 2});
  Hang hang;
  std::atomic<bool> inside{false};
  RecordingBody body{schedule};
  std::unique_ptr<HostExecutor> executor;
};

/// Three waits in a row, each of a time-out, would be found by the wall's clock.
TEST(Hang, EndsWithinOneTimeoutOfTheLastOp) {
  static const auto left = std::make_unique<LeftBehind>();
  constexpr std::chrono::milliseconds timeout{2000};
  left->executor = std::make_unique<HostExecutor>(HostExecutorOptions{timeout, {}, {}, true});
  left->body.hook = [](const Op& op) {
    if (same(op, left->schedule.ops[2])) {
      left->hang.wait();
      throw RunError("released");
    }
  };
  Runner runner(*left->executor, options_of(HandOff::threads, timeout));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THROW(runner.run(left->schedule, left->body), TimeoutError);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 2 * timeout);
  left->hang.release();
}

TEST(Hang, RunnerAndExecutorLeaveAStuckThreadBehind) {
  static std::vector<std::unique_ptr<LeftBehind>> kept;
  constexpr std::chrono::milliseconds timeout{50};
  for (const Phase phase : {Phase::route, Phase::dispatch}) {
    kept.push_back(std::make_unique<LeftBehind>());
    LeftBehind& left = *kept.back();
    left.executor = std::make_unique<HostExecutor>(HostExecutorOptions{timeout, {}, {}, true});
    left.body.hook = [&left, phase](const Op& op) {
      if (op.phase == phase && op.ubatch == 1) {
        left.inside.store(true);
        left.hang.wait();
        throw RunError("released");
      }
    };
    {
      Runner runner(*left.executor, options_of(HandOff::threads, timeout));
      EXPECT_THROW(runner.run(left.schedule, left.body), TimeoutError);
    }  // returns, though a thread is inside the body
    if (phase == Phase::dispatch) {
      left.executor.reset();  // as does this
    }
    EXPECT_TRUE(left.inside.load());
    left.hang.release();
  }
}

TEST(Hang, OfACommOpEndsAtOnceWhereItCanBeCancelled) {
  const auto schedule =
      policies().at("dual_batch").make_schedule({{{kShared}}, WorkPhase::prefill, 2});
  Hang hang;
  HostExecutorOptions options;  // a time-out of 60 s, which ctest would notice
  options.cancel_comm = [&hang] { hang.release(); };
  HostExecutor executor(options);
  for (const HandOff hand_off : {HandOff::threads, HandOff::inline_walk}) {
    Runner runner(executor, options_of(hand_off, std::chrono::seconds(60)));
    hang.released.store(false);
    std::atomic<bool> in_comm{false};
    RecordingBody body(schedule);
    body.hook = [&](const Op& op) {
      if (op.phase == Phase::dispatch && op.ubatch == 0) {
        in_comm.store(true);
        hang.wait();
        throw RunError("cancelled");
      }
      if (op.phase == Phase::route && op.ubatch == 1) {
        while (!in_comm.load()) {
          std::this_thread::yield();
        }
        throw std::runtime_error("injected");
      }
    };
    try {
      runner.run(schedule, body);
      FAIL();
    } catch (const OpError& error) {
      EXPECT_EQ(error.place().ubatch, 1);
      EXPECT_EQ(error.place().phase, "route");
    }
    RecordingBody again(schedule);
    runner.run(schedule, again);
  }
}

/// An executor whose calls fail where it is told to.
class FailingExecutor final : public Executor {
 public:
  enum class Place { begin, enqueue, end };

  explicit FailingExecutor(Place place) : place_(place) {}

  void enter_thread(int /*ubatch*/) override {}

  void begin_step(const Schedule&, StepBody&, PassKind, OpTimes*) override { fail(Place::begin); }

  void enqueue(int index) override {
    if (index == 3) {
      fail(Place::enqueue);
    }
  }

  void end_step() override { fail(Place::end); }

  void abort_step() noexcept override { ++aborts; }

  int aborts = 0;
  bool armed = true;

 private:
  void fail(Place place) const {
    if (armed && place == place_) {
      throw std::runtime_error("executor");
    }
  }

  Place place_;
};

TEST(Failure, OfTheExecutorAbortsTheStepOnce) {
  const auto schedule =
      policies().at("dual_batch").make_schedule({{{kMoe}}, WorkPhase::prefill, 2});
  using Place = FailingExecutor::Place;
  for (const Place place : {Place::begin, Place::enqueue, Place::end}) {
    for (const HandOff hand_off : {HandOff::threads, HandOff::inline_walk}) {
      FailingExecutor executor(place);
      Runner runner(executor, options_of(hand_off, std::chrono::seconds(60)));
      RecordingBody body(schedule);
      EXPECT_THROW(runner.run(schedule, body), std::runtime_error);
      EXPECT_EQ(executor.aborts, 1);
      executor.armed = false;
      runner.run(schedule, body);
      EXPECT_EQ(executor.aborts, 1);
    }
  }
}

}  // namespace
}  // namespace dovetail
