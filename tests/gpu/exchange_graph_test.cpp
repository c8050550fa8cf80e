// Exchanges inside captured graphs: what a replay sends and sums equals an eager step to the bit.
#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include <ATen/ops/empty_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/cuda/check.hpp"
#include "tests/gpu/exchange_facade.hpp"
#include "tests/gpu/gpu_test.hpp"

namespace dovetail::test {
namespace {

constexpr std::int64_t kTokens = 12;
constexpr int kUbatches = 2;
constexpr int kLayers = 2;

// A step of two ubatches and two layers on two lanes: the output of a layer is the next one's
// input, experts return their rows. Inputs and outputs have fixed addresses.
class GraphStep {
 public:
  GraphStep(const TestGroup& group,
            Exchange& exchange,
            const ExchangeShape& shape,
            bool threaded,
            int num_groups)
      : group_(group),
        exchange_(exchange),
        shape_(shape),
        num_groups_(num_groups),
        lane_(threaded) {
    set_inputs(1);
  }

  void set_inputs(std::uint64_t seed) {
    const std::vector<std::int64_t> tokens(static_cast<std::size_t>(group_.size), kTokens);
    for (int u = 0; u < kUbatches; ++u) {
      const auto variant = seed + static_cast<std::uint64_t>(u);
      const auto batch = make_batch(shape_,
                                    tokens,
                                    kAllRoutings[variant % std::size(kAllRoutings)],
                                    Weights::random,
                                    seed * 16 + static_cast<std::uint64_t>(u));
      const auto in = to_tensors(batch, group_.rank);
      auto& mine = ubatches_[u];
      if (!mine.hidden.defined()) {
        mine = {to_gpu(in.hidden), to_gpu(in.expert_ids), to_gpu(in.weights), {}, {}};
        mine.output = at::empty_like(mine.hidden);
      } else {
        mine.hidden.copy_(in.hidden);
        mine.expert_ids.copy_(in.expert_ids);
        mine.weights.copy_(in.weights);
      }
    }
    check_cuda(cudaDeviceSynchronize(), "setting inputs");
  }

  /// Enqueues the step; the comm lane's thread is joined by events before it returns.
  void enqueue() {
    const c10::cuda::CUDAStreamGuard guard(lanes_.compute);
    for (int layer = 0; layer < kLayers; ++layer) {
      for (int u = 0; u < kUbatches; ++u) {
        auto& mine = ubatches_[u];
        const auto hidden = layer == 0 ? mine.hidden : exchange_.finish(u);
        exchange_.prepare(u, {hidden, mine.expert_ids, mine.weights, layer, num_groups_});
        TestEvent dispatched;
        on_comm_lane([this, u] { exchange_.dispatch(u, 0); }, dispatched);
        dispatched.make_wait(lanes_.compute);
      }
      for (int u = 0; u < kUbatches; ++u) {
        run_experts(u);
      }
    }
    for (int u = 0; u < kUbatches; ++u) {
      ubatches_[u].output.copy_(exchange_.finish(u));
    }
  }

  std::vector<at::Tensor> outputs() const {
    check_cuda(cudaDeviceSynchronize(), "end of a step");
    return {ubatches_[0].output.cpu(), ubatches_[1].output.cpu()};
  }

  /// The step as a graph, captured in thread-local mode by this thread.
  cudaGraph_t capture() {
    cudaGraph_t graph = nullptr;
    const auto stream = lanes_.compute.stream();
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin capture");
    try {
      enqueue();
    } catch (...) {
      // The forked lane was not joined: the error is expected, and must not be the next launch's.
      static_cast<void>(cudaStreamEndCapture(stream, &graph));
      static_cast<void>(cudaGetLastError());
      throw;
    }
    check_cuda(cudaStreamEndCapture(stream, &graph), "end capture");
    return graph;
  }

  cudaStream_t stream() const { return lanes_.compute.stream(); }

 private:
  struct Ubatch {
    at::Tensor hidden;
    at::Tensor expert_ids;
    at::Tensor weights;
    at::Tensor output;
    std::vector<at::Tensor> made;  ///< of each group
  };

  // The dispatch of the next group beside the experts of one and the combine of the one before.
  void run_experts(int u) {
    TestEvent combined;
    for (int group = 0; group < num_groups_; ++group) {
      TestEvent dispatched;
      if (group + 1 < num_groups_) {
        on_comm_lane([this, u, group] { exchange_.dispatch(u, group + 1); }, dispatched);
      }
      exchange_.reduce(u, group, made_rows(u, group));
      on_comm_lane([this, u, group] { exchange_.combine(u, group); }, combined);
      if (group + 1 < num_groups_) {
        dispatched.make_wait(lanes_.compute);
      }
    }
    combined.make_wait(lanes_.compute);
  }

  // Of several groups a copy: the exchange has the rows of one group at a time.
  at::Tensor made_rows(int u, int group) {
    const auto rows = exchange_.arrange(u, group).rows;
    if (num_groups_ == 1) {
      return rows;
    }
    auto& made = ubatches_[u].made;
    if (std::ssize(made) == group) {
      made.push_back(at::empty_like(rows));  // in the first step, which is eager
    }
    return made[static_cast<std::size_t>(group)].copy_(rows);
  }

  // The transfer behind what the compute lane has now; `done` behind the transfer.
  void on_comm_lane(const std::function<void()>& transfer, TestEvent& done) {
    TestEvent to_comm;
    to_comm.record(lanes_.compute);
    lane_
        .submit([&] {
          const c10::cuda::CUDAStreamGuard guard(lanes_.comm);
          to_comm.make_wait(lanes_.comm);
          transfer();
          done.record(lanes_.comm);
        })
        .get();
  }

