#include "framework/plan/policies/dual_batch.hpp"

#include "framework/plan/policies/turns.hpp"

namespace dovetail {

Schedule make_dual_batch(const PolicyInput& input) {
  check_num_ubatches("dual_batch", input.num_ubatches, 2, kMaxUbatches);
  // The batch is cut, and not the experts.
  PolicyInput uncut = input;
  uncut.num_groups = 1;
  return make_turns("dual_batch", uncut);
}

}  // namespace dovetail
