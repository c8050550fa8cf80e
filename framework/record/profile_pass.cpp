#include "framework/record/profile_pass.hpp"

#include "framework/record/schema_table.hpp"

namespace dovetail {

const char* op_times_path(ProfilePass pass) {
  switch (pass) {
    case ProfilePass::full:
      return path::kOps;
    case ProfilePass::compute_only:
      return path::kOpsComputeOnly;
    case ProfilePass::comm_only:
      return path::kOpsCommOnly;
    case ProfilePass::all_sms:
      return path::kOpsAllSms;
    case ProfilePass::gated:
      return path::kOpsGated;
    case ProfilePass::full_gated:
      return path::kOpsFullGated;
    case ProfilePass::unrecorded:
      return nullptr;
  }
  return nullptr;
}

}  // namespace dovetail
