// `dovetail compare`: times of policies or of whole runs, where the time goes, and what the columns
// mean.
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <optional>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/file_system.hpp"
#include "framework/compare/compare.hpp"
#include "framework/compare/quantities.hpp"
#include "framework/compare/sweep_baseline.hpp"
#include "framework/compare/sweep_result.hpp"
#include "framework/record/run_folder.hpp"
#include "launch/commands.hpp"
#include "launch/terminal.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kWidthOfText = 100;

/// The folder of a sweep, which is compared alone.
std::optional<fs::path> find_sweep(const std::vector<std::string>& folders) {
  for (const fs::path folder : folders) {
    if (!path_exists(folder / kSweepFileName)) {
      continue;
    }
    if (folders.size() > 1) {
      throw InputError(folder.string() +
                       ": is a sweep; allowed: it alone, or run folders and policy folders");
    }
    return folder;
  }
  return std::nullopt;
}

std::size_t width_of_explanation() {
  const std::size_t width = terminal_width();
  return width == 0 ? kWidthOfText : std::min(width, kWidthOfText);
}

nlohmann::json explanation_json(const std::vector<const Quantity*>& quantities) {
  auto list = nlohmann::json::array();
  for (const Quantity* row : quantities) {
    list.push_back({{"report", to_string(row->report)},
                    {"column", row->heading},
                    {"field", row->field},
                    {"unit", row->unit},
                    {"ranks", row->ranks},
                    {"meaning", row->meaning},
                    {"formula", row->formula}});
  }
  return list;
}

/// Of one column, or of all.
int print_explanation(const std::string& column, OutputFormat format) {
  std::vector<const Quantity*> rows;
  if (column.empty()) {
    for (const Quantity& row : quantities()) {
      rows.push_back(&row);
    }
  } else {
    rows = find_quantities(column);
  }
  if (format == OutputFormat::json) {
    std::cout << explanation_json(rows).dump(2) << "\n";
  } else {
    std::cout << explain(rows, width_of_explanation());
  }
  return kExitDone;
}

int print_sweep(const fs::path& folder, const CompareCommandOptions& options) {
  auto result = read_sweep_result(folder);
  if (!options.baseline.empty()) {
    set_baseline(result, options.baseline);
  }
  if (options.format == OutputFormat::json) {
    std::cout << to_json(result).dump(2) << "\n";
    return kExitDone;
  }
  std::cout << to_text(result, terminal_width()) << how_to_go_on(result, folder, options.program);
  if (options.explain) {
    std::cout << "\n" << explain(quantities_of({Report::sweep_table}), width_of_explanation());
  }
  return kExitDone;
}

/// A run, a sweep or a policy: a folder of another kind may be named like a column.
bool holds_results(const fs::path& folder) {
  return path_exists(folder / kSweepFileName) || path_exists(folder / rank_file_name(0)) ||
         (is_folder(folder) && !list_policy_folders(folder).empty());
}

}  // namespace

int compare_command(const CompareCommandOptions& given) {
  CompareCommandOptions options = given;
  if (options.folders.empty() && holds_results(options.column)) {
    std::swap(options.folders.emplace_back(), options.column);  // --explain DIR
  }
  if (options.folders.empty() || !options.column.empty()) {
    return print_explanation(options.column, options.format);
  }
  if (const auto sweep = find_sweep(options.folders)) {
    return print_sweep(*sweep, options);
  }
  const auto report = compare_policies({options.folders.begin(), options.folders.end()},
                                       {.baseline = options.baseline});
  if (options.format == OutputFormat::json) {
    std::cout << to_json(report).dump(2) << "\n";
    return exit_code_of(report);
  }
  std::cout << to_text(report, terminal_width());
  if (options.explain) {
    std::cout << "\n" << explain(quantities_of(reports_of(report)), width_of_explanation());
  }
  return exit_code_of(report);
}

}  // namespace dovetail
