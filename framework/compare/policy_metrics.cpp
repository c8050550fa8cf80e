// From the accounting of single ranks and steps to the metrics of a policy.
#include <algorithm>
#include <array>
#include <span>

#include "framework/base/check.hpp"
#include "framework/compare/metrics.hpp"
#include "framework/compare/round_intervals.hpp"

namespace dovetail {
namespace {

/// Every field, so that sums and means cannot forget one.
constexpr std::array kFields = {&RankMetrics::step_ns,
                                &RankMetrics::compute_ns,
                                &RankMetrics::comm_ns,
                                &RankMetrics::moving_ns,
                                &RankMetrics::waiting_ns,
                                &RankMetrics::hidden_ns,
                                &RankMetrics::exposed_moving_ns,
                                &RankMetrics::exposed_waiting_ns,
                                &RankMetrics::least_waiting_ns,
                                &RankMetrics::most_waiting_ns,
                                &RankMetrics::least_exposed_waiting_ns,
                                &RankMetrics::most_exposed_waiting_ns,
                                &RankMetrics::hand_off_ns,
                                &RankMetrics::launch_ns,
                                &RankMetrics::other_idle_ns,
                                &RankMetrics::contention_ns,
                                &RankMetrics::after_exchange_ns,
                                &RankMetrics::compute_only_ns,
                                &RankMetrics::sms_left_out_ns,
                                &RankMetrics::launch_gaps_ns,
                                &RankMetrics::compute_only_gaps_ns,
                                &RankMetrics::num_held,
                                &RankMetrics::num_not_held,
                                &RankMetrics::unrecorded_ns,
                                &RankMetrics::comm_only_moving_ns,
                                &RankMetrics::comm_only_waiting_ns,
                                &RankMetrics::overlapped_compute_ns,
                                &RankMetrics::overlapped_compute_alone_ns,
                                &RankMetrics::overlapped_moving_ns,
                                &RankMetrics::overlapped_moving_alone_ns};
static_assert(sizeof(RankMetrics) == kFields.size() * sizeof(std::int64_t));

void add(RankMetrics& sum, const RankMetrics& one) {
  for (const auto field : kFields) {
    sum.*field += one.*field;
  }
}

std::optional<double> ratio(double part, double whole) {
  if (whole == 0) {
    return std::nullopt;
  }
  return part / whole;
}

std::optional<double> ratio(std::int64_t part, std::int64_t whole) {
  return ratio(static_cast<double>(part), static_cast<double>(whole));
}

/// `slowest_ns`: how long the slowest rank takes for the step; one that is done sooner waits.
void add_rank(Decomposition& sum, const RankMetrics& rank, std::int64_t slowest_ns) {
  const double early = static_cast<double>(slowest_ns - rank.step_ns);
  sum.compute += static_cast<double>(rank.net_compute_ns());
  *sum.sms_left_out += static_cast<double>(rank.sms_left_out_ns);
  *sum.launch_gaps += static_cast<double>(rank.launch_gaps_ns);
  sum.contention += static_cast<double>(rank.contention_ns);
  sum.after_exchange += static_cast<double>(rank.after_exchange_ns);
  sum.profiled += static_cast<double>(slowest_ns);
  sum.exposed_moving += static_cast<double>(rank.exposed_moving_ns);
  sum.exposed_waiting += early + static_cast<double>(rank.exposed_waiting_ns);
  sum.waiting.least += early + static_cast<double>(rank.least_exposed_waiting_ns);
  sum.waiting.most += early + static_cast<double>(rank.most_exposed_waiting_ns);
  sum.hand_off += static_cast<double>(rank.hand_off_ns);
  sum.launch += static_cast<double>(rank.launch_ns);
  sum.other_idle += static_cast<double>(rank.other_idle_ns);
}

void divide(Decomposition& sum, double count) {
  for (double* term : {&sum.compute,
                       &*sum.sms_left_out,
                       &*sum.launch_gaps,
                       &sum.contention,
                       &sum.after_exchange,
                       &sum.profiled,
                       &sum.exposed_moving,
                       &sum.exposed_waiting,
                       &sum.waiting.least,
                       &sum.waiting.most,
                       &sum.hand_off,
                       &sum.launch,
                       &sum.other_idle}) {
    *term /= count;
  }
}

/// What is known only where all profiled steps know it, and the terms against the timed steps.
/// `recordings`: of each step, or empty.
void finish(const std::vector<StepProfile>& profiles,
            double measured_ns,
            std::span<const double> recordings,
            PolicyMetrics& metrics) {
  const bool knows_unrecorded = !recordings.empty();
  auto& terms = metrics.decomposition;
  const bool knows_all = std::all_of(profiles.begin(), profiles.end(), [](const auto& profile) {
    return profile.knows_all_passes;
  });
  if (!knows_all) {
    terms.sms_left_out.reset();
  }
  if (!knows_all || (metrics.num_held == 0 && metrics.num_not_held > 0)) {
    terms.launch_gaps.reset();
  }
  terms.measured = measured_ns;
  if (knows_unrecorded) {
    terms.recording = terms.unrecorded - terms.profiled;
    terms.recording_error = error_of_mean(recordings);
  } else {
    terms.unrecorded = 0;
  }
  terms.timed_vs_profiled = measured_ns - (knows_unrecorded ? terms.unrecorded : terms.profiled);
  terms.unexplained = measured_ns - terms.explained();
}

std::int64_t ideal_of(const std::vector<RankMetrics>& ranks) {
  std::int64_t ideal = 0;
  for (const RankMetrics& rank : ranks) {
    ideal = std::max({ideal, rank.net_compute_ns(), rank.comm_only_moving_ns});
  }
  return ideal;
}

std::vector<double> hand_off_waits(const std::vector<StepProfile>& profiles) {
  std::vector<double> waits;
  for (const StepProfile& profile : profiles) {
    for (const RankProfile& rank : profile.ranks) {
      for (const std::int64_t wait : rank.hand_off_wait_ns) {
        if (wait > 0) {
          waits.push_back(static_cast<double>(wait));
        }
      }
    }
  }
  return waits;
}

void set_factors(const RankMetrics& pooled, PolicyMetrics& metrics) {
  metrics.hidden_share = ratio(pooled.hidden_ns, pooled.moving_ns);
  metrics.hidden_share_with_waiting =
      ratio(pooled.comm_ns - pooled.exposed_moving_ns - pooled.exposed_waiting_ns, pooled.comm_ns);
  metrics.contention_factor =
      ratio(pooled.overlapped_compute_ns, pooled.overlapped_compute_alone_ns);
  metrics.comm_contention_factor =
      ratio(pooled.overlapped_moving_ns, pooled.overlapped_moving_alone_ns);
}

/// What the baseline computes is its compute, and what is more than that the split tax.
void compare_to(const PolicyMetrics& baseline, PolicyMetrics& metrics) {
  auto& terms = metrics.decomposition;
  terms.split_tax = metrics.net_compute_ns - baseline.net_compute_ns;
  terms.compute = baseline.net_compute_ns;
  metrics.ideal_ns = baseline.ideal_ns;
  metrics.split_tax_factor = ratio(metrics.net_compute_ns, baseline.net_compute_ns);
  std::int64_t own = 0;
  std::int64_t whole = 0;
  for (std::size_t rank = 0; rank < metrics.mean_of_rank.size(); ++rank) {
    own += metrics.mean_of_rank[rank].comm_only_moving_ns;
    whole += baseline.mean_of_rank[rank].comm_only_moving_ns;
  }
  metrics.comm_split_factor = ratio(own, whole);
}

}  // namespace

double Decomposition::explained() const {
  return compute + split_tax + sms_left_out.value_or(0) + launch_gaps.value_or(0) + contention +
         after_exchange + exposed_moving + exposed_waiting + hand_off + launch + other_idle +
         recording.value_or(0) + timed_vs_profiled;
}

PolicyMetrics policy_metrics(const std::vector<StepProfile>& profiles,
                             double measured_ns,
                             const PolicyMetrics* baseline) {
  DOVETAIL_CHECK(!profiles.empty(), "no profiled steps");
  const std::size_t num_ranks = profiles.front().ranks.size();
  DOVETAIL_CHECK(num_ranks > 0, "no ranks");
  const bool has_baseline = baseline != nullptr && baseline->mean_of_rank.size() == num_ranks;
  const auto num_steps = static_cast<std::int64_t>(profiles.size());
  const double samples = static_cast<double>(num_steps) * static_cast<double>(num_ranks);

  PolicyMetrics metrics;
  metrics.decomposition.sms_left_out = 0;
  metrics.decomposition.launch_gaps = 0;
  RankMetrics pooled;
  bool knows_unrecorded = true;
  std::vector<double> recordings;
  metrics.mean_of_rank.resize(num_ranks);
  for (const StepProfile& profile : profiles) {
    DOVETAIL_CHECK_EQ(profile.ranks.size(), num_ranks);
    const std::vector<RankMetrics> ranks = rank_metrics(profile);
    std::int64_t slowest_ns = 0;
    std::int64_t unrecorded_ns = 0;
    for (const RankMetrics& rank : ranks) {
      slowest_ns = std::max(slowest_ns, rank.step_ns);
      unrecorded_ns = std::max(unrecorded_ns, rank.unrecorded_ns);
      knows_unrecorded = knows_unrecorded && rank.unrecorded_ns > 0;
    }
    metrics.ideal_ns += static_cast<double>(ideal_of(ranks));
    metrics.decomposition.unrecorded += static_cast<double>(unrecorded_ns);
    recordings.push_back(static_cast<double>(unrecorded_ns - slowest_ns));
    for (std::size_t rank = 0; rank < num_ranks; ++rank) {
      add(pooled, ranks[rank]);
      add(metrics.mean_of_rank[rank], ranks[rank]);
      add_rank(metrics.decomposition, ranks[rank], slowest_ns);
      for (const auto& [phase, ns] : differences_by_phase(profile, rank)) {
        metrics.unexplained_by_phase_ns[phase] += static_cast<double>(ns) / samples;
      }
    }
  }
  for (RankMetrics& rank : metrics.mean_of_rank) {
    for (const auto field : kFields) {
      rank.*field /= num_steps;
    }
  }
  metrics.num_held = pooled.num_held;
  metrics.num_not_held = pooled.num_not_held;
  divide(metrics.decomposition, samples);
  metrics.decomposition.unrecorded /= static_cast<double>(num_steps);
  metrics.ideal_ns /= static_cast<double>(num_steps);
  metrics.net_compute_ns = metrics.decomposition.compute;
  if (has_baseline) {
    compare_to(*baseline, metrics);
  }
  finish(profiles, measured_ns, knows_unrecorded ? recordings : std::vector<double>(), metrics);
  metrics.waiting_ns = static_cast<double>(pooled.waiting_ns) / samples;
  metrics.moving_ns = static_cast<double>(pooled.moving_ns) / samples;
  metrics.waiting_bounds_ns = {static_cast<double>(pooled.least_waiting_ns) / samples,
                               static_cast<double>(pooled.most_waiting_ns) / samples};
  metrics.hand_off_wait_ns = statistics(hand_off_waits(profiles));
  set_factors(pooled, metrics);
  return metrics;
}

}  // namespace dovetail
