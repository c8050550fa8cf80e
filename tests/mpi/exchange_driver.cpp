#include "tests/mpi/exchange_driver.hpp"

#include <cstdlib>
#include <iostream>
#include <limits>
#include <random>

#include <ATen/ops/full_like.h>

#include "framework/comm/exchange/emulated_link.hpp"
#include "framework/comm/exchange/exchange_table.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "framework/mpi/check.hpp"
#include "tests/support/mpi_world.hpp"

namespace dovetail::test {

CommLane::CommLane(bool threaded) {
  if (threaded) {
    thread_ = std::thread([this] { work(); });
  }
}

CommLane::~CommLane() {
  if (thread_.joinable()) {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }
}

std::future<void> CommLane::submit(std::function<void()> job) {
  std::packaged_task<void()> task(std::move(job));
  auto done = task.get_future();
  if (!thread_.joinable()) {
    task();
    return done;
  }
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(task));
  }
  wake_.notify_one();
  return done;
}

void CommLane::work() {
  for (;;) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [this] { return done_ || !jobs_.empty(); });
    if (jobs_.empty()) {
      return;
    }
    auto job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    job();
  }
}

std::vector<std::string> built_exchanges(bool on_gpu, GraphMode captured) {
  std::vector<std::string> names;
  for (const auto& row : exchange_table()) {
    if (on_gpu ? row.on_gpu && row.max_graph >= captured : row.on_host.has_value()) {
      names.push_back(row.name);
    }
  }
  return names;
}

TestGroup::TestGroup(std::chrono::milliseconds timeout) : TestGroup(session().world(), timeout) {}

TestGroup::TestGroup(const MpiComm& parent, std::chrono::milliseconds timeout)
    : exchange_comm(MpiComm::duplicate(parent.raw())),
      counts_comm(MpiComm::duplicate(parent.raw())),
      rank(parent.rank()),
      size(parent.size()) {
  policy.timeout = timeout;
}

ExchangeShape TestGroup::shape(int experts_per_rank, int top_k) const {
  return {.ep_size = size,
          .ep_rank = rank,
          .num_experts = size * experts_per_rank,
          .top_k = top_k,
          .hidden = 9};
}

std::unique_ptr<Exchange> TestGroup::make(const std::string& kind,
                                          const ExchangeShape& shape) const {
  if (kind == kRaggedOverLink) {
    return emulate_link(
        make("ragged", shape), shape, {.latency_us = 30.0, .gbytes_per_s = 0.05}, policy);
  }
  return make_exchange(
      kind,
      /*on_gpu=*/false,
      shape,
      {.exchange_comm = &exchange_comm, .counts_comm = &counts_comm, .wait = policy});
}

std::uint64_t fresh_seed() {
  std::uint64_t seed = std::random_device{}();
  if (const char* text = std::getenv("DOVETAIL_TEST_SEED")) {  // NOLINT(concurrency-mt-unsafe)
    seed = std::stoull(text);
  }
  const MpiComm comm = session().world();
  DOVETAIL_MPI(MPI_Bcast(&seed, 1, MPI_UINT64_T, 0, comm.raw()));
  if (comm.rank() == 0) {
    std::cout << "DOVETAIL_TEST_SEED=" << seed << std::endl;
  }
  return seed;
}

bool on_any_rank(bool mine) {
  const MpiComm comm = session().world();
  int any = mine ? 1 : 0;
  DOVETAIL_MPI(MPI_Allreduce(MPI_IN_PLACE, &any, 1, MPI_INT, MPI_MAX, comm.raw()));
  return any != 0;
}

