// What the ops of a step do. The runner and the executors know ops only; a step body knows model,
// exchange and batch.
#pragma once

#include "framework/plan/schedule.hpp"

namespace dovetail {

/// Implemented by the model step (framework/step) and by fakes in tests.
class StepBody {
 public:
  virtual ~StepBody() = default;

  /// Runs one op to its end (host executor) or enqueues it (CUDA executor).
  /// Thread: compute-lane ops run on the thread that holds the baton, one at a time; comm-lane ops
  /// on the comm worker, one at a time, beside a compute op. Ops that are ordered by waits or by
  /// lane happen-before one another. Collective for dispatch and combine over the ep group. Throws
  /// on failure; the caller adds ubatch, layer and phase.
  virtual void run(const Op& op) = 0;
};

}  // namespace dovetail
