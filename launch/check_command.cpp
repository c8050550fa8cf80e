// `dovetail check`: everything about a run, or about every point of a sweep, that can be known
// before it, and nothing run.
#include <algorithm>
#include <iostream>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/compare/link_note.hpp"
#include "framework/compare/table.hpp"
#include "framework/config/dump.hpp"
#include "framework/config/load.hpp"
#include "framework/plan/split.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/checked_run.hpp"
#include "framework/run/experiment_points.hpp"
#include "launch/commands.hpp"
#include "models/registry.hpp"

namespace dovetail {
namespace {

using OrderedJson = nlohmann::ordered_json;

OrderedJson describe_grid(const CheckedRun& run) {
  auto ranks = OrderedJson::array();
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
                     {"steps", workload.steps_per_iteration()},
                     {"variants", workload.num_variants}});
  }
  return {{"world_size", run.grid.world_size},
          {"expert_parallel", run.grid.expert_parallel},
          {"replicas", run.grid.num_replicas()},
          {"ranks", ranks}};
}

OrderedJson describe_policy(const CheckedRun& run,
                            const PolicyConfig& policy,
                            const ResolvedPolicy& resolved) {
  auto splits = OrderedJson::array();
  for (const auto& workload : run.workloads) {
    auto tokens = OrderedJson::array();
    for (const auto& slice : split_batch(
             workload.steps.front().batch, resolved.split, resolved.schedules.own.num_ubatches)) {
      tokens.push_back(slice.num_tokens);
    }
    splits.push_back(tokens);
  }
  return {{"name", policy.name},
          {"schedule", resolved.schedules.own.name},
          {"ubatches", resolved.schedules.own.num_ubatches},
          {"ops", resolved.schedules.own.ops.size()},
          {"schedule_check", "proven"},  // an unproven schedule is refused above
          {"exchange", resolved.execution.exchange},
          {"exchange_reason", resolved.execution.exchange_reason},
          {"link", describe_link(policy.execution.link, run.grid.expert_parallel)},
          {"resolved_execution", OrderedJson::parse(to_json_text(resolved.execution))},
          {"tokens_of_ubatches_by_rank", splits}};
}

OrderedJson describe_memory(const CheckedRun& run) {
  auto ranks = OrderedJson::array();
  for (int rank = 0; rank < run.grid.world_size; ++rank) {
    OrderedJson parts = OrderedJson::object();
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

std::string join_numbers(const OrderedJson& numbers) {
  std::string text;
  for (const auto& number : numbers) {
    text += (text.empty() ? "" : " + ") + number.dump();
  }
  return text;
}

void print_grid(const OrderedJson& grid) {
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

void print_policies(const OrderedJson& policies) {
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

void print_memory(const OrderedJson& memory) {
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

/// Grid, policies, memory. Throws InputError.
OrderedJson check_experiment(const Experiment& experiment,
                             int num_ranks,
                             const Capabilities& capabilities) {
  const auto run = check_run(experiment, num_ranks, model_catalog(), capabilities);
  auto policies = OrderedJson::array();
  for (std::size_t i = 0; i < run.policies.size(); ++i) {
    policies.push_back(describe_policy(run, run.experiment.policies[i], run.policies[i]));
  }
  return {{"experiment", run.experiment.experiment},
          {"grid", describe_grid(run)},
          {"policies", policies},
          {"memory_bytes_by_rank", describe_memory(run)}};
}

OrderedJson check_point(const Sweep& sweep,
                        std::size_t point,
                        int num_ranks,
                        const Capabilities& capabilities) {
  const auto experiment = point_experiment(sweep, point, num_ranks, capabilities);
  OrderedJson report;
  try {
    report = check_experiment(experiment, num_ranks, capabilities);
  } catch (const InputError& error) {
    throw InputError(std::string(error.what()) + " (" + sweep.describe(point) + ")");
  }
  OrderedJson values = OrderedJson::object();
  const auto own = sweep.values(point);
  for (std::size_t axis = 0; axis < own.size(); ++axis) {
    values[sweep.axes()[axis].key] = own[axis];
  }
  return {{"point", point}, {"values", values}, {"check", report}};
}

std::int64_t largest(const OrderedJson& list, const char* key) {
  std::int64_t most = 0;
  for (const auto& one : list) {
    most = std::max(most, one.at(key).get<std::int64_t>());
  }
  return most;
}

void print_points(const Sweep& sweep, const OrderedJson& points) {
  std::vector<TextTable::Column> columns = {{"point"}};
  for (const auto& axis : sweep.axes()) {
    columns.push_back({axis.key});
  }
  columns.push_back({"tokens"});
  columns.push_back({"memory [MiB]"});
  columns.push_back({"policies", TextTable::Align::left});
  TextTable table(columns);
  std::vector<PolicyLink> links;
  for (const auto& point : points) {
    std::vector<std::string> row = {point["point"].dump()};
    for (const auto& [key, value] : point["values"].items()) {
      row.push_back(value.get<std::string>());
    }
    const auto& check = point["check"];
    row.push_back(std::to_string(largest(check["grid"]["ranks"], "tokens")));
    const auto bytes = static_cast<double>(largest(check["memory_bytes_by_rank"], "total"));
    row.push_back(format_fixed(bytes / (1 << 20), 2));
    std::string names;
    for (const auto& policy : check["policies"]) {
      const auto name = policy["name"].get<std::string>();
      names += (names.empty() ? "" : ", ") + name;
      links.push_back({"point " + point["point"].dump() + ", " + name, policy["link"]});
    }
    row.push_back(names);
    table.add_row(row);
  }
  std::cout << link_note(links) << points.size()
            << " points; tokens and memory of the rank that has most\n"
            << table.to_string();
}

/// Of a sweep every point, checked as a run of its own. Errors name the point.
int check_sweep(const Sweep& sweep, const CheckOptions& options, const Capabilities& capabilities) {
  auto points = OrderedJson::array();
  for (std::size_t point = 0; point < sweep.num_points(); ++point) {
    points.push_back(check_point(sweep, point, options.num_ranks, capabilities));
  }
  if (options.format == OutputFormat::json) {
    std::cout << OrderedJson{{"points", points}}.dump(2) << "\n";
  } else {
    print_points(sweep, points);
  }
  return kExitDone;
}

}  // namespace

int check_command(const CheckOptions& options) {
  const auto capabilities = build_capabilities(architectures().names());
  const Sweep sweep(read_experiment_file(options.file), options.file, options.overrides);
  if (sweep.is_sweep()) {
    return check_sweep(sweep, options, capabilities);
  }
  const auto report = check_experiment(
      point_experiment(sweep, 0, options.num_ranks, capabilities), options.num_ranks, capabilities);
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
