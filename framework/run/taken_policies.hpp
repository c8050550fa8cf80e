// The policies of a run that are not measured: those that an earlier point of its sweep has
// measured, whose files become files of this run, and those that an earlier start of the run has
// completed.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "framework/run/earlier_policy.hpp"
#include "framework/run/policy_loop.hpp"
#include "framework/run/reference_run.hpp"

namespace dovetail {

/// Not copyable. All but all() is collective over the world.
class TakenPolicies {
 public:
  /// `setup` outlives it; its options say where policies were measured.
  explicit TakenPolicies(const PolicyLoopSetup& setup) : setup_(setup) {}

  /// Takes the policy's files from where it was measured, or keeps those that are there. `spec`: of
  /// the file that this rank would write; asked where there is such a place. False where there is
  /// none, where a rank would not measure the same, or where the policy depends on a baseline that
  /// was not taken before it. Throws AgreedError where an earlier start was of another build.
  bool take(const PolicyConfig& policy, const std::function<RankFileSpec()>& spec);

  /// Whether the reference in that folder is complete since an earlier start. `spec`: as of take.
  bool keeps_reference(const std::filesystem::path& folder,
                       const std::function<RankFileSpec()>& spec);

  /// Makes the folder of what is measured again in a run that goes on; on its first start it is
  /// there.
  void make_folder(const std::filesystem::path& policy) const;

  /// The experts that a baseline which was taken has chosen, from its files, or that any policy has
  /// which was kept; nothing of others, whose references came with their files, and where routing
  /// is not recorded.
  std::optional<ChosenExperts> recorded_choice(const PolicyConfig& policy) const;

  /// Those of earlier points of the sweep.
  const std::vector<EarlierPolicy>& all() const { return all_; }

 private:
  bool is_resumed() const { return !setup_.identity.options.resume.empty(); }

  bool is_kept(const std::string& policy) const;
  bool has_its_baseline(const PolicyConfig& policy) const;
  std::string find_difference(const std::filesystem::path& folder, const RankFileSpec& spec) const;
  bool keep(const PolicyConfig& policy, const RankFileSpec& spec);

  const PolicyLoopSetup& setup_;
  std::vector<EarlierPolicy> all_;
  std::vector<std::string> kept_;
};

}  // namespace dovetail
