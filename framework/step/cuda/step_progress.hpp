// How far the device has come with a step, for messages about steps that do not end.
#pragma once

#include <cstddef>
#include <functional>
#include <string>

#include "framework/base/types.hpp"
#include "framework/cuda/event.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// "; comm lane: between what follows op 3 (...) and the end of op 9 (...)", for each lane that has
/// ops in this pass. `event_after` gives the event recorded behind an op in this step, or null
/// where there is none; between two ops that have events it cannot tell more.
std::string describe_progress(const Schedule& schedule,
                              PassKind pass,
                              const std::function<const Event*(std::size_t)>& event_after);

}  // namespace dovetail
