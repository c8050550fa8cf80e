// A sweep's results as a table and as CSV.
#include <algorithm>
#include <limits>
#include <set>

#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/compare/compare_notes.hpp"
#include "framework/compare/flags.hpp"
#include "framework/compare/quantities.hpp"
#include "framework/compare/sweep_result.hpp"
#include "framework/compare/table.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/record/run_info.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::json;
using Align = TextTable::Align;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::set<std::string> links_of(const SweepResult& result) {
  std::set<std::string> links;
  for (const SweepPointResult& point : result.points) {
    for (const SweepPolicy& policy : point.policies) {
      links.insert(policy.link);
    }
  }
  return links;
}

bool is_emulated(const std::string& link) {
  return link != kNoLink;
}

std::string link_line(const std::set<std::string>& links) {
  if (std::none_of(links.begin(), links.end(), is_emulated)) {
    return "";
  }
  return links.size() == 1 ? "Link " + *links.begin() + "\n"
                           : "Link emulated: see the column link\n";
}

std::string ms(const SweepPolicy& policy, double Statistics::*member) {
  return format_ms(policy.step_ns ? (*policy.step_ns).*member : kNaN);
}

/// "sequential", or "sequential (point 0)" where another point has measured it.
std::string name_of(const SweepPolicy& policy) {
  const auto& point = policy.measured_in_point;
  return policy.name + (point ? " (point " + std::to_string(*point) + ")" : "");
}

std::string range(const std::optional<ConfidenceInterval>& interval) {
  return interval ? format_fixed(interval->low, 2) + " to " + format_fixed(interval->high, 2) : "-";
}

std::optional<double> low_of(const std::optional<ConfidenceInterval>& interval) {
  return interval ? std::optional(interval->low) : std::nullopt;
}

std::optional<double> high_of(const std::optional<ConfidenceInterval>& interval) {
  return interval ? std::optional(interval->high) : std::nullopt;
}

/// "drift: point 0 (dual_batch), point 3 (sequential, dual_batch)", a line for each flag that a
/// point has.
std::string flag_lines(const SweepResult& result) {
  std::string text;
  for (const std::string_view flag : names<Flag>()) {
    std::vector<std::string> places;
    for (std::size_t i = 0; i < result.points.size(); ++i) {
      std::vector<std::string> policies;
      for (const SweepPolicy& policy : result.points[i].policies) {
        if (std::find(policy.flags.begin(), policy.flags.end(), flag) != policy.flags.end()) {
          policies.push_back(policy.name);
        }
      }
      if (!policies.empty()) {
        places.push_back("point " + std::to_string(i) + " (" + join_names(policies) + ")");
      }
    }
    if (!places.empty()) {
      text += "  " + std::string(flag) + ": " + join_names(places) + "\n";
    }
  }
  return text.empty()
             ? ""
             : "To be taken with care (dovetail compare of the point's folder says more):\n" + text;
}

std::size_t num_comparisons(const SweepResult& result) {
  std::size_t count = 0;
  for (const SweepPointResult& point : result.points) {
    for (const SweepPolicy& policy : point.policies) {
      count += policy.counts ? 1 : 0;
    }
  }
  return count;
}

std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) {
    return text;
  }
  std::string quoted = "\"";
  for (const char c : text) {
    quoted += c == '"' ? "\"\"" : std::string(1, c);
  }
  return quoted + "\"";
}

std::string csv_line(const std::vector<std::string>& cells) {
  std::string line;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    line += (i == 0 ? "" : ",") + csv_cell(cells[i]);
  }
  return line + "\n";
}

/// The shortest decimal that reads back as `value` * `unit`; empty where there is none.
std::string csv_number(const std::optional<double>& value, double unit = 1) {
  return value ? Json(*value * unit).dump() : "";
}

std::vector<std::string> csv_policy(const SweepPolicy& policy) {
  const auto step = [&](auto member) {
    return csv_number(
        policy.step_ns ? std::optional<double>((*policy.step_ns).*member) : std::nullopt, 1e-6);
  };
  return {policy.name,
          policy.schedule,
          std::to_string(policy.ubatches),
          policy.link,
          std::to_string(policy.max_tokens),
          std::to_string(policy.total_tokens),
          csv_number(policy.context_tokens),
          policy.one_token_each ? "true" : "false",
          policy.step_ns ? std::to_string(policy.step_ns->count) : "0",
          step(&Statistics::p50),
          step(&Statistics::p95),
          step(&Statistics::p99),
          step(&Statistics::min),
          step(&Statistics::max),
          csv_number(policy.speed_up),
          csv_number(low_of(policy.speed_up_interval)),
          csv_number(high_of(policy.speed_up_interval)),
          policy.counts ? (*policy.counts ? "true" : "false") : "",
          csv_number(policy.hidden_share),
          csv_number(policy.split_tax),
          csv_number(policy.hand_off_p50_ns, 1e-3),
          policy.verdict,
          policy.measured_in_point ? std::to_string(*policy.measured_in_point) : ""};
}

}  // namespace

