// The buffers of an exchange from step to step, for messages of fixed size and for captured graphs.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/plan/phase.hpp"

namespace dovetail {

/// All calls are local. All but received_rows come from the main thread, while no call of the
/// exchange is in progress.
class StepBuffers {
 public:
  virtual ~StepBuffers() = default;

  /// Called before every step. `max_tokens` is, for each ubatch, the agreed largest number of
  /// tokens over all ranks; messages of fixed size are made for it. `comm_sms` is the number of SMs
  /// that the step's transfers may take, or kAllSms, one of those for which the exchange has a
  /// communicator; it has no meaning where none is needed.
  virtual void begin_step(std::span<const std::int64_t> max_tokens, int comm_sms) = 0;

  /// What the last begin_step was given; 0 where it has no meaning.
  virtual int comm_sms() const { return 0; }

  /// Called after a step, also a replayed one, has ended on the device. Throws RunError, naming
  /// rank, layer and expert, for what kernels have found (a block that was too small).
  virtual void check_step() = 0;

  /// Changes whenever begin_step has moved buffers: graphs that were captured before must not be
  /// replayed any more.
  virtual std::uint64_t generation() const = 0;

  /// Bytes that the buffers hold now, over all ubatches.
  virtual std::int64_t bytes() const = 0;

  /// The memory into which `phase`, dispatch or combine, of the ubatch receives rows of the other
  /// ranks: views of any dtype, empty without other ranks. Of a group: the part into which the
  /// phase has received that group's rows, once it has. The next call of the exchange for that
  /// ubatch may move it. From the thread that makes the ubatch's calls.
  virtual std::vector<at::Tensor> received_rows(int ubatch,
                                                Phase phase,
                                                std::optional<int> group) = 0;
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
