// Replicas get rank 0's weights, and rank 0's errors, without a file or source of their own.
#include <chrono>
#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>
#include <mpi.h>

#include "framework/base/error.hpp"
#include "framework/mpi/comm.hpp"
#include "framework/step/broadcast_source.hpp"
#include "models/weights/digest.hpp"
#include "models/weights/expert_weights.hpp"
#include "models/weights/seeded.hpp"
#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

using std::chrono::milliseconds;

at::Tensor poisoned(const std::vector<std::int64_t>& shape, at::ScalarType type = at::kFloat) {
  return at::full(shape, std::nan(""), type);
}

/// Counts its calls, and fails on request.
class WatchedSource final : public WeightSource {
 public:
  bool has(const std::string& name) const override { return inner_.has(name); }

  bool is_stored(const std::string& name) const override { return name == "stored.weight"; }

  void read(const WeightRequest& request) override {
    ++reads;
    if (request.name == "bad.input.weight") {
      throw InputError("folder/model.safetensors: tensor 'bad.input.weight' is broken");
    }
    if (request.name == "bad.run.weight") {
      throw RunError("disk lost");
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

class Broadcast : public ::testing::Test {
 protected:
  bool is_root() const { return group_.rank() == 0; }

  MpiComm group_ = MpiComm::duplicate(MPI_COMM_WORLD);
  std::unique_ptr<WatchedSource> inner_ =
      group_.rank() == 0 ? std::make_unique<WatchedSource>() : nullptr;
  BroadcastSource source_{inner_.get(), group_, {.timeout = milliseconds(20'000), .on_poll = {}}};
};

TEST_F(Broadcast, AllRanksHoldTheSourcesValues) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const at::Tensor expected = poisoned({64, 48}, type);
    SeededSource(23).read({"w.weight", {64, 48}, 0, expected});
    const at::Tensor frame = poisoned({32, 48}, type);
    source_.read({"w.weight", {64, 48}, 8, frame.narrow(0, 1, 30)});
    EXPECT_TRUE(frame.narrow(0, 1, 30).equal(expected.narrow(0, 8, 30)));
    EXPECT_TRUE(frame[0].isnan().all().item<bool>());
    EXPECT_TRUE(frame[31].isnan().all().item<bool>());
  }
  source_.read({"w.weight", {64, 48}, 8, poisoned({0, 48})});
  if (is_root()) {
    EXPECT_EQ(inner_->reads, 4);
  }
}

TEST_F(Broadcast, MoreThanOneChunk) {
  const std::vector<std::int64_t> shape = {5, 1 << 20};  // 20 MiB; a chunk is 16 MiB
  const at::Tensor values = poisoned(shape);
  source_.read({"w.weight", shape, 0, values});
  std::uint64_t digest = parameter_digest("w", values);
  std::uint64_t of_root = digest;
  MPI_Bcast(&of_root, 1, MPI_UINT64_T, 0, group_.raw());
  EXPECT_EQ(digest, of_root);
  EXPECT_FALSE(values[4][(1 << 20) - 1].isnan().item<bool>());
}

TEST_F(Broadcast, HasIsRankZerosAnswer) {
  EXPECT_TRUE(source_.has("a.weight"));
  EXPECT_FALSE(source_.has("mlp.experts.gate_up_proj"));
  EXPECT_TRUE(source_.is_stored("stored.weight"));
  EXPECT_FALSE(source_.is_stored("a.weight"));
}

TEST_F(Broadcast, ExpertsByWayOfHas) {
  const at::Tensor expected_gate_up = poisoned({3, 8, 6});
  const at::Tensor expected_down = poisoned({3, 6, 4});
  SeededSource direct(23);
  read_experts(direct, "l.mlp", 3, 6, expected_gate_up, expected_down);
  const at::Tensor gate_up = poisoned({3, 8, 6});
  const at::Tensor down = poisoned({3, 6, 4});
  read_experts(source_, "l.mlp", 3, 6, gate_up, down);
  EXPECT_TRUE(gate_up.equal(expected_gate_up));
  EXPECT_TRUE(down.equal(expected_down));
}

TEST_F(Broadcast, ErrorsOfRankZeroReachAllAndLeaveTheGroupUsable) {
  const at::Tensor values = poisoned({2, 2});
  for (int attempt = 0; attempt < 3; ++attempt) {
    EXPECT_EQ(testing::input_error_of([&] {
                source_.read({"bad.input.weight", {2, 2}, 0, values});
              }),
              "folder/model.safetensors: tensor 'bad.input.weight' is broken");
  }
  try {
    source_.read({"bad.run.weight", {2, 2}, 0, values});
    ADD_FAILURE() << "no error";
  } catch (const RunError& error) {
    EXPECT_STREQ(error.what(), "disk lost");
  }
  try {
    source_.read({"bad.other.weight", {2, 2}, 0, values});
    ADD_FAILURE() << "no error";
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "something else");
  }
  EXPECT_TRUE(values.isnan().all().item<bool>());
  source_.read({"good.weight", {2, 2}, 0, values});
  EXPECT_FALSE(values.isnan().any().item<bool>());
}

TEST_F(Broadcast, TheSourceBelongsToRankZeroOnly) {
  SeededSource extra(1);
  WeightSource* const wrong = is_root() ? nullptr : &extra;
  EXPECT_THROW(BroadcastSource(wrong, group_, {}), ContractError);
}

TEST_F(Broadcast, AnAbsentRankIsATimeoutNotAHang) {
  if (group_.size() == 1) {
    return;  // nobody to wait for
  }
  // A communicator of its own, which keeps an unfinished broadcast until MPI is finalised.
  static const MpiComm group = MpiComm::duplicate(MPI_COMM_WORLD);
  if (!is_root()) {
    BroadcastSource lonely(nullptr, group, {.timeout = milliseconds(100), .on_poll = {}});
    const at::Tensor values = poisoned({2, 2});
    EXPECT_THROW(lonely.read({"w.weight", {2, 2}, 0, values}), TimeoutError);
  }
}

}  // namespace
}  // namespace dovetail
