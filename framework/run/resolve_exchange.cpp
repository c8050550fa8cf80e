#include "framework/run/resolve_exchange.hpp"

#include <algorithm>
#include <optional>

#include "framework/base/error.hpp"
#include "framework/base/text.hpp"
#include "framework/config/exchange_rules.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/plan/exchange_times.hpp"
#include "framework/plan/planned_requests.hpp"
#include "framework/plan/schedule_sms.hpp"

namespace dovetail {
namespace {

/// Tokens of a step on the rank that has most.
std::int64_t most_step_tokens(const WorkloadConfig& workload, int world_size) {
  std::optional<RequestTrace> trace;
  if (const auto* file = std::get_if<RequestFile>(&workload.requests.front())) {
    trace = read_request_trace(file->path);
  }
  std::vector<std::int64_t> tokens(static_cast<std::size_t>(world_size), 0);
  for (const auto& request : plan_requests(workload, trace ? &*trace : nullptr, world_size)) {
    tokens[static_cast<std::size_t>(request.rank)] += request.length;
  }
  return *std::max_element(tokens.begin(), tokens.end());
}

/// Throws InputError for a table of another run and for one without a row for this policy.
ExchangeChoice choose_by_times(const ExchangeTimes& times,
                               const Experiment& experiment,
                               const PolicyConfig& policy,
                               const Architecture& architecture,
                               const ResolvedPlace& place) {
  const auto& execution = policy.execution;
  const auto& dims = architecture.dims();
  const bool on_gpu = place.device == DeviceKind::cuda;
  const int ranks = experiment.parallel.expert_parallel;
  const bool is_known = on_gpu && place.device_name != kUnknownGpu;
  check_exchange_setting(times,
                         {.device = !on_gpu    ? "CPU"
                                    : is_known ? place.device_name
                                               : "",
                          .nccl = !on_gpu    ? "none"
                                  : is_known ? loaded_nccl()
                                             : "",
                          .dtype = std::string(to_string(execution.dtype)),
                          .ranks = ranks,
                          .ranks_per_host = std::min(ranks, place.ranks_per_host),
                          .hidden = dims.hidden,
                          .experts = dims.num_experts,
                          .top_k = dims.top_k});
  const int ubatches = std::max(1, policy.ubatches);
  const auto schedule = make_own_schedule(policy, architecture.shape(), experiment.workload.phase);
  const ExchangeUse use = {
      .tokens = (most_step_tokens(experiment.workload, place.world_size) + ubatches - 1) / ubatches,
      .comm_sms = on_gpu ? schedule_sms(execution.comm_sms, schedule) : 0,
      .is_graph = on_gpu && execution.graph == GraphMode::full,
      .num_groups = schedule.num_groups};
  return fastest_exchange(exchange_us(times, use),
                          times.file + ", " + counted(use.tokens, "token"),
                          on_gpu,
                          execution.graph,
                          schedule.num_groups,
                          place.gpus_apart);
}

}  // namespace

std::string exchange_table_of(const ExecutionConfig& execution) {
  if (is_exchange_table(execution.exchange)) {
    return execution.exchange;
  }
  const bool is_read = execution.exchange == "auto" && is_exchange_table(execution.exchange_table);
  return is_read ? execution.exchange_table : "";
}

ExchangeChoice resolve_exchange(const Experiment& experiment,
                                const PolicyConfig& policy,
                                const Architecture& architecture,
                                const ResolvedPlace& place) {
  const auto& execution = policy.execution;
  const auto table = exchange_table_of(execution);
  const auto by_name = [&] {
    return choose_exchange(execution.exchange, place.device == DeviceKind::cuda, place.gpus_apart);
  };
  if (table.empty()) {
    return by_name();
  }
  const auto times = read_exchange_times(table);
  try {
    return choose_by_times(times, experiment, policy, architecture, place);
  } catch (const InputError& error) {
    if (execution.exchange != "auto") {
      throw;
    }
    auto choice = by_name();
    choice.reason += "; not by the table: " + std::string(error.what());
    return choice;
  }
}

}  // namespace dovetail
