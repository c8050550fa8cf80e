#include "launch/bench_rows.hpp"

#include <optional>

#include "framework/base/registry.hpp"
#include "framework/plan/exchange_times.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::json;

/// What a row has, by name; null for what a ceiling has not.
Json to_json(const ExchangeBenchRow& row) {
  const auto of_exchange = [&](double value) { return row.is_ceiling ? Json() : Json(value); };
  return {{"exchange", row.exchange},
          {"tokens", row.tokens},
          {"comm_sms", row.comm_sms},
          {"groups", row.num_groups},
          {"routing", row.routing},
          {"mode", row.mode},
          {"prepare_us", of_exchange(row.prepare_us)},
          {"dispatch_us", row.dispatch_us},
          {"arrange_us", of_exchange(row.arrange_us)},
          {"reduce_us", of_exchange(row.reduce_us)},
          {"combine_us", of_exchange(row.combine_us)},
          {"finish_us", of_exchange(row.finish_us)},
          {"first_dispatch_us", of_exchange(row.first_dispatch_us)},
          {"first_combine_us", of_exchange(row.first_combine_us)},
          {"host_us", of_exchange(row.host_us)},
          {"dispatch_mb", row.dispatch_megabytes},
          {"dispatch_gbs", row.dispatch.wire_gbs},
          {"combine_gbs", of_exchange(row.combine.wire_gbs)},
          {"dispatch_logical_gbs", row.dispatch.logical_gbs},
          {"combine_logical_gbs", of_exchange(row.combine.logical_gbs)},
          {"dispatch_bus_gbs", row.dispatch.bus_gbs},
          {"combine_bus_gbs", of_exchange(row.combine.bus_gbs)},
          {"dispatch_choices_gbs", of_exchange(row.dispatch.choices_gbs)},
          {"combine_choices_gbs", of_exchange(row.combine.choices_gbs)},
          {"wrong_words", row.wrong_words}};
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

}  // namespace

nlohmann::json to_json(const ExchangeBench& bench) {
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

nlohmann::json to_json(const PartitionBench& bench) {
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

std::vector<std::string> shown_bench_columns(const std::string& bench) {
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
          "dispatch_logical_gbs",
          "combine_logical_gbs",
          "dispatch_bus_gbs",
          "combine_bus_gbs",
          "wrong_words"};
}

}  // namespace dovetail
