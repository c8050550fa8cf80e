#include "framework/config/validate_execution.hpp"

#include <algorithm>
#include <bit>
#include <vector>

#include "framework/base/check.hpp"
#include "framework/base/registry.hpp"

namespace dovetail {
namespace {

using Problem = std::optional<ConfigProblem>;

const ExchangeCapability* find_exchange(const Capabilities& capabilities, const std::string& name) {
  const auto& all = capabilities.exchanges;
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.name == name; });
  return found == all.end() ? nullptr : &*found;
}

/// NCCL rounds the channels of a send up to a power of two, and has no more than these.
constexpr int kMostCommSms = 64;

/// A GPU of compute capability 9.0 is cut into parts of 8 SMs or more.
constexpr int kLeastPartitionSms = 8;

/// "on device cpu", with the reason where there is no choice.
std::string on_cpu(const Capabilities& capabilities) {
  return capabilities.cuda ? "on device cpu" : "on device cpu (this build has no CUDA)";
}

Problem find_problem_on_cpu(const ExecutionConfig& execution, const Capabilities& capabilities) {
  if (execution.graph != GraphMode::none) {
    return ConfigProblem{"graph",
                         "graph " + std::string(to_string(execution.graph)) + " " +
                             on_cpu(capabilities) + "; allowed: none, or device cuda"};
  }
  if (execution.sm_partition == SmPartitionKind::hard) {
    return ConfigProblem{"sm_partition",
                         "hard " + on_cpu(capabilities) + "; allowed: soft, or device cuda"};
  }
  const auto* exchange = find_exchange(capabilities, execution.exchange);
  if (exchange != nullptr && !exchange->on_cpu) {
    std::vector<std::string> allowed = {"auto"};
    for (const auto& one : capabilities.exchanges) {
      if (one.built && one.on_cpu) {
        allowed.push_back(one.name);
      }
    }
    return ConfigProblem{"exchange",
                         "exchange '" + execution.exchange + "' " + on_cpu(capabilities) +
                             "; allowed: " + join_names(allowed) + ", or device cuda"};
  }
  return std::nullopt;
}

Problem find_graph_problem(const ExecutionConfig& execution, const ExchangeCapability* exchange) {
  if (execution.graph == GraphMode::none) {
    return std::nullopt;
  }
  const std::string graph = "graph " + std::string(to_string(execution.graph));
  if (execution.dtype != DType::bfloat16) {
    return ConfigProblem{"graph",
                         graph + " with dtype " + std::string(to_string(execution.dtype)) +
                             "; allowed: none, or dtype bfloat16"};
  }
  if (exchange != nullptr && execution.graph > exchange->max_graph) {
    return ConfigProblem{"graph",
                         graph + " with exchange " + exchange->name + "; allowed: graph up to " +
                             std::string(to_string(exchange->max_graph)) + ", or another exchange"};
  }
  return std::nullopt;
}

Problem find_partition_problem(const ExecutionConfig& execution) {
  if (execution.sm_partition == SmPartitionKind::soft) {
    return std::nullopt;
  }
  if (const auto sms = execution.comm_sms; sms && *sms < kLeastPartitionSms) {
    return ConfigProblem{"sm_partition",
                         "hard with comm_sms " + std::to_string(*sms) +
                             "; allowed: soft, or comm_sms auto, 8, 16, 32, 64"};
  }
  return std::nullopt;
}

Problem find_problem_on_cuda(const ExecutionConfig& execution, const Capabilities& capabilities) {
  if (!capabilities.cuda) {
    return ConfigProblem{"device", "cuda in a build without CUDA; allowed: auto, cpu"};
  }
  if (execution.dtype == DType::float16) {
    return ConfigProblem{"dtype",
                         "float16 on device cuda is not built yet; allowed: bfloat16, float32"};
  }
  if (execution.link) {
    return ConfigProblem{"link", "an emulated link on device cuda; allowed: none, or device cpu"};
  }
  if (const auto sms = execution.comm_sms;
      sms && (*sms > kMostCommSms || !std::has_single_bit(static_cast<unsigned>(*sms)))) {
    return ConfigProblem{
        "comm_sms",
        std::to_string(*sms) + " on device cuda; allowed: auto, 1, 2, 4, 8, 16, 32, 64"};
  }
  if (auto problem = find_partition_problem(execution)) {
    return problem;
  }
  const auto* exchange = find_exchange(capabilities, execution.exchange);
  if (exchange != nullptr && !exchange->on_gpu) {
    return ConfigProblem{"exchange",
                         "exchange '" + execution.exchange +
                             "' on device cuda is not built yet; allowed: device cpu"};
  }
  return find_graph_problem(execution, exchange);
}

}  // namespace

std::optional<ConfigProblem> find_execution_problem(DeviceKind device,
                                                    const ExecutionConfig& execution,
                                                    const Capabilities& capabilities) {
  if (device == DeviceKind::cuda) {
    return find_problem_on_cuda(execution, capabilities);
  }
  auto on_cpu = find_problem_on_cpu(execution, capabilities);
  if (device == DeviceKind::cpu || !capabilities.cuda || !on_cpu) {
    return on_cpu;
  }
  return find_problem_on_cuda(execution, capabilities);  // auto, and nothing for the CPU
}

void check_execution_on(DeviceKind resolved,
                        const ExecutionConfig& execution,
                        const Capabilities& capabilities,
                        const std::string& place) {
  DOVETAIL_CHECK(resolved != DeviceKind::automatic, "a device that is not resolved");
  if (const auto problem = find_execution_problem(resolved, execution, capabilities)) {
    throw InputError(place + "." + problem->place + ": " + problem->message);
  }
}

}  // namespace dovetail
