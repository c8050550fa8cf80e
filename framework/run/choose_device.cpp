#include "framework/run/choose_device.hpp"

#include <algorithm>
#include <cstdlib>
#include <sstream>

#include "framework/base/error.hpp"
#include "framework/base/log.hpp"
#include "framework/base/text.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/run/assign_gpus.hpp"
#include "framework/run/fabric.hpp"
#include "framework/run/peer_reach.hpp"

namespace dovetail {
namespace {

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
  std::getline(lines, gpus.slice);
  std::getline(lines, gpus.why_none);
  for (std::string uuid; std::getline(lines, uuid);) {
    gpus.uuids.push_back(uuid);
  }
  return gpus;
}

/// A line each; no text of them has a line end.
std::string gpus_text(const std::string& host, const std::vector<VisibleGpu>& gpus) {
  std::string slice;
  std::string uuids;
  for (const auto& gpu : gpus) {
    slice = gpu.is_slice && slice.empty() ? gpu.description : slice;
    uuids += "\n" + gpu.uuid;
  }
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");  // NOLINT(concurrency-mt-unsafe)
  return host + "\n" + slice + "\n" + (gpus.empty() ? why_no_gpu(visible, cuda_problem()) : "") +
         uuids;
}

/// What rank 0 has decided from what all ranks see.
struct Agreed {
  std::string problem;
  std::string name;
  int ordinal = 0;
  bool any_visible = false;  ///< some rank sees a GPU; known to rank 0 only
};

/// Collective over the world.
Agreed assign_together(const Ranks& ranks, const std::vector<VisibleGpu>& gpus) {
  const auto& world = ranks.groups.world;
  const auto texts = gather_texts(world, gpus_text(ranks.session.host(), gpus), ranks.wait);
  std::string text;
  Agreed agreed;
  if (ranks.is_first()) {
    std::vector<RankGpus> all;
    all.reserve(texts.size());
    for (const auto& one : texts) {
      all.push_back(parse_gpus(one));
      agreed.any_visible |= !all.back().uuids.empty();
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
  std::getline(lines, verdict);
  std::getline(lines, verdict == "ok" ? agreed.name : agreed.problem);
  for (int rank = 0; verdict == "ok" && rank <= ranks.rank().value; ++rank) {
    lines >> agreed.ordinal;
  }
  return agreed;
}

/// See why_apart. Collective over the world. Throws AgreedError where `fabric` asks for a way that
/// is not there.
std::string find_what_is_apart(const Ranks& ranks, int ordinal, Fabric fabric) {
  if (auto why = what_fabric_forbids(fabric); !why.empty()) {
    return why;
  }
  const auto& world = ranks.groups.world;
  const auto reach = reach_of_gpu(ordinal);
  const RankReach own = {
      .host = ranks.session.host(),
      .uuid = visible_gpus().at(static_cast<std::size_t>(ordinal)).uuid,
      .reached = reach.reached,
      .forbidden = what_forbids_sharing(std::getenv),  // NOLINT(concurrency-mt-unsafe)
      .apart = reach.apart,
      .unseen = printable(reach.unseen, std::string::npos)};
  const auto texts = gather_texts(world, reach_text(own), ranks.wait);
  std::string why;
  run_on_all_ranks(world, ranks.wait, [&] {
    if (!ranks.is_first()) {
      return;
    }
    std::vector<RankReach> all;
    std::transform(texts.begin(), texts.end(), std::back_inserter(all), parse_reach);
    const auto no_way = why_no_way(all, ranks.grid.expert_parallel);
    if (fabric == Fabric::nvlink && !no_way.empty()) {
      throw InputError("parallel.fabric: nvlink needs GPUs that reach each other's memory, and " +
                       no_way + "; allowed here: auto, shared_memory, socket");
    }
    why = why_apart(all, ranks.grid.expert_parallel);
  });
  broadcast_text(world, why, ranks.wait);
  return why;
}

}  // namespace

std::string what_needs_cpu(const Experiment& experiment) {
  for (const auto& policy : experiment.policies) {
    if (policy.execution.link.has_value()) {
      return "policy " + policy.name + " emulates a link, which only CPU ranks can";
    }
    if (policy.execution.dtype == DType::float16) {
      return "policy " + policy.name + " computes in float16, which only CPU ranks can";
    }
  }
  return "";
}

DevicePlacement choose_device(const RunContext& context) {
  const auto wanted = context.experiment.execution.device;
  if (wanted == DeviceKind::cpu) {
    return {};
  }
  CpuChoice choice;
  if (wanted == DeviceKind::automatic) {
    choice.needs_cpu = what_needs_cpu(context.experiment);
    choice.num_installed = context.is_first_rank() ? num_installed_gpus() : 0;
  }
  const auto& ranks = context.ranks;
  if (choice.needs_cpu.empty()) {
    const auto agreed = assign_together(ranks, visible_gpus());
    if (agreed.problem.empty()) {
      return {.kind = DeviceKind::cuda,
              .ordinal = agreed.ordinal,
              .name = agreed.name,
              .gpus_apart =
                  find_what_is_apart(ranks, agreed.ordinal, context.experiment.parallel.fabric)};
    }
    choice.problem = agreed.problem;
    choice.any_visible = agreed.any_visible;
  }
  if (wanted == DeviceKind::automatic) {
    if (const auto why = why_on_cpu(choice); why && context.is_first_rank()) {
      log_line(*why);
    }
    return {};
  }
  run_on_all_ranks(ranks.groups.world, ranks.wait, [&] {
    throw InputError("execution.device: cuda needs a GPU of its own for each rank, and " +
                     choice.problem + "; allowed: as many GPUs as ranks on a host, or device: cpu");
  });
  return {};
}

}  // namespace dovetail
