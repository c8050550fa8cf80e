#include "framework/exec/simulated_executor.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "framework/base/check.hpp"
#include "framework/exec/lane_edges.hpp"
#include "framework/exec/op_failure.hpp"

namespace dovetail {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

/// The op that a lane is in.
struct LaneWork {
  int index = -1;           ///< -1 = idle
  double remaining_ns = 0;  ///< time left if it ran alone

  bool running() const { return index >= 0; }
};

class Simulation {
 public:
  Simulation(const Schedule& schedule,
             const OpCost& cost,
             const SimulationOptions& options,
             PassKind pass)
      : schedule_(schedule), cost_(cost), options_(options), pass_(pass) {
    DOVETAIL_CHECK(options.compute_contention >= 1 && options.comm_contention >= 1,
                   "contention factors are at least 1");
    DOVETAIL_CHECK(options.hand_off_ns >= 0, "hand_off_ns is at least 0");
    step_.times.reset(schedule.ops.size());
    done_.assign(schedule.ops.size(), false);
    find_lane_edges(schedule, pass, edges_);
  }

  SimulatedStep run() {
    do {
      start_what_can_start();
    } while (advance());
    DOVETAIL_CHECK_EQ(next_, schedule_.ops.size());
    step_.total_ns = to_ns(now_);
    return std::move(step_);
  }

 private:
  static std::int64_t to_ns(double time) { return static_cast<std::int64_t>(std::llround(time)); }

  const Op& op(std::size_t index) const { return schedule_.ops[index]; }

  double cost_of(std::size_t index) const {
    const double ns = cost_(op(index));
    DOVETAIL_CHECK(ns >= 0 && std::isfinite(ns),
                   "cost of " + describe_op(static_cast<int>(index), op(index)));
    return ns;
  }

  void start(LaneWork& lane, std::size_t index) {
    lane = {static_cast<int>(index), cost_of(index)};
    step_.times.start_ns[index] = to_ns(now_);
  }

  /// The thread reaches op next_, once, after the hand-over if there is one.
  void reach() {
    if (reached_ || next_ >= schedule_.ops.size()) {
      return;
    }
    const bool hand_over = next_ > 0 && op(next_ - 1).ubatch != op(next_).ubatch;
    free_at_ = now_ + (hand_over ? options_.hand_off_ns : 0);
    step_.times.enqueued_ns[next_] = to_ns(free_at_);
    step_.times.hand_off_wait_ns[next_] = hand_over ? to_ns(options_.hand_off_ns) : 0;
    reached_ = true;
  }

  bool waits_done(std::size_t index) const {
    const int wait = edges_.wait_for[index];
    return wait < 0 || done_[static_cast<std::size_t>(wait)];
  }

  void leave(std::size_t index) {
    reached_ = false;
    next_ = index + 1;
  }

  void start_what_can_start() {
    for (;;) {
      if (!comm_.running() && comm_queue_at_ < comm_queue_.size()) {
        start(comm_, comm_queue_[comm_queue_at_++]);
      }
      if (compute_.running() || next_ >= schedule_.ops.size()) {
        return;
      }
      reach();
      if (now_ < free_at_) {
        return;
      }
      const std::size_t index = next_;
      if (!runs_in(pass_, op(index).phase)) {
        leave(index);
      } else if (op(index).lane == Lane::comm) {
        comm_queue_.push_back(index);
        leave(index);
      } else if (waits_done(index)) {
        start(compute_, index);
      } else {
        return;
      }
    }
  }

  void finish(LaneWork& lane) {
    const auto index = static_cast<std::size_t>(lane.index);
    step_.times.end_ns[index] = to_ns(now_);
    done_[index] = true;
    lane = {};
  }

