#include "framework/plan/step_time_table.hpp"

#include <algorithm>
#include <functional>
#include <iterator>
#include <limits>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/json_reader.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/strict_json.hpp"
#include "framework/base/text.hpp"
#include "framework/base/text_file.hpp"
#include "framework/base/types.hpp"
#include "framework/config/comm_sms.hpp"

namespace dovetail {
namespace {

using nlohmann::json;

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
                  {"split", "comm_sms", "step_ms_error"});
  StepTimePoint point;
  point.policy = read_json_string(value["policy"], place + ".policy");
  point.schedule = read_json_string(value["schedule"], place + ".schedule");
  point.schedule_digest = read_json_string(value["schedule_digest"], place + ".schedule_digest");
  point.ubatches =
      static_cast<int>(read_json_int(value["ubatches"], place + ".ubatches", 1, kMaxUbatches));
  if (value.contains("split")) {
    point.split = read_json_string(value["split"], place + ".split");
  }
  if (value.contains("comm_sms")) {
    point.comm_sms = read_comm_sms(value["comm_sms"], place + ".comm_sms");
  }
  point.tokens = read_json_int(value["tokens"], place + ".tokens", 0, kMostTokens);
  point.context_tokens = read_json_number(value["context_tokens"], place + ".context_tokens", 0);
  point.one_token_each = read_json_bool(value["one_token_each"], place + ".one_token_each");
  point.step_ms = read_json_number(value["step_ms"], place + ".step_ms", 0);
  if (value.contains("step_ms_error")) {
    point.step_ms_error = read_json_number(value["step_ms_error"], place + ".step_ms_error", 0);
  }
  return point;
}

/// Whether a description names the schedule's digest, too: only where it needs to.
enum class Digest { left_out, named };

/// "dual_batch of digest 17 with 2 ubatches and split request", of a point or a candidate.
template <class Timed>
std::string describe(const Timed& timed, Digest digest) {
  return printable(timed.schedule) +
         (digest == Digest::named ? " of digest " + printable(timed.schedule_digest) : "") +
         " with " + counted(timed.ubatches, "ubatch") +
         (timed.split.empty() ? "" : " and split " + printable(timed.split));
}

/// "plain (sequential with 1 ubatch), dual (...)".
std::string list_policies(const std::vector<StepTimePoint>& points, Digest digest) {
  std::set<std::string> all;
  for (const auto& point : points) {
    all.insert(printable(point.policy) + " (" + describe(point, digest) +
               (point.comm_sms == 0 ? "" : ", " + describe_comm_sms(point.comm_sms) + " comm SMs") +
               ")");
  }
  return all.empty() ? "no policy" : join_names(all);
}

/// Step times of one policy, under one number of SMs for the exchange.
struct SelectedPoints {
  std::vector<StepTimeSample> samples;
  int comm_sms = 0;
};

/// The points of the one policy that fits `what`.
SelectedPoints select_points(const StepTimeTable& table, const StepTimeCandidate& what) {
  std::vector<StepTimePoint> fitting;
  std::copy_if(table.points.begin(),
               table.points.end(),
               std::back_inserter(fitting),
               [&](const StepTimePoint& point) {
                 return point.schedule == what.schedule &&
                        point.schedule_digest == what.schedule_digest &&
                        point.ubatches == what.ubatches && point.split == what.split;
               });
  if (fitting.empty()) {
    const auto wanted = describe(what, Digest::left_out);
    const bool is_alike =
        std::any_of(table.points.begin(), table.points.end(), [&](const StepTimePoint& point) {
          return describe(point, Digest::left_out) == wanted;
        });
    const auto digest = is_alike ? Digest::named : Digest::left_out;
    throw InputError(table.file + ": the table of step times has no point for " +
                     describe(what, digest) + "; it has: " + list_policies(table.points, digest));
  }
  const auto has_own_sms = [&](const StepTimePoint& point) {
    return point.comm_sms == what.comm_sms;
  };
  if (std::any_of(fitting.begin(), fitting.end(), has_own_sms)) {
    std::erase_if(fitting, std::not_fn(has_own_sms));
  }
  SelectedPoints selected = {.samples = {}, .comm_sms = fitting.front().comm_sms};
  for (const auto& point : fitting) {
    if (point.policy != fitting.front().policy || point.comm_sms != selected.comm_sms) {
      throw InputError(table.file + ": the table of step times has several policies for " +
                       describe(what, Digest::left_out) + ": " +
                       list_policies(fitting, Digest::left_out) + "; allowed: one" +
                       (point.comm_sms == selected.comm_sms ? "" : ", or one with this comm_sms"));
    }
    selected.samples.push_back({.load = {point.tokens, point.context_tokens, point.one_token_each},
                                .step_ms = point.step_ms,
                                .error_ms = point.step_ms_error});
  }
  return selected;
}

/// A table of an earlier version states the SMs of the exchange once, for all points.
void move_comm_sms_to_points(StepTimeTable& table, const std::string& place) {
  const auto stated = table.setting.find("comm_sms");
  if (stated == table.setting.end()) {
    return;
  }
  const int comm_sms = read_comm_sms(json::parse(stated->second), place);
  for (auto& point : table.points) {
    point.comm_sms = point.comm_sms == 0 ? comm_sms : point.comm_sms;
  }
  table.setting.erase(stated);
}

}  // namespace

StepTimeTable parse_step_time_table(std::string_view text, const std::string& file) {
  json root = parse_strict_json(text, {.file = file});
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
  for (const auto& item : read_json_object(root["setting"], inside("setting")).items()) {
    table.setting[item.key()] = compact(item.value());
  }
  for (const auto& point : read_json_array(root["points"], inside("points"))) {
    table.points.push_back(
        read_point(point, inside("points[" + std::to_string(table.points.size()) + "]")));
  }
  move_comm_sms_to_points(table, inside("setting.comm_sms"));
  return table;
}

StepTimeTable read_step_time_table(const std::string& path) {
  return parse_step_time_table(read_text_file(path, kStepTimeText), path);
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
    if (point.comm_sms != 0) {
      one["comm_sms"] = comm_sms_to_json(point.comm_sms);
    }
    one["tokens"] = point.tokens;
    one["context_tokens"] = point.context_tokens;
    one["one_token_each"] = point.one_token_each;
    one["step_ms"] = point.step_ms;
    if (point.step_ms_error > 0) {
      one["step_ms_error"] = point.step_ms_error;
    }
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
      add(name,
          printable(found->second, kMaxLongQuoteBytes) + " in the table, " + value +
              " in this run");
    }
  }
  for (const auto& [name, value] : table.setting) {
    if (run.count(name) == 0) {
      add(printable(name),
          printable(value, kMaxLongQuoteBytes) + " in the table, unknown to this run");
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
  auto without = select_points(table, plain);
  auto with = select_points(table, candidate);
  return {.plain = std::move(without.samples),
          .candidate = std::move(with.samples),
          .plain_comm_sms = without.comm_sms,
          .candidate_comm_sms = with.comm_sms};
}

}  // namespace dovetail
