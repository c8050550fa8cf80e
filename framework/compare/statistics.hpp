// Order statistics of a sample, and their JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace dovetail {

/// With linear interpolation between neighbours (numpy's default).
struct Statistics {
  std::int64_t count = 0;
  double min = 0;
  double p50 = 0;
  std::optional<double> p95;  ///< nothing with too few samples: has_percentile
  std::optional<double> p99;  ///< likewise
  double max = 0;
  double mean = 0;
};

/// All zero for an empty sample.
Statistics statistics(std::vector<double> sample);

/// What is not there is null.
nlohmann::json to_json(const Statistics& statistics);

/// The other way. A percentile that too few samples were made into is left out. Throws
/// nlohmann::json::exception where a number is missing.
Statistics read_statistics(const nlohmann::json& json);

}  // namespace dovetail
