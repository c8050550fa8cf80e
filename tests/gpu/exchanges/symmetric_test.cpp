// What is particular to exchanges over shared memory: a kernel that waits for peers ends whatever
// they do, rounds go on for ever, and the wire of `symmetric` carries what is needed and no more.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <random>
#include <thread>

#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAGuard.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/comm/exchange/nccl/block_layout.hpp"
#include "framework/cuda/check.hpp"
#include "framework/mpi/wait.hpp"
#include "tests/gpu/exchange_facade.hpp"
#include "tests/gpu/gpu_test.hpp"

namespace dovetail::test {
namespace {

using Clock = std::chrono::steady_clock;

RoutedTokens on_gpu(const RoutedTokens& in) {
  return {to_gpu(in.hidden), to_gpu(in.expert_ids), to_gpu(in.weights)};
}

// Experts return their rows. Of several groups only the output is kept.
struct Pass {
  at::Tensor rows;
  at::Tensor offsets;
  at::Tensor output;
};

Pass pass(Exchange& exchange, int ubatch, const RoutedTokens& in) {
  exchange.prepare(ubatch, in);
  exchange.dispatch(ubatch, 0);
  for (int group = 0; in.num_groups > 1 && group < in.num_groups; ++group) {
    if (group + 1 < in.num_groups) {
      exchange.dispatch(ubatch, group + 1);
    }
    exchange.reduce(ubatch, group, exchange.arrange(ubatch, group).rows.clone());
    exchange.combine(ubatch, group);
  }
  if (in.num_groups > 1) {
    return {{}, {}, exchange.finish(ubatch)};
  }
  const auto arranged = exchange.arrange(ubatch, 0);
  exchange.reduce(ubatch, 0, arranged.rows);
  exchange.combine(ubatch, 0);
  return {arranged.rows, arranged.offsets, exchange.finish(ubatch)};
}

/// Tokens of `source` with an expert on `rank`.
std::int64_t rows_for(const GroupBatch& batch, int source, int rank) {
  const auto& ids = batch.ranks[static_cast<std::size_t>(source)].expert_ids;
  const auto k = static_cast<std::size_t>(batch.shape.top_k);
  std::int64_t rows = 0;
  for (std::size_t token = 0; token < ids.size() / k; ++token) {
    rows += std::any_of(&ids[token * k], &ids[token * k] + k, [&](std::int64_t expert) {
      return expert >= 0 && expert / batch.shape.experts_per_rank() == rank;
    });
  }
  return rows;
}

class SharedMemoryCase : public ::testing::Test {
 protected:
  static constexpr std::int64_t kTokens = 96;

  std::unique_ptr<Exchange> make(const std::string& kind,
                                 const ExchangeShape& shape,
                                 int ubatches = 1) const {
    auto exchange = make_on_gpu(group_, kind, shape);
    begin(*exchange, ubatches);
    return exchange;
  }

  static void begin(Exchange& exchange, int ubatches) {
    exchange.buffers().begin_step(
        std::vector<std::int64_t>(static_cast<std::size_t>(ubatches), kTokens), kTestCommSms);
  }

  GroupBatch batch(const ExchangeShape& shape, std::uint64_t variant) const {
    return make_batch(shape,
                      tokens_per_rank(group_.size, variant, kTokens),
                      kAllRoutings[variant % std::size(kAllRoutings)],
                      Weights::random,
                      seed_ + variant);
  }

