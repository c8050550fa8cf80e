#include "framework/step/cuda/captured_step.hpp"

namespace dovetail {

int CapturedStep::num_nodes() const {
  int count = 0;
  for (const auto& piece : pieces_) {
    count += piece.graph.num_nodes();
  }
  return count;
}

}  // namespace dovetail
