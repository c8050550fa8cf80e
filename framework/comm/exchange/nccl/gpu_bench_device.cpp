// GPU ranks: events on the stream, graphs, and the ceilings of NCCL, of the copy engines and of
// kernels that store or load.
#include <chrono>
#include <map>
#include <optional>

#include <ATen/cuda/Sleep.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>

#include "framework/base/check.hpp"
#include "framework/comm/exchange/bench/bench_device.hpp"
#include "framework/comm/exchange/bench/bench_pattern.hpp"
#include "framework/comm/exchange/nccl/copy_streams.hpp"
#include "framework/comm/exchange/nccl/push_kernel.hpp"
#include "framework/comm/exchange/nccl/symmetric_memory.hpp"
#include "framework/comm/nccl/nccl_comm.hpp"
#include "framework/config/comm_sms.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/device_binding.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/cuda/event.hpp"
#include "framework/cuda/graph.hpp"
#include "framework/cuda/stream_capture.hpp"
#include "framework/mpi/collectives.hpp"

namespace dovetail {
namespace {

/// Longer than it takes the host to enqueue a run: some 4 ms.
constexpr std::int64_t kFillCycles = 8'000'000;

/// A body on the current stream, eager or replayed, with an event at each mark.
class GpuRun final : public BenchRun {
 public:
  GpuRun(BenchDevice::Body body, bool captured, cudaStream_t stream)
      : body_(std::move(body)), captured_(captured), stream_(stream) {
    if (captured) {
      check_cuda(cudaDeviceSynchronize(), "before a capture");
      StreamCapture capture(stream, stream);
      enqueue();
      graph_ = capture.end();
      exec_ = GraphExec(graph_);
      exec_.upload(stream);
    }
  }

  void start() override {
    if (captured_) {
      exec_.launch(stream_);
      return;
    }
    at::cuda::sleep(kFillCycles);
    enqueue();
  }

  std::vector<double> gaps_us() override {
    check_cuda(cudaStreamSynchronize(stream_), "the end of a run");
    std::vector<double> gaps;
    for (std::size_t i = 1; i < num_marks_; ++i) {
      gaps.push_back(Event::elapsed_ns(marks_[i - 1], marks_[i]) * 1e-3);
    }
    return gaps;
  }

 private:
  void enqueue() {
    num_marks_ = 0;
    body_([this] {
      if (num_marks_ == marks_.size()) {
        marks_.emplace_back(Event::Kind::timing);
      }
      const auto& event = marks_[num_marks_++];
      captured_ ? event.record_external(stream_) : event.record(stream_);
    });
  }

  BenchDevice::Body body_;
  bool captured_;
  cudaStream_t stream_;
  std::vector<Event> marks_;
  std::size_t num_marks_ = 0;
  Graph graph_;
  GraphExec exec_;
};

/// Memory of the peers (what arrives, what is sent), the flags of kernels that store and load
/// there, and the streams of copies.
struct DirectPaths {
  DirectPaths(NcclComm& comm, std::int64_t block_bytes, const WaitPolicy& wait)
      : send_begin(comm.size() * block_bytes),
        flags_begin(2 * send_begin),
        memory(comm, flags_begin + FlagLayout{comm.size()}.bytes(), wait),
        words(
            at::zeros({kMostPushCtas + 1}, at::TensorOptions().dtype(at::kInt).device(at::kCUDA))),
        status(at::zeros({static_cast<std::int64_t>(sizeof(DeviceStatus))},
                         at::TensorOptions().dtype(at::kByte).device(at::kCUDA))),
        copies(comm.size() - 1) {}

