// `dovetail check`: everything about a run that can be known before it, and nothing run.
#include <iostream>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/compare/table.hpp"
#include "framework/device/policy_run.hpp"
#include "framework/device/torch_dtype.hpp"
#include "framework/plan/grid.hpp"
#include "framework/plan/workload.hpp"
#include "launch/capabilities.hpp"
#include "launch/commands.hpp"
#include "models/registry.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::ordered_json;

struct CheckedRun {
  Experiment experiment;
  RankGrid grid;
  std::unique_ptr<Architecture> architecture;
  std::vector<RankWorkload> workloads;  ///< of each rank
};

CheckedRun load_run(const CheckOptions& options) {
  CheckedRun run;
  run.experiment = load_valid_experiment(options.file, options.overrides, options.num_ranks);
  run.grid = make_grid(options.num_ranks, run.experiment.parallel.expert_parallel);
  run.architecture =
      architectures().at(run.experiment.model.architecture)(run.experiment.model.config);
  const auto& dims = run.architecture->dims();
  owned_experts(dims.num_experts, run.grid.expert_parallel, EpRank(0));
  for (int rank = 0; rank < options.num_ranks; ++rank) {
    run.workloads.push_back(
        make_workload(run.experiment.workload, dims.vocabulary, options.num_ranks, Rank(rank)));
  }
  return run;
}

Json describe_grid(const CheckedRun& run) {
  auto ranks = Json::array();
  for (int rank = 0; rank < run.grid.world_size; ++rank) {
    const auto ep_rank = run.grid.ep_rank(Rank(rank));
    const auto [first, last] =
        owned_experts(run.architecture->dims().num_experts, run.grid.expert_parallel, ep_rank);
    const auto& batch = run.workloads[static_cast<std::size_t>(rank)].batch;
    ranks.push_back({{"rank", rank},
                     {"dp_rank", run.grid.dp_rank(Rank(rank)).value},
                     {"ep_rank", ep_rank.value},
                     {"experts", {first, last}},
                     {"requests", batch.requests.size()},
                     {"tokens", batch.num_tokens()}});
  }
  return {{"world_size", run.grid.world_size},
          {"expert_parallel", run.grid.expert_parallel},
          {"replicas", run.grid.num_replicas()},
          {"ranks", ranks}};
}

Json describe_policy(const CheckedRun& run, const PolicyConfig& policy) {
  const auto schedules =
      make_policy_schedules(policy, run.architecture->shape(), run.experiment.workload.phase);
  const auto exchange = choose_exchange(policy.execution.exchange);
  auto splits = Json::array();
  for (const auto& workload : run.workloads) {
    auto tokens = Json::array();
    for (const auto& slice :
         split_batch(workload.batch, split_rule(policy), schedules.own.num_ubatches)) {
      tokens.push_back(slice.num_tokens);
    }
    splits.push_back(tokens);
  }
  return {{"name", policy.name},
          {"schedule", schedules.own.name},
          {"ubatches", schedules.own.num_ubatches},
          {"ops", schedules.own.ops.size()},
          {"schedule_check", "proven"},  // an unproven schedule is refused above
          {"exchange", exchange.name},
          {"exchange_reason", exchange.reason},
          {"tokens_of_ubatches_by_rank", splits}};
}

/// Parts of one rank's memory, bytes, in the policy that needs most.
std::vector<MemoryPart> rank_memory(const CheckedRun& run, int rank) {
  const auto& experiment = run.experiment;
  const auto dtype = to_torch(experiment.execution.dtype);
  const auto& dims = run.architecture->dims();
  const auto element = static_cast<std::int64_t>(size_of(experiment.execution.dtype));
  const auto layers = static_cast<std::int64_t>(run.architecture->shape().num_layers());
  const auto& batch = run.workloads[static_cast<std::size_t>(rank)].batch;
  const auto tokens = batch.num_tokens();
  std::int64_t max_tokens = 0;
  for (const auto& workload : run.workloads) {
    max_tokens = std::max(max_tokens, workload.batch.num_tokens());
  }
  auto parts = run.architecture->weight_memory({.ep_size = run.grid.expert_parallel,
                                                .ep_rank = run.grid.ep_rank(Rank(rank)).value,
                                                .dtype = dtype,
                                                .device = at::kCPU});
  parts.push_back({"kv cache", 2 * layers * tokens * dims.kv_heads * dims.head_dim * element});
  std::int64_t exchange_bytes = 0;
  for (const auto& policy : experiment.policies) {
    const auto num_ubatches =
        make_policy_schedules(policy, run.architecture->shape(), experiment.workload.phase)
            .own.num_ubatches;
    const ExchangeShape shape = {.ep_size = run.grid.expert_parallel,
                                 .ep_rank = run.grid.ep_rank(Rank(rank)).value,
                                 .num_experts = dims.num_experts,
                                 .top_k = dims.top_k,
                                 .hidden = dims.hidden,
                                 .dtype = dtype,
                                 .num_ubatches = num_ubatches};
    const auto per_ubatch = (max_tokens + num_ubatches - 1) / num_ubatches;
    exchange_bytes = std::max(
        exchange_bytes,
        exchange_buffer_bytes(shape, per_ubatch, choose_exchange(policy.execution.exchange).name));
  }
  parts.push_back({"exchange buffers (worst case)", exchange_bytes});
  std::int64_t outputs = tokens * dims.hidden;
  const auto& record = experiment.record;
  if (record.has(RecordedOutput::logits)) {
    outputs += static_cast<std::int64_t>(batch.requests.size()) * dims.vocabulary;
  }
  if (record.has(RecordedOutput::logits_all)) {
    outputs += tokens * dims.vocabulary;
  }
  if (record.has(RecordedOutput::layers)) {
    outputs += layers * tokens * dims.hidden;
  }
  parts.push_back({"outputs", outputs * element});
  return parts;
}

