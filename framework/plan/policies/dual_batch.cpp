#include "framework/plan/policies/dual_batch.hpp"

#include "framework/plan/policies/turns.hpp"

namespace dovetail {

Schedule make_dual_batch(const PolicyInput& input) {
  check_num_ubatches("dual_batch", input.num_ubatches, 2, kMaxUbatches);
  return make_turns("dual_batch", input);
}

}  // namespace dovetail
