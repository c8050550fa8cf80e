// `dovetail check`: everything about a run that can be known before it, and nothing run.
#include <iostream>
#include <optional>
#include <variant>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/compare/link_note.hpp"
#include "framework/compare/table.hpp"
#include "framework/config/dump.hpp"
#include "framework/plan/request_trace.hpp"
#include "framework/plan/split.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/memory_estimate.hpp"
#include "framework/run/policy_checks.hpp"
#include "framework/run/run_setup.hpp"
#include "launch/check_sweep.hpp"
#include "launch/commands.hpp"
#include "models/registry.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::ordered_json;

CheckedRun load_run(const Experiment& experiment, int num_ranks) {
  CheckedRun run;
  run.experiment = experiment;
  run.grid = make_grid(num_ranks, run.experiment.parallel.expert_parallel);
  run.architecture = architectures().at(run.experiment.model.architecture)(run.experiment.model);
  const auto& dims = run.architecture->dims();
  owned_experts(dims.num_experts, run.grid.expert_parallel, EpRank(0));
  check_recorded_outputs(experiment.record, dims);
  const auto& workload = run.experiment.workload;
  std::optional<RequestTrace> trace;
  if (const auto* file = std::get_if<RequestFile>(&workload.requests.front())) {
    trace = read_request_trace(file->path);
  }
  for (int rank = 0; rank < num_ranks; ++rank) {
    run.workloads.push_back(
        make_workload(workload, trace ? &*trace : nullptr, dims.vocabulary, num_ranks, Rank(rank)));
  }
  for (const auto& policy : experiment.policies) {
    run.schedules.push_back(
        make_checked_schedules(experiment, policy, run.architecture->shape(), num_ranks));
  }
  return run;
}

Json describe_grid(const CheckedRun& run) {
  auto ranks = Json::array();
  for (int rank = 0; rank < run.grid.world_size; ++rank) {
    const auto ep_rank = run.grid.ep_rank(Rank(rank));
    const auto [first, last] =
        owned_experts(run.architecture->dims().num_experts, run.grid.expert_parallel, ep_rank);
    const auto& workload = run.workloads[static_cast<std::size_t>(rank)];
    const auto& batch = workload.steps.front().batch;
    std::int64_t context_tokens = 0;
    for (const auto& request : batch.requests) {
      context_tokens += request.context_length;
    }
    ranks.push_back({{"rank", rank},
                     {"dp_rank", run.grid.dp_rank(Rank(rank)).value},
                     {"ep_rank", ep_rank.value},
                     {"experts", {first, last}},
                     {"requests", batch.requests.size()},
                     {"tokens", batch.num_tokens()},
                     {"context_tokens", context_tokens},
                     {"steps", workload.steps.size()}});
  }
  return {{"world_size", run.grid.world_size},
          {"expert_parallel", run.grid.expert_parallel},
          {"replicas", run.grid.num_replicas()},
          {"ranks", ranks}};
}

Json describe_policy(const CheckedRun& run,
                     const PolicyConfig& policy,
                     const PolicySchedules& schedules) {
  const auto exchange = choose_exchange(policy.execution.exchange, plans_for_gpu(policy.execution));
  auto splits = Json::array();
  for (const auto& workload : run.workloads) {
    auto tokens = Json::array();
    for (const auto& slice : split_batch(workload.steps.front().batch,
                                         split_rule(policy.split,
                                                    run.architecture->dims().flops_per_token,
                                                    run.architecture->dims().flops_per_key),
                                         schedules.own.num_ubatches)) {
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
          {"link", describe_link(policy.execution.link, run.grid.expert_parallel)},
          {"tokens_of_ubatches_by_rank", splits}};
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
  TextTable table({{"rank"},
                   {"dp_rank"},
                   {"ep_rank"},
                   {"experts"},
                   {"requests"},
                   {"tokens a step"},
                   {"context tokens"},
                   {"steps"}});
  for (const auto& rank : grid["ranks"]) {
    table.add_row(
        {rank["rank"].dump(),
         rank["dp_rank"].dump(),
         rank["ep_rank"].dump(),
         rank["experts"][0].dump() + ".." + std::to_string(rank["experts"][1].get<int>() - 1),
         rank["requests"].dump(),
         rank["tokens"].dump(),
         rank["context_tokens"].dump(),
         rank["steps"].dump()});
  }
  std::cout << table.to_string() << "\n";
}

void print_policies(const Json& policies) {
  std::vector<PolicyLink> links;
  for (const auto& policy : policies) {
    links.push_back({policy["name"], policy["link"]});
  }
  std::cout << link_note(links);
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

Json check_experiment(const Experiment& experiment, int num_ranks) {
  const auto run = load_run(experiment, num_ranks);
  auto policies = Json::array();
  for (std::size_t i = 0; i < run.schedules.size(); ++i) {
    policies.push_back(describe_policy(run, run.experiment.policies[i], run.schedules[i]));
  }
  return {{"experiment", run.experiment.experiment},
          {"grid", describe_grid(run)},
          {"policies", policies},
          {"memory_bytes_by_rank", describe_memory(run)}};
}

int check_command(const CheckOptions& options) {
  const Sweep sweep(read_experiment_file(options.file), options.file, options.overrides);
  if (sweep.is_sweep()) {
    return check_sweep(sweep, options);
  }
  const auto report = check_experiment(
      point_experiment(sweep, 0, options.num_ranks, build_capabilities(architectures().names())),
      options.num_ranks);
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