  const TestGroup& group_;
  Exchange& exchange_;
  ExchangeShape shape_;
  int num_groups_;
  Lanes lanes_;
  CommLane lane_;
  Ubatch ubatches_[kUbatches];
};

class ExchangeGraph : public ::testing::TestWithParam<
                          std::tuple<std::string, at::ScalarType, bool, SumOrder, int>> {
 protected:
  TestGroup group_;
  std::uint64_t seed_ = fresh_seed();
};

TEST_P(ExchangeGraph, ReplaysEqualEagerStepsToTheBit) {
  DOVETAIL_REQUIRE_GPU();
  const auto [kind, dtype, threaded, order, num_groups] = GetParam();
  auto shape = group_.shape(4, 3);
  shape.dtype = dtype;
  shape.sum_order = order;
  shape.num_ubatches = kUbatches;
  shape.hidden = 24;
  const auto exchange = make_on_gpu(group_, kind, shape);
  const std::int64_t bounds[] = {kTokens, kTokens};
  exchange->buffers().begin_step(bounds, kTestCommSms);
  GraphStep step(group_, *exchange, shape, threaded, num_groups);

  constexpr int kReplays = 20;
  std::vector<std::vector<at::Tensor>> eager;
  exchange->meter().reset();
  for (int i = 0; i < kReplays; ++i) {
    step.set_inputs(seed_ % 1000 + static_cast<std::uint64_t>(i));
    exchange->buffers().begin_step(bounds, kTestCommSms);
    step.enqueue();
    eager.push_back(step.outputs());
    ASSERT_NO_THROW(exchange->buffers().check_step());
  }
  const auto eager_traffic = exchange->meter().traffic();
  EXPECT_EQ(exchange->meter().take_captured().dispatch_wire_bytes, 0);

  cudaGraph_t graph = step.capture();
  EXPECT_EQ(exchange->meter().traffic().dispatch_wire_bytes, eager_traffic.dispatch_wire_bytes);
  const auto per_replay = exchange->meter().take_captured();
  EXPECT_EQ(exchange->meter().take_captured().dispatch_wire_bytes, 0);
  cudaGraphExec_t exec = nullptr;
  check_cuda(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  exchange->meter().reset();
  for (int i = 0; i < kReplays; ++i) {
    step.set_inputs(seed_ % 1000 + static_cast<std::uint64_t>(i));
    exchange->buffers().begin_step(bounds, kTestCommSms);
    check_cuda(cudaGraphLaunch(exec, step.stream()), "launch");
    exchange->meter().add(per_replay);
    const auto replayed = step.outputs();
    ASSERT_NO_THROW(exchange->buffers().check_step());
    for (std::size_t u = 0; u < replayed.size(); ++u) {
      EXPECT_TRUE(replayed[u].equal(eager[static_cast<std::size_t>(i)][u]))
          << "replay " << i << " ubatch " << u << " seed " << seed_;
    }
  }
  // The inputs do change the outputs: a replay that does nothing would be seen.
  bool all_equal = true;
  for (int i = 1; i < kReplays; ++i) {
    all_equal = all_equal && eager[static_cast<std::size_t>(i)][0].equal(eager[0][0]);
  }
  EXPECT_FALSE(all_equal);
  const auto replay_traffic = exchange->meter().traffic();
  EXPECT_EQ(replay_traffic.dispatch_wire_bytes, eager_traffic.dispatch_wire_bytes);
  EXPECT_EQ(replay_traffic.combine_wire_bytes, eager_traffic.combine_wire_bytes);
  EXPECT_EQ(replay_traffic.dispatch_received_bytes, eager_traffic.dispatch_received_bytes);
  EXPECT_EQ(replay_traffic.dispatch_logical_bytes, eager_traffic.dispatch_logical_bytes);
  check_cuda(cudaGraphExecDestroy(exec), "cudaGraphExecDestroy");
  check_cuda(cudaGraphDestroy(graph), "cudaGraphDestroy");
}

std::string name_of(const ::testing::TestParamInfo<ExchangeGraph::ParamType>& suite) {
  const auto [kind, dtype, threaded, order, num_groups] = suite.param;
  return kind + "_" + c10::toString(dtype) + (threaded ? "_threaded_" : "_inline_") +
         std::string(to_string(order)) +
         (num_groups > 1 ? "_" + std::to_string(num_groups) + "groups" : "");
}

INSTANTIATE_TEST_SUITE_P(
    BackEnds,
    ExchangeGraph,
    ::testing::Combine(::testing::ValuesIn(built_exchanges(true, GraphMode::full)),
                       ::testing::Values(at::kFloat, at::kBFloat16),
                       ::testing::Bool(),
                       ::testing::Values(SumOrder::by_rank, SumOrder::by_expert),
                       ::testing::Values(1)),
    name_of);

INSTANTIATE_TEST_SUITE_P(InGroups,
                         ExchangeGraph,
                         ::testing::Combine(::testing::Values("symmetric"),
                                            ::testing::Values(at::kBFloat16),
                                            ::testing::Bool(),
                                            ::testing::Values(SumOrder::by_rank,
                                                              SumOrder::by_expert),
                                            ::testing::Values(2, 4)),
                         name_of);

}  // namespace
}  // namespace dovetail::test
