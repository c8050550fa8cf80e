// A sweep's results as JSON, in both directions.
#include <cmath>

#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/strict_json.hpp"
#include "framework/base/text.hpp"
#include "framework/base/text_file.hpp"
#include "framework/compare/json_number.hpp"
#include "framework/compare/sweep_result.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::json;

constexpr int kVersion = 2;

// Numbers and truth values as such, the rest as text.
Json value_json(const std::string& value) {
  const Json parsed = Json::parse(value, nullptr, false);
  return parsed.is_number() || parsed.is_boolean() ? parsed : Json(value);
}

Json rounds_json(const SweepPolicy& policy) {
  Json rounds = Json::array();
  for (const double time : policy.round_ns) {
    rounds.push_back(std::isfinite(time) ? Json(time) : Json(nullptr));
  }
  return {{"began_ns", policy.rounds_began_ns}, {"p50", std::move(rounds)}};
}

Json policy_json(const SweepPolicy& policy) {
  const auto& measured = policy.measured_in_point;
  return {{"policy", policy.name},
          {"schedule", policy.schedule},
          {"schedule_digest", policy.schedule_digest},
          {"ubatches", policy.ubatches},
          {"link", policy.link},
          {"tokens", {policy.max_tokens, policy.total_tokens}},
          {"context_tokens", policy.context_tokens},
          {"one_token_each", policy.one_token_each},
          {"vetoed_steps", policy.vetoed_steps},
          {"step_ns", policy.step_ns ? to_json(*policy.step_ns) : Json(nullptr)},
          {"rounds_ns", rounds_json(policy)},
          {"speed_up", json_number(policy.speed_up)},
          {"speed_up_interval",
           policy.speed_up_interval
               ? Json{policy.speed_up_interval->low, policy.speed_up_interval->high}
               : Json(nullptr)},
          {"speed_up_basis",
           policy.speed_up_basis ? Json(to_string(*policy.speed_up_basis)) : Json(nullptr)},
          {"speed_up_counts", policy.counts ? Json(*policy.counts) : Json(nullptr)},
          {"hidden_share", json_number(policy.hidden_share)},
          {"split_tax", json_number(policy.split_tax)},
          {"hand_off_p50_ns", json_number(policy.hand_off_p50_ns)},
          {"measured_in_point", measured ? Json(*measured) : Json(nullptr)},
          {"verdict", policy.verdict},
          {"flags", policy.flags}};
}

std::optional<double> optional_number(const Json& json) {
  return json.is_number() ? std::optional(json.get<double>()) : std::nullopt;
}

/// Nothing in files of an earlier version, as where it is null.
std::optional<SpeedUpBasis> read_basis(const Json& json) {
  const auto found = json.find("speed_up_basis");
  return found != json.end() && found->is_string() ? parse<SpeedUpBasis>(found->get<std::string>())
                                                   : std::nullopt;
}

std::optional<bool> read_counts(const Json& json) {
  const auto found = json.find("speed_up_counts");
  return found != json.end() && found->is_boolean() ? std::optional(found->get<bool>())
                                                    : std::nullopt;
}

SweepPolicy read_policy(const Json& json) {
  SweepPolicy policy{.name = json.at("policy"),
                     .schedule = json.at("schedule"),
                     .schedule_digest = json.at("schedule_digest"),
                     .ubatches = json.at("ubatches"),
                     .link = json.at("link"),
                     .max_tokens = json.at("tokens").at(0),
                     .total_tokens = json.at("tokens").at(1),
                     .context_tokens = json.at("context_tokens"),
                     .one_token_each = json.at("one_token_each"),
                     .vetoed_steps = json.at("vetoed_steps"),
                     .step_ns = std::nullopt,
                     .step_interval = std::nullopt,
                     .round_ns = {},
                     .rounds_began_ns = 0,
                     .speed_up = optional_number(json.at("speed_up")),
                     .speed_up_interval = read_interval(json, "speed_up_interval"),
                     .speed_up_basis = read_basis(json),
                     .counts = read_counts(json),
                     .hidden_share = optional_number(json.at("hidden_share")),
                     .split_tax = optional_number(json.at("split_tax")),
                     .hand_off_p50_ns = optional_number(json.at("hand_off_p50_ns")),
                     .measured_in_point = read_measured_in_point(json),
                     .verdict = json.at("verdict"),
                     .flags = read_texts(json, "flags")};
  read_rounds(json, policy);
  if (const Json& step = json.at("step_ns"); !step.is_null()) {
    policy.step_ns = read_statistics(step);
  }
  return policy;
}

SweepPointResult read_point(const Json& json, const std::vector<std::string>& keys) {
  SweepPointResult point;
  point.folder = json.at("folder");
  point.problem = json.at("problem");
  point.notes = read_texts(json, "notes");
  const std::string status = json.at("status");
  const auto parsed = parse<SweepPointStatus>(status);
  if (!parsed) {
    throw InputError("status '" + printable(status) + "' is none of " +
                     join_names(names<SweepPointStatus>()));
  }
  point.status = *parsed;
  for (const std::string& key : keys) {
    const Json& value = json.at("values").at(key);
    point.values.push_back(value.is_string() ? value.get<std::string>() : value.dump());
  }
  for (const Json& policy : json.at("policies")) {
    point.policies.push_back(read_policy(policy));
  }
  return point;
}

}  // namespace

Json to_json(const SweepResult& result) {
  Json json = {{"version", kVersion},
               {"experiment", result.experiment},
               {"world_size", result.world_size},
               {"keys", result.keys},
               {"points", Json::array()},
               {"step_times", result.step_times}};
  for (std::size_t i = 0; i < result.points.size(); ++i) {
    const SweepPointResult& point = result.points[i];
    Json values = Json::object();
    for (std::size_t axis = 0; axis < result.keys.size(); ++axis) {
      values[result.keys[axis]] = value_json(point.values[axis]);
    }
    json["points"].push_back({{"point", i},
                              {"folder", point.folder},
                              {"values", values},
                              {"status", std::string(to_string(point.status))},
                              {"problem", point.problem},
                              {"notes", point.notes},
                              {"policies", Json::array()}});
    for (const SweepPolicy& policy : point.policies) {
      json["points"].back()["policies"].push_back(policy_json(policy));
    }
  }
  return json;
}

SweepResult read_sweep_result(const std::filesystem::path& sweep_folder) {
  const auto file = sweep_folder / kSweepFileName;
  const Json json =
      parse_strict_json(read_text_file(file.string(), kSweepText), {.file = file.string()});
  try {
    if (json.at("version") != kVersion) {
      throw InputError("version " + printable_json(json.at("version")) +
                       "; this build reads version " + std::to_string(kVersion));
    }
    SweepResult result{.experiment = json.at("experiment"),
                       .world_size = json.at("world_size"),
                       .keys = json.at("keys"),
                       .points = {},
                       .step_times = json.at("step_times")};
    for (const Json& point : json.at("points")) {
      result.points.push_back(read_point(point, result.keys));
    }
    return result;
  } catch (const Json::exception& error) {
    throw InputError(file.string() + ": no results of a sweep: " + error.what());
  } catch (const InputError& error) {
    throw InputError(file.string() + ": " + error.what());
  }
}

}  // namespace dovetail
