// The sum of SumOrder::by_expert. The experts of a layer are cut into blocks of neighbours, as many
// as the greatest power of two that divides their number, 256 at most. The blocks are the leaves of
// a complete binary tree. The rows of a token's experts in one block are added in ascending order
// of the experts, and the sum is rounded to the activation dtype; where two nodes meet that have
// rows, they are added, left first, and rounded again. So a node has the same bits whichever ranks
// hold its parts. For host and device.
#pragma once

#include <cstdint>

#include "framework/base/host_device.hpp"

namespace dovetail {

inline constexpr int kTreeLevels = 8;

DOVETAIL_HOST_DEVICE constexpr int num_tree_blocks(int num_experts) {
  const int power_of_two = num_experts & -num_experts;
  return power_of_two < (1 << kTreeLevels) ? power_of_two : 1 << kTreeLevels;
}

/// Whether each of `ranks` ranks with equal shares of neighbouring experts holds a subtree.
DOVETAIL_HOST_DEVICE constexpr bool hold_subtrees(int ranks, int num_experts) {
  return num_tree_blocks(num_experts) % ranks == 0;
}

/// Of two leaves, or of any two neighbours in one level: the level in which they meet, 0 = they are
/// siblings; -1 where they are one.
DOVETAIL_HOST_DEVICE constexpr int meeting_level(int left, int right) {
  int level = -1;
  for (auto different = static_cast<unsigned>(left ^ right); different != 0; different /= 2) {
    ++level;
  }
  return level;
}

/// The level in which the blocks of two experts meet; -1 where it is one block.
DOVETAIL_HOST_DEVICE constexpr int meeting_level_of_experts(int left, int right, int num_experts) {
  const int per_block = num_experts / num_tree_blocks(num_experts);
  return meeting_level(left / per_block, right / per_block);
}

/// Memory of a TreeSum for nodes that wait for their right sibling, the thread's own.
template <class Number, int N>
struct LocalNodes {
  typename Number::Stored nodes[kTreeLevels][N];

  DOVETAIL_HOST_DEVICE auto& at(int level) { return nodes[level]; }
};

/// N neighbouring elements of a sum. Number: `Stored`, the activation dtype, with
/// `Stored narrow(float)` and `float widen(Stored)`. Nodes: `Stored (&at(int level))[N]`, the place
/// of a node that waits; a kernel keeps them in shared memory, because registers for all levels
/// leave too few threads to hide the latency of loads. One thread.
template <class Number, int N, class Nodes = LocalNodes<Number, N>>
class TreeSum {
 public:
  using Stored = typename Number::Stored;

  DOVETAIL_HOST_DEVICE explicit TreeSum(Nodes nodes = {}) : nodes_(nodes) {}

  /// Terms come in ascending order of their experts; `level` is that in which the term meets the
  /// one before, of no meaning for the first.
  DOVETAIL_HOST_DEVICE void add(int level, const float (&term)[N]) {
    if (started_ && level < 0) {
      DOVETAIL_UNROLL
      for (int n = 0; n < N; ++n) {
        current_[n] = sum(current_[n], term[n]);
      }
      return;
    }
    if (started_) {
      complete(level);
      auto& waiting = nodes_.at(level);
      DOVETAIL_UNROLL
      for (int n = 0; n < N; ++n) {
        waiting[n] = Number::narrow(current_[n]);
      }
      waiting_ |= 1U << level;
    }
    started_ = true;
    DOVETAIL_UNROLL
    for (int n = 0; n < N; ++n) {
      current_[n] = term[n];
    }
  }

  /// Zeros where nothing was added. The sum ends.
  DOVETAIL_HOST_DEVICE void finish(Stored (&result)[N]) {
    complete(kTreeLevels);
    DOVETAIL_UNROLL
    for (int n = 0; n < N; ++n) {
      result[n] = Number::narrow(current_[n]);
    }
  }

 private:
  DOVETAIL_HOST_DEVICE static float sum(float a, float b) {
#if defined(__CUDA_ARCH__)
    return __fadd_rn(a, b);  // never fused with the product that made b
#else
    return a + b;
#endif
  }

  /// The current node grows to the one below `level`: it meets all that wait in lower levels.
  DOVETAIL_HOST_DEVICE void complete(int level) {
    DOVETAIL_UNROLL
    for (int n = 0; n < N; ++n) {
      current_[n] = Number::widen(Number::narrow(current_[n]));
    }
    for (int below = 0; below < level && (waiting_ >> below) != 0; ++below) {
      if (((waiting_ >> below) & 1U) == 0) {
        continue;
      }
      const auto& left = nodes_.at(below);
      DOVETAIL_UNROLL
      for (int n = 0; n < N; ++n) {
        current_[n] = Number::widen(Number::narrow(sum(Number::widen(left[n]), current_[n])));
      }
      waiting_ &= ~(1U << below);
    }
  }

  Nodes nodes_;
  float current_[N] = {};
  unsigned waiting_ = 0;  ///< bit l: nodes_.at(l) is one
  bool started_ = false;
};

}  // namespace dovetail
