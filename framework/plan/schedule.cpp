#include "framework/plan/schedule.hpp"

namespace dovetail {

std::string describe_op(int index, const Op& op) {
  std::string text = "op " + std::to_string(index) + " (" + std::string(to_string(op.phase));
  if (op.layer != kNoLayer) {
    text += ", layer " + std::to_string(op.layer);
  }
  return text + ", ubatch " + std::to_string(op.ubatch) + ")";
}

}  // namespace dovetail
