// The kernel of the exchange `symmetric`, of two ranks whose memory is on one GPU: what comes, and
// when it says that it began and ended.
#include "framework/comm/exchange/nccl/push_kernel.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include <ATen/core/Tensor.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAStream.h>
#include <gtest/gtest.h>

#include "framework/cuda/check.hpp"
#include "framework/cuda/delay_kernel.hpp"
#include "framework/cuda/time_stamp.hpp"
#include "framework/cuda/time_stamp_words.hpp"
#include "tests/gpu/gpu_test.hpp"

namespace dovetail {
namespace {

constexpr int kRanks = 2;
constexpr int kCtas = 4;
constexpr std::int64_t kBlockBytes = 128 * 1024;
constexpr std::uint64_t kLateNs = 2'000'000;

std::byte* bytes_of(const at::Tensor& tensor) {
  return static_cast<std::byte*>(tensor.data_ptr());
}

/// A rank of the two.
class Rank {
 public:
  explicit Rank(int rank) : rank_(rank) {
    send = at::randint(0, 256, {kRanks, kBlockBytes}, on_gpu(at::kByte));
  }

  static at::TensorOptions on_gpu(at::ScalarType type) {
    return at::TensorOptions().device(at::kCUDA).dtype(type);
  }

  static std::int64_t receive_begin() { return (FlagLayout{kRanks}.bytes() + 127) / 128 * 128; }

  /// What has come from the other rank.
  at::Tensor received() const {
    return memory.narrow(0, receive_begin() + (1 - rank_) * kBlockBytes, kBlockBytes);
  }

  /// `peers` [kRanks] on the device: where the memory of each begins.
  void push(const at::Tensor& peers) const {
    PushArgs args;
    args.ep_size = kRanks;
    args.ep_rank = rank_;
    args.send = bytes_of(send);
    args.block_bytes = kBlockBytes;
    args.rows_out = {.begins = nullptr, .ends = no_rows.data_ptr<std::int32_t>(), .stride = 1};
    args.rows_in = args.rows_out;
    args.parts[0] = {.begin = 0, .fixed_bytes = kBlockBytes, .row_bytes = 0};
    args.peers = static_cast<std::byte* const*>(peers.data_ptr());
    args.receive_begin = receive_begin();
    args.rounds = static_cast<std::uint32_t*>(rounds.data_ptr());
    args.timeout_ns = 5'000'000'000;
    args.abort_word = static_cast<const std::uint32_t*>(words.data_ptr());
    args.gave_up = static_cast<std::uint32_t*>(words.data_ptr()) + 1;
    args.status = static_cast<DeviceStatus*>(status.data_ptr());
    const TimeStampOffer offer(stamps.word(0), stamps.word(1), stream, StampOrder::unknown);
    launch_push(args, kCtas, stream);
    EXPECT_TRUE(offer.is_taken());
    EXPECT_TRUE(offer.tells_end());
  }

 private:
  int rank_;

 public:
  c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
  at::Tensor send;
  at::Tensor memory = at::zeros({receive_begin() + kRanks * kBlockBytes}, on_gpu(at::kByte));
  at::Tensor no_rows = at::zeros({kRanks}, on_gpu(at::kInt));
  at::Tensor rounds = at::zeros({kMostPushCtas}, on_gpu(at::kInt));
  at::Tensor words = at::zeros({2}, on_gpu(at::kInt));
  at::Tensor status = at::zeros({sizeof(DeviceStatus)}, on_gpu(at::kByte));
  TimeStampWords stamps{2, stream};
};

/// Rank 0 is late: what rank 1 says of its end comes behind its wait.
TEST(PushKernel, SaysWhenItBeginsAndWhenAllHasCome) {
  DOVETAIL_REQUIRE_GPU();
  const std::array<Rank, kRanks> ranks = {Rank(0), Rank(1)};
  const auto peers = at::tensor({reinterpret_cast<std::int64_t>(ranks[0].memory.data_ptr()),
                                 reinterpret_cast<std::int64_t>(ranks[1].memory.data_ptr())},
                                Rank::on_gpu(at::kLong));
  check_cuda(cudaDeviceSynchronize(), "wait for the inputs");
  std::uint64_t last_end = 0;
  for (int round = 0; round < 4; ++round) {
    launch_delay(std::chrono::nanoseconds(kLateNs), ranks[0].stream);
    ranks[1].push(peers);
    ranks[0].push(peers);
    check_cuda(cudaDeviceSynchronize(), "wait for the push");
    for (int rank = 0; rank < kRanks; ++rank) {
      const auto& other = ranks[static_cast<std::size_t>(1 - rank)];
      EXPECT_TRUE(at::equal(ranks[static_cast<std::size_t>(rank)].received(), other.send[rank]));
    }
    const auto late = ranks[0].stamps.read(ranks[0].stream);
    const auto early = ranks[1].stamps.read(ranks[1].stream);
    EXPECT_GT(early[0], last_end) << "the time of the round before";
    last_end = std::max(late[1], early[1]);
    if (round == 0) {
      continue;  // CUDA loads the kernel, which takes longer than rank 0 is late
    }
    EXPECT_GT(late[0], early[0] + kLateNs / 2);
    EXPECT_GT(late[1], late[0]);
    EXPECT_GT(early[1], late[0]) << "it has not waited for the other one";
    EXPECT_LT(early[1], late[0] + kLateNs);
  }
}

/// A kernel that has given up does nothing, and has no end.
TEST(PushKernel, ThatHasGivenUpSaysNoEnd) {
  DOVETAIL_REQUIRE_GPU();
  const Rank rank(1);
  const auto peers = at::tensor({std::int64_t{0}, std::int64_t{0}}, Rank::on_gpu(at::kLong));
  rank.words.fill_(1);
  check_cuda(cudaDeviceSynchronize(), "wait for the inputs");
  rank.push(peers);
  const auto stamps = rank.stamps.read(rank.stream);
  EXPECT_GT(stamps[0], 0U);
  EXPECT_EQ(stamps[1], 0U);
}

}  // namespace
}  // namespace dovetail
