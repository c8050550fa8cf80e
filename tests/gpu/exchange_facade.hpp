// A device exchange as one for host tensors, so that the data and checks of the conformance suite
// serve it, too: two lanes with event edges, as an executor has them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "framework/base/types.hpp"
#include "framework/comm/exchange/exchange.hpp"
#include "framework/comm/nccl/nccl_comm.hpp"
#include "tests/mpi/exchange_driver.hpp"

namespace dovetail::test {

/// The communicator of all GPU tests of a program: made by the first call (collective), destroyed
/// when the tests are over. Null for a world of one rank.
NcclComm* test_comm();

/// SMs of its transfers.
inline constexpr int kTestCommSms = 8;

/// Skips the test where the ranks cannot have that exchange, as they are on several hosts: ends it
/// by an exception that GoogleTest knows.
void require_reach(const std::string& kind);

/// A device exchange over the world. Skips as require_reach().
std::unique_ptr<Exchange> make_on_gpu(const TestGroup& group,
                                      const std::string& kind,
                                      const ExchangeShape& shape,
                                      double padded_capacity = 1.0);

/// An event without timing.
class TestEvent {
 public:
  TestEvent();
  ~TestEvent();
  TestEvent(const TestEvent&) = delete;
  TestEvent& operator=(const TestEvent&) = delete;
  TestEvent(TestEvent&&) = delete;
  TestEvent& operator=(TestEvent&&) = delete;

  void record(const c10::cuda::CUDAStream& stream);
  void make_wait(const c10::cuda::CUDAStream& stream);

 private:
  cudaEvent_t event_ = nullptr;
};

struct Lanes {
  Lanes();
  c10::cuda::CUDAStream compute;
  c10::cuda::CUDAStream comm;  ///< high priority
};

at::Tensor to_gpu(const at::Tensor& tensor);

/// Faults for negative twins.
enum class FacadeFault {
  none,
  drops_last_row,   ///< arrange: the last row is zero
  swaps_peers,      ///< arrange: first and last row change places
  reads_dead_tail,  ///< arrange: one row more than there is
  misses_the_wire,  ///< combine is left out
  misses_a_group,   ///< dispatch of all groups but the first is left out
  forgets_a_group   ///< reduce: the rows of a group are zero when a later one sums them
};

/// Host tensors in, host tensors out, rows cut to what offsets say. What lies behind them is NaN
/// when it goes to reduce.
class ExchangeFacade final : public Exchange, private ExchangePlans, private StepBuffers {
 public:
  /// begin_step is called once, with `max_tokens` for every ubatch.
  ExchangeFacade(std::unique_ptr<Exchange> inner,
                 const ExchangeShape& shape,
                 std::int64_t max_tokens,
                 FacadeFault fault = FacadeFault::none);
  ~ExchangeFacade() override;

  ExchangeFacade(const ExchangeFacade&) = delete;
  ExchangeFacade& operator=(const ExchangeFacade&) = delete;
  ExchangeFacade(ExchangeFacade&&) = delete;
  ExchangeFacade& operator=(ExchangeFacade&&) = delete;

  void prepare(int ubatch, const RoutedTokens& tokens) override;
  void dispatch(int ubatch, int group) override;
  ExpertRows arrange(int ubatch, int group) override;
  void reduce(int ubatch, int group, const at::Tensor& expert_rows) override;
  void combine(int ubatch, int group) override;
  at::Tensor finish(int ubatch) override;

  ExchangePlans& plans() override { return *this; }

  /// Waits for the device.
  TrafficMeter& meter() override;

  StepBuffers& buffers() override { return *this; }

  Exchange& inner() { return *inner_; }

 private:
  std::shared_ptr<ExchangePlan> plan(int ubatch) override;
  void prepare_again(int ubatch,
                     const RoutedTokens& tokens,
                     std::shared_ptr<ExchangePlan> plan) override;
  void adopt(int ubatch, std::shared_ptr<ExchangePlan> plan) override;
  void begin_step(std::span<const std::int64_t> max_tokens, int comm_sms) override;
  void check_step() override;

  int comm_sms() const override { return inner_->buffers().comm_sms(); }

  std::uint64_t generation() const override { return inner_->buffers().generation(); }

  std::int64_t bytes() const override { return inner_->buffers().bytes(); }

  std::vector<at::Tensor> received_rows(int ubatch,
                                        Phase phase,
                                        std::optional<int> group) override {
    return inner_->buffers().received_rows(ubatch, phase, group);
  }

  using GroupEvents = std::array<TestEvent, kMaxGroups>;

  struct Ubatch {
    TestEvent prepared;
    GroupEvents dispatched;
    GroupEvents reduced;
    GroupEvents combined;
    std::vector<at::Tensor> alive;  ///< inputs of what may still run
    std::int64_t capacity = 0;
  };

  Ubatch& slot(int ubatch) { return *slots_.at(static_cast<std::size_t>(ubatch)); }

  std::unique_ptr<Exchange> inner_;
  ExchangeShape shape_;
  FacadeFault fault_;
  Lanes lanes_;
  std::vector<std::unique_ptr<Ubatch>> slots_;
};

}  // namespace dovetail::test
