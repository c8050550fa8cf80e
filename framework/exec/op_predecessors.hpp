// Behind the ends of which ops an op of a captured step starts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/exec/lane_edges.hpp"
#include "framework/plan/happens_before.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// Of one pass over a schedule, with the edges that its graph has. Which ops are empty is found out
/// while the ops are enqueued, in their order. Not thread-safe.
class OpPredecessors {
 public:
  /// `schedule` and `edges` are copied.
  OpPredecessors(const Schedule& schedule, PassKind pass, const LaneEdges& edges);
  ~OpPredecessors() = default;
  OpPredecessors(OpPredecessors&&) noexcept = default;
  OpPredecessors& operator=(OpPredecessors&&) noexcept = default;
  OpPredecessors(const OpPredecessors&) = delete;
  OpPredecessors& operator=(const OpPredecessors&) = delete;

  /// The ops behind whose ends `op` starts; none of them comes before another one. An empty op is
  /// not among them: what it starts behind stands for it.
  std::vector<int> of(std::size_t op) const;

  /// Whether an empty op is right before `op`: on its lane, or the one that it waits for.
  bool has_empty(std::size_t op) const;

  /// `op` has enqueued no work (a dispatch of one rank), so it ends as it starts. It does not count
  /// as empty where nothing is before it.
  void set_empty(std::size_t op);

  bool is_empty(std::size_t op) const { return is_empty_[op] != 0; }

  /// The op that `op` follows at once; -1 = none: nothing but the end of that one can hold it back.
  /// An op of the comm lane follows none where a compute op may run beside it: its first kernel may
  /// have to wait for SMs, and this wait is part of the op, not of the one before. (Ops of the comm
  /// lane leave most SMs free, so a compute op beside them begins at once.)
  int followed_by(std::size_t op) const;

 private:
  bool has_compute_beside(std::size_t op) const;

  PassKind pass_;
  LaneEdges edges_;
  std::vector<Op> ops_;  ///< with the waits that the graph has
  HappensBefore comes_before_;
  std::vector<std::uint8_t> is_empty_;      ///< [ops]
  std::vector<std::vector<int>> stand_in_;  ///< [ops] of empty ops: what they start behind
};

}  // namespace dovetail
