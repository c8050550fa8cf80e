// `dovetail bench`: Dovetail's own costs, each beside what it is measured against.
#include <filesystem>
#include <functional>
#include <iostream>
#include <map>
#include <optional>
#include <thread>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/log.hpp"
#include "framework/base/registry.hpp"
#include "framework/comm/exchange/bench/partition_bench.hpp"
#include "framework/compare/table.hpp"
#include "framework/exec/bench.hpp"
#include "framework/mpi/collectives.hpp"
#include "framework/plan/exchange_times.hpp"
#include "framework/record/record_bench.hpp"
#include "framework/step/cuda/graph_bench.hpp"
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

/// What a row has, by name.
Json to_json(const ExchangeBenchRow& row) {
  return {{"exchange", row.exchange},
          {"tokens", row.tokens},
          {"comm_sms", row.comm_sms},
          {"groups", row.num_groups},
          {"routing", row.routing},
          {"mode", row.mode},
          {"prepare_us", row.prepare_us},
          {"dispatch_us", row.dispatch_us},
          {"arrange_us", row.arrange_us},
          {"reduce_us", row.reduce_us},
          {"combine_us", row.combine_us},
          {"finish_us", row.finish_us},
          {"first_dispatch_us", row.first_dispatch_us},
          {"first_combine_us", row.first_combine_us},
          {"host_us", row.host_us},
          {"dispatch_mb", row.dispatch_megabytes},
          {"dispatch_gbs", row.dispatch_wire_gbs},
          {"combine_gbs", row.combine_wire_gbs},
          {"dispatch_logical_gbs", row.dispatch_logical_gbs},
          {"combine_logical_gbs", row.combine_logical_gbs},
          {"wrong_words", row.wrong_words}};
}

Json to_json(const ExchangeBench& bench) {
  auto rows = Json::array();
  for (const auto& row : bench.rows) {
    rows.push_back(to_json(row));
  }
  return {{"version", kExchangeTimesVersion},
          {"device", bench.device},
          {"nccl", bench.nccl},
          {"ranks", bench.num_ranks},
          {"ranks_per_host", bench.ranks_per_host},
          {"hidden", bench.hidden},
          {"experts", bench.num_experts},
          {"top_k", bench.top_k},
          {"dtype", bench.dtype},
          {"rows", std::move(rows)}};
}

void add_spread(Json& row, const std::string& name, const std::optional<Spread>& spread) {
  row[name + "_us"] = spread ? Json(spread->median) : Json();
  row[name + "_p10_us"] = spread ? Json(spread->low) : Json();
  row[name + "_p90_us"] = spread ? Json(spread->high) : Json();
}

void add_contention(Json& row, const std::string& name, const std::optional<Contention>& factor) {
  row[name] = factor ? Json(factor->of_all) : Json();
  row[name + "_of_same"] = factor ? Json(factor->of_same) : Json();
}

Json to_json(const PartitionRow& row, const PartitionRow& all) {
  const auto of_both = [&](double us) { return row.exchange_alone ? Json(us) : Json(); };
  const auto hidden = hidden_share(row);
  Json json = {{"compute", row.compute},
               {"partition", to_string(row.partition)},
               {"comm_sms", comm_sms_to_json(row.comm_sms)},
               {"compute_sms", row.compute_sms},
               {"together_us", of_both(row.together_us)},
               {"sum_us", of_both(row.sum_us)},
               {"longer_us", of_both(row.longer_us)},
               {"hidden_share", hidden ? Json(*hidden) : Json()},
               {"wrong_compute", row.wrong_compute},
               {"wrong_exchange", row.wrong_exchange},
               {"wrong_words", row.wrong_compute + row.wrong_exchange}};
  add_spread(json, "compute_alone", row.compute_alone);
  add_spread(json, "compute_beside", row.compute_beside);
  add_spread(json, "exchange_alone", row.exchange_alone);
  add_spread(json, "exchange_beside", row.exchange_beside);
  add_contention(json, "compute_contention", compute_contention(row, all));
  add_contention(json, "exchange_contention", exchange_contention(row, all));
  return json;
}

Json to_json(const PartitionBench& bench) {
  auto rows = Json::array();
  for (const auto& row : bench.rows) {
    rows.push_back(to_json(row, *row_of_all_sms(bench.rows, row.compute)));
  }
  return {{"device", bench.device},
          {"nccl", bench.nccl},
          {"ranks", bench.num_ranks},
          {"exchange", bench.exchange},
          {"tokens", bench.options.tokens.front()},
          {"hidden", bench.options.hidden},
          {"experts", bench.options.num_experts},
          {"top_k", bench.options.top_k},
          {"left_out", join_names(bench.left_out, "; ")},
          {"rows", std::move(rows)}};
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
      {"record",
       [](const auto&) {
         return Json(bench_record({.folder = std::filesystem::temp_directory_path()}));
       }},
      {"load", load_benches},
      {"exchange", exchange_bench},
      {"partition", partition_bench},
  };
  return all;
}

/// Of the rows of a bench, what its table shows; the rest is in the JSON.
std::vector<std::string> shown_columns(const std::string& bench) {
  if (bench == "partition") {
    return {"compute",
            "partition",
            "comm_sms",
            "compute_sms",
            "compute_alone_us",
            "compute_beside_us",
            "compute_contention",
            "exchange_alone_us",
            "exchange_beside_us",
            "exchange_contention",
            "together_us",
            "sum_us",
            "longer_us",
            "wrong_words"};
  }
  return {"exchange",
          "tokens",
          "comm_sms",
          "groups",
          "routing",
          "mode",
          "dispatch_us",
          "combine_us",
          "host_us",
          "dispatch_gbs",
          "combine_gbs",
          "wrong_words"};
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
    print_rows(results.at("rows"), shown_columns(bench));
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
