// `dovetail bench`: Dovetail's own costs, each beside what it is measured against.
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <thread>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/file_system.hpp"
#include "framework/base/log.hpp"
#include "framework/base/registry.hpp"
#include "framework/comm/exchange/bench/exchange_bench.hpp"
#include "framework/comm/exchange/bench/partition_bench.hpp"
#include "framework/compare/table.hpp"
#include "framework/exec/bench.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/record/record_bench.hpp"
#include "framework/step/cuda/graph_bench.hpp"
#include "launch/bench_rows.hpp"
#include "launch/commands.hpp"
#include "launch/start_ranks.hpp"
#include "models/layers/cuda/attention_bench.hpp"
#include "models/layers/cuda/partition_works.hpp"
#include "models/weights/load_bench.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::json;

/// One rank alone has a spare core as soon as there are two.
bool has_spare_core() {
  return std::thread::hardware_concurrency() >= 2;
}

Json to_array(const std::vector<BenchResult>& results) {
  auto array = Json::array();
  for (const auto& result : results) {
    array.push_back(result);
  }
  return array;
}

Json load_benches(const BenchOptions& options) {
  auto array = Json::array();
  for (const bool block_scaled : {false, true}) {
    LoadBenchOptions load{.block_scaled = block_scaled};
    load.checkpoint_bytes = options.checkpoint_mib << 20;
    load.ep_size = options.expert_parallel;
    array.push_back(Json::parse(bench_load(load).to_json()));
  }
  return array;
}

/// Of a bench of the ranks of mpirun, which `run` takes. Empty on all ranks but the first. Throws
/// AgreedError.
template <class Run>
Json on_all_ranks(const BenchOptions& options, const Run& run) {
  auto exchange = options.exchange;
  exchange.device = parse<DeviceKind>(options.device).value_or(DeviceKind::automatic);
  std::string problem;
  Json results;
  const int code = start_ranks([&](const StartedRank& rank) {
    rank.start.done();
    const bool prints = rank.session.rank().value == 0;
    try {
      const auto bench = run(rank.session, exchange);
      results = prints ? to_json(bench) : Json();
      return kExitDone;
    } catch (const InputError& error) {  // on all ranks
      problem = prints ? error.what() : "";
      return error.exit_code();
    } catch (const AgreedError& error) {
      problem = error.what();
      return error.exit_code();
    }
  });
  return code == kExitDone ? results : throw AgreedError(code, problem);
}

Json exchange_bench(const BenchOptions& options) {
  return on_all_ranks(options, [](const auto& session, const auto& exchange) {
    return bench_exchange(session, exchange, WaitPolicy{});
  });
}

Json partition_bench(const BenchOptions& options) {
  return on_all_ranks(options, [](const auto& session, const auto& exchange) {
    return bench_partition(session, exchange, partition_works, WaitPolicy{});
  });
}

using Bench = std::function<Json(const BenchOptions&)>;

const std::map<std::string, Bench>& benches() {
  static const std::map<std::string, Bench> all = {
      {"handoff", [](const auto&) { return to_array(bench_handoff(has_spare_core())); }},
      {"runner", [](const auto&) { return to_array(bench_runner(has_spare_core())); }},
      {"plan", [](const auto&) { return to_array(bench_plan()); }},
      {"attention", [](const auto&) { return to_array(bench_attention()); }},
      {"graph", [](const auto&) { return to_array(bench_graph()); }},
      {"record", [](const auto&) { return Json(bench_record({.folder = temporary_folder()})); }},
      {"load", load_benches},
      {"exchange", exchange_bench},
      {"partition", partition_bench},
  };
  return all;
}

std::string cell(const Json& value) {
  if (value.is_null()) {
    return "-";
  }
  return value.is_number_float() ? format_fixed(value.get<double>(), 3)
                                 : (value.is_string() ? value.get<std::string>() : value.dump());
}

void print_rows(const Json& rows, const std::vector<std::string>& names) {
  std::vector<TextTable::Column> columns;
  columns.reserve(names.size());
  for (const auto& name : names) {
    columns.push_back(
        {name, rows.at(0).at(name).is_string() ? TextTable::Align::left : TextTable::Align::right});
  }
  TextTable table(columns);
  for (const auto& result : rows) {
    std::vector<std::string> row;
    row.reserve(names.size());
    for (const auto& name : names) {
      row.push_back(cell(result.at(name)));
    }
    table.add_row(row);
  }
  std::cout << table.to_string();
}

/// Rows of results as a table; one object as a list of names and values, and its rows behind it.
void print(const std::string& bench, const Json& results) {
  if (results.is_array()) {
    std::vector<std::string> names;
    for (const auto& [name, value] : results.at(0).items()) {
      names.push_back(name);
    }
    print_rows(results, names);
    return;
  }
  TextTable table({{"quantity", TextTable::Align::left}, {"value"}});
  for (const auto& [name, value] : results.items()) {
    if (!value.is_array()) {
      table.add_row({name, cell(value)});
    }
  }
  std::cout << table.to_string();
  if (results.contains("rows")) {
    print_rows(results.at("rows"), shown_bench_columns(bench));
  }
}

}  // namespace

int bench_command(const BenchOptions& options) {
  const auto bench = benches().find(options.what);
  if (bench == benches().end()) {
    std::vector<std::string> built;
    for (const auto& [name, unused] : benches()) {
      built.push_back(name);
    }
    throw InputError("bench '" + options.what + "' is not built; there are: " + join_names(built));
  }
  Json results;
  try {
    results = bench->second(options);
  } catch (const AgreedError& error) {
    if (*error.what() != '\0') {
      log_line(error.what());
    }
    return error.exit_code();
  }
  if (results.is_null()) {
    return kExitDone;  // the first rank prints
  }
  if (options.format == OutputFormat::json) {
    std::cout << results.dump(2) << "\n";
  } else {
    print(options.what, results);
  }
  return kExitDone;
}

}  // namespace dovetail
