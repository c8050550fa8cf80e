#include "framework/run/earlier_policy.hpp"

#include <algorithm>
#include <array>
#include <sstream>
#include <system_error>
#include <utility>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/file_system.hpp"
#include "framework/base/text.hpp"
#include "framework/config/dump.hpp"
#include "framework/record/reader.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/run/experiment_points.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

/// Variables that a person sets. Those of launchers (OMPI_*, SLURM_*) differ in every start.
std::string chosen_variables(const std::string& environment) {
  std::istringstream lines(environment);
  std::string chosen;
  for (std::string line; std::getline(lines, line);) {
    for (const char* prefix : {"OMP_", "MKL_", "NCCL_", "CUDA_", "DOVETAIL_"}) {
      chosen += line.starts_with(prefix) ? line + "\n" : "";
    }
  }
  return chosen;
}

/// "host is a, here b", or empty.
std::string differs(const std::string& name, const std::string& recorded, const std::string& own) {
  return recorded == own ? "" : name + " is " + printable(recorded) + ", here " + printable(own);
}

std::string text_of(const hdf5::AttributeValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    return *text;
  }
  const auto* number = std::get_if<std::int64_t>(&value);
  return number != nullptr ? std::to_string(*number) : std::to_string(std::get<double>(value));
}

/// What `spec` says otherwise of versions, execution or environment; empty = nothing.
std::string find_attribute_difference(const RankFile& file, const RankFileSpec& spec) {
  const auto recorded = file.attributes();
  for (const auto& own : spec.attributes) {
    if (own.name == attribute::kArgv) {
      continue;
    }
    if (own.name == attribute::kEnvironment) {
      if (chosen_variables(file.text(own.name)) !=
          chosen_variables(std::get<std::string>(own.value))) {
        return "variables of the environment are others";
      }
      continue;
    }
    const auto same = std::find_if(
        recorded.begin(), recorded.end(), [&](const auto& one) { return one.name == own.name; });
    if (same == recorded.end() || !(*same == own)) {
      return differs(
          own.name, same == recorded.end() ? "nothing" : text_of(same->value), text_of(own.value));
    }
  }
  return "";
}

void link_file(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::create_hard_link(from, to, error);
  if (error) {
    fs::copy_file(from, to, error);
  }
  if (error) {
    throw RunError(to.string() + ": cannot be made from " + from.string() + ": " + error.message());
  }
}

}  // namespace

const EarlierPolicy* find_earlier(const std::vector<EarlierPolicy>& all,
                                  const std::string& policy) {
  const auto found = std::find_if(
      all.begin(), all.end(), [&](const EarlierPolicy& one) { return one.policy == policy; });
  return found == all.end() ? nullptr : &*found;
}

bool depend_on_baseline(const Experiment& experiment) {
  return replays_baseline(experiment) || is_judged_naturally(experiment);
}

std::string what_is_measured(const Experiment& experiment, const PolicyConfig& policy) {
  if (experiment.sweep_unchanged == UnchangedPolicies::measure_again || !policy.table.empty() ||
      policy.name == kControlPolicy) {
    return "";
  }
  auto own = experiment;
  std::erase_if(own.policies, [&](const PolicyConfig& other) {
    return other.name != policy.name &&
           !(depend_on_baseline(experiment) && other.name == experiment.verify.baseline);
  });
  return policy.name + "\n" + dump(own);
}

std::map<std::string, std::vector<std::size_t>> points_that_measure(
    const std::vector<Experiment>& points) {
  std::map<std::string, std::vector<std::size_t>> all;
  for (std::size_t point = 0; point < points.size(); ++point) {
    for (const PolicyConfig& policy : points[point].policies) {
      if (const auto measured = what_is_measured(points[point], policy); !measured.empty()) {
        all[measured].push_back(point);
      }
    }
  }
  return all;
}

std::vector<std::map<std::string, std::size_t>> find_unchanged(
    const std::vector<Experiment>& points) {
  const auto all = points_that_measure(points);
  std::vector<std::map<std::string, std::size_t>> unchanged(points.size());
  for (std::size_t point = 0; point < points.size(); ++point) {
    for (const PolicyConfig& policy : points[point].policies) {
      const auto same = all.find(what_is_measured(points[point], policy));
      if (same != all.end() && same->second.front() < point) {
        unchanged[point][policy.name] = same->second.front();
      }
    }
  }
  return unchanged;
}

std::string find_measured_difference(const fs::path& rank_file, const RankFileSpec& spec) {
  try {
    const RankFile file(rank_file);
    if (file.status() != RunStatus::complete) {
      return "status is " + std::string(to_string(file.status()));
    }
    for (const auto& [name, own] : {std::pair(attribute::kHost, spec.host),
                                    std::pair(attribute::kDevice, spec.device),
                                    std::pair(attribute::kWeightsDigest, spec.weights_digest),
                                    std::pair(attribute::kInputsDigest, spec.inputs_digest)}) {
      if (auto found = differs(name, file.text(name), own); !found.empty()) {
        return found;
      }
    }
    if (file.world_size() != spec.world_size) {
      return differs(attribute::kWorldSize,
                     std::to_string(file.world_size()),
                     std::to_string(spec.world_size));
    }
    const auto found = find_attribute_difference(file, spec);
    return !found.empty() || file.schedules() == spec.schedules ? found : "schedules are others";
  } catch (const InputError& error) {
    return error.what();
  }
}

bool is_measured_alike(const fs::path& rank_file, const RankFileSpec& spec) {
  return find_measured_difference(rank_file, spec).empty();
}

void link_rank_files(const fs::path& from, const fs::path& to) {
  for (const auto& [rank, file] : list_rank_files(from)) {
    link_file(file, to / rank_file_name(rank));
  }
  if (path_exists(from / kReferenceFolder)) {
    link_rank_files(from / kReferenceFolder, create_policy_folder(to, kReferenceFolder));
  }
}

std::string to_json_text(const std::vector<EarlierPolicy>& policies) {
  auto json = nlohmann::json::array();
  for (const auto& one : policies) {
    json.push_back({one.policy, one.point, one.folder});
  }
  return json.dump();
}

std::vector<EarlierPolicy> parse_earlier_policies(const std::string& text) {
  std::vector<EarlierPolicy> policies;
  for (const auto& one : nlohmann::json::parse(text)) {
    policies.push_back({one.at(0), one.at(1), one.at(2)});
  }
  return policies;
}

}  // namespace dovetail