Json describe_memory(const CheckedRun& run) {
  auto ranks = Json::array();
  for (int rank = 0; rank < run.grid.world_size; ++rank) {
    Json parts = Json::object();
    std::int64_t total = 0;
    for (const auto& part : rank_memory(run, rank)) {
      parts[part.name] = part.bytes;
      total += part.bytes;
    }
    parts["total"] = total;
    ranks.push_back(parts);
  }
  return ranks;
}

std::string join_numbers(const Json& numbers) {
  std::string text;
  for (const auto& number : numbers) {
    text += (text.empty() ? "" : " + ") + number.dump();
  }
  return text;
}

void print_grid(const Json& grid) {
  std::cout << "grid: " << grid["world_size"] << " ranks = " << grid["replicas"] << " replicas x "
            << grid["expert_parallel"] << " expert parallel\n\n";
  TextTable table({{"rank"}, {"dp_rank"}, {"ep_rank"}, {"experts"}, {"requests"}, {"tokens"}});
  for (const auto& rank : grid["ranks"]) {
    table.add_row(
        {rank["rank"].dump(),
         rank["dp_rank"].dump(),
         rank["ep_rank"].dump(),
         rank["experts"][0].dump() + ".." + std::to_string(rank["experts"][1].get<int>() - 1),
         rank["requests"].dump(),
         rank["tokens"].dump()});
  }
  std::cout << table.to_string() << "\n";
}

void print_policies(const Json& policies) {
  TextTable table({{"policy", TextTable::Align::left},
                   {"schedule", TextTable::Align::left},
                   {"ubatches"},
                   {"ops"},
                   {"schedule check", TextTable::Align::left},
                   {"exchange", TextTable::Align::left},
                   {"tokens of ubatches, by rank", TextTable::Align::left}});
  for (const auto& policy : policies) {
    std::string splits;
    for (const auto& rank : policy["tokens_of_ubatches_by_rank"]) {
      splits += (splits.empty() ? "" : " | ") + join_numbers(rank);
    }
    table.add_row({policy["name"],
                   policy["schedule"],
                   policy["ubatches"].dump(),
                   policy["ops"].dump(),
                   policy["schedule_check"],
                   policy["exchange"],
                   splits});
  }
  std::cout << table.to_string() << "\n";
}

void print_memory(const Json& memory) {
  std::vector<TextTable::Column> columns = {{"memory [MiB]", TextTable::Align::left}};
  for (std::size_t rank = 0; rank < memory.size(); ++rank) {
    columns.push_back({"rank " + std::to_string(rank)});
  }
  TextTable table(columns);
  for (const auto& [part, unused] : memory[0].items()) {
    std::vector<std::string> row = {part};
    for (const auto& rank : memory) {
      row.push_back(format_fixed(rank[part].get<double>() / (1 << 20), 2));
    }
    table.add_row(row);
  }
  std::cout << table.to_string();
}

}  // namespace

int check_command(const CheckOptions& options) {
  const auto run = load_run(options);
  auto policies = Json::array();
  for (const auto& policy : run.experiment.policies) {
    policies.push_back(describe_policy(run, policy));
  }
  const Json report = {{"experiment", run.experiment.experiment},
                       {"grid", describe_grid(run)},
                       {"policies", policies},
                       {"memory_bytes_by_rank", describe_memory(run)}};
  if (options.format == OutputFormat::json) {
    std::cout << report.dump(2) << "\n";
  } else {
    print_grid(report["grid"]);
    print_policies(report["policies"]);
    print_memory(report["memory_bytes_by_rank"]);
  }
  return kExitDone;
}

}  // namespace dovetail
