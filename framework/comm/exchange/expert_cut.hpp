// How the experts of a rank are cut into groups.
#pragma once

#include "framework/base/host_device.hpp"

namespace dovetail {

/// Groups are neighbouring experts; where the number of groups does not divide them, sizes differ
/// by one. Every rank is cut alike.
struct ExpertCut {
  int experts = 0;     ///< of a rank
  int num_groups = 1;  ///< at most `experts`

  /// First local expert of a group; that of num_groups is the end.
  DOVETAIL_HOST_DEVICE constexpr int begin(int group) const { return experts * group / num_groups; }

  DOVETAIL_HOST_DEVICE constexpr int group_of(int local) const {
    return num_groups == 1 ? 0 : ((local + 1) * num_groups - 1) / experts;
  }
};

}  // namespace dovetail
