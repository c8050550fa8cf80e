#include "framework/run/run_header.hpp"

#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "framework/base/log.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/compare/table.hpp"
#include "framework/config/comm_sms.hpp"
#include "framework/config/dump.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/record/run_info.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {
namespace {

/// "2 x NVIDIA H200, 139 GiB, compute 9.0"; of CPUs the models only.
std::string describe_devices(const RunPlaces& places) {
  std::map<std::string, int> counts;
  for (const auto& device : places.devices) {
    ++counts[device];
  }
  std::vector<std::string> names;
  names.reserve(counts.size());
  for (const auto& [name, count] : counts) {
    names.push_back(places.on_gpu ? std::to_string(count) + " x " + name : name);
  }
  return (places.on_gpu ? "cuda (" : "cpu (") + join_names(names, "; ") + ")";
}

/// How rows of an expert-parallel group travel, where no link is emulated.
std::string describe_wires(const RankGrid& grid, const RunPlaces& places) {
  if (grid.expert_parallel == 1) {
    return "none (each rank holds all experts)";
  }
  if (places.num_hosts == 0) {
    return places.on_gpu ? "NCCL" : "MPI";
  }
  if (places.on_gpu) {
    return places.num_hosts == 1 ? "NCCL within the host" : "NCCL, also between hosts";
  }
  return places.num_hosts == 1 ? "shared memory of the host" : "MPI, also between hosts";
}

/// The value of most policies, of equally many that of the first, and behind it those of others.
std::string common_value(const Experiment& experiment,
                         const std::function<std::string(std::size_t)>& value_of) {
  const auto& policies = experiment.policies;
  std::map<std::string, int> counts;
  for (std::size_t i = 0; i < policies.size(); ++i) {
    ++counts[value_of(i)];
  }
  std::string common;
  for (std::size_t i = 0; i < policies.size(); ++i) {
    if (common.empty() || counts[value_of(i)] > counts[common]) {
      common = value_of(i);
    }
  }
  std::string others;
  for (std::size_t i = 0; i < policies.size(); ++i) {
    if (value_of(i) != common) {
      others += (others.empty() ? "" : ", ") + policies[i].name + ": " + value_of(i);
    }
  }
  return common + (others.empty() ? "" : " (" + others + ")");
}

/// "cuda:0 NVIDIA H200, ..." without the number.
std::string without_ordinal(const std::string& device) {
  return device.substr(device.find(' ') + 1);
}

}  // namespace

std::string describe_run(const Experiment& experiment,
                         const RankGrid& grid,
                         const RunPlaces& places,
                         const std::vector<ResolvedPolicy>& policies) {
  const auto execution = [&](std::size_t i) -> const ExecutionConfig& {
    return experiment.policies[i].execution;
  };
  const auto numerics = common_value(
      experiment, [&](std::size_t i) { return std::string(to_string(execution(i).numerics)); });
  const auto exchange =
      common_value(experiment, [&](std::size_t i) { return policies[i].execution.exchange; });
  const auto comm_sms = common_value(experiment, [&](std::size_t i) {
    const auto& resolved = policies[i].execution;
    const bool is_hard =
        resolved.sm_partition == SmPartitionKind::hard && resolved.comm_sms != kAllSms;
    return describe_comm_sms(resolved.comm_sms) + (is_hard ? " (hard)" : "") +
           (resolved.comm_sms == resolved.plain_comm_sms
                ? ""
                : "/" + describe_comm_sms(resolved.plain_comm_sms));
  });
  const auto link = common_value(experiment, [&](std::size_t i) {
    const auto emulated = describe_link(execution(i).link, grid.expert_parallel);
    return emulated == kNoLink ? describe_wires(grid, places) : emulated;
  });
  const auto fabric = experiment.parallel.fabric;
  const auto iterations = common_value(experiment, [&](std::size_t i) {
    const auto precision = execution(i).precision;
    return (precision > 0 ? "at most " : "") + counted(execution(i).iterations, "iteration") +
           (precision > 0 ? " (until step times are known to " + format_percent(precision) + ")"
                          : "") +
           " after " + std::to_string(execution(i).warmup) + " of warm-up";
  });
  const auto hosts = places.num_hosts == 0 ? "" : " on " + counted(places.num_hosts, "host");
  return "run: " + counted(grid.world_size, "rank") + hosts + "; " + describe_devices(places) +
         "; expert parallel " + std::to_string(grid.expert_parallel) + " x data parallel " +
         std::to_string(grid.num_replicas()) + "; dtype " +
         std::string(to_string(experiment.execution.dtype)) + "; numerics " + numerics +
         "; exchange " + exchange +
         (places.on_gpu && grid.expert_parallel > 1 ? "; comm SMs " + comm_sms : "") + "; link " +
         link + (fabric == Fabric::automatic ? "" : ", fabric " + std::string(to_string(fabric))) +
         "; " + iterations;
}

void RunHeader::print(const RunContext& context,
                      const std::string& device,
                      const std::vector<ResolvedPolicy>& policies,
                      const std::vector<std::string>& hindrances) {
  const auto& ranks = context.ranks;
  RunPlaces places;
  places.on_gpu = device != "cpu";
  const auto own = places.on_gpu ? without_ordinal(device) : cpu_name();
  const auto texts =
      gather_texts(ranks.groups.world,
                   ranks.session.host() + "\n" + own + "\n" + join_names(hindrances, "; "),
                   ranks.wait);
  if (!context.is_first_rank()) {
    return;
  }
  std::set<std::string> hosts;
  std::vector<std::optional<std::string>> hindered;
  for (const auto& text : texts) {
    std::istringstream lines(text);
    std::string host;
    std::string hinders;
    std::getline(lines, host);
    std::getline(lines, places.devices.emplace_back());
    std::getline(lines, hinders);
    hosts.insert(host);
    hindered.push_back(hinders.empty() ? std::nullopt : std::optional(hinders));
  }
  places.num_hosts = static_cast<int>(hosts.size());
  const auto line = describe_run(context.experiment, ranks.grid, places, policies);
  if (line != last_) {
    std::cout << line << std::endl;
    if (const auto warning = merge_messages(hindered); !warning.empty()) {
      log_line("warning: the environment bends what is measured: " + warning);
    }
  }
  last_ = line;
}

}  // namespace dovetail
