// What a step leaves, as three numbers: the bits of its outputs, of the keys and values that it
// wrote, of its routing. Iterations that did the same have the same numbers.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/plan/workload.hpp"
#include "framework/record/schema.hpp"
#include "framework/step/iteration.hpp"
#include "framework/step/row_hash.hpp"
#include "framework/step/step_inputs.hpp"

namespace dovetail {

/// Hashes of the real rows of a rank's steps, each by its request and position: padding does not
/// enter, nor does it matter in which row, or on which rank, a token is. Refers to the tensors of
/// `iteration` and `outputs`, which outlive it and stay where they are. Main thread only; on a GPU
/// on the current stream, which has waited for the step.
class StepHasher {
 public:
  /// `outputs`: of each step of the workload, as make_outputs.
  StepHasher(const RankWorkload& workload,
             Iteration& iteration,
             const std::vector<StepOutputs>& outputs);

  /// After a step has finished: every output that is kept, keys and values at its slots in all
  /// layers, the routing that is kept. `step` counts over all variants.
  StepHash of_step(std::size_t step) const;

  /// Of all keys and values that no step of any variant writes: contexts, and slots of nobody.
  std::int64_t of_untouched() const;

 private:
  std::vector<RowHasher> steps_;
  RowHasher untouched_;
};

}  // namespace dovetail