std::vector<std::string> run_layers(Exchange& exchange,
                                    int rank,
                                    const std::vector<std::vector<GroupBatch>>& layers,
                                    CommLane& lane,
                                    int num_groups) {
  std::vector<std::string> problems;
  const auto collect = [&](std::size_t layer, int ubatch, const std::vector<std::string>& found) {
    for (const auto& problem : found) {
      problems.push_back("layer " + std::to_string(layer) + " ubatch " + std::to_string(ubatch) +
                         ": " + problem);
    }
  };
  std::vector<std::vector<std::future<void>>> on_wire(layers.at(0).size());  // by group
  for (auto& of_ubatch : on_wire) {
    of_ubatch.resize(static_cast<std::size_t>(num_groups));
  }
  for (std::size_t layer = 0; layer <= layers.size(); ++layer) {
    for (std::size_t i = 0; i < on_wire.size(); ++i) {
      const int ubatch = static_cast<int>(i);
      if (layer > 0) {
        for (auto& combined : on_wire[i]) {
          combined.get();
        }
        collect(
            layer - 1, ubatch, check_output(layers[layer - 1][i], rank, exchange.finish(ubatch)));
      }
      if (layer < layers.size()) {
        auto tokens = to_tensors(layers[layer][i], rank);
        tokens.num_groups = num_groups;
        exchange.prepare(ubatch, tokens);
        for (int group = 0; group < num_groups; ++group) {
          on_wire[i][static_cast<std::size_t>(group)] =
              lane.submit([&exchange, ubatch, group] { exchange.dispatch(ubatch, group); });
        }
      }
    }
    for (std::size_t i = 0; layer < layers.size() && i < on_wire.size(); ++i) {
      const int ubatch = static_cast<int>(i);
      const auto& shape = layers[layer][i].shape;
      std::int64_t next_expert = 0;
      for (int group = 0; group < num_groups; ++group) {
        auto& wire = on_wire[i][static_cast<std::size_t>(group)];
        wire.get();
        const auto rows = exchange.arrange(ubatch, group);
        if (rows.first_expert != next_expert || rows.offsets.numel() < 1) {
          collect(layer, ubatch, {"group " + std::to_string(group) + " has other experts"});
        }
        next_expert = rows.first_expert + rows.offsets.numel();
        collect(layer, ubatch, check_expert_rows(layers[layer][i], rank, rows));
        exchange.reduce(ubatch, group, apply_experts(shape, rank, rows));
        wire = lane.submit([&exchange, ubatch, group] { exchange.combine(ubatch, group); });
      }
      if (next_expert != shape.experts_per_rank()) {
        collect(layer, ubatch, {"experts are left out"});
      }
    }
  }
  return problems;
}

PassResult run_pass(Exchange& exchange, int ubatch, const GroupBatch& batch, int rank) {
  exchange.prepare(ubatch, to_tensors(batch, rank));
  exchange.dispatch(ubatch, 0);
  const auto rows = exchange.arrange(ubatch, 0);
  PassResult result{.rows = rows.rows.clone(), .offsets = rows.offsets.clone(), .output = {}};
  exchange.reduce(ubatch, 0, apply_experts(batch.shape, rank, rows));
  exchange.combine(ubatch, 0);
  result.output = exchange.finish(ubatch).clone();
  return result;
}

void poison(Exchange& exchange, const ExchangeShape& shape, std::int64_t max_tokens) {
  const double not_a_number = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::int64_t> counts(static_cast<std::size_t>(shape.ep_size), max_tokens);
  const auto batch = make_batch(shape, counts, Routing::uniform, Weights::random, 1);
  auto tokens = to_tensors(batch, shape.ep_rank);
  tokens.hidden = at::full_like(tokens.hidden, not_a_number);
  for (int ubatch = 0; ubatch < shape.num_ubatches; ++ubatch) {
    exchange.prepare(ubatch, tokens);
    exchange.dispatch(ubatch, 0);
    auto rows = exchange.arrange(ubatch, 0);
    exchange.reduce(ubatch, 0, rows.rows);
    exchange.combine(ubatch, 0);
    exchange.finish(ubatch);
  }
}

std::string join_problems(const std::vector<std::string>& problems) {
  std::string text;
  for (const auto& problem : problems) {
    text += problem + "\n";
  }
  return text;
}

}  // namespace dovetail::test
