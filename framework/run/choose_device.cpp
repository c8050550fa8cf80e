#include "framework/run/choose_device.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

#include "framework/base/error.hpp"
#include "framework/base/log.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/mpi/collectives.hpp"

namespace dovetail {
namespace {

std::string describe_rank(std::size_t rank, const RankGpus& gpus) {
  return "rank " + std::to_string(rank) + " on host " + gpus.host;
}

std::string describe_problem(const std::vector<RankGpus>& ranks,
                             const std::vector<int>& ordinals,
                             std::size_t rank) {
  const RankGpus& own = ranks[rank];
  if (own.uuids.empty()) {
    return describe_rank(rank, own) + " sees no GPU";
  }
  std::set<std::string> holders;
  for (std::size_t other = 0; other < rank; ++other) {
    if (ranks[other].host == own.host) {
      const auto& held = ranks[other].uuids[static_cast<std::size_t>(ordinals[other])];
      if (std::find(own.uuids.begin(), own.uuids.end(), held) != own.uuids.end()) {
        holders.insert(std::to_string(other));
      }
    }
  }
  return describe_rank(rank, own) + " sees " + counted(std::ssize(own.uuids), "GPU") +
         (holders.size() == 1 ? ", which rank " : ", which ranks ") + join_names(holders) +
         (holders.size() == 1 ? " holds" : " hold");
}

/// A word each: "ok", then the ordinals; or "no" and the problem. Rank 0 writes it for all.
std::string assignment_text(const GpuAssignment& assignment, const std::string& name) {
  std::ostringstream text;
  if (!assignment.problem.empty()) {
    text << "no\n" << assignment.problem;
    return text.str();
  }
  text << "ok\n" << name << "\n";
  for (const int ordinal : assignment.ordinals) {
    text << ordinal << " ";
  }
  return text.str();
}

/// The other direction of gpus_text.
RankGpus parse_gpus(const std::string& text) {
  std::istringstream lines(text);
  RankGpus gpus;
  std::getline(lines, gpus.host);
  for (std::string uuid; std::getline(lines, uuid);) {
    gpus.uuids.push_back(uuid);
  }
  return gpus;
}

std::string gpus_text(const std::string& host, const std::vector<VisibleGpu>& gpus) {
  std::string text = host;
  for (const auto& gpu : gpus) {
    text += "\n" + gpu.uuid;
  }
  return text;
}

/// What rank 0 has decided from what all ranks see.
struct Agreed {
  std::string problem;
  std::string name;
  int ordinal = 0;
};

/// Collective over the world.
Agreed assign_together(const Ranks& ranks, const std::vector<VisibleGpu>& gpus) {
  const auto& world = ranks.groups.world;
  const auto texts = gather_texts(world, gpus_text(ranks.session.host(), gpus), ranks.wait);
  std::string text;
  if (ranks.is_first()) {
    std::vector<RankGpus> all;
    all.reserve(texts.size());
    for (const auto& one : texts) {
      all.push_back(parse_gpus(one));
    }
    const auto assignment = assign_gpus(all);
    text = assignment_text(
        assignment,
        assignment.problem.empty()
            ? gpus.at(static_cast<std::size_t>(assignment.ordinals.front())).description
            : "");
  }
  broadcast_text(world, text, ranks.wait);
  std::istringstream lines(text);
  std::string verdict;
  Agreed agreed;
  std::getline(lines, verdict);
  std::getline(lines, verdict == "ok" ? agreed.name : agreed.problem);
  for (int rank = 0; verdict == "ok" && rank <= ranks.rank().value; ++rank) {
    lines >> agreed.ordinal;
  }
  return agreed;
}

}  // namespace

GpuAssignment assign_gpus(const std::vector<RankGpus>& ranks) {
  std::map<std::string, std::set<std::string>> taken;  // by host
  GpuAssignment assignment;
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    auto& of_host = taken[ranks[rank].host];
    const auto& uuids = ranks[rank].uuids;
    const auto free = std::find_if(uuids.begin(), uuids.end(), [&](const std::string& uuid) {
      return of_host.count(uuid) == 0;
    });
    if (free == uuids.end()) {
      assignment.problem = describe_problem(ranks, assignment.ordinals, rank);
      assignment.ordinals.clear();
      return assignment;
    }
    of_host.insert(*free);
    assignment.ordinals.push_back(static_cast<int>(free - uuids.begin()));
  }
  return assignment;
}

bool needs_cpu(const Experiment& experiment) {
  return std::any_of(
      experiment.policies.begin(), experiment.policies.end(), [](const PolicyConfig& policy) {
        const auto& execution = policy.execution;
        return execution.link.has_value() || execution.dtype == DType::float16;
      });
}

DevicePlacement choose_device(const RunContext& context) {
  const auto wanted = context.experiment.execution.device;
  const bool is_automatic = wanted == DeviceKind::automatic;
  if (wanted == DeviceKind::cpu || (is_automatic && needs_cpu(context.experiment))) {
    return {};
  }
  const auto& ranks = context.ranks;
  const auto gpus = visible_gpus();
  const auto agreed = assign_together(ranks, gpus);
  if (agreed.problem.empty()) {
    return {.kind = DeviceKind::cuda, .ordinal = agreed.ordinal, .name = agreed.name};
  }
  if (is_automatic) {
    if (context.is_first_rank() && !gpus.empty()) {
      log_line("execution.device: auto takes the CPU: " + agreed.problem);
    }
    return {};
  }
  run_on_all_ranks(ranks.groups.world, ranks.wait, [&] {
    throw InputError("execution.device: cuda needs a GPU of its own for each rank, and " +
                     agreed.problem + "; allowed: as many GPUs as ranks on a host, or device: cpu");
  });
  return {};
}

}  // namespace dovetail
