#include "tests/gpu/exchange_facade.hpp"

#include <limits>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <gtest/gtest.h>

#include "framework/base/log.hpp"
#include "framework/comm/exchange/exchange_table.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/cuda/check.hpp"
#include "tests/support/host_place.hpp"
#include "tests/support/mpi_world.hpp"

namespace dovetail::test {
namespace {

std::unique_ptr<NcclComm>& comm_holder() {
  static std::unique_ptr<NcclComm> comm;
  return comm;
}

// The communicator has to end before CUDA does.
class CommEnvironment final : public ::testing::Environment {
 public:
  void TearDown() override { comm_holder().reset(); }
};

TestEvent& event_of(std::array<TestEvent, kMaxGroups>& events, int group) {
  return events.at(static_cast<std::size_t>(group));
}

[[maybe_unused]] const auto* const kEnvironment =
    ::testing::AddGlobalTestEnvironment(new CommEnvironment);

}  // namespace

NcclComm* test_comm() {
  if (world_size() == 1) {
    return nullptr;
  }
  auto& comm = comm_holder();
  if (!comm) {
    const MpiComm world = session().world();
    comm = std::make_unique<NcclComm>(
        world, NcclOptions{.max_ctas = kTestCommSms, .name = "test"}, WaitPolicy{});
  }
  return comm.get();
}

void require_reach(const std::string& kind) {
  const auto* row = find_exchange(kind);
  if (row == nullptr || !row->shares_memory || !are_ranks_apart()) {
    return;
  }
  const std::string reason = kind + " needs ranks of one host";
  [&] { GTEST_SKIP() << reason; }();
  throw ::testing::AssertionException(::testing::TestPartResult(
      ::testing::TestPartResult::kSkip, __FILE__, __LINE__, reason.c_str()));
}

std::unique_ptr<Exchange> make_on_gpu(const TestGroup& group,
                                      const std::string& kind,
                                      const ExchangeShape& shape,
                                      double padded_capacity) {
  require_reach(kind);
  std::map<int, NcclComm*> comms;
  if (auto* comm = test_comm()) {
    comms[kTestCommSms] = comm;
  }
  return make_exchange(kind,
                       /*on_gpu=*/true,
                       shape,
                       {.counts_comm = &group.counts_comm,
                        .nccl_comms = std::move(comms),
                        .wait = group.policy,
                        .padded_capacity = padded_capacity,
                        .world_rank = group.rank});
}

TestEvent::TestEvent() {
  check_cuda(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming), "cudaEventCreate");
}

TestEvent::~TestEvent() {
  if (cudaEventDestroy(event_) != cudaSuccess) {
    log_line("destroying a test's event failed");
  }
}

void TestEvent::record(const c10::cuda::CUDAStream& stream) {
  check_cuda(cudaEventRecord(event_, stream.stream()), "cudaEventRecord");
}

void TestEvent::make_wait(const c10::cuda::CUDAStream& stream) {
  check_cuda(cudaStreamWaitEvent(stream.stream(), event_, 0), "cudaStreamWaitEvent");
}

Lanes::Lanes()
    : compute(c10::cuda::getStreamFromPool(/*isHighPriority=*/false)),
      comm(c10::cuda::getStreamFromPool(/*isHighPriority=*/true)) {}

at::Tensor to_gpu(const at::Tensor& tensor) {
  return tensor.to(at::Device(at::kCUDA, c10::cuda::current_device()));
}

ExchangeFacade::ExchangeFacade(std::unique_ptr<Exchange> inner,
                               const ExchangeShape& shape,
                               std::int64_t max_tokens,
                               FacadeFault fault)
    : inner_(std::move(inner)), shape_(shape), fault_(fault) {
  for (int u = 0; u < shape.num_ubatches; ++u) {
    slots_.push_back(std::make_unique<Ubatch>());
  }
  begin_step(std::vector<std::int64_t>(slots_.size(), max_tokens), kTestCommSms);
}

ExchangeFacade::~ExchangeFacade() {
  if (cudaDeviceSynchronize() != cudaSuccess) {
    log_line("a test's exchange ended with an error of CUDA");
  }
}

void ExchangeFacade::begin_step(std::span<const std::int64_t> max_tokens, int comm_sms) {
  const c10::cuda::CUDAStreamGuard guard(lanes_.compute);
  inner_->buffers().begin_step(max_tokens, comm_sms);
}

void ExchangeFacade::check_step() {
  check_cuda(cudaDeviceSynchronize(), "end of a test's step");
  inner_->buffers().check_step();
}

void ExchangeFacade::prepare(int ubatch, const RoutedTokens& tokens) {
  const c10::cuda::CUDAStreamGuard guard(lanes_.compute);
  auto& mine = slot(ubatch);
  mine.alive = {to_gpu(tokens.hidden), to_gpu(tokens.expert_ids), to_gpu(tokens.weights)};
  inner_->prepare(ubatch,
                  {mine.alive[0], mine.alive[1], mine.alive[2], tokens.layer, tokens.num_groups});
  mine.prepared.record(lanes_.compute);
}

