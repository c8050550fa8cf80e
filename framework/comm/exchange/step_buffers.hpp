// The buffers of an exchange from step to step: what messages of fixed size and captured graphs
// need.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/plan/phase.hpp"

namespace dovetail {

/// All calls are local; all but received_rows from the main thread, while no call of the exchange
/// is in progress.
class StepBuffers {
 public:
  virtual ~StepBuffers() = default;

  /// Before every step: the agreed largest number of tokens of each of its ubatches over all ranks,
  /// which is what messages of fixed size are made for. comm_sms: SMs that the step's transfers may
  /// take, one of the numbers that the exchange has a communicator for; without meaning where none
  /// is needed.
  virtual void begin_step(std::span<const std::int64_t> max_tokens, int comm_sms) = 0;

  /// After a step has ended on the device, also a replayed one: throws RunError for what kernels
  /// have found (a block that was too small), naming rank, layer and expert.
  virtual void check_step() = 0;

  /// Changes whenever begin_step has moved buffers: graphs that were captured before must not be
  /// replayed any more.
  virtual std::uint64_t generation() const = 0;

  /// Bytes that the buffers hold now, over all ubatches.
  virtual std::int64_t bytes() const = 0;

  /// The memory into which `phase`, dispatch or combine, of the ubatch receives rows of the other
  /// ranks: views of any dtype, empty without other ranks. The next call of the exchange for that
  /// ubatch may move it. From the thread that makes the ubatch's calls.
  virtual std::vector<at::Tensor> received_rows(int ubatch, Phase phase) = 0;
};

/// Of an exchange between host ranks: buffers grow with what comes, calls themselves throw for what
/// they find, and nothing is captured.
class HostBuffers : public StepBuffers {
 public:
  void begin_step(std::span<const std::int64_t> /*max_tokens*/, int /*comm_sms*/) final {}

  void check_step() final {}

  std::uint64_t generation() const final { return 0; }
};

}  // namespace dovetail
