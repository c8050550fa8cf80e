#include "framework/plan/step_time_table.hpp"

#include <limits>
#include <set>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/json_reader.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/text_file.hpp"
#include "framework/plan/policy.hpp"

namespace dovetail {
namespace {

using nlohmann::json;

constexpr std::size_t kMaxBytes = std::size_t{64} << 20U;
constexpr std::int64_t kMostTokens = std::int64_t{1} << 40U;

std::string compact(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

StepTimePoint read_point(const json& value, const std::string& place) {
  check_json_keys(value,
                  place,
                  {"policy",
                   "schedule",
                   "schedule_digest",
                   "ubatches",
                   "tokens",
                   "context_tokens",
                   "one_token_each",
                   "step_ms"},
                  {"split"});
  StepTimePoint point;
  point.policy = read_json_string(value["policy"], place + ".policy");
  point.schedule = read_json_string(value["schedule"], place + ".schedule");
  point.schedule_digest = read_json_string(value["schedule_digest"], place + ".schedule_digest");
  point.ubatches =
      static_cast<int>(read_json_int(value["ubatches"], place + ".ubatches", 1, kMaxUbatches));
  if (value.contains("split")) {
    point.split = read_json_string(value["split"], place + ".split");
  }
  point.tokens = read_json_int(value["tokens"], place + ".tokens", 0, kMostTokens);
  point.context_tokens = read_json_number(value["context_tokens"], place + ".context_tokens", 0);
  point.one_token_each = read_json_bool(value["one_token_each"], place + ".one_token_each");
  point.step_ms = read_json_number(value["step_ms"], place + ".step_ms", 0);
  return point;
}

/// "dual_batch of digest 17 with 2 ubatches and split request", of a point or a candidate.
template <class Timed>
std::string describe(const Timed& timed) {
  return timed.schedule + " of digest " + timed.schedule_digest + " with " +
         std::to_string(timed.ubatches) + (timed.ubatches == 1 ? " ubatch" : " ubatches") +
         (timed.split.empty() ? "" : " and split " + timed.split);
}

/// "plain (sequential of digest 3 with 1 ubatch), dual (...)".
std::string list_policies(const std::vector<StepTimePoint>& points) {
  std::set<std::string> all;
  for (const auto& point : points) {
    all.insert(point.policy + " (" + describe(point) + ")");
  }
  return all.empty() ? "no policy" : join_names(all);
}

/// The samples of the one policy that fits `what`.
std::vector<StepTimeSample> select_samples(const StepTimeTable& table,
                                           const StepTimeCandidate& what) {
  std::vector<StepTimePoint> fitting;
  std::set<std::string> labels;
  for (const auto& point : table.points) {
    if (point.schedule == what.schedule && point.schedule_digest == what.schedule_digest &&
        point.ubatches == what.ubatches && point.split == what.split) {
      fitting.push_back(point);
      labels.insert(point.policy);
    }
  }
  if (labels.empty()) {
    throw InputError(table.file + ": the table of step times has no point for " + describe(what) +
                     "; it has: " + list_policies(table.points));
  }
  if (labels.size() > 1) {
    throw InputError(table.file + ": the table of step times has several policies for " +
                     describe(what) + ": " + list_policies(fitting) + "; allowed: one");
  }
  std::vector<StepTimeSample> samples;
  samples.reserve(fitting.size());
  for (const auto& point : fitting) {
    samples.push_back({{point.tokens, point.context_tokens, point.one_token_each}, point.step_ms});
  }
  return samples;
}

}  // namespace

StepTimeTable parse_step_time_table(std::string_view text, const std::string& file) {
  json root = parse_unique_json(text, file);
  std::string place = file;
  if (root.is_object() && root.contains("step_times")) {
    root = json(root["step_times"]);
    place += ": step_times";
    if (root.is_null()) {
      fail_json(place, "none; the sweep has timed no complete step");
    }
  }
  check_json_keys(root, place, {"version", "setting", "points"});
  const auto inside = [&](const std::string& key) {
    return place + (place == file ? ": " : ".") + key;
  };
  if (read_json_int(root["version"], inside("version"), 1, std::numeric_limits<int>::max()) !=
      kStepTimeTableVersion) {
    fail_json(inside("version"),
              "only version " + std::to_string(kStepTimeTableVersion) + " is known to this build");
  }
  StepTimeTable table;
  table.file = file;
  if (!root["setting"].is_object()) {
    fail_json(inside("setting"),
              "an object is needed, not " + std::string(root["setting"].type_name()));
  }
  for (const auto& item : root["setting"].items()) {
    table.setting[item.key()] = compact(item.value());
  }
  for (const auto& point : read_json_array(root["points"], inside("points"))) {
    table.points.push_back(
        read_point(point, inside("points[" + std::to_string(table.points.size()) + "]")));
  }
  return table;
}

StepTimeTable read_step_time_table(const std::string& path) {
  return parse_step_time_table(read_text_file(path, kMaxBytes, "a table of step times in JSON"),
                               path);
}

std::string step_time_table_to_json(const StepTimeTable& table) {
  auto setting = nlohmann::ordered_json::object();
  for (const auto& [name, value] : table.setting) {
    setting[name] = nlohmann::ordered_json::parse(value);
  }
  auto points = nlohmann::ordered_json::array();
  for (const auto& point : table.points) {
    nlohmann::ordered_json one = {{"policy", point.policy},
                                  {"schedule", point.schedule},
                                  {"schedule_digest", point.schedule_digest},
                                  {"ubatches", point.ubatches}};
    if (!point.split.empty()) {
      one["split"] = point.split;
    }
    one["tokens"] = point.tokens;
    one["context_tokens"] = point.context_tokens;
    one["one_token_each"] = point.one_token_each;
    one["step_ms"] = point.step_ms;
    points.push_back(one);
  }
  const nlohmann::ordered_json root = {
      {"version", kStepTimeTableVersion}, {"setting", setting}, {"points", points}};
  return root.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

void check_setting(const StepTimeTable& table, const StepTimeSetting& run) {
  std::string differences;
  const auto add = [&](const std::string& name, const std::string& text) {
    differences += (differences.empty() ? "" : "; ") + name + ": " + text;
  };
  for (const auto& [name, value] : run) {
    const auto found = table.setting.find(name);
    if (found == table.setting.end()) {
      add(name, "not stated by the table, this run has " + value);
    } else if (json::parse(found->second) != json::parse(value)) {
      add(name, found->second + " in the table, " + value + " in this run");
    }
  }
  for (const auto& [name, value] : table.setting) {
    if (run.count(name) == 0) {
      add(name, value + " in the table, unknown to this run");
    }
  }
  if (!differences.empty()) {
    throw InputError(table.file +
                     ": the step times were measured in another setting: " + differences);
  }
}

StepTimeCurves select_curves(const StepTimeTable& table,
                             const StepTimeCandidate& plain,
                             const StepTimeCandidate& candidate) {
  return {select_samples(table, plain), select_samples(table, candidate)};
}

}  // namespace dovetail
