#include "framework/plan/step_bounds.hpp"

#include <cstddef>

namespace dovetail {
namespace {

std::int64_t round_up(std::int64_t value, std::int64_t step) {
  return (value + step - 1) / step * step;
}

}  // namespace

StepBounds padded_bounds(const StepBounds& exact) {
  StepBounds padded = exact;
  for (std::size_t u = 0; u < padded.keys.size(); ++u) {
    padded.keys[u] = round_up(exact.keys[u], kKeysStep);
    padded.context[u] = round_up(exact.context[u], kKeyLengthStep);
  }
  padded.key_length = round_up(exact.key_length, kKeyLengthStep);
  return padded;
}

}  // namespace dovetail
