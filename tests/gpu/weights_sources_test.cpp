// Checkpoints read onto a GPU, weights shared by replicas on GPUs, and a whole model's weights.
#include <chrono>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <gtest/gtest.h>
#include <mpi.h>

#include "framework/base/error.hpp"
#include "framework/mpi/comm.hpp"
#include "framework/step/broadcast_source.hpp"
#include "models/decoder/architecture.hpp"
#include "models/decoder/weights.hpp"
#include "models/weights/checkpoint.hpp"
#include "models/weights/digest.hpp"
#include "models/weights/safetensors_writer.hpp"
#include "models/weights/seeded.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/tensor_bits.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/models/small_model.hpp"
#include "tests/unit/models/weights_files.hpp"

namespace dovetail {
namespace {

using std::chrono::milliseconds;
using test::bit_difference;
using test::own_gpu;
using testing::ScratchFolder;

at::Tensor seeded(const std::vector<std::int64_t>& shape, at::ScalarType type) {
  const at::Tensor values = at::empty(shape, type);
  SeededSource(5).read({"w.weight", shape, 0, values});
  return values;
}

/// The same NaN on both devices.
at::Tensor poisoned(const std::vector<std::int64_t>& shape,
                    at::ScalarType type,
                    const at::Device& device) {
  return at::full(shape, std::nan(""), type).to(device);
}

bool is_all_nan(const at::Tensor& tensor) {
  return tensor.isnan().all().item<bool>();
}

TEST(GpuCheckpoint, EveryTypeToEveryTypeInSeveralPieces) {
  DOVETAIL_REQUIRE_GPU();
  const std::vector<std::int64_t> shape = {9, (1 << 20) + 3};  // 19 or 38 MB, pieces of 4 MiB
  for (const at::ScalarType from : {at::kFloat, at::kHalf, at::kBFloat16}) {
    const ScratchFolder folder;
    const at::Tensor stored = seeded(shape, from);
    const std::string type = from == at::kFloat ? "F32" : from == at::kHalf ? "F16" : "BF16";
    write_safetensors(
        folder / "model.safetensors",
        std::vector<TensorToWrite>{
            {"w",
             type,
             shape,
             {static_cast<const std::byte*>(stored.const_data_ptr()), stored.nbytes()}}});
    CheckpointSource source(folder.path());
    for (const at::ScalarType to : {at::kFloat, at::kHalf, at::kBFloat16}) {
      for (const auto& [first, rows] : {std::pair{0, 9}, {2, 5}, {8, 1}, {4, 0}}) {
        const at::Tensor frame = poisoned({rows + 2, shape[1]}, to, own_gpu());
        const std::int64_t before = source.bytes_read();
        source.read({"w", shape, first, frame.narrow(0, 1, rows)});
        EXPECT_EQ(bit_difference(frame.narrow(0, 1, rows), stored.narrow(0, first, rows).to(to)),
                  "")
            << from << " to " << to << ", rows " << first << " + " << rows;
        EXPECT_TRUE(is_all_nan(frame[0])) << "written before the destination";
        EXPECT_TRUE(is_all_nan(frame[rows + 1])) << "written behind the destination";
        EXPECT_EQ(source.bytes_read() - before,
                  rows * shape[1] * static_cast<std::int64_t>(stored.element_size()));
      }
    }
    const at::Tensor untouched = poisoned(shape, at::kFloat, own_gpu());
    EXPECT_THROW(source.read({"v", shape, 0, untouched}), InputError);
    EXPECT_TRUE(is_all_nan(untouched));
  }
}

/// Counts its calls, and fails on request.
class WatchedSource final : public WeightSource {
 public:
  bool has(const std::string& name) const override { return inner_.has(name); }

  void read(const WeightRequest& request) override {
    ++reads;
    if (request.name == "bad.input.weight") {
      throw InputError("tensor 'bad.input.weight' is broken");
    }
    if (request.name == "bad.other.weight") {
      throw std::runtime_error("something else");
    }
    inner_.read(request);
  }

  int reads = 0;

 private:
  SeededSource inner_{23};
};

class GpuBroadcast : public ::testing::Test {
 protected:
  /// Stands in for NCCL's: through host memory.
  void broadcast(at::Tensor& tensor) {
    ++broadcasts_;
    const at::Tensor host = tensor.cpu();
    MPI_Bcast(host.data_ptr(), static_cast<int>(host.nbytes()), MPI_BYTE, 0, group_.raw());
    if (!is_root()) {
      tensor.copy_(host);
    }
  }

  bool is_root() const { return group_.rank() == 0; }

  int expected_broadcasts(int calls) const { return group_.size() > 1 ? calls : 0; }