  TestGroup group_;
  std::uint64_t seed_ = fresh_seed();
};

class SharedMemory : public SharedMemoryCase, public ::testing::WithParamInterface<std::string> {};

class ExactWire : public SharedMemoryCase, public ::testing::WithParamInterface<int> {};

/// Into how many groups an exchange may cut 4 experts.
std::vector<int> cuts_of(const std::string& kind) {
  return kind == "symmetric" ? std::vector<int>{1, 2, 4} : std::vector<int>{1};
}

/// Batches of all routings on even, uneven and idle ranks, in random order over ubatches, without
/// any wait between them: rank 0 enqueues at full speed, the others now and then late.
TEST_P(SharedMemory, NoWordIsWrongInManyExchanges) {
  DOVETAIL_REQUIRE_GPU();
  constexpr int ubatches = 3;
  constexpr std::uint64_t variants = 48;
  const bool is_long =
      std::getenv("DOVETAIL_LONG_TESTS") != nullptr;  // NOLINT(concurrency-mt-unsafe)
  const int rounds = is_long ? 100'000 : 3'000;
  auto shape = group_.shape(4, std::min(3, group_.size * 4));
  shape.hidden = 264;
  shape.dtype = at::kBFloat16;
  shape.num_ubatches = ubatches;
  const Lanes lanes;
  const c10::cuda::CUDAStreamGuard guard(lanes.comm);
  std::vector<RoutedTokens> inputs;
  std::vector<Pass> wanted;
  {
    const auto oracle = make("gather", shape, ubatches);
    for (std::uint64_t v = 0; v < variants; ++v) {
      inputs.push_back(on_gpu(to_tensors(batch(shape, v), group_.rank)));
      const auto right = pass(*oracle, 0, inputs.back());
      wanted.push_back({right.rows.clone(), right.offsets.clone(), right.output.clone()});
    }
    check_cuda(cudaDeviceSynchronize(), "what is wanted");
  }
  const auto cuts = cuts_of(GetParam());
  const auto exchange = make(GetParam(), shape, ubatches);
  const auto before = exchange->buffers().bytes();
  const auto index = at::arange(wanted[0].rows.size(0), wanted[0].offsets.options()).unsqueeze(1);
  auto wrong = at::zeros({}, wanted[0].offsets.options().dtype(at::kLong));
  const auto compare = [&](const Pass& is, const Pass& should) {
    if (is.rows.defined()) {
      wrong += is.offsets.ne(should.offsets).sum();
      wrong += is.rows.ne(should.rows).logical_and(index.lt(should.offsets.select(0, -1))).sum();
    }
    wrong += is.output.ne(should.output).sum();
  };
  std::mt19937_64 random(seed_);
  std::mt19937_64 own(seed_ + static_cast<std::uint64_t>(group_.rank));
  for (int i = 0; i < rounds; ++i) {
    const auto v = static_cast<std::size_t>(random() % variants);
    inputs[v].num_groups = cuts[random() % cuts.size()];
    compare(pass(*exchange, static_cast<int>(random() % ubatches), inputs[v]), wanted[v]);
    if (i % 512 == 511) {
      if (own() % 2 == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
      begin(*exchange, ubatches);
    }
  }
  check_cuda(cudaDeviceSynchronize(), "the end of many exchanges");
  EXPECT_NO_THROW(exchange->buffers().check_step());
  EXPECT_EQ(wrong.item<std::int64_t>(), 0) << rounds << " exchanges, seed " << seed_;
  EXPECT_EQ(exchange->buffers().bytes(), before);
  // The count itself: sums that are wrong are seen.
  auto other = wanted[0];
  other.output = other.output.add(1);
  compare(pass(*exchange, 0, inputs[0]), other);
  EXPECT_EQ(on_any_rank(wrong.item<std::int64_t>() > 0), true);
}

TEST_P(ExactWire, TheWireCarriesNeededRowsOnly) {
  DOVETAIL_REQUIRE_GPU();
  const auto shape = group_.shape(4, std::min(3, group_.size * 4));
  const auto exchange = make("symmetric", shape);
  const auto sizes = exchange_sizes(BlockKind::symmetric,
                                    group_.size,
                                    shape.num_experts,
                                    shape.top_k,
                                    shape.row_bytes(),
                                    kTokens,
                                    1.0);
  std::int64_t out = 0;
  std::int64_t in = 0;
  constexpr std::uint64_t passes = 6;
  for (std::uint64_t v = 0; v < passes; ++v) {
    const auto given = batch(shape, v);
    auto in_groups = on_gpu(to_tensors(given, group_.rank));
    in_groups.num_groups = GetParam();
    pass(*exchange, 0, in_groups);
    out += count_remote_rows(given, group_.rank);
    for (int source = 0; source < group_.size; ++source) {
      if (source != group_.rank) {
        in += rows_for(given, source, group_.rank);
      }
    }
  }
  check_cuda(cudaDeviceSynchronize(), "end of passes");
  const auto heads =
      static_cast<std::int64_t>(passes) * (group_.size - 1) * sizes.block.header_bytes();
  const auto head_and_row = sizes.block.metadata_words() * 4 + shape.row_bytes();
  const auto traffic = exchange->meter().traffic();
  EXPECT_EQ(traffic.dispatch_wire_bytes, heads + out * head_and_row);
  EXPECT_EQ(traffic.dispatch_received_bytes, heads + in * head_and_row);
  EXPECT_EQ(traffic.combine_wire_bytes, in * shape.row_bytes());
  EXPECT_EQ(traffic.combine_received_bytes, out * shape.row_bytes());
}

/// Wire calls that were enqueued behind the one that gave up end at once.
TEST_P(SharedMemory, AKernelWhosePeerNeverComesEnds) {
  DOVETAIL_REQUIRE_GPU();
  if (group_.size == 1) {
    GTEST_SKIP() << "one rank waits for none";
  }
  group_.policy.timeout = std::chrono::milliseconds(700);
  const auto shape = group_.shape(4, 3);
  const auto exchange = make(GetParam(), shape);
  auto in = on_gpu(to_tensors(batch(shape, 0), group_.rank));
  in.layer = 5;
  in.num_groups = cuts_of(GetParam()).back();
  check_cuda(cudaDeviceSynchronize(), "inputs");
  if (group_.rank != group_.size - 1) {
    const auto start = Clock::now();
    for (int i = 0; i < 20; ++i) {
      pass(*exchange, 0, in);
    }
    check_cuda(cudaDeviceSynchronize(), "kernels that wait");
    const auto took = Clock::now() - start;
    EXPECT_GE(took, std::chrono::milliseconds(600));
    EXPECT_LE(took, std::chrono::milliseconds(2'000));
    std::string message = "accepted";
    try {
      exchange->buffers().check_step();
    } catch (const TimeoutError& error) {
      message = error.what();
    }
    EXPECT_NE(message.find("rank " + std::to_string(group_.rank) + ", ubatch 0, layer 5, "),
              std::string::npos)
        << message;
    EXPECT_NE(message.find("phase dispatch" + std::string(in.num_groups > 1 ? ", group 0" : "") +
                           ": nothing came from ep rank " + std::to_string(group_.size - 1) +
                           " within 700 ms"),
              std::string::npos)
        << message;
    EXPECT_THROW(exchange->dispatch(0, 0), RunError) << "the exchange has failed";
  }
  on_any_rank(false);  // the memory stays until all are here
}

TEST_P(SharedMemory, AnAbortEndsTheWait) {
  DOVETAIL_REQUIRE_GPU();
  if (group_.size == 1) {
    GTEST_SKIP() << "one rank waits for none";
  }
  NcclComm comm(session().world(), {.max_ctas = kTestCommSms, .name = "to be aborted"}, {});
  const auto shape = group_.shape(4, 3);
  require_reach(GetParam());
  const auto exchange = make_exchange(GetParam(),
                                      /*on_gpu=*/true,
                                      shape,
                                      {.nccl_comms = {{kTestCommSms, &comm}},
                                       .wait = {.timeout = std::chrono::seconds(60)},
                                       .world_rank = group_.rank});
  begin(*exchange, 1);
  const auto in = on_gpu(to_tensors(batch(shape, 0), group_.rank));
  check_cuda(cudaDeviceSynchronize(), "inputs");
  const auto start = Clock::now();
  if (group_.rank == 0) {
    exchange->prepare(0, in);
    exchange->dispatch(0, 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  comm.abort();
  check_cuda(cudaDeviceSynchronize(), "kernels that were aborted");
  EXPECT_LE(Clock::now() - start, std::chrono::seconds(10));
  if (group_.rank == 0) {
    std::string message = "accepted";
    try {
      exchange->buffers().check_step();
    } catch (const RunError& error) {
      message = error.what();
    }
    EXPECT_NE(message.find("phase dispatch: aborted while ep rank"), std::string::npos) << message;
  }
  on_any_rank(false);
}

/// The memory is registered with the first communicator, the kernels look at the second one's word.
TEST_P(SharedMemory, KernelsEndBeforeAnotherCommunicatorTakesTheirMemory) {
  DOVETAIL_REQUIRE_GPU();
  if (group_.size == 1) {
    GTEST_SKIP() << "one rank waits for none";
  }
  NcclComm first(session().world(), {.max_ctas = kTestCommSms, .name = "of the memory"}, {});
  NcclComm second(session().world(), {.max_ctas = kTestCommSms, .name = "of the step"}, {});
  const auto shape = group_.shape(4, 3);
  require_reach(GetParam());
  const auto exchange =
      make_exchange(GetParam(),
                    /*on_gpu=*/true,
                    shape,
                    {.nccl_comms = {{kTestCommSms - 1, &first}, {kTestCommSms, &second}},
                     .wait = {.timeout = std::chrono::seconds(60)},
                     .world_rank = group_.rank});
  begin(*exchange, 1);
  const auto in = on_gpu(to_tensors(batch(shape, 0), group_.rank));
  check_cuda(cudaDeviceSynchronize(), "inputs");
  if (group_.rank == 0) {
    exchange->prepare(0, in);
    exchange->dispatch(0, 0);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    EXPECT_FALSE(first.end_own_waits());
    EXPECT_TRUE(second.end_own_waits());
    check_cuda(cudaDeviceSynchronize(), "kernels that were told to give up");
  }
  first.abort();
  second.abort();
  check_cuda(cudaDeviceSynchronize(), "kernels that had ended");
  EXPECT_THROW(second.check_async(), RunError);
  on_any_rank(false);
}

INSTANTIATE_TEST_SUITE_P(Groups, ExactWire, ::testing::Values(1, 2, 4));
INSTANTIATE_TEST_SUITE_P(BackEnds,
                         SharedMemory,
                         ::testing::Values("symmetric", "copy_engine"),
                         [](const auto& suite) { return suite.param; });

}  // namespace
}  // namespace dovetail::test
