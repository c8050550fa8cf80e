// A schedule from a file: what `dovetail plan --format json` prints, edited by hand or made by a
// program, fitted to a model and proven like any other.
#pragma once

#include <string>

#include "framework/plan/phase.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

/// Reads and proves a schedule. num_ubatches 0 = whatever the file says. Throws InputError, always
/// naming the file: it cannot be read or is larger than 64 MiB; it is no schedule (with the place,
/// schedule_json.hpp); its layers are not the model's (the first that differs is named); it has
/// another number of ubatches; the schedule is wrong (schedule_check.hpp names ops and reasons).
Schedule read_schedule_file(const std::string& path, const ModelShape& model, int num_ubatches);

}  // namespace dovetail
