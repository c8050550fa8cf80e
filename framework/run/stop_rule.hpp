// Ends the timed iterations of a run once the step times of its policies are known as precisely as
// `execution.precision` asks for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "framework/run/run_context.hpp"

namespace dovetail {

/// Keeps what the slowest ranks took. All ranks decide alike: on rank 0's word.
class StopRule {
 public:
  /// `precision`: 0 = no rule. `run` outlives it.
  StopRule(const RunContext& run, double precision, std::size_t num_policies)
      : run_(run), precision_(precision), policies_(num_policies) {}

  bool is_on() const { return precision_ > 0; }

  /// Behind a round of a policy's timed iterations, whole ones of `steps_per_iteration` steps: this
  /// rank's step times. Collective over the world.
  void add(std::size_t policy, std::vector<std::int64_t> step_ns, std::size_t steps_per_iteration);

  /// Whether all policies are measured precisely enough, by their rounds. Collective over the
  /// world.
  bool is_enough() const;

 private:
  bool agree(bool own) const;

  const RunContext& run_;
  double precision_;
  std::vector<std::vector<double>> policies_;  ///< [policy][round], medians, ns
};

}  // namespace dovetail
