// What `dovetail bench exchange` and `bench partition` have measured, as JSON and as columns of a
// table.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "framework/comm/exchange/bench/exchange_bench.hpp"
#include "framework/comm/exchange/bench/partition_bench.hpp"

namespace dovetail {

nlohmann::json to_json(const ExchangeBench& bench);

nlohmann::json to_json(const PartitionBench& bench);

/// Of the rows of a bench, what its table shows; the rest is in the JSON.
std::vector<std::string> shown_bench_columns(const std::string& bench);

}  // namespace dovetail
