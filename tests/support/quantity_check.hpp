// What a report shows against the lines of quantities.hpp.
#pragma once

#include <algorithm>
#include <functional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "framework/compare/quantities.hpp"

namespace dovetail::testing {

using FindField = std::function<const Quantity*(std::string_view)>;

/// Paths of all leaves of a document: keys joined by ".", lists left out. What is empty or null is
/// a leaf, too.
inline std::set<std::string> fields_of(const nlohmann::json& json, const std::string& path = "") {
  std::set<std::string> fields;
  const auto add = [&](const nlohmann::json& inner, const std::string& inner_path) {
    fields.merge(fields_of(inner, inner_path));
  };
  if (json.is_object() && !json.empty()) {
    const std::string parent = path.empty() ? "" : path + ".";
    for (const auto& [key, value] : json.items()) {
      add(value, parent + key);
    }
  } else if (json.is_array() && !json.empty() && json.front().is_object()) {
    for (const auto& value : json) {
      add(value, path);
    }
  } else {
    fields.insert(path);
  }
  return fields;
}

/// The fields that have no line.
inline std::vector<std::string> fields_without_line(const nlohmann::json& json,
                                                    const FindField& find) {
  std::vector<std::string> missing;
  for (const std::string& field : fields_of(json)) {
    if (find(field) == nullptr) {
      missing.push_back(field);
    }
  }
  return missing;
}

/// The headings of all tables of a text: those above a rule of dashes, cut as the rule is.
inline std::vector<std::string> headings_in(const std::string& text) {
  std::vector<std::string> headings;
  std::istringstream lines(text);
  std::string line;
  std::string above;
  while (std::getline(lines, line)) {
    const bool is_rule = !line.empty() && line.find_first_not_of("- ") == std::string::npos;
    for (std::size_t at = 0; is_rule && at < line.size();) {
      const std::size_t end = std::min(line.find(' ', at), line.size());
      std::string heading = at < above.size() ? above.substr(at, end - at) : "";
      heading.erase(0, std::min(heading.find_first_not_of(' '), heading.size()));
      heading.erase(heading.find_last_not_of(' ') + 1);
      headings.push_back(heading);
      at = line.find_first_not_of(' ', end);
    }
    above = line;
  }
  return headings;
}

/// The headings of a text that are no column of any of these reports.
inline std::vector<std::string> headings_without_line(const std::string& text,
                                                      const std::vector<Report>& reports) {
  std::vector<std::string> missing;
  for (const std::string& heading : headings_in(text)) {
    const bool known = std::any_of(reports.begin(), reports.end(), [&](Report report) {
      return find_column(report, heading) != nullptr;
    });
    if (!known) {
      missing.push_back(heading);
    }
  }
  return missing;
}

}  // namespace dovetail::testing
