#include "framework/compare/statistics.hpp"

#include <algorithm>
#include <numeric>

#include <nlohmann/json.hpp>

#include "framework/base/order_statistics.hpp"
#include "framework/compare/json_number.hpp"

namespace dovetail {
namespace {

std::optional<double> percentile(const std::vector<double>& sorted, int percent) {
  if (!has_percentile(static_cast<std::int64_t>(sorted.size()), percent)) {
    return std::nullopt;
  }
  const double place = percent / 100.0 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

std::optional<double> read_percentile(const nlohmann::json& json,
                                      const char* name,
                                      std::int64_t count,
                                      int percent) {
  const auto& value = json.at(name);
  return value.is_null() || !has_percentile(count, percent) ? std::nullopt
                                                            : std::optional(value.get<double>());
}

}  // namespace

Statistics statistics(std::vector<double> sample) {
  if (sample.empty()) {
    return {};
  }
  const double middle = median(sample);
  std::sort(sample.begin(), sample.end());
  const double sum = std::accumulate(sample.begin(), sample.end(), 0.0);
  return {.count = static_cast<std::int64_t>(sample.size()),
          .min = sample.front(),
          .p50 = middle,
          .p95 = percentile(sample, 95),
          .p99 = percentile(sample, 99),
          .max = sample.back(),
          .mean = sum / static_cast<double>(sample.size())};
}

nlohmann::json to_json(const Statistics& statistics) {
  return {{"count", statistics.count},
          {"min", statistics.min},
          {"p50", statistics.p50},
          {"p95", json_number(statistics.p95)},
          {"p99", json_number(statistics.p99)},
          {"max", statistics.max},
          {"mean", statistics.mean}};
}

Statistics read_statistics(const nlohmann::json& json) {
  const std::int64_t count = json.at("count");
  return {.count = count,
          .min = json.at("min"),
          .p50 = json.at("p50"),
          .p95 = read_percentile(json, "p95", count, 95),
          .p99 = read_percentile(json, "p99", count, 99),
          .max = json.at("max"),
          .mean = json.at("mean")};
}

}  // namespace dovetail
