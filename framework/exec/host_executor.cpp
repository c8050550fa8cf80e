#include "framework/exec/host_executor.hpp"

#include <algorithm>
#include <atomic>
#include <exception>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "framework/base/check.hpp"
#include "framework/base/clock.hpp"
#include "framework/base/error.hpp"
#include "framework/base/log.hpp"
#include "framework/exec/lane_edges.hpp"
#include "framework/exec/op_failure.hpp"
#include "framework/exec/parker.hpp"

namespace dovetail {
namespace {

/// Some microseconds: a short exchange ends within them, a long one does not pay for a spin.
constexpr int kLaneSpins = 200;

}  // namespace

/// The comm lane needs no queue: its order is the order of the comm ops in the schedule, so two
/// counters say which of them the enqueuing threads have published and which the worker has
/// finished.
struct HostExecutor::Impl {
  explicit Impl(HostExecutorOptions executor_options) : options(std::move(executor_options)) {}

  Parker worker_parker;  ///< the worker sleeps here
  Parker lane_parker;    ///< whoever waits for the worker; one at a time
  const HostExecutorOptions options;

  // One step; written by begin_step while the worker is idle.
  const Schedule* schedule = nullptr;
  StepBody* body = nullptr;
  PassKind pass = PassKind::full;
  OpTimes* times = nullptr;
  LaneEdges edges;
  std::vector<int> comm_ops;    ///< indices of the ops that the worker runs, in order
  std::vector<int> comm_ranks;  ///< [ops]: position in comm_ops, -1 = not run by the worker
  int next_index = 0;           ///< of the op that enqueue expects; handed on with the baton

  std::atomic<int> published{0};
  std::atomic<int> finished{0};
  std::atomic<bool> halted{false};  ///< abort_step: start nothing more
  std::atomic<bool> busy{false};    ///< the worker is about to look for, or inside, an op
  std::atomic<bool> failed{false};
  std::atomic<bool> stop{false};
  std::exception_ptr failure;  ///< valid once failed
  std::thread worker;
  std::atomic<bool> worker_ended{false};

  Parker::Deadline deadline() const { return std::chrono::steady_clock::now() + options.timeout; }

  int spins() const { return options.may_spin ? kLaneSpins : 0; }

  const Op& op(int index) const { return schedule->ops[static_cast<std::size_t>(index)]; }

  int comm_rank(int index) const { return comm_ranks[static_cast<std::size_t>(index)]; }

  void run_op(int index) {
    if (times != nullptr) {
      times->start_ns[static_cast<std::size_t>(index)] = now_ns();
    }
    if (options.board != nullptr) {
      options.board->begin(op(index));
    }
    try {
      body->run(op(index));
    } catch (...) {
      rethrow_from_op(op(index));
    }
    if (options.board != nullptr) {
      options.board->end(op(index));
    }
    if (times != nullptr) {
      times->end_ns[static_cast<std::size_t>(index)] = now_ns();
    }
  }

  /// `halted` is read first: abort_step sets it before and clears it after it resets the counters.
  bool may_run() const {
    return !halted.load() && !failed.load() && published.load() > finished.load();
  }

  void record_failure() {
    failure = std::current_exception();
    failed.store(true);
  }

  void work() noexcept {
    bool entered = !options.thread_init;
    for (;;) {
      busy.store(false);
      lane_parker.wake();
      worker_parker.wait_idle([this] { return stop.load() || may_run(); });
      if (stop.load()) {
        break;
      }
      busy.store(true);
      if (!may_run()) {
        continue;
      }
      try {
        if (!entered) {
          options.thread_init(kCommThread);
          entered = true;
        }
        run_op(comm_ops[static_cast<std::size_t>(finished.load())]);
        finished.fetch_add(1);
      } catch (...) {
        record_failure();
      }
    }
    worker_ended.store(true);
    lane_parker.wake();
  }

  void rethrow_failure() const {
    if (failed.load()) {
      std::rethrow_exception(failure);
    }
  }

  /// Returns when the worker has finished comm_ops[rank]; throws its failure.
  void wait_for_comm(int rank, const std::string& waiting) {
    const auto done = [this, rank] { return finished.load() > rank || failed.load(); };
    if (!done() && !lane_parker.wait(done, spins(), deadline())) {
      const int stuck = comm_ops[static_cast<std::size_t>(std::min(finished.load(), rank))];
      throw TimeoutError(waiting + " waited " + std::to_string(options.timeout.count()) +
                         " ms for the comm lane, which is at " + describe_op(stuck, op(stuck)));
    }
    rethrow_failure();
  }

