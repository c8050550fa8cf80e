// Drives an exchange as a schedule would: N ubatches in flight, dispatch and combine on a comm lane
// that is a thread of its own or the caller.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/comm/exchange/exchange.hpp"
#include "framework/mpi/comm.hpp"
#include "framework/mpi/wait.hpp"
#include "tests/mpi/exchange_data.hpp"

namespace dovetail::test {

/// Runs jobs in order: on a worker thread, or at once in the caller.
class CommLane {
 public:
  explicit CommLane(bool threaded);
  ~CommLane();
  CommLane(const CommLane&) = delete;
  CommLane& operator=(const CommLane&) = delete;
  CommLane(CommLane&&) = delete;
  CommLane& operator=(CommLane&&) = delete;

  /// get() of the future rethrows what the job threw.
  std::future<void> submit(std::function<void()> job);

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::packaged_task<void()>> jobs_;
  bool done_ = false;
  std::thread thread_;
};

/// Names of the back ends that the table has for a kind of device; on GPUs those of which at least
/// so much of a step can be captured.
std::vector<std::string> built_exchanges(bool on_gpu, GraphMode captured = GraphMode::none);

/// The name, in tests only, of `ragged` over an emulated link.
inline constexpr const char* kRaggedOverLink = "ragged_over_link";

/// One exchange over the world, or over another group, with communicators of its own.
struct TestGroup {
  explicit TestGroup(std::chrono::milliseconds timeout = std::chrono::seconds(15));

  /// Collective over `parent`, which may go.
  explicit TestGroup(const MpiComm& parent,
                     std::chrono::milliseconds timeout = std::chrono::seconds(15));

  /// A shape for this rank; experts_per_rank experts on each rank of the group.
  ExchangeShape shape(int experts_per_rank, int top_k) const;

  /// `kind`: a back end's name, or kRaggedOverLink.
  std::unique_ptr<Exchange> make(const std::string& kind, const ExchangeShape& shape) const;

  WaitPolicy policy;
  MpiComm exchange_comm;
  MpiComm counts_comm;
  int rank;
  int size;
};

/// A fresh seed, the same on all ranks, printed on rank 0; DOVETAIL_TEST_SEED sets it.
std::uint64_t fresh_seed();

/// True if it is on any rank. Collective over the world.
bool on_any_rank(bool mine);

/// Full passes of layers[l][u] in the order of dual_batch and expert_groups: while one ubatch or
/// group is on the wire, the others compute. Each group must bring the experts that are its own,
/// all groups together each expert once. Returns the differences from the oracle, each with its
/// layer and ubatch.
std::vector<std::string> run_layers(Exchange& exchange,
                                    int rank,
                                    const std::vector<std::vector<GroupBatch>>& layers,
                                    CommLane& lane,
                                    int num_groups = 1);

/// One full pass of one ubatch without checks; returns rows, offsets and output as copies.
struct PassResult {
  at::Tensor rows;
  at::Tensor offsets;
  at::Tensor output;
};

PassResult run_pass(Exchange& exchange, int ubatch, const GroupBatch& batch, int rank);

/// Fills all buffers of the exchange with NaN: a pass per ubatch of NaN rows, larger than any later
/// batch. Collective.
void poison(Exchange& exchange, const ExchangeShape& shape, std::int64_t max_tokens);

std::string join_problems(const std::vector<std::string>& problems);

}  // namespace dovetail::test
