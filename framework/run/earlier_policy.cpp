#include "framework/run/earlier_policy.hpp"

#include <algorithm>
#include <array>
#include <sstream>
#include <system_error>
#include <tuple>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/file_system.hpp"
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

/// Whether the file has all that `spec` says of versions, execution and environment.
bool has_attributes(const RankFile& file, const RankFileSpec& spec) {
  const auto recorded = file.attributes();
  return std::all_of(spec.attributes.begin(), spec.attributes.end(), [&](const auto& own) {
    if (own.name == attribute::kArgv) {
      return true;
    }
    if (own.name == attribute::kEnvironment) {
      return chosen_variables(file.text(own.name)) ==
             chosen_variables(std::get<std::string>(own.value));
    }
    return std::find(recorded.begin(), recorded.end(), own) != recorded.end();
  });
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

bool is_measured_alike(const fs::path& rank_file, const RankFileSpec& spec) {
  try {
    const RankFile file(rank_file);
    const auto place = std::tuple(file.text(attribute::kHost),
                                  file.text(attribute::kDevice),
                                  file.text(attribute::kWeightsDigest),
                                  file.text(attribute::kInputsDigest),
                                  file.world_size());
    return file.status() == RunStatus::complete && file.schedules() == spec.schedules &&
           place == std::tuple(spec.host,
                               spec.device,
                               spec.weights_digest,
                               spec.inputs_digest,
                               spec.world_size) &&
           has_attributes(file, spec);
  } catch (const InputError&) {
    return false;
  }
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
