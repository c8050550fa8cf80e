// What is particular to `ragged` on GPUs: counts come to the host, so that its dispatch cannot be
// captured, while its prepare can.
#include <limits>

#include <ATen/ops/full_like.h>
#include <c10/cuda/CUDAGuard.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/stream_capture.hpp"
#include "tests/gpu/exchange_facade.hpp"
#include "tests/gpu/gpu_test.hpp"

namespace dovetail::test {
namespace {

class RaggedExchange : public ::testing::TestWithParam<Numerics> {
 protected:
  static constexpr std::int64_t kTokens = 11;

  GroupBatch batch(const ExchangeShape& shape, std::uint64_t variant) const {
    return make_batch(shape,
                      std::vector<std::int64_t>(static_cast<std::size_t>(group_.size), kTokens),
                      kAllRoutings[variant % std::size(kAllRoutings)],
                      Weights::random,
                      seed_ + variant);
  }

  ExchangeShape shape() const {
    auto made = group_.shape(4, 3);
    made.hidden = 24;
    made.numerics = GetParam();
    return made;
  }

  /// Enqueued behind what the compute lane has now, which goes on behind it.
  template <class Transfer>
  static void on_comm_lane(const Lanes& lanes, Transfer transfer) {
    TestEvent before;
    before.record(lanes.compute);
    const c10::cuda::CUDAStreamGuard comm(lanes.comm);
    before.make_wait(lanes.comm);
    transfer();
    TestEvent after;
    after.record(lanes.comm);
    after.make_wait(lanes.compute);
  }

  TestGroup group_;
  std::uint64_t seed_ = fresh_seed();
};

INSTANTIATE_TEST_SUITE_P(Numerics,
                         RaggedExchange,
                         ::testing::Values(Numerics::fast, Numerics::batch_invariant),
                         [](const auto& suite) { return std::string(to_string(suite.param)); });

TEST_P(RaggedExchange, DispatchRefusesToBeCaptured) {
  DOVETAIL_REQUIRE_GPU();
  if (group_.size == 1) {
    GTEST_SKIP() << "one rank needs no counts";
  }
  const auto exchange = make_on_gpu(group_, "ragged", shape());
  const std::int64_t bounds[] = {kTokens};
  exchange->buffers().begin_step(bounds, kTestCommSms);
  const auto in = to_tensors(batch(shape(), 0), group_.rank);
  const RoutedTokens tokens = {to_gpu(in.hidden), to_gpu(in.expert_ids), to_gpu(in.weights)};
  const Lanes lanes;
  const c10::cuda::CUDAStreamGuard guard(lanes.compute);
  check_cuda(cudaDeviceSynchronize(), "inputs");
  const StreamCapture capture(lanes.compute.stream(), lanes.compute.stream());
  exchange->prepare(0, tokens);
  EXPECT_THROW(exchange->dispatch(0), ContractError);
}

TEST_P(RaggedExchange, ReplayedPrepareFeedsAnEagerStep) {
  DOVETAIL_REQUIRE_GPU();
  const auto exchange = make_on_gpu(group_, "ragged", shape());
  const std::int64_t bounds[] = {kTokens};
  exchange->buffers().begin_step(bounds, kTestCommSms);
  const auto first = to_tensors(batch(shape(), 0), group_.rank);
  const auto hidden = to_gpu(first.hidden);
  const auto ids = to_gpu(first.expert_ids);
  const auto weights = to_gpu(first.weights);
  const Lanes lanes;
  const c10::cuda::CUDAStreamGuard guard(lanes.compute);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  check_cuda(cudaDeviceSynchronize(), "inputs");
  check_cuda(cudaStreamBeginCapture(lanes.compute.stream(), cudaStreamCaptureModeThreadLocal),
             "begin capture");
  exchange->prepare(0, {hidden, ids, weights});
  check_cuda(cudaStreamEndCapture(lanes.compute.stream(), &graph), "end capture");
  check_cuda(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  for (std::uint64_t i = 0; i < 12; ++i) {
    const auto given = batch(shape(), i);
    const auto in = to_tensors(given, group_.rank);
    hidden.copy_(in.hidden);
    ids.copy_(in.expert_ids);
    weights.copy_(in.weights);
    exchange->buffers().begin_step(bounds, kTestCommSms);
    check_cuda(cudaGraphLaunch(exec, lanes.compute.stream()), "launch");
    on_comm_lane(lanes, [&] { exchange->dispatch(0); });
    const auto rows = exchange->arrange(0);
    const auto offsets = rows.offsets.cpu();
    const auto num_rows =
        static_cast<std::int64_t>(offsets.const_data_ptr<std::int32_t>()[offsets.size(0) - 1]);
    const ExpertRows arrived = {.rows = rows.rows.narrow(0, 0, num_rows).cpu(), .offsets = offsets};
    EXPECT_EQ(join_problems(check_expert_rows(given, group_.rank, arrived)), "")
        << "replay " << i << " seed " << seed_;
    auto expert_rows = at::full_like(rows.rows, std::numeric_limits<double>::quiet_NaN());
    expert_rows.narrow(0, 0, num_rows).copy_(apply_experts(shape(), group_.rank, arrived));
    exchange->reduce(0, expert_rows);
    on_comm_lane(lanes, [&] { exchange->combine(0); });
    EXPECT_EQ(join_problems(check_output(given, group_.rank, exchange->finish(0).cpu())), "")
        << "replay " << i << " seed " << seed_;
  }
  check_cuda(cudaDeviceSynchronize(), "end");
  check_cuda(cudaGraphExecDestroy(exec), "cudaGraphExecDestroy");
  check_cuda(cudaGraphDestroy(graph), "cudaGraphDestroy");
}

}  // namespace
}  // namespace dovetail::test