  bool wait_until_idle() {
    return lane_parker.wait([this] { return !busy.load(); }, spins(), deadline());
  }

  /// Stops the worker between two ops and drops what is published. False: it is still inside one.
  bool reset_lane() {
    halted.store(true);
    if (!wait_until_idle()) {
      return false;
    }
    published.store(0);
    finished.store(0);
    failure = nullptr;
    failed.store(false);
    halted.store(false);
    return true;
  }
};

HostExecutor::HostExecutor(HostExecutorOptions options)
    : impl_(std::make_shared<Impl>(std::move(options))) {}

HostExecutor::~HostExecutor() {
  if (!impl_->worker.joinable()) {
    return;
  }
  impl_->stop.store(true);
  impl_->worker_parker.wake();
  if (impl_->lane_parker.wait(
          [this] { return impl_->worker_ended.load(); }, 0, impl_->deadline())) {
    impl_->worker.join();
    return;
  }
  log_line("the comm worker is still inside an op; its thread is left behind");
  impl_->worker.detach();
}

void HostExecutor::enter_thread(int ubatch) {
  if (impl_->options.thread_init) {
    impl_->options.thread_init(ubatch);
  }
}

void HostExecutor::begin_step(const Schedule& schedule,
                              StepBody& body,
                              PassKind pass,
                              OpTimes* times) {
  Impl& impl = *impl_;
  if (impl.worker.joinable() && !impl.reset_lane()) {
    throw TimeoutError("the comm worker is still inside an op of an earlier step");
  }
  impl.schedule = &schedule;
  impl.body = &body;
  impl.pass = pass;
  impl.times = times;
  impl.next_index = 0;
  find_lane_edges(schedule, pass, impl.edges);
  if (impl.options.change_edges) {
    impl.options.change_edges(schedule, pass, impl.edges);
  }
  impl.comm_ops.clear();
  impl.comm_ranks.assign(schedule.ops.size(), -1);
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    const Op& op = schedule.ops[i];
    if (op.lane == Lane::comm && runs_in(pass, op.phase)) {
      impl.comm_ranks[i] = static_cast<int>(impl.comm_ops.size());
      impl.comm_ops.push_back(static_cast<int>(i));
    }
  }
  if (!impl.comm_ops.empty() && !impl.worker.joinable()) {
    impl.worker = std::thread([shared = impl_] { shared->work(); });
  }
}

void HostExecutor::enqueue(int index) {
  Impl& impl = *impl_;
  impl.rethrow_failure();
  DOVETAIL_CHECK_EQ(index, impl.next_index);
  ++impl.next_index;
  const Op& op = impl.op(index);
  if (!runs_in(impl.pass, op.phase)) {
    return;
  }
  if (op.lane == Lane::comm) {
    // What it must wait for on the compute lane is done: it ran inside earlier calls. The worker's
    // order meets its waits for comm ops.
    impl.published.store(impl.comm_rank(index) + 1);
    impl.worker_parker.wake();
    return;
  }
  const int wait = impl.edges.wait_for[static_cast<std::size_t>(index)];
  if (wait >= 0 && impl.comm_rank(wait) >= impl.finished.load()) {
    impl.wait_for_comm(impl.comm_rank(wait), describe_op(index, op));
  }
  impl.run_op(index);
}

void HostExecutor::end_step() {
  Impl& impl = *impl_;
  DOVETAIL_CHECK_EQ(impl.next_index, static_cast<int>(impl.schedule->ops.size()));
  const int num_comm_ops = static_cast<int>(impl.comm_ops.size());
  if (num_comm_ops > 0) {
    impl.wait_for_comm(num_comm_ops - 1, "the end of the step");
  }
}

void HostExecutor::abort_step() noexcept {
  if (!impl_->worker.joinable()) {
    return;
  }
  try {
    impl_->halted.store(true);
    if (impl_->busy.load() && impl_->options.cancel_comm) {
      impl_->options.cancel_comm();
    }
    if (!impl_->reset_lane()) {
      log_line("the comm worker is still inside an op after a failed step");
    }
  } catch (...) {
    log_line("the comm lane could not be stopped after a failed step");
  }
}

}  // namespace dovetail
