#include "framework/plan/policies/expert_groups.hpp"

#include <string>

#include "framework/base/text.hpp"
#include "framework/plan/policies/turns.hpp"

namespace dovetail {

Schedule make_expert_groups(const PolicyInput& input) {
  check_num_ubatches("expert_groups", input.num_ubatches, 1, kMaxUbatches);
  if (input.num_groups < 1 || input.num_groups > kMaxGroups) {
    throw InputError("policy expert_groups with " + counted(input.num_groups, "group") +
                     "; allowed: 1 to " + std::to_string(kMaxGroups));
  }
  return make_turns("expert_groups", input);
}

}  // namespace dovetail
