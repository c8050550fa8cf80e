#include "framework/plan/policies/expert_groups.hpp"

#include "framework/base/text.hpp"
#include "framework/plan/policies/turns.hpp"

namespace dovetail {

void check_num_groups(const std::string& policy, int num_groups) {
  if (num_groups < 1 || num_groups > kMaxGroups) {
    throw InputError("policy " + policy + " with " + counted(num_groups, "group") +
                     "; allowed: 1 to " + std::to_string(kMaxGroups));
  }
}

Schedule make_expert_groups(const PolicyInput& input) {
  check_num_ubatches("expert_groups", input.num_ubatches, 1, kMaxUbatches);
  check_num_groups("expert_groups", input.num_groups);
  return make_turns("expert_groups", input);
}

}  // namespace dovetail
