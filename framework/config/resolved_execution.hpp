// What `execution` of a policy has become on the ranks of a run: nothing is `auto` any more.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/config/choices.hpp"
#include "framework/config/comm_sms.hpp"

namespace dovetail {

/// Equal on all ranks. A run resolves it once for each policy (framework/run/resolve.hpp) and
/// records it; whatever depends on a device, an exchange or a share of a GPU takes it from here.
struct ResolvedExecution {
  DeviceKind device = DeviceKind::cpu;  ///< cpu or cuda
  std::string device_name = "cpu";      ///< or the GPU's: "NVIDIA H200, 139 GiB, compute 9.0"
  DType dtype = DType::float32;
  std::string exchange;               ///< name of the back end
  std::string exchange_reason;        ///< why this one, a line for people
  GraphMode graph = GraphMode::none;  ///< as far as the exchange can be captured
  int comm_sms = 0;  ///< SMs that the exchange may take on a GPU, or kAllSms; 0 on the CPU
  int plain_comm_sms =
      0;  ///< the same in plain steps: of vetoed ones, and where contexts are filled
  /// On a GPU, in steps whose GEMMs leave comm_sms to the exchange; soft on the CPU.
  SmPartitionKind sm_partition = SmPartitionKind::soft;
  /// On a GPU the tokens of a ubatch are padded to the next of these; ascending; empty = to the
  /// fullest rank only.
  std::vector<std::int64_t> graph_sizes;
  int num_step_shapes = 0;  ///< on a GPU: shapes that steps are padded to, each with its graphs

  bool on_gpu() const { return device == DeviceKind::cuda; }

  /// Of steps that run the policy's own schedule (0) or the plain one (1).
  int comm_sms_of(int schedule_index) const {
    return schedule_index == 0 ? comm_sms : plain_comm_sms;
  }

  friend bool operator==(const ResolvedExecution&, const ResolvedExecution&) = default;
};

/// One line of JSON, as rank files record it; parse_resolved_execution reads it back.
std::string to_json_text(const ResolvedExecution& execution);

/// Throws InputError that begins with `place` for anything else.
ResolvedExecution parse_resolved_execution(const std::string& text, const std::string& place);

}  // namespace dovetail
