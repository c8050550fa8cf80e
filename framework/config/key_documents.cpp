#include "framework/config/key_documents.hpp"

#include <algorithm>
#include <string_view>

#include <nlohmann/json.hpp>

#include "framework/base/registry.hpp"
#include "framework/config/experiment.hpp"
#include "framework/config/key_table.hpp"

namespace dovetail {
namespace {

std::string write_default(const KeyInfo& info) {
  if (info.is_required) {
    return "required";
  }
  return info.default_value.empty() ? info.default_text : "`" + info.default_value + "`";
}

/// "whole, 1 to 8" for "whole number from 1 to 8".
std::string shorten_range(const std::string& values) {
  constexpr std::string_view whole = "whole number from ";
  constexpr std::string_view any = "number from ";
  if (values.starts_with(whole)) {
    return "whole, " + values.substr(whole.size());
  }
  return values.starts_with(any) ? values.substr(any.size()) : values;
}

/// "yes" where a policy may state the key for itself.
std::string in_policy(const KeyInfo& info) {
  return can_be_in_policy(info) ? "yes" : "no";
}

/// Joined by commas, in lines of a document.
std::string in_lines(const std::vector<std::string>& names) {
  constexpr std::size_t width = 118;
  std::string text;
  std::size_t line = 0;
  for (const auto& name : names) {
    const bool fits = line + name.size() + 2 <= width;
    text += text.empty() ? "" : fits ? ", " : ",\n";
    line = fits ? line + name.size() + 2 : name.size();
    text += name;
  }
  return text;
}

}  // namespace

std::vector<KeyInfo> experiment_keys() {
  return keys_of<Experiment>().infos("");
}

bool can_be_in_policy(const KeyInfo& info) {
  return info.key.starts_with("policies[].") ||
         (info.key.starts_with("execution.") && !info.is_same_in_all_policies);
}

std::string write_keys_as_markdown() {
  std::string text = "| key | values | default | meaning |\n|---|---|---|---|\n";
  std::vector<std::string> common;
  for (const KeyInfo& info : experiment_keys()) {
    text += "| `" + info.key + "` | " + shorten_range(info.values) + " | " + write_default(info) +
            " | " + info.help + " |\n";
    if (info.key.starts_with("execution.") && !can_be_in_policy(info)) {
      common.push_back("`" + info.key + "`");
    }
  }
  return text + "\nA policy may state every `execution` key for itself, but not these:\n" +
         in_lines(common) + ".\n";
}

std::string write_keys_as_text() {
  std::string text;
  for (const KeyInfo& info : experiment_keys()) {
    text += info.key + "\n    values       " + plain_text(info.values) + "\n    default      " +
            plain_text(write_default(info)) + "\n    in a policy  " + in_policy(info) + "\n    " +
            plain_text(info.help) + "\n";
  }
  return text;
}

std::string write_keys_as_json() {
  auto list = nlohmann::ordered_json::array();
  for (const KeyInfo& info : experiment_keys()) {
    list.push_back({{"key", info.key},
                    {"values", plain_text(info.values)},
                    {"default", plain_text(write_default(info))},
                    {"in_policy", can_be_in_policy(info)},
                    {"help", plain_text(info.help)}});
  }
  return list.dump(2) + "\n";
}

}  // namespace dovetail