  std::int64_t send_begin;
  std::int64_t flags_begin;
  SymmetricMemory memory;
  at::Tensor words;  ///< rounds, and "gave up"
  at::Tensor status;
  CopyStreams copies;
};

/// Throws where a kernel that stores or loads has given up.
void check_put(const DirectPaths& paths) {
  DeviceStatus status;
  check_cuda(
      cudaMemcpy(&status, paths.status.const_data_ptr(), sizeof status, cudaMemcpyDeviceToHost),
      "the status of a ceiling");
  const int gave_up = paths.words[kMostPushCtas].item<int>();
  if (gave_up != 0 || static_cast<DeviceFinding>(status.finding) != DeviceFinding::none) {
    throw RunError("bench exchange: (put) or (get) gave up a wait for rank " +
                   std::to_string(status.destination));
  }
}

class GpuBenchDevice final : public BenchDevice {
 public:
  GpuBenchDevice(const MpiSession& session, const WaitPolicy& wait)
      : world_(session.world()),
        counts_(session.world()),
        wait_(wait),
        stream_(bound_stream(session, world_, wait)),
        guard_(stream_) {}

  at::Device device() const override { return stream_.device(); }

  std::string name() const override {
    return visible_gpus().at(static_cast<std::size_t>(stream_.device_index())).description;
  }

  ExchangeSetting setting(std::span<const int> comm_sms) override {
    ExchangeSetting setting = {.counts_comm = &counts_, .wait = wait_, .world_rank = world_.rank()};
    if (world_.size() > 1) {
      for (const int sms : comm_sms) {
        setting.nccl_comms[sms] = &comm(sms);
      }
    }
    return setting;
  }

  std::unique_ptr<BenchRun> make_run(Body body, bool captured) override {
    return std::make_unique<GpuRun>(std::move(body), captured, stream_.stream());
  }

  void wait() override { check_cuda(cudaDeviceSynchronize(), "the end of a measurement"); }

  std::vector<BenchCeiling> ceilings(std::int64_t bytes, std::span<const int> comm_sms) override {
    const auto block = align_block(bytes);
    std::vector<BenchCeiling> all;
    for (const int sms : comm_sms) {
      all.push_back(all_to_all(block, sms));
    }
    std::shared_ptr<DirectPaths> paths;
    try {
      require_symmetric_memory(comm(comm_sms.front()), "symmetric", wait_);
      paths = std::make_shared<DirectPaths>(comm(comm_sms.front()), block, wait_);
    } catch (const InputError&) {
      return all;  // no rank can reach the others' memory
    }
    auto pattern = make_pattern(world_.rank(), world_.size(), block, device());
    const auto blocks_at = [&](std::int64_t begin) {
      return paths->memory.view(begin, world_.size() * block)
          .view(at::kInt)
          .view({world_.size(), block / 4});
    };
    pattern.send = blocks_at(paths->send_begin).copy_(pattern.send);
    pattern.receive = blocks_at(0);
    // All of them write to the same memory: each clears it before it is believed.
    const auto add = [&](const char* name, int sms, std::function<void()> move) {
      all.push_back({.name = name,
                     .comm_sms = sms,
                     .clear = [pattern] { pattern.clear(); },
                     .move = std::move(move),
                     .check_status = [paths] { check_put(*paths); },
                     .wrong_words = [paths, pattern] { return pattern.wrong_words(); }});
    };
    for (const int sms : comm_sms) {
      add("(put)", sms, [this, paths, pattern, block, sms] {
        launch_push(direct(*paths, pattern, block, sms), sms, stream_.stream());
      });
      add("(get)", sms, [this, paths, pattern, block, sms] {
        launch_pull(direct(*paths, pattern, block, sms), sms, stream_.stream());
      });
    }
    add("(copy engines)", 0, [this, paths, pattern, block] { copy(*paths, pattern, block); });
    return all;
  }

 private:
  static c10::cuda::CUDAStream bound_stream(const MpiSession& session,
                                            const MpiComm& world,
                                            const WaitPolicy& wait) {
    run_on_all_ranks(world, wait, [&] {
      const auto gpus = std::ssize(visible_gpus());
      if (gpus < session.local_size()) {
        throw InputError("a bench of ranks on GPUs: this process sees " + std::to_string(gpus) +
                         " for " + std::to_string(session.local_size()) + " ranks of its host");
      }
    });
    bind_device(static_cast<c10::DeviceIndex>(session.local_rank()));
    return c10::cuda::getStreamFromPool(/*isHighPriority=*/true);
  }

