// What a policy runs behind timed iterations: profiled ones, and at its end an iteration of each
// variant over poisoned exchange buffers.
#pragma once

#include "framework/exec/op_times.hpp"
#include "framework/run/hash_record.hpp"
#include "framework/run/policy_run.hpp"
#include "framework/run/policy_steps.hpp"

namespace dovetail {

/// Views only: everything outlives it. Calls are collective over the world, from the main thread.
class PolicyChecks {
 public:
  PolicyChecks(const PolicyRunSetup& setup,
               PolicySteps& steps,
               RankRecorder& recorder,
               HashRecord& hashes)
      : setup_(setup), steps_(steps), recorder_(recorder), hashes_(hashes) {}

  /// One more iteration of each variant, whose result must be that of the timed ones although what
  /// the exchange has used is gone at once. Nothing where nothing is verified.
  void run_with_poisoned_exchange();

  /// The profiled iterations from `first` to before `end`. What they leave behind in outputs and
  /// cache is of passes that leave something out. Returns by how much the ends of ops may be too
  /// late at most, in ns (OpTimes::doubt_ns).
  std::int64_t profile(int first, int end);

 private:
  int num_steps() const { return static_cast<int>(setup_.workload.steps_per_iteration()); }

  int step_of(int variant, int step) const { return variant * num_steps() + step; }

  /// The place of a profiled step.
  struct Place {
    int variant = 0;
    int step = 0;
    int iteration = 0;  ///< counted on behind all timed ones, for injected faults
    int index = 0;      ///< in the file
  };

  /// A pass that has run.
  struct PassRun {
    int schedule = 0;
    std::int64_t start_ns = 0;
    std::int64_t end_ns = 0;
    StepReport report;
  };

  void profiled_step(const Place& place, bool is_recorded_first);
  StepReport profiled_pass(const Place& place, ProfilePass pass, bool is_gated = false);
  PassRun run_pass(const Place& place, ProfilePass pass, bool is_gated);

  const PolicyRunSetup& setup_;
  PolicySteps& steps_;
  RankRecorder& recorder_;
  HashRecord& hashes_;
  OpTimes times_;
  std::int64_t most_doubt_ns_ = 0;
};

}  // namespace dovetail
