// A sweep measures what does not change once: a policy that an earlier point has measured, with all
// that can influence it, is taken from there. Its rank files become files of the later point, too;
// what is derived from them (summary, view, trace, verdict) is made anew, against the later
// point's own baseline.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "framework/config/experiment.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {

/// Where a policy was measured.
struct EarlierPolicy {
  std::string policy;
  std::size_t point = 0;  ///< of the sweep
  std::string folder;     ///< the policy's, there or in a point that has taken it from there

  friend bool operator==(const EarlierPolicy&, const EarlierPolicy&) = default;
};

/// That of a policy; null where there is none.
const EarlierPolicy* find_earlier(const std::vector<EarlierPolicy>& all, const std::string& policy);

/// Whether the other policies take the baseline's routing, or may be judged against a run of the
/// baseline with theirs. Pure.
bool depend_on_baseline(const Experiment& experiment);

/// All of an experiment that can influence the measurement of one of its policies, as text. What
/// the other policies are does not, but for the baseline where depend_on_baseline. Empty where that
/// is not all in the experiment: of `auto`, whose table is a file, of the control, which says of
/// each point how quiet it was, and where the experiment wants each point measured. Pure.
std::string what_is_measured(const Experiment& experiment, const PolicyConfig& policy);

/// The points that measure a policy alike, ascending, by what_is_measured. Pure.
std::map<std::string, std::vector<std::size_t>> points_that_measure(
    const std::vector<Experiment>& points);

/// For each point the policies that it need not measure, each with the first point that does. A run
/// may measure them all the same, see is_measured_alike. Pure.
std::vector<std::map<std::string, std::size_t>> find_unchanged(
    const std::vector<Experiment>& points);

/// How a rank file differs from what a file of `spec` would be: "host is a, here b"; empty where it
/// was measured alike, see is_measured_alike.
std::string find_measured_difference(const std::filesystem::path& rank_file,
                                     const RankFileSpec& spec);

/// Whether a rank file was written on the same host and device, by the same versions, under the
/// same variables of the environment, from the same weights, inputs and schedules as a file of
/// `spec` would be. False for a file that cannot be read.
bool is_measured_alike(const std::filesystem::path& rank_file, const RankFileSpec& spec);

/// Makes the rank files of a policy folder, and of the reference inside of it, files of another
/// one, which exists: hard links, or copies where the file system has none. Throws RunError.
void link_rank_files(const std::filesystem::path& from, const std::filesystem::path& to);

/// As text, and back, to be broadcast.
std::string to_json_text(const std::vector<EarlierPolicy>& policies);
std::vector<EarlierPolicy> parse_earlier_policies(const std::string& text);

}  // namespace dovetail
