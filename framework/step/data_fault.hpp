// Data faults: what makes the results of one op wrong while the run goes on, so that the checks of
// results can be tried. ModelStep calls these where they act, executors let them change the waits
// between lanes.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/comm/exchange/exchange.hpp"
#include "framework/config/fault_config.hpp"
#include "framework/exec/lane_edges.hpp"
#include "framework/plan/schedule.hpp"
#include "framework/step/model.hpp"

namespace dovetail {

/// The two ops between which a fault of waits acts, as indices into a schedule's ops.
struct LaneFaultOps {
  int reader = 0;  ///< starts before it may, or reads what was overwritten
  int other = 0;   ///< skipped_wait: what it would have waited for; early_reuse: what overwrites
};

/// Where skipped_wait or early_reuse acts in a schedule; nothing where it cannot: the op is not
/// there, waits for no op of the other lane, or has no exchange of the same phase of another ubatch
/// between itself and its reader.
std::optional<LaneFaultOps> find_lane_fault(const FaultConfig& fault, const Schedule& schedule);

/// One data fault on the rank that it names. On a GPU what it changes is chosen by a flag in device
/// memory, so that a captured step has the fault only in the replays of its iteration. The
/// exception is skipped_wait in a step captured as one graph, which lacks the wait in every replay.
///
/// Calls between steps come from the main thread, the others from the thread that runs the op. What
/// they enqueue goes to the current stream.
class DataFault {
 public:
  DataFault(const FaultConfig& fault, at::Device device);

  /// Whether the steps from now on are of the fault's iteration. Between steps; the caller waits
  /// for the device before the next one.
  void set_active(bool is_active);

  /// Whether the ops from now on are captured.
  void set_capturing(bool is_capturing) { is_capturing_ = is_capturing; }

  /// What keeps the op back that skipped_wait does not wait for, at its head: as of InjectedFault.
  /// Unset, on the CPU: a wait for the end of the op that starts too early.
  void set_delay(std::function<void(std::chrono::nanoseconds)> delay) { delay_ = std::move(delay); }

  /// Whether the fault has happened, or is part of a captured step.
  bool has_acted() const { return has_acted_; }

  /// At the beginning of a step, on the edges that find_lane_edges has found for the pass.
  void change_edges(const Schedule& schedule, PassKind pass, LaneEdges& edges);

  /// Before and behind every op of a full pass, whatever becomes of it.
  void before(const Op& op);
  void after(const Op& op) noexcept;

  /// True for the op at which the fault is.
  bool is_at(int layer, int ubatch, Phase phase) const;

  /// The same, and of the fault's group.
  bool is_at(const Op& op) const;

  // At the op: each does nothing where the fault is of another kind.

  /// wrong_position: before embed.
  void change_positions(UbatchInputs& inputs);

  /// Model::attention; stale_kv: the token's keys and values go to a page that nobody reads.
  void attend(const Model& model, int layer, UbatchState& state, KvCache& cache);

  /// wrong_expert and dropped_weight: behind route, of the router's own choice.
  void change_routing(UbatchState& state, int num_experts);

  /// wrong_expert, as the exchange gets the choices that the router has made.
  at::Tensor changed_experts(const at::Tensor& expert_ids, int num_experts);

  /// flipped_element and, of combined rows, swapped_tokens: rows [T, H] as the op leaves them.
  at::Tensor changed_rows(const at::Tensor& rows);

  // Behind every dispatch and combine.

  /// stale_buffer: what the same op of the layer before has received is there again.
  void change_received(const Op& op, Exchange& exchange);

  /// early_reuse.
  void reuse_received(const Op& op, Exchange& exchange);

 private:
  bool acts() const { return is_active_ || is_capturing_ || active_.is_cuda(); }

  void note_acted();
  void keep_received(const Op& op, Exchange& exchange);
  void restore_received(const Op& op, Exchange& exchange);
  at::Tensor choose(const at::Tensor& changed, const at::Tensor& right) const;
  std::int64_t place_of_choice(std::int64_t top_k) const;

  const FaultConfig fault_;
  const std::optional<Phase> phase_;
  at::Tensor active_;  ///< bool, without dimensions
  bool is_active_ = false;
  bool is_capturing_ = false;
  std::atomic<bool> has_acted_{false};
  std::vector<at::Tensor> received_;  ///< what the buffers held behind the layer before
  std::function<void(std::chrono::nanoseconds)> delay_;
  // Of the step, where the fault is one of waits.
  std::optional<Op> reader_;
  std::optional<Op> other_;
  std::atomic<bool> reader_has_ended_{false};
};

}  // namespace dovetail
