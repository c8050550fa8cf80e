// One policy of an experiment on this rank: begun, run for rounds of timed iterations, concluded.
// Between the calls other policies may run. Each step comes after an agreement of all ranks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "framework/exec/host_lead.hpp"
#include "framework/record/recorder.hpp"
#include "framework/run/resolve.hpp"
#include "framework/run/run_context.hpp"
#include "framework/step/iteration.hpp"
#include "framework/step/rank_device.hpp"
#include "framework/step/step_driver.hpp"

namespace dovetail {

class ClockRecord;
class HashRecord;
class PolicyEngine;

/// What the run of a policy uses and does not own; everything outlives the run.
struct PolicyRunSetup {
  const RunContext& run;
  const PolicyConfig& policy;
  const ResolvedPolicy& resolved;
  RankDevice& device;
  const Model& model;  ///< of any numerics
  const RankWorkload& workload;
  const GivenInputs& given;
  Iteration& iteration;
  std::vector<StepOutputs>& outputs;  ///< of each step
  int num_rounds = 1;
  /// Called after each warm-up and timed iteration, outside of what is timed; may be empty.
  std::function<void(int finished, int all)> on_iteration;
  /// Called where the run ends with a failure of this policy, before the process does; may be
  /// empty.
  std::function<void(const std::string& problem)> on_failure;
};

/// A part of a policy's timed iterations.
struct PolicyRound {
  int index = 0;
  int place = 0;  ///< of the policy in the round's order
  int end = 0;    ///< of the iterations
};

/// Owns the policy's engine: driver, threads, graphs. All calls are collective over the world, from
/// the main thread. On a failure the recorder's file is marked failed, all ranks are told, and the
/// process ends: threads of the step may be stuck, so nothing is unwound.
class PolicyRun {
 public:
  /// Starts nothing. `setup` is copied.
  PolicyRun(const PolicyRunSetup& setup, RankRecorder& recorder);
  ~PolicyRun();
  PolicyRun(const PolicyRun&) = delete;
  PolicyRun& operator=(const PolicyRun&) = delete;
  PolicyRun(PolicyRun&&) = delete;
  PolicyRun& operator=(PolicyRun&&) = delete;

  /// Makes the engine, fills the context unless it is filled, warms up.
  void begin();

  /// An untimed iteration of each variant: its outputs are there behind it.
  void run_each_variant();

  /// The timed iterations of a round, which begins where the last one has ended; in each but the
  /// first of the policy behind a short warm-up (kRoundWarmup). Returns whether a rank was asked to
  /// stop: that iteration was finished, the others are not run.
  bool run_round(const PolicyRound& round);

  /// Records what the timed iterations have left: outputs of the last one of each variant, traffic
  /// of the last one. Straight behind the last round: other policies write into the same cache.
  void record_timed();

  /// Behind a round that is not the last one: its share of the profiled iterations, so that they
  /// are of the times of the timed ones, and an untimed iteration of each variant, which brings
  /// back outputs and cache. Nothing without `record.timing: ops`.
  void profile_round(int round);

  /// Other policies run before the next call. `frees_engine`: that call makes another and warms it
  /// up in full.
  void leave(bool frees_engine);

  /// Iterations whose result must be that of the timed ones, and the other profiled ones; records
  /// what is of all steps and finishes the file. Without the iterations where `stopped`; a policy
  /// that is short of timed ones has the status `stopped` then. `is_enough`: the timed ones were
  /// ended early (execution.precision).
  void conclude(bool stopped, bool is_enough = false);

  /// This rank's step times of the timed iterations since the last call.
  std::vector<std::int64_t> take_step_ns() { return std::exchange(step_ns_, {}); }

 private:
  template <class Work>
  void guarded(Work work);

  void enter();

  /// The profiled iterations that have not run, to before `end`.
  void profile_until(int end);

  PolicyRunSetup setup_;
  RankRecorder& recorder_;
  int finished_ = 0;  ///< timed iterations
  int profiled_ = 0;  ///< profiled ones
  std::vector<std::int64_t> step_ns_;
  bool has_left_ = false;  ///< other policies may have run since
  DriverReport report_;    ///< of engines that are gone
  int round_ = -1;         ///< that has begun last
  std::unique_ptr<ClockRecord> clock_;
  std::unique_ptr<HashRecord> hashes_;
  HostLead host_lead_;  ///< of all engines
  std::unique_ptr<PolicyEngine> engine_;
};

/// The whole of a policy at once. Returns whether a rank was asked to stop.
bool run_policy(const PolicyRunSetup& setup, RankRecorder& recorder);

}  // namespace dovetail
