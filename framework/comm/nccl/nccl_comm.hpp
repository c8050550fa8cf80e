// Owner of an NCCL communicator whose every wait is bounded: it is non-blocking, so that set-up,
// launches and the end are polled with a deadline and can be aborted.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <ATen/core/Tensor.h>
#include <cuda_runtime_api.h>
#include <nccl.h>

#include "framework/mpi/comm.hpp"
#include "framework/mpi/wait.hpp"

namespace dovetail {

struct NcclOptions {
  /// NCCL's maxCTAs: SMs that a transfer takes; a power of two (NCCL rounds the channels of send
  /// and receive up to one). Nothing: as many as NCCL chooses.
  std::optional<int> max_ctas = 8;
  std::string name;  ///< for messages
};

/// One communicator over the ranks of an MPI communicator, on the device that is current where it
/// is made. Move-only; moved-from objects may only be destroyed or assigned to.
///
/// How a non-blocking communicator launches (NCCL 2.28.9, src/group.cc): ncclGroupEnd records the
/// calls, marks the communicator as in progress, starts a thread that launches the kernels on the
/// streams of the calls, and returns ncclInProgress. The work is on its stream once
/// ncclCommGetAsyncError answers ncclSuccess, which also joins that thread. Until then neither the
/// communicator nor the stream may be used; call() therefore waits for it. That holds under
/// capture, too: the thread that launches has not begun a capture itself, so that a capture in
/// thread-local mode does not police it, and what it launches on a capturing stream becomes part of
/// the graph.
///
/// One thread at a time may use it, but abort() and check_async() may come from any thread.
/// Graphs that hold its work must be destroyed before it.
class NcclComm {
 public:
  /// Collective over `ranks`; the unique id travels over MPI. The first communicator of a process
  /// checks NCCL's version (framework/cuda/nccl_version.hpp). Throws TimeoutError where a rank does
  /// not come in time, RunError for NCCL's errors.
  NcclComm(const MpiComm& ranks, const NcclOptions& options, const WaitPolicy& wait);

  /// Finalizes within a bound, aborts where that does not end or the communicator has failed.
  ~NcclComm();
  NcclComm(const NcclComm&) = delete;
  NcclComm& operator=(const NcclComm&) = delete;
  NcclComm(NcclComm&&) noexcept;
  NcclComm& operator=(NcclComm&&) noexcept;

  ncclComm_t raw() const;
  int rank() const;
  int size() const;

  /// Runs `calls` between ncclGroupStart and ncclGroupEnd and waits until the work is on its
  /// streams. `calls` returns the first result that is neither ncclSuccess nor ncclInProgress, or
  /// ncclSuccess; it may be recorded into a capture. Throws RunError "<what>: <NCCL's text>",
  /// TimeoutError at the deadline, and what wait.on_poll throws; the communicator has then failed
  /// and refuses further calls.
  void call(const std::function<ncclResult_t(ncclComm_t)>& calls,
            const WaitPolicy& wait,
            std::string_view what);

  /// Waits until what was issued is on its stream; call() does so itself. Throws as call() does.
  void settle(const WaitPolicy& wait, std::string_view what);

  /// Throws RunError where NCCL has found an asynchronous error, or after abort(). Any thread,
  /// cheap.
  void check_async();

  /// `root`'s contents in the tensors of all ranks: contiguous, on this device, of equal size.
  /// Enqueued on the current stream, whose end is waited for. Collective. Throws as call() does.
  void broadcast(const at::Tensor& tensor, int root, const WaitPolicy& wait);

  /// True after abort() or an error. Any thread.
  bool has_failed() const;

  /// A word of host memory that kernels can read: not 0 after abort(). Own kernels look at it where
  /// they wait for a peer. Made by the first call; lives as long as the communicator, and longer
  /// where that has failed.
  const std::uint32_t* abort_word();

  /// Ahead of abort(), where kernels on several communicators use memory that is registered with
  /// one: tells own kernels to give up, and leaves NCCL's alone. Later calls throw RunError. False
  /// where nobody has asked for the abort word. Any thread; returns within some 10 ms.
  bool end_own_waits() noexcept;

  /// Makes pending transfers give up, in kernels too. Memory that is registered with the
  /// communicator, and the peers' as this rank maps it, goes with it: no own kernel may use them
  /// any more; later calls throw RunError. Returns within some seconds, also where graphs that
  /// refer to the communicator are alive (NCCL waits for their end, in a thread of its own then).
  /// Any thread.
  void abort() noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace dovetail
