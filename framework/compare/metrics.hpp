// Overlap metrics as pure functions on the op times of all ranks. All times are on one clock.
//
// On one rank, in one profiled step of length W: C = time in which an op that is not exchange runs,
// M = time in which dispatch or combine runs. An exchange op *waits* from its own start until the
// last rank of its group has started the same op, and *moves* from then to its end. Every
// nanosecond of the step goes to the first of these that applies: compute, moving, waiting,
// hand-off, launch, other. So, exactly:
//
//   W = |C| + exposed moving + exposed waiting + hand-off + launch + other idle
//
// The terms of a policy are means over all ranks. A step takes what its slowest rank takes, so a
// rank that is done sooner has waited for the difference: exposed waiting, too. (One rank's terms
// would be of another rank in each step and policy, and ranks of uneven load compute unevenly.)
//
//   exposed moving  = |moving \ C|               exposed waiting = |waiting \ moving \ C|
// When the last rank has started is known as well as the clocks of the ranks are (clock_error_ns):
// waiting has a least and a most, with all other ranks as early or as late as the bounds allow.
// Moving has the rest, because waiting and moving together are of this rank's clock alone.
//
//   hand-off = waits for the baton, launch = from getting the baton to the op's start; both only
//   where neither compute nor exchange runs
//
// What |C| consists of is measured by running the same step in other passes. Where the host
// enqueues ops kernel by kernel, an op's time has gaps in which the GPU waits for the host, more of
// them the later the host is. There the full and the compute-only pass run once more with each op
// *held* back until it is enqueued whole; elsewhere held means as it is. A: busy time of the
// compute-only pass, held.
//
//   launch gaps  = over the compute ops: full pass - full pass, held
//   SMs left out = over the ops: compute-only, held - the same with all SMs, where a policy leaves
//                  SMs to the exchange
//   N            = A - SMs left out: compute on all SMs, kernel behind kernel
//   compute      = N of the baseline,  split tax = N - N of the baseline
//   contention   = over the ops beside which an exchange runs: full pass - compute-only, both held
//   after exchange = the same over the ops that begin when an exchange has just ended: their rows
//                  and weights have left the caches, a core has slept
//   |C| = compute + split tax + SMs left out + launch gaps + contention + after exchange + D
// D is what all other ops take longer in the full pass than in the compute-only pass, both held,
// and what ops overlap one another.
//
// Profiled steps differ from the timed ones. With U, the steps that are run in full beside the
// profiled ones without times of ops (of the slowest rank of each, as W then is):
//
//   recording         = U - W
//   timed vs profiled = p50 of the timed steps - U: U is of few steps, of another time
//   p50 = W + recording + timed vs profiled = all terms + D
// So each term is a difference of two measured times, and only D, the `unexplained`, is what is
// left. Where an iteration has several steps, all are of its mean step. What an older file does not
// hold is no term, and stays in another one: SMs left out and launch gaps in compute and split tax,
// recording in timed vs profiled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "framework/compare/intervals.hpp"
#include "framework/compare/statistics.hpp"

