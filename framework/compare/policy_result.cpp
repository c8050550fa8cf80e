#include "framework/compare/policy_result.hpp"

#include <algorithm>
#include <array>
#include <new>

#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/compare/round_intervals.hpp"
#include "framework/compare/round_times.hpp"
#include "framework/record/profile.hpp"
#include "framework/record/run_folder.hpp"

namespace dovetail {
namespace {

std::map<std::string, std::int64_t> read_eager_steps(const RankFile& file) {
  std::map<std::string, std::int64_t> steps;
  if (file.has(path::kGraphEagerSteps)) {
    const auto counts = file.read<std::int64_t>(path::kGraphEagerSteps).values;
    for (std::size_t reason = 0; reason < counts.size(); ++reason) {
      if (counts[reason] > 0) {
        steps[std::string(to_string(static_cast<EagerReason>(reason)))] = counts[reason];
      }
    }
  }
  return steps;
}

std::int64_t read_owned_bytes(const PolicyFolder& folder) {
  std::int64_t most = -1;
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    const RankFile& file = folder.rank(rank);
    const std::int64_t weights = file.scalar(path::kWeightsBytes);
    const std::int64_t cache = file.scalar(path::kCacheBytes);
    const std::int64_t exchange = file.scalar(path::kExchangeBytes);
    if (weights >= 0 && cache >= 0 && exchange >= 0) {
      most = std::max(most, weights + cache + exchange);
    }
  }
  return most;
}

std::optional<double> read_host_share(const PolicyFolder& folder) {
  std::vector<double> shares;
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    const RankFile& file = folder.rank(rank);
    if (!file.has(path::kStepEnqueueNs)) {
      continue;
    }
    const auto enqueue = file.read<std::int64_t>(path::kStepEnqueueNs).values;
    const auto steps = file.read<std::int64_t>(path::kStepNs).values;
    for (std::size_t i = 0; i < std::min(steps.size(), enqueue.size()); ++i) {
      if (enqueue[i] >= 0 && steps[i] > 0) {
        shares.push_back(static_cast<double>(enqueue[i]) / static_cast<double>(steps[i]));
      }
    }
  }
  return shares.empty() ? std::nullopt : std::optional(statistics(std::move(shares)).p50);
}

/// Of all ranks, each kind once.
std::string devices_of(const PolicyFolder& folder) {
  std::vector<std::string> kinds;
  for (const RankEntry& entry : folder.ranks()) {
    if (entry.file.has_value()) {
      const auto kind = device_kind(entry.file->text(attribute::kDevice));
      if (std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) {
        kinds.push_back(kind);
      }
    }
  }
  return join_names(kinds);
}

Interval to_interval(const RecordedSpan& span) {
  return {span.start_ns, span.end_ns};
}

std::vector<Interval> to_intervals(const std::vector<RecordedSpan>& spans) {
  std::vector<Interval> intervals;
  std::transform(spans.begin(), spans.end(), std::back_inserter(intervals), to_interval);
  return intervals;
}

bool ran_all_passes(const RecordedProfile& profile) {
  constexpr std::array needed = {
      ProfilePass::full, ProfilePass::compute_only, ProfilePass::comm_only};
  return profile.ran() && std::all_of(needed.begin(), needed.end(), [&](ProfilePass pass) {
           return profile.pass(pass).step.ran();
         });
}

/// Empty where the pass was not run.
std::vector<Interval> ops_if_run(const RecordedPass& pass) {
  return pass.step.ran() ? to_intervals(pass.ops) : std::vector<Interval>();
}

/// A CPU leaves nothing out and enqueues nothing, whatever the version of the file.
bool knows_all_passes(const RankFile& file, const RecordedProfile& profile) {
  return file.text(attribute::kDevice) == to_string(DeviceKind::cpu) ||
         (profile.knows(ProfilePass::all_sms) && profile.knows(ProfilePass::gated));
}

RankProfile to_rank_profile(const RankFile& file, const RecordedProfile& profile) {
  return {.exchange_group = file.integer(attribute::kDpRank),
          .step = to_interval(profile.pass(ProfilePass::full).step),
          .ops = to_intervals(profile.pass(ProfilePass::full).ops),
          .ops_compute_only = to_intervals(profile.pass(ProfilePass::compute_only).ops),
          .ops_comm_only = to_intervals(profile.pass(ProfilePass::comm_only).ops),
          .ops_all_sms = ops_if_run(profile.pass(ProfilePass::all_sms)),
          .ops_gated = ops_if_run(profile.pass(ProfilePass::gated)),
          .ops_full_gated = ops_if_run(profile.pass(ProfilePass::full_gated)),
          .unrecorded = to_interval(profile.pass(ProfilePass::unrecorded).step),
          .enqueued_ns = profile.enqueued_ns,
          .hand_off_wait_ns = profile.hand_off_wait_ns,
          .clock_error_ns = profile.clock_error_ns};
}

