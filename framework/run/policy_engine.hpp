// What runs the steps of a policy on a rank: driver, threads, graphs, and what has to be kept
// between the steps.
#pragma once

#include <cstdint>
#include <vector>

#include "framework/comm/exchange/exchange.hpp"
#include "framework/exec/host_lead.hpp"
#include "framework/run/hash_record.hpp"
#include "framework/run/policy_run.hpp"
#include "framework/run/policy_steps.hpp"

namespace dovetail {

/// All calls are collective over the world, from the main thread. Members are in order of creation.
class PolicyEngine {
 public:
  /// Makes the driver. Everything outlives it.
  PolicyEngine(const PolicyRunSetup& setup,
               RankRecorder& recorder,
               HashRecord& hashes,
               HostLead& host_lead);

  /// Fills the KV cache up to the requests' contexts, unless an earlier policy has; not over an
  /// emulated link. Waits until all ranks are there.
  void fill_context();

  /// The warm-up iterations of the policy.
  void warm_up();

  /// That many iterations behind timed ones, of the variant that comes next; outside of those that
  /// a fault may name.
  void warm_up_again(int iterations, int finished);

  /// An untimed iteration of each variant.
  void run_each_variant();

  /// Appends this rank's step times. Returns whether a rank asks for a graceful stop.
  bool timed_iteration(int iteration, int round, std::vector<std::int64_t>& step_ns);

  /// What the timed iterations have left: outputs of the last one of each variant, traffic of the
  /// last one.
  void record_timed_iterations();

  /// Of all steps so far.
  DriverReport report();

  /// See policy_checks.hpp.
  void check();
  void profile(int first, int end);

 private:
  OutputSelection context_selection() const;

  /// Of an iteration.
  int num_steps() const { return static_cast<int>(setup_.workload.steps_per_iteration()); }

  /// Of an iteration, counted over warm-up and timed ones.
  int variant_of(int iteration) const { return iteration % setup_.workload.num_variants; }

  /// A step of an iteration among the steps of all variants.
  int step_of(int variant, int step) const { return variant * num_steps() + step; }

  void report_progress(int finished) const;

  /// Rows that each expert of this rank computes, steps added up: [layers, experts_per_rank]
  /// row-major. Of one more pass over each step: timed ones do not keep what is counted.
  std::vector<std::int64_t> tokens_per_expert();

  const PolicyRunSetup& setup_;
  PolicySteps steps_;
  RankRecorder& recorder_;
  HashRecord& hashes_;
  Traffic traffic_;                 ///< of the last timed iteration
  int last_variant_ = 0;            ///< likewise
  std::int64_t most_doubt_ns_ = 0;  ///< of profiled steps: OpTimes::doubt_ns
};

}  // namespace dovetail