namespace dovetail {

/// What "not run" looks like in a times table.
inline constexpr Interval kNotRun{-1, -1};

/// Step times over ranks: of each step the maximum, NaN where some rank did not finish it
/// (negative). `step_ns` is [ranks][steps]. ContractError where ranks have different numbers of
/// steps.
std::vector<double> slowest_ranks(const std::vector<std::vector<std::int64_t>>& step_ns);

/// What an iteration takes, over its number of steps; NaN where a step is. `slowest` is of
/// slowest_ranks, whole iterations.
std::vector<double> mean_steps(const std::vector<double>& slowest, std::size_t num_steps);

/// One rank in one profiled step; all vectors have one entry an op of the schedule.
struct RankProfile {
  std::int64_t exchange_group = 0;  ///< ranks of equal number exchange with each other (dp_rank)
  Interval step = kNotRun;          ///< full pass
  std::vector<Interval> ops;        ///< full pass; kNotRun where an op did not run
  std::vector<Interval> ops_compute_only;
  std::vector<Interval> ops_comm_only;
  std::vector<Interval> ops_all_sms;  ///< compute-only, with all SMs; empty = no SMs are left out
  std::vector<Interval> ops_gated;    ///< compute-only, held; empty = there are no launch gaps
  std::vector<Interval> ops_full_gated;   ///< full pass, compute held; empty likewise
  Interval unrecorded = kNotRun;          ///< the step without times of ops; kNotRun = not known
  std::vector<std::int64_t> enqueued_ns;  ///< full pass; -1 = not known
  std::vector<std::int64_t> hand_off_wait_ns;  ///< full pass; -1 = not known
  std::int64_t clock_error_ns = 0;             ///< how far all times may be off rank 0's clock
};

/// One profiled step of all ranks; every rank walked the same schedule.
struct StepProfile {
  std::vector<bool> is_exchange;    ///< per op: dispatch or combine (whatever its lane)
  std::vector<std::string> phases;  ///< per op; empty = not known
  bool knows_all_passes = true;     ///< false: where one is empty it may not have been asked for
  std::vector<RankProfile> ranks;
};

/// The accounting of one rank in one profiled step, nanoseconds; see the head of the file.
struct RankMetrics {
  std::int64_t step_ns = 0;
  std::int64_t compute_ns = 0;
  std::int64_t comm_ns = 0;  ///< moving + waiting
  std::int64_t moving_ns = 0;
  std::int64_t waiting_ns = 0;
  std::int64_t hidden_ns = 0;  ///< moving beside compute; moving = hidden + exposed moving
  std::int64_t exposed_moving_ns = 0;
  std::int64_t exposed_waiting_ns = 0;
  std::int64_t least_waiting_ns = 0;  ///< as the errors of the clocks allow
  std::int64_t most_waiting_ns = 0;
  std::int64_t least_exposed_waiting_ns = 0;
  std::int64_t most_exposed_waiting_ns = 0;
  std::int64_t hand_off_ns = 0;
  std::int64_t launch_ns = 0;
  std::int64_t other_idle_ns = 0;

  std::int64_t contention_ns = 0;      ///< what ops beside exchange take longer than alone
  std::int64_t after_exchange_ns = 0;  ///< likewise ops behind one
  std::int64_t compute_only_ns = 0;    ///< busy time of the compute-only pass
  std::int64_t sms_left_out_ns = 0;
  std::int64_t launch_gaps_ns = 0;        ///< in the full pass, of the ops that were held
  std::int64_t compute_only_gaps_ns = 0;  ///< likewise in the compute-only pass
  std::int64_t num_held = 0;              ///< ops of gated passes
  std::int64_t num_not_held = 0;          ///< ops that took longer to enqueue: not known
  std::int64_t unrecorded_ns = 0;         ///< the step without times of ops; 0 = not known
  std::int64_t comm_only_moving_ns = 0;   ///< of the comm-only pass
  std::int64_t comm_only_waiting_ns = 0;

  /// Compute ops that spend at least half of their time beside moving exchange: their time, and the
  /// time of the same ops in the compute-only pass. Likewise exchange ops beside compute.
  std::int64_t overlapped_compute_ns = 0;
  std::int64_t overlapped_compute_alone_ns = 0;
  std::int64_t overlapped_moving_ns = 0;
  std::int64_t overlapped_moving_alone_ns = 0;

