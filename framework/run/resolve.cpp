#include "framework/run/resolve.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "framework/base/error.hpp"
#include "framework/base/hash.hpp"
#include "framework/base/text.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/comm/exchange/sum_order.hpp"
#include "framework/config/schedule_rules.hpp"
#include "framework/config/validate_execution.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/mpi/agree.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/plan/kv_pages.hpp"
#include "framework/plan/schedule_sms.hpp"
#include "framework/plan/split.hpp"
#include "framework/plan/step_time_setting.hpp"
#include "framework/run/check_fault.hpp"
#include "framework/run/resolve_exchange.hpp"

namespace dovetail {
namespace {

ResolvedExecution resolve_execution(const Experiment& experiment,
                                    const PolicyConfig& policy,
                                    const Architecture& architecture,
                                    const ResolvedPlace& place) {
  const auto& execution = policy.execution;
  const bool on_gpu = place.device == DeviceKind::cuda;
  auto exchange = resolve_exchange(experiment, policy, architecture, place);
  ResolvedExecution resolved;
  resolved.device = place.device;
  resolved.device_name = place.device_name;
  resolved.dtype = execution.dtype;
  if (on_gpu) {
    resolved.sm_partition = execution.sm_partition;
    resolved.graph = std::min(execution.graph, max_graph_mode(exchange.name));
  }
  resolved.exchange = std::move(exchange.name);
  resolved.exchange_reason = std::move(exchange.reason);
  return resolved;
}

/// The files that a policy's schedules come from: "mine.json or table.json"; where it names none,
/// the model's config.json.
std::string describe_files(const Experiment& experiment, const PolicyConfig& policy) {
  const bool is_auto = policy.schedule == "auto";
  const auto& schedule = is_auto ? policy.candidate : policy.schedule;
  if (is_schedule_file(schedule)) {
    return schedule + (is_auto ? " or " + policy.table : "");
  }
  return is_auto ? policy.table : experiment.model.config;
}

/// Of the run; on a GPU that nobody has looked at, the device is whichever the policy's table of
/// step times was measured on, unless that is the CPU. Throws InputError.
StepTimeSetting setting_of(const Experiment& experiment,
                           const PolicyConfig& policy,
                           const ResolvedExecution& execution,
                           int world_size) {
  auto setting = step_time_setting(experiment, policy.execution, execution, world_size);
  if (policy.schedule == "auto" && execution.device_name == kUnknownGpu) {
    const auto measured = read_step_time_table(policy.table).setting;
    const auto device = measured.find("device");
    if (device != measured.end() && device->second != "\"cpu\"") {
      setting["device"] = device->second;
    }
  }
  return setting;
}

/// Operations of large products over bytes of a large read, in the same time, to an order of
/// magnitude: an H200 (800 TFLOP/s in bfloat16, about 50 in float32, and 4.2 TB/s) and a core of a
/// server (50 GFLOP/s and 10 GB/s).
double flops_per_byte(const ResolvedExecution& execution) {
  if (!execution.on_gpu()) {
    return 5;
  }
  return execution.dtype == DType::bfloat16 ? 190 : 12;
}

WorkCosts work_costs(const Architecture& architecture, const ResolvedExecution& execution) {
  const ModelDims& dims = architecture.dims();
  const std::int64_t cached = dims.cached_elements() * std::ssize(architecture.shape().layers);
  return {.flops_per_token = dims.token_flops.sum(),
          .flops_per_key = dims.flops_per_key,
          .flops_per_only_key = dims.flops_per_decode_key,
          .bytes_per_only_key =
              static_cast<double>(cached) * static_cast<double>(size_of(execution.dtype)),
          .flops_per_byte = flops_per_byte(execution)};
}

}  // namespace

ResolvedPolicy resolve_policy(const Experiment& experiment,
                              const PolicyConfig& policy,
                              const Architecture& architecture,
                              const ResolvedPlace& place,
                              const Capabilities& capabilities) {
  auto execution = resolve_execution(experiment, policy, architecture, place);
  auto stated = policy.execution;
  stated.exchange = execution.exchange;
  check_execution_on(place.device, stated, capabilities, "policy " + policy.name + ": execution");
  check_top_k(execution.exchange, execution.on_gpu(), architecture.dims().top_k);
  check_grid(sum_order(policy.execution.numerics, execution.on_gpu()),
             architecture.dims().num_experts,
             experiment.parallel.expert_parallel);
  const auto setting = setting_of(experiment, policy, execution, place.world_size);
  auto schedules =
      make_policy_schedules(policy, architecture.shape(), experiment.workload.phase, &setting);
  try {
    check_groups(execution.exchange,
                 execution.on_gpu(),
                 schedules.own.num_groups,
                 architecture.dims().num_experts / experiment.parallel.expert_parallel);
  } catch (const InputError& error) {
    throw InputError("policy " + policy.name + ": " + error.what());
  }
  if (execution.on_gpu()) {
    // `auto` runs its schedules as they were measured; where the table does not say, as others do.
    const auto times = schedules.step_times.value_or(StepTimeCurves{});
    const auto sms = [&](int measured, const Schedule& schedule) {
      return measured != 0 ? measured : schedule_sms(policy.execution.comm_sms, schedule);
    };
    execution.comm_sms = sms(times.candidate_comm_sms, schedules.own);
    execution.plain_comm_sms = sms(times.plain_comm_sms, schedules.plain);
  }
  const WorkCosts costs = work_costs(architecture, execution);
  return {.execution = std::move(execution),
          .schedules = std::move(schedules),
          .split = split_rule(policy.split, costs),
          .bounds = {}};
}

void check_cache(const PolicyConfig& policy, const RankWorkload& workload, Rank rank) {
  try {
    count_kv_pages(workload.kv_tokens, policy.execution.page_size, policy.execution.cache_tokens);
  } catch (const InputError& error) {
    throw InputError("policy " + policy.name + ", rank " + std::to_string(rank.value) + ": " +
                     error.what());
  }
}

void set_bounds(ResolvedPolicy& resolved,
                const ExecutionConfig& execution,
                std::span<const AgreementMessage> reduced) {
  if (!resolved.execution.on_gpu()) {
    return;
  }
  resolved.bounds =
      bounds_of_steps(execution.graph_sizes, reduced, resolved.schedules.own.num_ubatches);
  resolved.execution.graph_sizes = resolved.bounds.token_sizes;
  resolved.execution.num_step_shapes = resolved.bounds.num_shapes;
}

std::vector<AgreementMessage> bounds_messages(const ResolvedPolicy& resolved,
                                              const RankWorkload& workload,
                                              Rank rank) {
  const auto cuts = cut_steps(workload.steps, resolved.split, resolved.schedules.own.num_ubatches);
  std::vector<AgreementMessage> messages;
  messages.reserve(cuts.size());
  for (std::size_t step = 0; step < cuts.size(); ++step) {
    messages.push_back(make_message(
        {.rank = rank, .batch = workload.steps[step].batch, .slices = cuts[step].split}));
  }
  return messages;
}

std::vector<ResolvedPolicy> resolve_policies(const RunContext& context,
                                             const Architecture& architecture,
                                             const ResolvedPlace& place,
                                             const RankWorkload& workload,
                                             const Capabilities& capabilities) {
  const auto& experiment = context.experiment;
  const auto& ranks = context.ranks;
  std::vector<ResolvedPolicy> policies;
  run_on_all_ranks(ranks.groups.world, ranks.wait, [&] {
    check_recorded_outputs(experiment.record, architecture.dims());
    for (const auto& policy : experiment.policies) {
      policies.push_back(resolve_policy(experiment, policy, architecture, place, capabilities));
      check_cache(policy, workload, ranks.rank());
      check_fault(experiment, policy, policies.back(), architecture);
      check_fault_token(experiment, policy, policies.back(), workload, ranks.rank());
    }
    check_step_faults(experiment, policies, architecture);
  });
  for (std::size_t i = 0; i < policies.size(); ++i) {
    const auto& policy = experiment.policies[i];
    require_equal_digests(ranks.groups.world,
                          policies[i].schedules.digest(),
                          "policy " + policy.name + ": ranks read different contents of " +
                              describe_files(experiment, policy),
                          ranks.wait);
    if (const auto table = exchange_table_of(policy.execution); !table.empty()) {
      Fnv1a exchange;
      exchange.add_bytes(policies[i].execution.exchange);
      require_equal_digests(ranks.groups.world,
                            exchange.value(),
                            "policy " + policy.name + ": ranks read different contents of " + table,
                            ranks.wait);
    }
    if (!policies[i].execution.on_gpu()) {
      continue;
    }
    auto messages = bounds_messages(policies[i], workload, ranks.rank());
    for (auto& message : messages) {
      message = agree(ranks.groups.agreement, message, ranks.wait);
    }
    set_bounds(policies[i], policy.execution, messages);
  }
  return policies;
}

void check_recorded_outputs(const RecordConfig& record, const ModelDims& dims) {
  for (const auto output : {RecordedOutput::logits, RecordedOutput::logits_all}) {
    if (!dims.is_last_stage && record.has(output)) {
      throw InputError("record.outputs: " + std::string(to_string(output)) +
                       " of a stage that does not reach the model's last layer; allowed: hidden, "
                       "layers, routing");
    }
  }
}

}  // namespace dovetail
