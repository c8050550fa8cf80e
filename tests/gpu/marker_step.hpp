// A step whose ops are marker kernels: what comes out proves in which order everything ran, and
// where its memory was.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/base/types.hpp"
#include "framework/cuda/marker_kernel.hpp"
#include "framework/exec/step_body.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail::test {

/// What the first kernel of an op does with a time stamp that is offered to it.
enum class TimeStampUse {
  leave,
  write,
  forget  ///< its launcher takes it, but the kernel does not write it
};

/// Every op writes a number made of the seed and the numbers of all ops that must come before it:
/// its waits and the op before it on its lane. Compute ops that are no exchange also pass the
/// number through a tensor of the caching allocator.
class MarkerStep final : public StepBody {
 public:
  static constexpr int kScratch = 256;  ///< elements of an op's tensor

  /// On the current device. Ops of the comm lane spin `comm_spin_ns`, the others `spin_ns`.
  explicit MarkerStep(const Schedule& schedule,
                      std::int64_t spin_ns = 2'000,
                      std::int64_t comm_spin_ns = 6'000);
  ~MarkerStep() override;
  MarkerStep(const MarkerStep&) = delete;
  MarkerStep& operator=(const MarkerStep&) = delete;
  MarkerStep(MarkerStep&&) = delete;
  MarkerStep& operator=(MarkerStep&&) = delete;

  std::function<void(int, const Op&)> before;  ///< in the op, ahead of its kernels; may throw
  std::function<void(int, const Op&)> asked;   ///< likewise, behind the ask for a time stamp
  std::function<void(int, const Op&)> behind;  ///< likewise, behind its kernels
  int raising_op = -1;                         ///< raises the flag that awaiting_op waits for
  int awaiting_op = -1;
  std::int64_t await_ns = 2'000'000'000;
  TimeStampUse time_stamps = TimeStampUse::leave;
  TimeStampUse end_stamps = TimeStampUse::leave;  ///< of the last kernel of compute ops
  bool has_peers = true;  ///< false: exchanges enqueue nothing, as those of one rank

  void run(const Op& op) override;

  /// Kernels that the op launches.
  static int num_kernels(const Op& op);

  /// Clears everything and sets the seed. Between steps; waits for the device.
  void reset(std::uint64_t seed);

  /// Raises the flag from the host, also while a step runs.
  void raise_flag();

  /// What differs from a step with this seed, a sentence each; empty = right. Waits for the device.
  std::vector<std::string> errors(std::uint64_t seed, PassKind pass = PassKind::full) const;

  /// All numbers of all ops, to compare to the bit.
  std::vector<std::uint64_t> numbers() const;

  /// Waits for the flag that ran into their deadline.
  int missed() const;

 private:
  int index_of(const Op& op) const;
  MarkerBoard board() const;

  const Schedule schedule_;
  const std::int64_t spin_ns_;
  const std::int64_t comm_spin_ns_;
  std::map<std::tuple<int, int, int, Phase>, int> indices_;
  std::vector<std::int32_t> inputs_begin_;
  std::vector<std::int32_t> inputs_;
  at::Tensor device_inputs_begin_;
  at::Tensor device_inputs_;
  at::Tensor seed_;
  at::Tensor values_;
  at::Tensor sums_;
  at::Tensor ticket_;
  at::Tensor tickets_;
  at::Tensor flag_;
  at::Tensor missed_;
  cudaStream_t flag_stream_ = nullptr;
};

/// As a text for messages: "a; b; ..." of the first few.
std::string first_of(const std::vector<std::string>& errors);

/// The pairs (comm op, compute op) of a schedule that neither waits for the other, not through
/// others, either: what may overlap. With the comm op first in the schedule's order.
std::vector<std::pair<int, int>> overlapping_pairs(const Schedule& schedule);

/// Freshly seeded; prints the seed.
std::mt19937_64 make_random();

/// Layers with shared experts under dual_batch.
Schedule dual_batch(int num_layers = 2, int num_ubatches = 2);

/// Schedules of all policies over a small model of all kinds of layers, and some random ones.
std::vector<Schedule> marker_schedules(int num_random, std::mt19937_64& random);

}  // namespace dovetail::test