void ExchangeFacade::dispatch(int ubatch, int group) {
  const c10::cuda::CUDAStreamGuard guard(lanes_.comm);
  slot(ubatch).prepared.make_wait(lanes_.comm);
  if (group == 0 || fault_ != FacadeFault::misses_a_group) {
    inner_->dispatch(ubatch, group);
  }
  event_of(slot(ubatch).dispatched, group).record(lanes_.comm);
}

ExpertRows ExchangeFacade::arrange(int ubatch, int group) {
  const c10::cuda::CUDAStreamGuard guard(lanes_.compute);
  auto& mine = slot(ubatch);
  event_of(mine.dispatched, group).make_wait(lanes_.compute);
  const auto rows = inner_->arrange(ubatch, group);
  mine.capacity = rows.rows.size(0);
  ExpertRows host{.rows = {}, .offsets = rows.offsets.cpu(), .first_expert = rows.first_expert};
  auto num_rows = static_cast<std::int64_t>(
      host.offsets.const_data_ptr<std::int32_t>()[host.offsets.size(0) - 1]);
  EXPECT_LE(num_rows, mine.capacity) << "offsets end behind the buffer";
  if (fault_ == FacadeFault::reads_dead_tail && num_rows < mine.capacity) {
    ++num_rows;
  }
  host.rows = rows.rows.narrow(0, 0, num_rows).cpu();
  if (num_rows > 1 && fault_ == FacadeFault::drops_last_row) {
    host.rows.narrow(0, num_rows - 1, 1).zero_();
  } else if (num_rows > 1 && fault_ == FacadeFault::swaps_peers) {
    const auto first = host.rows.narrow(0, 0, 1).clone();
    host.rows.narrow(0, 0, 1).copy_(host.rows.narrow(0, num_rows - 1, 1));
    host.rows.narrow(0, num_rows - 1, 1).copy_(first);
  }
  return host;
}

void ExchangeFacade::reduce(int ubatch, int group, const at::Tensor& expert_rows) {
  const c10::cuda::CUDAStreamGuard guard(lanes_.compute);
  auto& mine = slot(ubatch);
  auto padded = at::full({mine.capacity, shape_.hidden},
                         std::numeric_limits<double>::quiet_NaN(),
                         expert_rows.options());
  padded.narrow(0, 0, std::min(expert_rows.size(0), mine.capacity))
      .copy_(expert_rows.narrow(0, 0, std::min(expert_rows.size(0), mine.capacity)));
  mine.alive.push_back(to_gpu(padded));
  inner_->reduce(ubatch, group, mine.alive.back());
  if (fault_ == FacadeFault::forgets_a_group) {
    mine.alive.back().zero_();
  }
  event_of(mine.reduced, group).record(lanes_.compute);
}

void ExchangeFacade::combine(int ubatch, int group) {
  const c10::cuda::CUDAStreamGuard guard(lanes_.comm);
  // Under an adopted plan there may have been no reduce; then no other call, either.
  slot(ubatch).prepared.make_wait(lanes_.comm);
  event_of(slot(ubatch).reduced, group).make_wait(lanes_.comm);
  if (fault_ != FacadeFault::misses_the_wire) {
    inner_->combine(ubatch, group);
  }
  event_of(slot(ubatch).combined, group).record(lanes_.comm);
}

at::Tensor ExchangeFacade::finish(int ubatch) {
  const c10::cuda::CUDAStreamGuard guard(lanes_.compute);
  for (auto& combined : slot(ubatch).combined) {
    combined.make_wait(lanes_.compute);
  }
  return inner_->finish(ubatch).cpu();
}

std::shared_ptr<ExchangePlan> ExchangeFacade::plan(int ubatch) {
  const c10::cuda::CUDAStreamGuard guard(lanes_.compute);
  return inner_->plans().plan(ubatch);
}

void ExchangeFacade::prepare_again(int ubatch,
                                   const RoutedTokens& tokens,
                                   std::shared_ptr<ExchangePlan> plan) {
  const c10::cuda::CUDAStreamGuard guard(lanes_.compute);
  auto& mine = slot(ubatch);
  mine.alive = {to_gpu(tokens.hidden), to_gpu(tokens.expert_ids), to_gpu(tokens.weights)};
  auto there = tokens;
  there.hidden = mine.alive[0];
  there.expert_ids = mine.alive[1];
  there.weights = mine.alive[2];
  inner_->plans().prepare_again(ubatch, there, std::move(plan));
  mine.prepared.record(lanes_.compute);
}

void ExchangeFacade::adopt(int ubatch, std::shared_ptr<ExchangePlan> plan) {
  inner_->plans().adopt(ubatch, std::move(plan));
}

TrafficMeter& ExchangeFacade::meter() {
  check_cuda(cudaDeviceSynchronize(), "before a look at the traffic");
  return inner_->meter();
}

}  // namespace dovetail::test
