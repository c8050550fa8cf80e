// The passes of a profiled step, as a rank file has them.
#pragma once

#include "framework/base/types.hpp"

namespace dovetail {

/// The passes of a profiled step, in the order of a file's `pass`. They run in another order
/// (policy_checks.cpp).
enum class ProfilePass {
  full,          ///< op times of the whole schedule
  compute_only,  ///< op times without the exchange, all else as in `full`
  comm_only,     ///< op times of the exchange alone
  all_sms,       ///< as compute_only, with all SMs: where a policy leaves some to the exchange
  gated,         ///< as compute_only, each op held back until it is enqueued whole: on a GPU where
                 ///< the host enqueues ops kernel by kernel; all_sms is gated there, too
  unrecorded,    ///< as full, without times of ops: like a timed step
  full_gated,    ///< as full, ops that are no exchange held back likewise
};

inline constexpr int kNumProfilePasses = 7;

/// The passes that files of all versions hold come first; the others are in datasets of their own.
inline constexpr int kNumFirstPasses = 3;

/// Which ops run in a pass.
constexpr PassKind ops_of(ProfilePass pass) {
  switch (pass) {
    case ProfilePass::full:
    case ProfilePass::unrecorded:
    case ProfilePass::full_gated:
      return PassKind::full;
    case ProfilePass::comm_only:
      return PassKind::comm_only;
    default:
      return PassKind::compute_only;
  }
}

/// The dataset of the op times of a pass; null where it has none.
const char* op_times_path(ProfilePass pass);

}  // namespace dovetail
