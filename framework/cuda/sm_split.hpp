// How many SMs each part of a device gets where it is cut in two.
#pragma once

#include <string>

#include "framework/base/error.hpp"

namespace dovetail {

/// SMs of a device, cut in two.
struct SmSplit {
  int comm_sms = 0;
  int compute_sms = 0;
};

/// How a device with `num_sms` SMs, whose parts have `min_sms` at least and a multiple of
/// `step_sms`, is cut so that the exchange has `comm_sms` or, where that is no multiple, the next
/// one. Throws InputError that names what is allowed where that leaves less than `min_sms` on
/// either side. Pure.
inline SmSplit split_sms(int comm_sms, int num_sms, int min_sms, int step_sms) {
  const int rounded = (comm_sms + step_sms - 1) / step_sms * step_sms;
  if (comm_sms < min_sms || rounded > num_sms - min_sms) {
    throw InputError("comm_sms = " + std::to_string(comm_sms) +
                     " as a partition of their own of a GPU with " + std::to_string(num_sms) +
                     " SMs; allowed: " + std::to_string(min_sms) + " to " +
                     std::to_string((num_sms - min_sms) / step_sms * step_sms) +
                     ", rounded up to a multiple of " + std::to_string(step_sms));
  }
  return {.comm_sms = rounded, .compute_sms = num_sms - rounded};
}

}  // namespace dovetail