std::vector<StepProfile> collect_profiles(const PolicyFolder& folder) {
  std::vector<std::vector<RecordedProfile>> of_rank;
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    of_rank.push_back(read_profiles(folder.rank(rank)));
  }
  const std::vector<ScheduleRecord> schedules = folder.rank(0).schedules();
  std::vector<StepProfile> result;
  for (std::size_t i = 0; i < of_rank.front().size(); ++i) {
    const bool complete = std::all_of(of_rank.begin(), of_rank.end(), [i](const auto& profiles) {
      return i < profiles.size() && ran_all_passes(profiles[i]);
    });
    if (!complete) {
      continue;
    }
    StepProfile profile;
    for (const OpRecord& op :
         schedules[static_cast<std::size_t>(of_rank.front()[i].schedule)].ops) {
      profile.is_exchange.push_back(op.phase == "dispatch" || op.phase == "combine");
      profile.phases.push_back(op.phase);
    }
    for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
      const RecordedProfile& own = of_rank[static_cast<std::size_t>(rank)][i];
      if (own.schedule != of_rank.front()[i].schedule ||
          own.enqueued_ns.size() != profile.is_exchange.size()) {
        throw InputError(folder.rank(rank).path().string() + ": profiled step " +
                         std::to_string(i) + " ran another schedule than rank 0");
      }
      profile.ranks.push_back(to_rank_profile(folder.rank(rank), own));
      profile.knows_all_passes =
          profile.knows_all_passes && knows_all_passes(folder.rank(rank), own);
    }
    result.push_back(std::move(profile));
  }
  return result;
}

/// The gravest status of any rank.
std::string status_of(const PolicyFolder& folder) {
  std::string status = "complete";
  for (const RankEntry& entry : folder.ranks()) {
    if (!entry.file.has_value()) {
      return kIncompleteStatus;
    }
    if (entry.file->status() != RunStatus::complete && status != "failed") {
      status = to_string(entry.file->status());
    }
  }
  return status;
}

void read_identity(const PolicyFolder& folder, PolicyResult& result) {
  const auto first = std::find_if(folder.ranks().begin(),
                                  folder.ranks().end(),
                                  [](const RankEntry& entry) { return entry.file.has_value(); });
  const RankFile& file = *first->file;  // PolicyFolder has at least one
  result.name = file.text(attribute::kPolicy);
  result.experiment = file.text(attribute::kExperiment);
  result.started_at = file.text(attribute::kStartedAt);
  result.weights_digest = file.text(attribute::kWeightsDigest);
  result.inputs_digest = file.text(attribute::kInputsDigest);
  result.device = devices_of(folder);
  result.link = file.link();
  result.world_size = folder.world_size();
  result.expert_parallel = file.integer(attribute::kExpertParallel);
  for (const ScheduleRecord& schedule : file.schedules()) {
    result.num_ubatches = std::max(result.num_ubatches, schedule.num_ubatches);
  }
}

}  // namespace

std::string device_kind(const std::string& device) {
  const auto colon = device.find(':');
  if (colon == std::string::npos) {
    return device;
  }
  const auto end = device.find_first_not_of("0123456789", colon + 1);
  return device.substr(0, colon) + (end == std::string::npos ? "" : device.substr(end));
}

PolicyResult read_policy_result(const std::filesystem::path& folder) {
  static_cast<void>(list_rank_files(folder));  // a folder that is none is an error of the caller
  PolicyResult result;
  result.folder = folder;
  result.name = folder.filename().string();
  result.status = kUnreadableStatus;
  try {
    const PolicyFolder files(folder);
    read_identity(files, result);
    result.status = status_of(files);
    files.require_complete();
    PolicyResult complete = result;
    auto steps = read_timed_steps(files);
    const auto means = mean_steps(steps.ns, steps.num_steps);
    complete.step_times_ns = known_rounds(means);
    complete.step_ns = statistics(complete.step_times_ns);
    complete.round_ns = round_times(files.rank(0), means);
    complete.rounds_began_ns = rounds_began_ns(files.rank(0));
    const auto rounds = rounds_of_iterations(files.rank(0), means.size());
    complete.run_drift = run_drift(means, rounds);
    complete.round_drift = round_drift(means, rounds);
    complete.hole = std::move(steps.hole);
    if (files.rank(0).has_attribute(attribute::kResolvedExecution)) {
      complete.execution = parse_resolved_execution(
          files.rank(0).text(attribute::kResolvedExecution), files.rank(0).path().string());
    }
    complete.most_iterations = steps.most_iterations;
    complete.decisions = std::move(steps.decisions);
    complete.timed_steps = std::move(steps.finished);
    complete.scalars = RecordedScalars(files);
    complete.eager_by_reason = read_eager_steps(files.rank(0));
    if (files.rank(0).text("device") == to_string(DeviceKind::cpu)) {  // which has no graphs
      const std::string no_graphs(to_string(EagerReason::mode_none));
      complete.decisions.eager_by_reason.erase(no_graphs);
      complete.eager_by_reason.erase(no_graphs);
    }
    complete.owned_bytes = read_owned_bytes(files);
    complete.host_share = read_host_share(files);
    complete.before = read_before_times(files);
    complete.profiles = collect_profiles(files);
    complete.traffic = read_traffic(files);
    return complete;
  } catch (const InputError& error) {
    result.problem = error.what();
  } catch (const std::bad_alloc&) {
    result.problem = folder.string() + ": does not fit into memory";
  }
  result.status = result.status == "complete" ? kUnreadableStatus : result.status;
  return result;
}

}  // namespace dovetail
