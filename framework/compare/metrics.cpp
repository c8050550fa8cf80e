#include "framework/compare/metrics.hpp"

#include <algorithm>
#include <cstddef>
#include <map>
#include <tuple>
#include <utility>

#include "framework/base/check.hpp"
#include "framework/compare/near_exchange.hpp"

namespace dovetail {
namespace {

std::int64_t length(const Interval& interval) {
  return std::max<std::int64_t>(0, interval.end_ns - interval.start_ns);
}

/// By op: when the last one of the others in a rank's group started it; -1 = none did.
using LastStarts = std::vector<std::int64_t>;

/// Of each rank, on its own clock. `side`: 0 = as the clocks say; 1, -1 = all others as much later
/// or earlier as the errors of the clocks allow.
std::vector<LastStarts> last_starts(const StepProfile& profile,
                                    std::vector<Interval> RankProfile::*pass,
                                    int side) {
  struct Latest {
    std::int64_t start_ns = -1;
    const RankProfile* rank = nullptr;
    std::int64_t second_ns = -1;  ///< of another rank
  };

  std::map<std::int64_t, std::vector<Latest>> groups;
  for (const RankProfile& rank : profile.ranks) {
    auto& latest = groups[rank.exchange_group];
    latest.resize(profile.is_exchange.size());
    for (std::size_t i = 0; i < latest.size(); ++i) {
      if (!ran((rank.*pass)[i])) {
        continue;
      }
      const auto start_ns = (rank.*pass)[i].start_ns + side * rank.clock_error_ns;
      if (latest[i].rank == nullptr || start_ns > latest[i].start_ns) {
        latest[i] = {start_ns, &rank, latest[i].start_ns};
      } else {
        latest[i].second_ns = std::max(latest[i].second_ns, start_ns);
      }
    }
  }
  std::vector<LastStarts> result;
  for (const RankProfile& rank : profile.ranks) {
    auto& starts = result.emplace_back();
    for (const auto& latest : groups.at(rank.exchange_group)) {
      const auto last = latest.rank == &rank ? latest.second_ns : latest.start_ns;
      starts.push_back(last < 0 ? -1 : last + side * rank.clock_error_ns);
    }
  }
  return result;
}

/// The ops of one pass of one rank, sorted into sets of time.
struct PassSets {
  IntervalSet compute;
  IntervalSet moving;
  IntervalSet waiting;  ///< not moving
  std::vector<Interval> moving_of_op;
};

PassSets sort_pass(const std::vector<bool>& is_exchange,
                   const std::vector<Interval>& ops,
                   const std::vector<std::int64_t>& last_start) {
  PassSets sets;
  sets.moving_of_op.assign(ops.size(), kNotRun);
  std::vector<Interval> compute;
  std::vector<Interval> moving;
  std::vector<Interval> waiting;
  for (std::size_t i = 0; i < ops.size(); ++i) {
    if (!ran(ops[i])) {
      continue;
    }
    if (!is_exchange[i]) {
      compute.push_back(ops[i]);
      continue;
    }
    const std::int64_t all_here =
        std::clamp(last_start[i], ops[i].start_ns, std::max(ops[i].start_ns, ops[i].end_ns));
    waiting.push_back({ops[i].start_ns, all_here});
    moving.push_back({all_here, ops[i].end_ns});
    sets.moving_of_op[i] = moving.back();
  }
  sets.compute = IntervalSet(std::move(compute));
  sets.moving = IntervalSet(std::move(moving));
  sets.waiting = IntervalSet(std::move(waiting)).minus(sets.moving);
  return sets;
}

void check_sizes(const StepProfile& profile) {
  const std::size_t num_ops = profile.is_exchange.size();
  for (const RankProfile& rank : profile.ranks) {
    DOVETAIL_CHECK(ran(rank.step), "a profiled step did not run on every rank");
    for (const auto* pass : {&rank.ops, &rank.ops_compute_only, &rank.ops_comm_only}) {
      DOVETAIL_CHECK_EQ(pass->size(), num_ops);
    }
    for (const auto* pass : {&rank.ops_all_sms, &rank.ops_gated, &rank.ops_full_gated}) {
      DOVETAIL_CHECK(pass->empty() || pass->size() == num_ops, "a pass of another schedule");
    }
    DOVETAIL_CHECK_EQ(rank.enqueued_ns.size(), num_ops);
    DOVETAIL_CHECK_EQ(rank.hand_off_wait_ns.size(), num_ops);
  }
}

/// Splits the time in which neither compute nor exchange ran.
void account_idle(const RankProfile& rank, const IntervalSet& idle, RankMetrics& metrics) {
  std::vector<Interval> hand_offs;
  std::vector<Interval> launches;
  for (std::size_t i = 0; i < rank.ops.size(); ++i) {
    const std::int64_t enqueued = rank.enqueued_ns[i];
    if (enqueued < 0) {
      continue;
    }
    hand_offs.push_back({enqueued - std::max<std::int64_t>(0, rank.hand_off_wait_ns[i]), enqueued});
    if (ran(rank.ops[i])) {
      launches.push_back({enqueued, rank.ops[i].start_ns});
    }
  }
  const IntervalSet hand_off = idle.intersected(IntervalSet(std::move(hand_offs)));
  const IntervalSet launch = idle.intersected(IntervalSet(std::move(launches))).minus(hand_off);
  metrics.hand_off_ns = hand_off.length_ns();
  metrics.launch_ns = launch.length_ns();
  metrics.other_idle_ns = idle.length_ns() - metrics.hand_off_ns - metrics.launch_ns;
}

/// An op as it ran where it was held back; as it ran anyhow where that pass was not run, or did not
/// hold it.
std::int64_t held_length(const std::vector<Interval>& held,
                         const std::vector<Interval>& as_run,
                         std::size_t op) {
  return length(!held.empty() && ran(held[op]) ? held[op] : as_run[op]);
}

/// How much longer an op takes in the full pass than alone, both held back.
std::int64_t longer_than_alone(const RankProfile& rank, std::size_t op) {
  return held_length(rank.ops_full_gated, rank.ops, op) -
         held_length(rank.ops_gated, rank.ops_compute_only, op);
}

/// True where at least half of `op` lies in `beside`.
bool mostly_beside(const Interval& op, const IntervalSet& beside) {
  const std::int64_t shared = IntervalSet({op}).intersected(beside).length_ns();
  return shared > 0 && 2 * shared >= length(op);
}

void account_contention(const StepProfile& profile,
                        const RankProfile& rank,
                        const PassSets& full,
                        const PassSets& comm_only,
                        RankMetrics& metrics) {
  const auto near = near_exchange(profile.is_exchange, rank.ops);
  for (std::size_t i = 0; i < rank.ops.size(); ++i) {
    if (!ran(rank.ops[i])) {
      continue;
    }
    if (!profile.is_exchange[i]) {
      if (ran(rank.ops_compute_only[i]) && near[i] != NearExchange::no) {
        (near[i] == NearExchange::beside ? metrics.contention_ns : metrics.after_exchange_ns) +=
            longer_than_alone(rank, i);
      }
      if (ran(rank.ops_compute_only[i]) && mostly_beside(rank.ops[i], full.moving)) {
        metrics.overlapped_compute_ns += held_length(rank.ops_full_gated, rank.ops, i);
        metrics.overlapped_compute_alone_ns +=
            held_length(rank.ops_gated, rank.ops_compute_only, i);
      }
    } else if (ran(rank.ops_comm_only[i]) && mostly_beside(full.moving_of_op[i], full.compute)) {
      metrics.overlapped_moving_ns += length(full.moving_of_op[i]);
      metrics.overlapped_moving_alone_ns += length(comm_only.moving_of_op[i]);
    }
  }
}

/// The busy time of a pass that runs no exchange.
std::int64_t busy_ns(const StepProfile& profile, const std::vector<Interval>& ops) {
  const LastStarts nobody(profile.is_exchange.size(), -1);
  return sort_pass(profile.is_exchange, ops, nobody).compute.length_ns();
}

/// What ops take longer than where they are held back.
std::int64_t account_gaps(const StepProfile& profile,
                          const std::vector<Interval>& as_run,
                          const std::vector<Interval>& held,
                          RankMetrics& metrics) {
  std::int64_t gaps_ns = 0;
  for (std::size_t i = 0; i < held.size(); ++i) {
    if (profile.is_exchange[i] || !ran(as_run[i])) {
      continue;
    }
    ++(ran(held[i]) ? metrics.num_held : metrics.num_not_held);
    gaps_ns += length(as_run[i]) - held_length(held, as_run, i);
  }
  return gaps_ns;
}

/// What compute consists of, by the passes that were run for it.
void account_compute(const StepProfile& profile, const RankProfile& rank, RankMetrics& metrics) {
  metrics.compute_only_ns = busy_ns(profile, rank.ops_compute_only);
  metrics.launch_gaps_ns = account_gaps(profile, rank.ops, rank.ops_full_gated, metrics);
  metrics.compute_only_gaps_ns =
      account_gaps(profile, rank.ops_compute_only, rank.ops_gated, metrics);
  for (std::size_t i = 0; i < rank.ops_all_sms.size(); ++i) {
    if (!profile.is_exchange[i] && ran(rank.ops_compute_only[i]) && ran(rank.ops_all_sms[i])) {
      metrics.sms_left_out_ns +=
          held_length(rank.ops_gated, rank.ops_compute_only, i) - length(rank.ops_all_sms[i]);
    }
  }
}

/// Waiting and exposed waiting of a rank in the full pass.
std::pair<std::int64_t, std::int64_t> waiting_of(const StepProfile& profile,
                                                 const RankProfile& rank,
                                                 const LastStarts& last_start) {
  const PassSets full = sort_pass(profile.is_exchange, rank.ops, last_start);
  const IntervalSet waiting = full.waiting.intersected(IntervalSet({rank.step}));
  return {waiting.length_ns(), waiting.minus(full.compute).length_ns()};
}

RankMetrics metrics_of_rank(const StepProfile& profile,
                            const RankProfile& rank,
                            const LastStarts& last_start,
                            const LastStarts& last_start_comm_only) {
  const IntervalSet step({rank.step});
  const PassSets full = sort_pass(profile.is_exchange, rank.ops, last_start);
  const PassSets comm_only =
      sort_pass(profile.is_exchange, rank.ops_comm_only, last_start_comm_only);

  // Clipped to the step, so that the terms add up whatever a clock did.
  const IntervalSet compute = full.compute.intersected(step);
  const IntervalSet moving = full.moving.intersected(step);
  const IntervalSet waiting = full.waiting.intersected(step);
  RankMetrics metrics;
  metrics.step_ns = step.length_ns();
  metrics.compute_ns = compute.length_ns();
  metrics.moving_ns = moving.length_ns();
  metrics.waiting_ns = waiting.length_ns();
  metrics.comm_ns = metrics.moving_ns + metrics.waiting_ns;
  metrics.hidden_ns = moving.intersected(compute).length_ns();
  metrics.exposed_moving_ns = moving.minus(compute).length_ns();
  metrics.exposed_waiting_ns = waiting.minus(compute).length_ns();
  metrics.unrecorded_ns = ran(rank.unrecorded) ? length(rank.unrecorded) : 0;
  metrics.comm_only_moving_ns = comm_only.moving.length_ns();
  metrics.comm_only_waiting_ns = comm_only.waiting.length_ns();
  account_compute(profile, rank, metrics);
  account_idle(rank, step.minus(compute.united(moving).united(waiting)), metrics);
  account_contention(profile, rank, full, comm_only, metrics);
  return metrics;
}

}  // namespace

std::vector<RankMetrics> rank_metrics(const StepProfile& profile) {
  check_sizes(profile);
  const auto full = last_starts(profile, &RankProfile::ops, 0);
  const auto early = last_starts(profile, &RankProfile::ops, -1);
  const auto late = last_starts(profile, &RankProfile::ops, 1);
  const auto comm_only = last_starts(profile, &RankProfile::ops_comm_only, 0);
  std::vector<RankMetrics> result;
  for (std::size_t i = 0; i < profile.ranks.size(); ++i) {
    const auto& rank = profile.ranks[i];
    auto& metrics = result.emplace_back(metrics_of_rank(profile, rank, full[i], comm_only[i]));
    std::tie(metrics.least_waiting_ns, metrics.least_exposed_waiting_ns) =
        waiting_of(profile, rank, early[i]);
    std::tie(metrics.most_waiting_ns, metrics.most_exposed_waiting_ns) =
        waiting_of(profile, rank, late[i]);
  }
  return result;
}

std::map<std::string, std::int64_t> differences_by_phase(const StepProfile& profile,
                                                         std::size_t rank) {
  check_sizes(profile);
  const RankProfile& own = profile.ranks.at(rank);
  const auto near = near_exchange(profile.is_exchange, own.ops);
  std::map<std::string, std::int64_t> differences;
  for (std::size_t i = 0; i < profile.phases.size(); ++i) {
    if (!profile.is_exchange[i] && ran(own.ops[i]) && ran(own.ops_compute_only[i]) &&
        near[i] == NearExchange::no) {
      differences[profile.phases[i]] += longer_than_alone(own, i);
    }
  }
  return differences;
}

}  // namespace dovetail
