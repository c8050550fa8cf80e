// What is particular to `ragged` on GPUs: counts come to the host, so that its dispatch cannot be
// captured, while its prepare can.
#include <c10/cuda/CUDAGuard.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/cuda/check.hpp"
#include "framework/cuda/stream_capture.hpp"
#include "tests/gpu/exchange_facade.hpp"
#include "tests/gpu/gpu_test.hpp"

namespace dovetail::test {
namespace {

class RaggedExchange : public ::testing::Test {
 protected:
  static constexpr std::int64_t kTokens = 11;

  GroupBatch batch(const ExchangeShape& shape, std::uint64_t variant) const {
    return make_batch(shape,
                      std::vector<std::int64_t>(static_cast<std::size_t>(group_.size), kTokens),
                      kAllRoutings[variant % std::size(kAllRoutings)],
                      Weights::random,
                      seed_ + variant);
  }

  TestGroup group_;
  std::uint64_t seed_ = fresh_seed();
};

TEST_F(RaggedExchange, DispatchRefusesToBeCaptured) {
  DOVETAIL_REQUIRE_GPU();
  if (group_.size == 1) {
    GTEST_SKIP() << "one rank needs no counts";
  }
  auto shape = group_.shape(4, 3);
  const auto exchange = make_on_gpu(group_, "ragged", shape);
  const std::int64_t bounds[] = {kTokens};
  exchange->buffers().begin_step(bounds, kTestCommSms);
  const auto in = to_tensors(batch(shape, 0), group_.rank);
  const RoutedTokens tokens = {to_gpu(in.hidden), to_gpu(in.expert_ids), to_gpu(in.weights)};
  const Lanes lanes;
  const c10::cuda::CUDAStreamGuard guard(lanes.compute);
  check_cuda(cudaDeviceSynchronize(), "inputs");
  const StreamCapture capture(lanes.compute.stream(), lanes.compute.stream());
  exchange->prepare(0, tokens);
  EXPECT_THROW(exchange->dispatch(0, 0), ContractError);
}

TEST_F(RaggedExchange, ReplayedPrepareFeedsAnEagerDispatch) {
  DOVETAIL_REQUIRE_GPU();
  auto shape = group_.shape(4, 3);
  shape.hidden = 24;
  const auto exchange = make_on_gpu(group_, "ragged", shape);
  const std::int64_t bounds[] = {kTokens};
  exchange->buffers().begin_step(bounds, kTestCommSms);
  const auto first = to_tensors(batch(shape, 0), group_.rank);
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
    const auto given = batch(shape, i);
    const auto in = to_tensors(given, group_.rank);
    hidden.copy_(in.hidden);
    ids.copy_(in.expert_ids);
    weights.copy_(in.weights);
    exchange->buffers().begin_step(bounds, kTestCommSms);
    check_cuda(cudaGraphLaunch(exec, lanes.compute.stream()), "launch");
    TestEvent routed;
    routed.record(lanes.compute);
    {
      const c10::cuda::CUDAStreamGuard comm(lanes.comm);
      routed.make_wait(lanes.comm);
      exchange->dispatch(0, 0);
      TestEvent arrived;
      arrived.record(lanes.comm);
      arrived.make_wait(lanes.compute);
    }
    const auto rows = exchange->arrange(0, 0);
    const auto offsets = rows.offsets.cpu();
    const auto num_rows =
        static_cast<std::int64_t>(offsets.const_data_ptr<std::int32_t>()[offsets.size(0) - 1]);
    EXPECT_EQ(join_problems(check_expert_rows(
                  given,
                  group_.rank,
                  {.rows = rows.rows.narrow(0, 0, num_rows).cpu(), .offsets = offsets})),
              "")
        << "replay " << i << " seed " << seed_;
  }
  check_cuda(cudaDeviceSynchronize(), "end");
  check_cuda(cudaGraphExecDestroy(exec), "cudaGraphExecDestroy");
  check_cuda(cudaGraphDestroy(graph), "cudaGraphDestroy");
}

}  // namespace
}  // namespace dovetail::test