  /// N: of the compute-only pass what all SMs would take, kernel behind kernel.
  std::int64_t net_compute_ns() const {
    return compute_only_ns - compute_only_gaps_ns - sms_left_out_ns;
  }
};

/// What ops neither beside nor behind an exchange of the rank take longer in the full pass than
/// alone, by phase; empty where phases are not known.
std::map<std::string, std::int64_t> differences_by_phase(const StepProfile& profile,
                                                         std::size_t rank);

/// One entry a rank. ContractError where vectors differ in length or a rank's step did not run.
std::vector<RankMetrics> rank_metrics(const StepProfile& profile);

/// What a time of waiting may be, by the errors of the clocks; its time of moving then is as much
/// shorter or longer.
struct ClockBounds {
  double least = 0;
  double most = 0;
};

/// The terms of a step, nanoseconds; they add up to `measured`. Nothing: not known.
struct Decomposition {
  double compute = 0;    ///< the baseline's net compute (without a baseline: this policy's)
  double split_tax = 0;  ///< 0 without a baseline
  std::optional<double> sms_left_out;
  std::optional<double> launch_gaps;
  double contention = 0;  ///< negative where ops were faster beside the exchange
  double after_exchange = 0;
  double exposed_moving = 0;
  double exposed_waiting = 0;
  double hand_off = 0;
  double launch = 0;
  double other_idle = 0;
  std::optional<double> recording;        ///< mostly negative: what recording has added, taken off
  std::optional<double> recording_error;  ///< half its 95 % interval; nothing: of one step
  double timed_vs_profiled = 0;
  double unexplained = 0;  ///< measured minus all of the above
  double measured = 0;     ///< p50 of the timed iterations, of their mean step
  ClockBounds waiting;     ///< of exposed_waiting; exposed_moving has the rest

  double profiled = 0;    ///< the profiled step of its slowest rank, mean over the steps
  double unrecorded = 0;  ///< the same of the steps without times of ops; 0 = not known

  /// Sum of the terms without the unexplained.
  double explained() const;
};

/// Metrics of one policy. Nanoseconds are means over ranks and profiled steps; shares and factors
/// pool all ranks and steps.
struct PolicyMetrics {
  Decomposition decomposition;
  double net_compute_ns = 0;  ///< N of this policy: with a baseline compute + split tax
  /// Of the baseline (without one: of the policy itself), so one for all of its policies: max over
  /// ranks of max(net compute, comm-only moving).
  double ideal_ns = 0;
  /// M1 on moving time alone: hidden / moving. Nothing where nothing moved.
  std::optional<double> hidden_share;
  /// M1 as others define it, waiting included: |M and C| / |M|. A late peer raises it.
  std::optional<double> hidden_share_with_waiting;
  double waiting_ns = 0;                         ///< mean over ranks and steps, hidden or not
  double moving_ns = 0;                          ///< mean over ranks and steps
  ClockBounds waiting_bounds_ns;                 ///< of waiting_ns
  std::optional<double> split_tax_factor;        ///< M7: net compute over the baseline's
  std::optional<double> comm_split_factor;       ///< M7 for moving time of the comm-only pass
  std::optional<double> contention_factor;       ///< M8: overlapped compute over the same ops alone
  std::optional<double> comm_contention_factor;  ///< M8 for exchange
  Statistics hand_off_wait_ns;                   ///< of all hand-offs between threads
  std::vector<RankMetrics> mean_of_rank;         ///< per rank, over the profiled steps
  std::int64_t num_held = 0;                     ///< ops of gated passes, all ranks and steps
  std::int64_t num_not_held = 0;                 ///< of which the launch gaps are not known
  /// What ops neither beside nor behind an exchange take longer than alone, by phase. Empty where
  /// phases are not known.
  std::map<std::string, double> unexplained_by_phase_ns;
};

/// `baseline` null, or of another number of ranks: no split tax. `measured_ns` is the p50 of the
/// timed steps. ContractError without profiled steps.
PolicyMetrics policy_metrics(const std::vector<StepProfile>& profiles,
                             double measured_ns,
                             const PolicyMetrics* baseline = nullptr);

/// Load imbalance: max / mean; 1 for an empty or all-zero sample (M12, as a factor).
double imbalance(const std::vector<std::int64_t>& counts);

/// Likewise over layers that wait for their own fullest one each: sum over layers of the max / sum
/// over layers of the mean, counts [layers][ranks]. What one layer has more of than another changes
/// nothing, and layers without rows count for nothing.
double imbalance_over_layers(const std::vector<std::vector<std::int64_t>>& counts);

}  // namespace dovetail