  const WaitPolicy wait_ = {.timeout = milliseconds(20'000), .on_poll = {}};
  MpiComm group_ = MpiComm::duplicate(MPI_COMM_WORLD);
  std::unique_ptr<WatchedSource> inner_ = is_root() ? std::make_unique<WatchedSource>() : nullptr;
  int broadcasts_ = 0;
  BroadcastSource source_{
      inner_.get(), group_, wait_, [this](at::Tensor& tensor) { broadcast(tensor); }};
};

TEST_F(GpuBroadcast, AllRanksHoldTheSourcesValues) {
  DOVETAIL_REQUIRE_GPU();
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor expected = at::empty({64, 48}, type);
    SeededSource(23).read({"w.weight", {64, 48}, 0, expected});
    const at::Tensor frame = poisoned({32, 48}, type, own_gpu());
    source_.read({"w.weight", {64, 48}, 8, frame.narrow(0, 1, 30)});
    EXPECT_EQ(bit_difference(frame.narrow(0, 1, 30), expected.narrow(0, 8, 30)), "");
    EXPECT_TRUE(is_all_nan(frame[0]));
    EXPECT_TRUE(is_all_nan(frame[31]));
  }
  EXPECT_EQ(broadcasts_, expected_broadcasts(2));
  source_.read({"w.weight", {64, 48}, 8, poisoned({0, 48}, at::kFloat, own_gpu())});
  EXPECT_EQ(broadcasts_, expected_broadcasts(2)) << "nothing to send";
  // Host memory still travels over MPI.
  const at::Tensor host = poisoned({64, 48}, at::kFloat, at::kCPU);
  source_.read({"w.weight", {64, 48}, 0, host});
  EXPECT_FALSE(host.isnan().any().item<bool>());
  EXPECT_EQ(broadcasts_, expected_broadcasts(2));
  if (is_root()) {
    EXPECT_EQ(inner_->reads, 4);
  }
}

TEST_F(GpuBroadcast, ErrorsOfRankZeroReachAllBeforeAnyDataMoves) {
  DOVETAIL_REQUIRE_GPU();
  const at::Tensor values = poisoned({2, 2}, at::kFloat, own_gpu());
  for (int attempt = 0; attempt < 3; ++attempt) {
    EXPECT_EQ(testing::input_error_of([&] {
                source_.read({"bad.input.weight", {2, 2}, 0, values});
              }),
              "tensor 'bad.input.weight' is broken");
  }
  try {
    source_.read({"bad.other.weight", {2, 2}, 0, values});
    ADD_FAILURE() << "no error";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "something else");
  }
  EXPECT_EQ(broadcasts_, 0);
  EXPECT_TRUE(is_all_nan(values));
  source_.read({"good.weight", {2, 2}, 0, values});
  EXPECT_FALSE(values.isnan().any().item<bool>());
}

TEST_F(GpuBroadcast, WithoutABroadcastBetweenGpusNothingIsRead) {
  DOVETAIL_REQUIRE_GPU();
  BroadcastSource host_only(inner_.get(), group_, wait_);
  const at::Tensor values = poisoned({2, 2}, at::kFloat, own_gpu());
  if (group_.size() == 1) {
    host_only.read({"w.weight", {2, 2}, 0, values});
    EXPECT_FALSE(values.isnan().any().item<bool>());
    return;
  }
  EXPECT_THROW(host_only.read({"w.weight", {2, 2}, 0, values}), ContractError);
  EXPECT_TRUE(is_all_nan(values));
}

TEST_F(GpuBroadcast, AGpuOnOneSideOnlyIsRefused) {
  DOVETAIL_REQUIRE_GPU();
  if (group_.size() != 2) {
    return;
  }
  const at::Tensor values =
      poisoned({0, 2}, at::kFloat, is_root() ? at::Device(at::kCPU) : own_gpu());
  if (is_root()) {
    source_.read({"w.weight", {2, 2}, 0, values});  // without data it has nobody to wait for
  } else {
    EXPECT_THROW(source_.read({"w.weight", {2, 2}, 0, values}), ContractError);
  }
}

WeightsDigest digest_of(const MoeDecoderConfig& config, const MoeDecoderWeights& weights) {
  WeightsDigest digest;
  visit_decoder(
      config,
      weights,
      {.replicated =
           [&](MoeDecoderPart /*part*/, const std::string& name, const at::Tensor& values) {
             digest.replicated += parameter_digest(name, values);
           },
       .experts =
           [&](const std::string& prefix, const ExpertWeights& experts) {
             digest.experts += experts_digest(prefix, 0, experts.gate_up, experts.down);
           }});
  return digest;
}

TEST(GpuWeights, OfAModelAreTheCpusInTheMemoryEstimated) {
  DOVETAIL_REQUIRE_GPU();
  const MoeDecoderConfig config = small_config();
  const MoeDecoderArchitecture architecture(config);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const auto read = [&](const at::Device& device) {
      SeededSource source(41);
      return read_decoder(config, source, {.dtype = type, .device = device});
    };
    const auto allocated = [] {
      return c10::cuda::CUDACachingAllocator::getDeviceStats(own_gpu().index())
          .allocated_bytes[0]
          .current;
    };
    const std::int64_t before = allocated();
    const MoeDecoderWeights there = read(own_gpu());
    const std::int64_t used = allocated() - before;
    const MoeDecoderWeights here = read(at::kCPU);
    EXPECT_EQ(digest_of(config, there).replicated, digest_of(config, here).replicated);
    EXPECT_EQ(digest_of(config, there).experts, digest_of(config, here).experts);
    std::int64_t estimate = 0;
    for (const MemoryPart& part : architecture.weight_memory({.dtype = type})) {
      estimate += part.bytes;
    }
    int num_tensors = 0;
    visit_decoder(config,
                  there,
                  {.replicated = [&](auto&&...) { ++num_tensors; },
                   .experts = [&](auto&&...) { num_tensors += 2; }});
    EXPECT_GE(used, estimate);
    EXPECT_LT(used, estimate + 512 * num_tensors) << "torch rounds each tensor up to 512 bytes";
  }
}

}  // namespace
}  // namespace dovetail
