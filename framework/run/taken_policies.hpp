// The policies of a run that an earlier point of its sweep has measured: their files become files
// of this run.
#pragma once

#include <functional>
#include <optional>
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

  /// Takes the policy's files from where it was measured. `spec`: of the file that this rank would
  /// write; asked where there is such a place. False where there is none, where a rank would not
  /// measure the same, or where the policy depends on a baseline that was not taken before it.
  bool take(const PolicyConfig& policy, const std::function<RankFileSpec()>& spec);

  /// The experts that a baseline which was taken has chosen, from its files; nothing of the other
  /// policies, whose references came with their files, and where routing is not recorded.
  std::optional<ChosenExperts> recorded_choice(const PolicyConfig& policy) const;

  const std::vector<EarlierPolicy>& all() const { return all_; }

 private:
  bool has_its_baseline(const PolicyConfig& policy) const;

  const PolicyLoopSetup& setup_;
  std::vector<EarlierPolicy> all_;
};

}  // namespace dovetail
