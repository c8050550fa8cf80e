// `dovetail bench`: Dovetail's own costs, each beside what it is measured against.
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <thread>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"
#include "framework/compare/table.hpp"
#include "framework/exec/bench.hpp"
#include "framework/record/record_bench.hpp"
#include "framework/step/cuda/graph_bench.hpp"
#include "launch/commands.hpp"
#include "models/layers/cuda/attention_bench.hpp"
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

using Bench = std::function<Json(const BenchOptions&)>;

const std::map<std::string, Bench>& benches() {
  static const std::map<std::string, Bench> all = {
      {"handoff", [](const auto&) { return to_array(bench_handoff(has_spare_core())); }},
      {"runner", [](const auto&) { return to_array(bench_runner(has_spare_core())); }},
      {"plan", [](const auto&) { return to_array(bench_plan()); }},
      {"attention", [](const auto&) { return to_array(bench_attention()); }},
      {"graph", [](const auto&) { return to_array(bench_graph()); }},
      {"record",
       [](const auto&) {
         return Json(bench_record({.folder = std::filesystem::temp_directory_path()}));
       }},
      {"load", load_benches},
  };
  return all;
}

std::string cell(const Json& value) {
  return value.is_number_float() ? format_fixed(value.get<double>(), 3)
                                 : (value.is_string() ? value.get<std::string>() : value.dump());
}

/// Rows of results as a table; one object as a list of names and values.
void print(const Json& results) {
  std::vector<TextTable::Column> columns;
  const auto& first = results.is_array() ? results.at(0) : results;
  if (results.is_array()) {
    for (const auto& [name, value] : first.items()) {
      columns.push_back(
          {name, value.is_string() ? TextTable::Align::left : TextTable::Align::right});
    }
    TextTable table(columns);
    for (const auto& result : results) {
      std::vector<std::string> row;
      for (const auto& [name, value] : result.items()) {
        row.push_back(cell(value));
      }
      table.add_row(row);
    }
    std::cout << table.to_string();
    return;
  }
  TextTable table({{"quantity", TextTable::Align::left}, {"value"}});
  for (const auto& [name, value] : results.items()) {
    table.add_row({name, cell(value)});
  }
  std::cout << table.to_string();
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
  const auto results = bench->second(options);
  if (options.format == OutputFormat::json) {
    std::cout << results.dump(2) << "\n";
  } else {
    print(results);
  }
  return kExitDone;
}

}  // namespace dovetail
