// What `dovetail bench exchange` is asked for.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/mpi/session.hpp"
#include "framework/mpi/wait.hpp"

namespace dovetail {

/// Empty lists and 0 stand for defaults, which depend on the device.
struct ExchangeBenchOptions {
  DeviceKind device = DeviceKind::automatic;
  std::vector<std::string> exchanges;  ///< all that run there
  std::vector<std::int64_t> tokens;    ///< of each rank
  std::vector<int> comm_sms;           ///< on GPUs
  std::vector<int> groups;             ///< into which the experts of a rank are cut; 1
  std::vector<std::string> routings;   ///< balanced
  std::int64_t hidden = 0;
  int num_experts = 0;
  int top_k = 8;
};

/// Throws InputError, headed by the name of the bench, where the ranks cannot have equally many
/// experts or a token that many. Local, pure.
void check_experts(const std::string& bench, const ExchangeBenchOptions& options, int num_ranks);

/// With defaults in place of what is open. Collective: all ranks take GPUs, or none does. Throws
/// InputError, on all ranks alike, for what does not fit: also for more groups than an exchange
/// that is named can take.
ExchangeBenchOptions resolve_options(const ExchangeBenchOptions& options,
                                     const MpiSession& session,
                                     const WaitPolicy& wait);

}  // namespace dovetail