  NcclComm& comm(int sms) {
    auto found = comms_.find(sms);
    if (found == comms_.end()) {
      found = comms_
                  .try_emplace(
                      sms,
                      world_,
                      NcclOptions{.max_ctas = sms == kAllSms ? std::nullopt : std::optional(sms),
                                  .name = "bench, " + describe_comm_sms(sms) + " SMs"},
                      wait_)
                  .first;
    }
    return found->second;
  }

  BenchCeiling all_to_all(std::int64_t block, int sms) {
    const auto pattern = make_pattern(world_.rank(), world_.size(), block, device());
    return {.name = "(NCCL all-to-all)",
            .comm_sms = sms,
            .clear = [pattern] { pattern.clear(); },
            .move =
                [this, pattern, block, sms] {
                  comm(sms).call(
                      [&](ncclComm_t raw) {
                        return ncclAlltoAll(pattern.send.const_data_ptr(),
                                            pattern.receive.mutable_data_ptr(),
                                            static_cast<std::size_t>(block),
                                            ncclInt8,
                                            raw,
                                            stream_.stream());
                      },
                      wait_,
                      "an all-to-all of NCCL");
                },
            .check_status = [] {},
            .wrong_words = [pattern] { return pattern.wrong_words(); }};
  }

  /// What a kernel needs that moves one block to, or from, each peer.
  PushArgs direct(const DirectPaths& paths,
                  const BenchPattern& pattern,
                  std::int64_t block,
                  int sms) {
    auto* words = static_cast<std::int32_t*>(paths.words.mutable_data_ptr());
    const std::chrono::nanoseconds timeout = wait_.timeout;
    PushArgs args = {.ep_size = world_.size(),
                     .ep_rank = world_.rank(),
                     .send = static_cast<const std::byte*>(pattern.send.const_data_ptr()),
                     .block_bytes = block,
                     .rows_out = {.ends = words},
                     .rows_in = {.ends = words},
                     .peers = paths.memory.peers(),
                     .flags_begin = paths.flags_begin,
                     .pull_begin = paths.send_begin,
                     .rounds = reinterpret_cast<std::uint32_t*>(words),
                     .timeout_ns = static_cast<std::uint64_t>(timeout.count()),
                     .abort_word = comm(sms).abort_word(),
                     .gave_up = reinterpret_cast<std::uint32_t*>(words) + kMostPushCtas,
                     .status = static_cast<DeviceStatus*>(paths.status.mutable_data_ptr())};
    args.parts[0] = {.fixed_bytes = block};
    return args;
  }

  void copy(const DirectPaths& paths, const BenchPattern& pattern, std::int64_t block) {
    const auto* send = static_cast<const std::byte*>(pattern.send.const_data_ptr());
    paths.copies.enqueue(stream_.stream(), [&](int i, cudaStream_t own) {
      const int peer = (world_.rank() + 1 + i) % world_.size();
      check_cuda(cudaMemcpyAsync(paths.memory.peer(peer) + world_.rank() * block,
                                 send + peer * block,
                                 static_cast<std::size_t>(block),
                                 cudaMemcpyDeviceToDevice,
                                 own),
                 "a copy to a peer");
    });
  }

  const MpiComm world_;
  const MpiComm counts_;
  const WaitPolicy wait_;
  const c10::cuda::CUDAStream stream_;
  const c10::cuda::CUDAStreamGuard guard_;
  std::map<int, NcclComm> comms_;
};

}  // namespace

std::unique_ptr<BenchDevice> make_gpu_bench_device(const MpiSession& session,
                                                   const WaitPolicy& wait) {
  return std::make_unique<GpuBenchDevice>(session, wait);
}

}  // namespace dovetail
