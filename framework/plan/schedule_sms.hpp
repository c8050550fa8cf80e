// How many SMs the exchange of a schedule's steps may take on a GPU.
#pragma once

#include <optional>

#include "framework/config/comm_sms.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// Whether some dispatch or combine may run while an op of the compute lane that is none does: what
/// the schedule's lanes and waits leave open, at any speed. `schedule` is proven.
bool exchanges_beside_compute(const Schedule& schedule);

/// What `auto` leaves to an exchange that runs beside compute. Two ubatches of prefill on two H200s
/// hid nearly all of their exchange with 8 SMs, in steps 1 to 7 % shorter than with 16 and 32,
/// which move faster and slow GEMMs (experiments/README.md, gpu_prefill.yaml).
inline constexpr int kSmsBesideCompute = 8;

/// Of steps that run `schedule`, which is proven: the stated number; for `auto`, which is nothing,
/// kSmsBesideCompute where the exchange may run beside compute, else kAllSms.
int schedule_sms(std::optional<int> stated, const Schedule& schedule);

}  // namespace dovetail
