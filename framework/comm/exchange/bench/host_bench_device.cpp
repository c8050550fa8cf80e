// Host ranks: the clock of the host, and MPI's own all-to-all.
#include <ATen/ops/empty.h>

#include "framework/base/clock.hpp"
#include "framework/comm/exchange/bench/bench_device.hpp"
#include "framework/comm/exchange/bench/bench_pattern.hpp"
#include "framework/mpi/check.hpp"

namespace dovetail {
namespace {

class HostRun final : public BenchRun {
 public:
  explicit HostRun(BenchDevice::Body body) : body_(std::move(body)) {}

  void start() override {
    marks_ns_.clear();
    body_([this] { marks_ns_.push_back(now_ns()); });
  }

  std::vector<double> gaps_us() override {
    std::vector<double> gaps;
    for (std::size_t i = 1; i < marks_ns_.size(); ++i) {
      gaps.push_back(static_cast<double>(marks_ns_[i] - marks_ns_[i - 1]) * 1e-3);
    }
    return gaps;
  }

 private:
  BenchDevice::Body body_;
  std::vector<std::int64_t> marks_ns_;
};

class HostBenchDevice final : public BenchDevice {
 public:
  HostBenchDevice(const MpiSession& session, const WaitPolicy& wait)
      : rank_(session.rank().value),
        exchange_(session.world()),
        counts_(session.world()),
        wait_(wait) {}

  at::Device device() const override { return at::kCPU; }

  std::string name() const override { return "CPU"; }

  ExchangeSetting setting(std::span<const int> /*comm_sms*/) override {
    return {
        .exchange_comm = &exchange_, .counts_comm = &counts_, .wait = wait_, .world_rank = rank_};
  }

  std::unique_ptr<BenchRun> make_run(Body body, bool /*captured*/) override {
    return std::make_unique<HostRun>(std::move(body));
  }

  void wait() override {}

  std::vector<BenchCeiling> ceilings(std::int64_t bytes,
                                     std::span<const int> /*comm_sms*/) override {
    const int ranks = exchange_.size();
    const auto pattern = make_pattern(rank_, ranks, bytes, at::kCPU);
    const auto move = [this, pattern] {
      MPI_Request request = MPI_REQUEST_NULL;
      const auto block = static_cast<int>(pattern.send.size(1));
      DOVETAIL_MPI(MPI_Ialltoall(pattern.send.const_data_ptr(),
                                 block,
                                 MPI_INT32_T,
                                 pattern.receive.mutable_data_ptr(),
                                 block,
                                 MPI_INT32_T,
                                 exchange_.raw(),
                                 &request));
      wait_all({&request, 1}, wait_, "an all-to-all of MPI");
    };
    return {{.name = "(MPI all-to-all)",
             .comm_sms = 0,
             .clear = [pattern] { pattern.clear(); },
             .move = move,
             .check_status = [] {},
             .wrong_words = [pattern] { return pattern.wrong_words(); }}};
  }

 private:
  int rank_;
  MpiComm exchange_;
  MpiComm counts_;
  WaitPolicy wait_;
};

}  // namespace

std::unique_ptr<BenchDevice> make_host_bench_device(const MpiSession& session,
                                                    const WaitPolicy& wait) {
  return std::make_unique<HostBenchDevice>(session, wait);
}

}  // namespace dovetail
