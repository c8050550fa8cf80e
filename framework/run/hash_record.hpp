// From the tensors that steps have left to /hash of a rank file.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "framework/plan/workload.hpp"
#include "framework/record/recorder.hpp"
#include "framework/step/iteration.hpp"
#include "framework/step/step_hash.hpp"

namespace dovetail {

/// Hashes what the steps of a policy leave, and records it. Main thread; local; outside of what is
/// timed. `schedules` are those of an iteration's steps, as indices into /schedule.
class HashRecord {
 public:
  /// Everything outlives it; the tensors stay where they are.
  HashRecord(const RankWorkload& workload,
             Iteration& iteration,
             const std::vector<StepOutputs>& outputs,
             RankRecorder& recorder);

  /// Keys and values that no step may write, before and behind the policy's steps: in each turn
  /// between those of other policies, which have the same cache, what its own have changed. Turns
  /// begin and end by turns; the first begin and the end of all are recorded.
  void begin_turn();
  void end_turn();
  void write_untouched_after();

  /// Behind the last step of an iteration of this variant, so that what a step does to the results
  /// of earlier ones is seen.
  void write_timed(int iteration, int variant, const std::vector<int>& schedules);
  void write_poisoned(int variant, const std::vector<int>& schedules);

  /// Behind the full pass of a profiled step.
  void write_profiled(int index, int variant, int step, int schedule);

 private:
  HashRow row(int variant, std::size_t step, int schedule) const;

  const RankWorkload& workload_;
  const StepHasher hasher_;
  RankRecorder& recorder_;
  std::optional<std::int64_t> first_;  ///< hash of the untouched
  std::int64_t turn_ = 0;              ///< likewise, at the begin of this turn
  std::uint64_t change_ = 0;           ///< of all turns, added up
};

}  // namespace dovetail
