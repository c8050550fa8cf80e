#include "framework/cuda/sm_partition.hpp"

#include <string>

#include <ATen/Context.h>

#include "framework/base/error.hpp"
#include "framework/cuda/num_sms.hpp"
#include "framework/cuda/quiet_torch.hpp"

namespace dovetail {
SmPartition::SmPartition(int comm_sms) : before_(at::globalContext()._SMCarveout_EXPERIMENTAL()) {
  const int available = num_sms();
  if (comm_sms < 0 || comm_sms >= available) {
    throw InputError("comm_sms = " + std::to_string(comm_sms) + "; the GPU has " +
                     std::to_string(available) + " SMs, and the GEMMs need one at least");
  }
  const QuietTorch quiet;
  at::globalContext()._setSMCarveout_EXPERIMENTAL(
      comm_sms == 0 ? std::nullopt : std::optional<std::int32_t>(comm_sms));
}

SmPartition::~SmPartition() {
  at::globalContext()._setSMCarveout_EXPERIMENTAL(before_);
}

int SmPartition::left_out() {
  return at::globalContext()._SMCarveout_EXPERIMENTAL().value_or(0);
}

int SmPartition::sms_to_compute() {
  return num_sms() - left_out();
}

}  // namespace dovetail
