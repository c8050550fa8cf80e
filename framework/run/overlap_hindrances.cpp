#include "framework/run/overlap_hindrances.hpp"

#include <array>
#include <string_view>

#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

/// Which values hinder.
enum class Hinders { unless_zero, when_one, when_set };

struct Variable {
  const char* name;
  Hinders hinders;
  const char* effect;
};

constexpr std::array<Variable, 15> kVariables = {{
    {"CUDA_DEVICE_MAX_CONNECTIONS",
     Hinders::when_one,
     "all streams share one hardware queue, so that an exchange waits for the compute before it"},
    {"CUDA_LAUNCH_BLOCKING", Hinders::unless_zero, "each launch waits until its kernel has ended"},
    {"CUDA_INJECTION64_PATH", Hinders::when_set, "a profiler sits between the ranks and CUDA"},
    {"PYTORCH_NO_CUDA_MEMORY_CACHING",
     Hinders::when_set,
     "each allocation waits for the whole GPU"},
    {"NCCL_P2P_DISABLE",
     Hinders::unless_zero,
     "GPUs of a host exchange through host memory instead of NVLink or PCIe"},
    {"NCCL_P2P_LEVEL", Hinders::when_set, "decides which GPUs exchange directly"},
    {"NCCL_SHM_DISABLE",
     Hinders::unless_zero,
     "GPUs of a host without a direct way exchange through the network"},
    {"NCCL_IB_DISABLE", Hinders::unless_zero, "hosts exchange through sockets"},
    {"NCCL_NET", Hinders::when_set, "decides how hosts exchange"},
    {"NCCL_PROTO", Hinders::when_set, "one protocol for messages of all sizes"},
    {"NCCL_ALGO", Hinders::when_set, "one algorithm for messages of all sizes"},
    {"NCCL_MAX_NCHANNELS", Hinders::when_set, "bounds the exchange beside execution.comm_sms"},
    {"NCCL_MIN_NCHANNELS", Hinders::when_set, "may take more SMs than execution.comm_sms"},
    {"NCCL_MAX_CTAS", Hinders::when_set, "bounds the exchange beside execution.comm_sms"},
    {"NCCL_MIN_CTAS", Hinders::when_set, "may take more SMs than execution.comm_sms"},
}};

bool does_hinder(Hinders hinders, std::string_view value) {
  switch (hinders) {
    case Hinders::unless_zero:
      return !value.empty() && value != "0";
    case Hinders::when_one:
      return value == "1";
    case Hinders::when_set:
      return !value.empty();
  }
  return false;
}

}  // namespace

std::vector<std::string> overlap_hindrances(
    const std::function<const char*(const char* name)>& variable) {
  std::vector<std::string> found;
  for (const auto& row : kVariables) {
    const char* value = variable(row.name);
    if (value != nullptr && does_hinder(row.hinders, value)) {
      found.push_back(std::string(row.name) + "=" + printable(value) + ": " + row.effect);
    }
  }
  return found;
}

std::string describe_hindrances(const std::vector<std::string>& hindrances) {
  return hindrances.empty() ? "none" : join_names(hindrances, "; ");
}

}  // namespace dovetail
