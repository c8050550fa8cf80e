#include "framework/run/fabric.hpp"

#include <cstdlib>
#include <string_view>
#include <strings.h>

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"
#include "framework/comm/exchange/exchange_table.hpp"

namespace dovetail {
namespace {

const char* summary_of(Fabric fabric) {
  switch (fabric) {
    case Fabric::nvlink:
      return "GPUs reach each other's memory, over NVLink or PCIe";
    case Fabric::shared_memory:
      return "through the host's memory";
    case Fabric::socket:
      return "TCP sockets, between hosts as well";
    default:
      return "what NCCL chooses";
  }
}

bool keeps_apart(Fabric fabric) {
  return fabric == Fabric::shared_memory || fabric == Fabric::socket;
}

std::string stated(Fabric fabric) {
  return "parallel.fabric: " + std::string(to_string(fabric));
}

}  // namespace

std::vector<FabricVariable> fabric_variables(Fabric fabric) {
  switch (fabric) {
    case Fabric::nvlink:
      return {{"NCCL_P2P_DISABLE", "0"}};
    case Fabric::shared_memory:  // NVLink SHARP would take all-gathers past the others
      return {{"NCCL_P2P_DISABLE", "1"}, {"NCCL_SHM_DISABLE", "0"}, {"NCCL_NVLS_ENABLE", "0"}};
    case Fabric::socket:
      return {{"NCCL_P2P_DISABLE", "1"},
              {"NCCL_SHM_DISABLE", "1"},
              {"NCCL_NVLS_ENABLE", "0"},
              {"NCCL_NET", "Socket"}};
    default:
      return {};
  }
}

std::vector<Description> describe_fabrics() {
  std::vector<Description> all;
  for (const auto name : names<Fabric>()) {
    const auto fabric = *parse<Fabric>(name);
    std::string variables;
    for (const auto& one : fabric_variables(fabric)) {
      variables += (variables.empty() ? " (" : " ") + std::string(one.name) + "=" + one.value;
    }
    all.push_back(
        {std::string(name), summary_of(fabric) + variables + (variables.empty() ? "" : ")")});
  }
  return all;
}

std::string what_fabric_forbids(Fabric fabric) {
  return keeps_apart(fabric) ? "parallel.fabric is " + std::string(to_string(fabric)) : "";
}

void check_fabric(const Experiment& experiment, DeviceKind device) {
  const auto fabric = experiment.parallel.fabric;
  if (fabric == Fabric::automatic) {
    return;
  }
  if (device == DeviceKind::cpu) {
    throw InputError(stated(fabric) +
                     " is for ranks on GPUs, and these are on the CPU, where execution.link "
                     "emulates a slow network; allowed: auto, or execution.device: cuda");
  }
  for (const auto& policy : experiment.policies) {
    const auto* row = find_exchange(policy.execution.exchange);
    if (row != nullptr && row->shares_memory && keeps_apart(fabric)) {
      throw InputError("policy " + policy.name + ": execution.exchange: " + row->name +
                       " needs GPUs that reach each other's memory, and " +
                       what_fabric_forbids(fabric) +
                       "; allowed: an exchange over NCCL (gather, ragged, padded), or auto");
    }
  }
}

void check_fabric_variables(Fabric fabric,
                            const std::function<const char*(const char*)>& variable) {
  if (fabric == Fabric::automatic) {
    return;
  }
  const auto refuse = [&](const char* name, const std::string& needed) {
    throw InputError(stated(fabric) + " needs " + needed + ", and the environment has " + name +
                     "=" + printable(variable(name)) + "; unset it, or leave parallel.fabric out");
  };
  for (const auto& one : fabric_variables(fabric)) {
    const char* is = variable(one.name);
    if (is != nullptr && *is != '\0' && strcasecmp(is, one.value) != 0) {
      refuse(one.name, std::string(one.name) + "=" + one.value);
    }
  }
  const char* level = variable("NCCL_P2P_LEVEL");
  if (level != nullptr && *level != '\0') {
    refuse("NCCL_P2P_LEVEL", "to decide itself which GPUs reach each other");
  }
}

void check_one_fabric(const std::vector<Experiment>& points) {
  for (const auto& point : points) {
    if (point.parallel.fabric != points.front().parallel.fabric) {
      throw InputError(
          "parallel.fabric is " + std::string(to_string(points.front().parallel.fabric)) +
          " in the first point of the sweep and " + std::string(to_string(point.parallel.fabric)) +
          " in another, and NCCL reads its variables once in a process; run each point by itself, "
          "with --point");
    }
  }
}

void set_fabric(Fabric fabric) {
  // NOLINTBEGIN(concurrency-mt-unsafe): see the header
  check_fabric_variables(fabric, std::getenv);
  for (const auto& one : fabric_variables(fabric)) {
    setenv(one.name, one.value, /*overwrite=*/1);
  }
  // NOLINTEND(concurrency-mt-unsafe)
}

}  // namespace dovetail
