// What CudaDriver does where a step fails, and where one is made to fail.
#include <exception>
#include <thread>
#include <vector>

#include "framework/exec/op_failure.hpp"
#include "framework/step/cuda/cuda_driver.hpp"

namespace dovetail {

/// A fault at an op that a graph holds: no host code of the op runs where the graph is replayed.
void CudaDriver::act_where_graphs_are_launched() const {
  if (setup_.fault == nullptr) {
    return;
  }
  const auto& step = *captured_->step;
  for (int piece = 0; piece < step.num_pieces(); ++piece) {
    for (int i = step.ops_of(piece).first; i < step.ops_of(piece).end; ++i) {
      const Op& op = step.schedule().ops[static_cast<std::size_t>(i)];
      if (!runs_in(step.pass(), op.phase)) {
        continue;
      }
      if (setup_.board != nullptr) {
        setup_.board->begin(op);
      }
      try {
        setup_.fault->before(op);
      } catch (...) {
        rethrow_from_op(op);
      }
      if (setup_.board != nullptr) {
        setup_.board->end(op);
      }
    }
  }
}

void CudaDriver::poll() {
  setup_.ranks.wait.on_poll();
  for (const auto& [comm_sms, comm] : comms_) {
    comm->check_async();
  }
}

/// On all communicators first: a step's kernels look at the word of its own, and store into memory
/// that is registered with another.
bool CudaDriver::end_own_waits() noexcept {
  bool may_have_waited = false;
  for (const auto& [comm_sms, comm] : comms_) {
    may_have_waited = comm->end_own_waits() || may_have_waited;
  }
  return may_have_waited;
}

/// Side by side: each may take its whole bound, where graphs that name it are alive.
void CudaDriver::cancel_comm() noexcept {
  std::vector<std::thread> aborts;
  for (const auto& [comm_sms, comm] : comms_) {
    try {
      aborts.emplace_back([comm = comm] { comm->abort(); });
    } catch (const std::exception&) {  // no thread to be had
      comm->abort();
    }
  }
  for (auto& abort : aborts) {
    abort.join();
  }
}

}  // namespace dovetail
