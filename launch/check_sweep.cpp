#include "launch/check_sweep.hpp"

#include <algorithm>
#include <iostream>

#include "framework/base/error.hpp"
#include "framework/compare/link_note.hpp"
#include "framework/compare/table.hpp"
#include "framework/run/capabilities.hpp"
#include "framework/run/run_setup.hpp"
#include "models/registry.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::ordered_json;

Json check_point(const Sweep& sweep, std::size_t point, int num_ranks) {
  const auto experiment =
      point_experiment(sweep, point, num_ranks, build_capabilities(architectures().names()));
  Json report;
  try {
    report = check_experiment(experiment, num_ranks);
  } catch (const InputError& error) {
    throw InputError(std::string(error.what()) + " (" + sweep.describe(point) + ")");
  }
  Json values = Json::object();
  const auto own = sweep.values(point);
  for (std::size_t axis = 0; axis < own.size(); ++axis) {
    values[sweep.axes()[axis].key] = own[axis];
  }
  return {{"point", point}, {"values", values}, {"check", report}};
}

std::int64_t largest(const Json& list, const char* key) {
  std::int64_t most = 0;
  for (const auto& one : list) {
    most = std::max(most, one.at(key).get<std::int64_t>());
  }
  return most;
}

void print_points(const Sweep& sweep, const Json& points) {
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

}  // namespace

int check_sweep(const Sweep& sweep, const CheckOptions& options) {
  auto points = Json::array();
  for (std::size_t point = 0; point < sweep.num_points(); ++point) {
    points.push_back(check_point(sweep, point, options.num_ranks));
  }
  if (options.format == OutputFormat::json) {
    std::cout << Json{{"points", points}}.dump(2) << "\n";
  } else {
    print_points(sweep, points);
  }
  return kExitDone;
}

}  // namespace dovetail
