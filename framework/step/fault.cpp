#include "framework/step/fault.hpp"

#include <chrono>
#include <csignal>
#include <stdexcept>
#include <thread>

namespace dovetail {

void InjectedFault::before(const Op& op) const {
  if (!is_here_ || iteration_ != fault_.iteration || op.ubatch != fault_.ubatch ||
      op.layer != fault_.layer || to_string(op.phase) != fault_.phase) {
    return;
  }
  switch (fault_.kind) {
    case FaultKind::exception:
      throw std::runtime_error("injected fault");
    case FaultKind::hang:
      std::this_thread::sleep_for(std::chrono::hours(1));
      break;
    case FaultKind::kill:
      std::raise(SIGKILL);
      break;
    case FaultKind::veto:
      break;
    case FaultKind::capture:
      if (is_capturing_) {
        throw std::runtime_error("injected fault");
      }
      break;
  }
}

}  // namespace dovetail
