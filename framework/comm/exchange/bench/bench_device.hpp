// What `dovetail bench exchange` and `bench partition` need of the device they measure on: clocks
// that see the exchange's own time, and ceilings to hold it against.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/comm/exchange/exchange_setting.hpp"
#include "framework/mpi/session.hpp"

namespace dovetail {

/// Work that can be started again and again.
class BenchRun {
 public:
  BenchRun() = default;
  virtual ~BenchRun() = default;
  BenchRun(const BenchRun&) = delete;
  BenchRun& operator=(const BenchRun&) = delete;
  BenchRun(BenchRun&&) = delete;
  BenchRun& operator=(BenchRun&&) = delete;

  /// Enqueues it.
  virtual void start() = 0;

  /// Waits for its end; microseconds from each mark to the next.
  virtual std::vector<double> gaps_us() = 0;
};

/// A way to move `bytes` from each rank to each peer that is as simple as can be.
struct BenchCeiling {
  std::string name;
  int comm_sms = 0;                           ///< that it takes; 0 = none
  std::function<void()> clear;                ///< nothing that has arrived is right any more; local
  std::function<void()> move;                 ///< enqueues it; collective
  std::function<void()> check_status;         ///< throws where a move gave up
  std::function<std::int64_t()> wrong_words;  ///< of what has arrived, once all ranks are done
};

/// Of one rank. Calls come from the main thread; work is enqueued on one stream.
class BenchDevice {
 public:
  BenchDevice() = default;
  virtual ~BenchDevice() = default;
  BenchDevice(const BenchDevice&) = delete;
  BenchDevice& operator=(const BenchDevice&) = delete;
  BenchDevice(BenchDevice&&) = delete;
  BenchDevice& operator=(BenchDevice&&) = delete;

  using Body = std::function<void(const std::function<void()>& mark)>;

  virtual at::Device device() const = 0;

  /// Name of the hardware, for people.
  virtual std::string name() const = 0;

  /// Communicators for these numbers of SMs, kAllSms = no bound. Collective.
  virtual ExchangeSetting setting(std::span<const int> comm_sms) = 0;

  /// `captured`: a replayed graph, where the device has graphs.
  virtual std::unique_ptr<BenchRun> make_run(Body body, bool captured) = 0;

  virtual void wait() = 0;

  /// Collective. They hold their buffers.
  virtual std::vector<BenchCeiling> ceilings(std::int64_t bytes, std::span<const int> comm_sms) = 0;
};

std::unique_ptr<BenchDevice> make_host_bench_device(const MpiSession& session,
                                                    const WaitPolicy& wait);

/// Binds this process to a GPU of its own. Collective. Throws InputError in a build without CUDA
/// and where there are fewer GPUs than ranks.
std::unique_ptr<BenchDevice> make_gpu_bench_device(const MpiSession& session,
                                                   const WaitPolicy& wait);

}  // namespace dovetail