std::string to_text(const SweepResult& result, std::size_t width) {
  const auto links = links_of(result);
  auto columns = columns_of(Report::sweep_table);
  if (links.size() < 2) {
    columns.pop_back();  // that of the link
  }
  for (std::size_t axis = 0; axis < result.keys.size(); ++axis) {
    columns.insert(columns.begin() + 1 + static_cast<std::ptrdiff_t>(axis), {result.keys[axis]});
  }
  TextTable table(columns);
  for (std::size_t i = 0; i < result.points.size(); ++i) {
    const SweepPointResult& point = result.points[i];
    std::vector<std::string> head = {std::to_string(i)};
    head.insert(head.end(), point.values.begin(), point.values.end());
    if (point.policies.empty()) {
      head.insert(head.end(), {"-", "-", "-", "-", "-", "-", std::string(to_string(point.status))});
      head.resize(columns.size());
      table.add_row(head);
    }
    for (const SweepPolicy& policy : point.policies) {
      auto row = head;
      row.insert(row.end(), {std::to_string(policy.max_tokens), name_of(policy)});
      row.push_back(ms(policy, &Statistics::p50));
      row.push_back(format_fixed(policy.speed_up.value_or(kNaN), 2));
      row.push_back(range(policy.speed_up_interval));
      row.push_back(format_percent(policy.hidden_share.value_or(kNaN)));
      row.push_back(policy.verdict + (point.status == SweepPointStatus::incomplete ||
                                              point.status == SweepPointStatus::running
                                          ? " (" + std::string(to_string(point.status)) + ")"
                                          : ""));
      if (links.size() > 1) {
        row.push_back(policy.link);
      }
      table.add_row(row);
    }
  }
  return link_line(links) + "Sweep " + result.experiment +
         ": tokens of a step on the rank that has most; p50 of the slowest rank; speed-up over " +
         (result.baseline.empty() ? "the baseline" : result.baseline) + " of the point\n" +
         table.to_string(width) + chance_line(num_comparisons(result)) + flag_lines(result);
}

std::size_t SweepResult::num_complete() const {
  return static_cast<std::size_t>(
      std::count_if(points.begin(), points.end(), [](const SweepPointResult& point) {
        return point.status == SweepPointStatus::complete;
      }));
}

std::string SweepResult::describe_progress() const {
  return std::to_string(num_complete()) + " of " + counted(std::ssize(points), "point") +
         (points.size() == 1 ? " is" : " are") + " complete";
}

std::string how_to_go_on(const SweepResult& result,
                         const std::filesystem::path& folder,
                         const std::string& program) {
  if (result.num_complete() == result.points.size()) {
    return "";
  }
  std::vector<std::string> command = {
      program, "run", (folder / kExperimentFileName).string(), "--out", folder.string()};
  if (result.world_size > 1) {
    command.insert(command.begin(), {"mpirun", "-np", std::to_string(result.world_size)});
  }
  return result.describe_progress() + "; to go on: " + quoted_command(command) + "\n";
}

std::string to_csv(const SweepResult& result) {
  auto header = headings_of(Report::sweep_csv);
  header.insert(header.begin() + 3, result.keys.begin(), result.keys.end());  // behind the status
  std::string text = csv_line(header);
  for (std::size_t i = 0; i < result.points.size(); ++i) {
    const SweepPointResult& point = result.points[i];
    std::vector<std::string> head = {
        std::to_string(i), point.folder, std::string(to_string(point.status))};
    head.insert(head.end(), point.values.begin(), point.values.end());
    if (point.policies.empty()) {
      head.resize(header.size());
      text += csv_line(head);
    }
    for (const SweepPolicy& policy : point.policies) {
      auto row = head;
      const auto cells = csv_policy(policy);
      row.insert(row.end(), cells.begin(), cells.end());
      text += csv_line(row);
    }
  }
  return text;
}

}  // namespace dovetail