  /// Moves to the next event. False when nothing is left to happen.
  bool advance() {
    const bool both = compute_.running() && comm_.running();
    const double compute_factor = both ? options_.compute_contention : 1.0;
    const double comm_factor = both ? options_.comm_contention : 1.0;
    const double compute_left =
        compute_.running() ? compute_.remaining_ns * compute_factor : kNever;
    const double comm_left = comm_.running() ? comm_.remaining_ns * comm_factor : kNever;
    const double hand_off_left =
        !compute_.running() && reached_ && free_at_ > now_ ? free_at_ - now_ : kNever;
    const double elapsed = std::min({compute_left, comm_left, hand_off_left});
    if (elapsed == kNever) {
      return false;
    }
    now_ = elapsed == hand_off_left ? free_at_ : now_ + elapsed;
    compute_.remaining_ns = std::max(0.0, compute_.remaining_ns - elapsed / compute_factor);
    comm_.remaining_ns = std::max(0.0, comm_.remaining_ns - elapsed / comm_factor);
    if (comm_left == elapsed) {
      finish(comm_);
    }
    if (compute_left == elapsed) {
      const auto index = static_cast<std::size_t>(compute_.index);
      finish(compute_);
      leave(index);
    }
    return true;
  }

  const Schedule& schedule_;
  const OpCost& cost_;
  const SimulationOptions& options_;
  const PassKind pass_;
  SimulatedStep step_;
  LaneEdges edges_;
  std::vector<bool> done_;
  double now_ = 0;
  std::size_t next_ = 0;  ///< the op that the thread with the baton is at
  bool reached_ = false;  ///< it has got the baton for that op, at free_at_
  double free_at_ = 0;
  LaneWork compute_;
  LaneWork comm_;
  std::vector<std::size_t> comm_queue_;
  std::size_t comm_queue_at_ = 0;
};

}  // namespace

double CostTable::operator()(const Op& op) const {
  const auto ubatch = static_cast<std::size_t>(op.ubatch);
  const auto layer = static_cast<std::size_t>(op.layer);
  DOVETAIL_CHECK(op.ubatch >= 0 && ubatch < ubatch_tokens.size(),
                 "no token count for ubatch " + std::to_string(op.ubatch));
  DOVETAIL_CHECK(op.layer == kNoLayer || layer < layers.size(),
                 "no layer " + std::to_string(op.layer));
  const bool in_dense_layer = op.layer != kNoLayer && !layers[layer].is_moe;
  const PhaseCost& cost = (in_dense_layer ? dense : moe).at(static_cast<std::size_t>(op.phase));
  const double share = op.group == kNoGroup ? 1.0 : 1.0 / num_groups;
  return cost.fixed_ns + share * cost.per_token_ns * static_cast<double>(ubatch_tokens[ubatch]);
}

SimulatedStep simulate(const Schedule& schedule,
                       const OpCost& cost,
                       const SimulationOptions& options,
                       PassKind pass) {
  return Simulation(schedule, cost, options, pass).run();
}

SimulatedExecutor::SimulatedExecutor(OpCost cost, SimulationOptions options)
    : cost_(std::move(cost)), options_(options) {}

void SimulatedExecutor::enter_thread(int /*ubatch*/) {}

void SimulatedExecutor::begin_step(const Schedule& schedule,
                                   StepBody& body,
                                   PassKind pass,
                                   OpTimes* times) {
  schedule_ = &schedule;
  body_ = &body;
  pass_ = pass;
  times_ = times;
}

void SimulatedExecutor::enqueue(int index) {
  const Op& op = schedule_->ops.at(static_cast<std::size_t>(index));
  if (!runs_in(pass_, op.phase)) {
    return;
  }
  try {
    body_->run(op);
  } catch (...) {
    rethrow_from_op(op);
  }
}

void SimulatedExecutor::end_step() {
  SimulatedStep step = simulate(*schedule_, cost_, options_, pass_);
  total_ns_ = step.total_ns;
  if (times_ != nullptr) {
    *times_ = std::move(step.times);
  }
}

void SimulatedExecutor::abort_step() noexcept {
  schedule_ = nullptr;
  body_ = nullptr;
  times_ = nullptr;
}

}  // namespace dovetail
