#include "tests/unit/compare/synthetic_run.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <span>
#include <stdexcept>
#include <system_error>

#include "framework/record/recorder.hpp"
#include "framework/record/run_folder.hpp"

namespace dovetail {
namespace {

constexpr std::array<std::int64_t, 6> kLengths = {4, 1, 7, 3, 5, 6};

float value_at(std::int64_t request, std::int64_t position, std::int64_t column, int tensor) {
  return static_cast<float>(std::sin(static_cast<double>(
      1 + column + 31 * position + 517 * request + std::int64_t{7919} * tensor)));
}

void add_output(SyntheticRank& rank, const std::string& name, int tensor, bool per_request) {
  SyntheticTensor output;
  output.columns = per_request ? 11 : SyntheticRun::kHidden;
  const auto& ids = per_request ? rank.requests : rank.request_id;
  for (std::size_t row = 0; row < ids.size(); ++row) {
    for (std::int64_t column = 0; column < output.columns; ++column) {
      output.values.push_back(
          value_at(ids[row], per_request ? -1 : rank.position[row], column, tensor));
    }
  }
  rank.outputs[name] = output;
}

void add_request(SyntheticRank& rank, std::int64_t request) {
  rank.requests.push_back(request);
  rank.request_position.push_back(kLengths.at(static_cast<std::size_t>(request)) - 1);
  for (std::int64_t position = 0; position < kLengths.at(static_cast<std::size_t>(request));
       ++position) {
    rank.request_id.push_back(request);
    rank.position.push_back(position);
    rank.input_ids.push_back(1000 * request + position);
  }
}

void add_routing(std::int64_t base, std::vector<std::int32_t>& ids, std::vector<float>& logits) {
  ids.push_back(static_cast<std::int32_t>(base % 4));
  ids.push_back(static_cast<std::int32_t>(4 + base % 3));
  std::vector<float> row(SyntheticRun::kExperts, 0.25F);
  row[7] = 2 - 1e-6F;
  row[static_cast<std::size_t>(base % 4)] = 3;
  row[static_cast<std::size_t>(4 + base % 3)] = 2;
  logits.insert(logits.end(), row.begin(), row.end());
}

void add_tensors(SyntheticRank& rank) {
  add_output(rank, "layer_0", 0, false);
  add_output(rank, "layer_2", 2, false);
  add_output(rank, "hidden", 3, false);
  add_output(rank, "logits", 4, true);
  for (std::int64_t layer = 0; layer < SyntheticRun::kLayers; ++layer) {
    for (std::size_t row = 0; row < rank.request_id.size(); ++row) {
      add_routing(
          layer + rank.request_id[row] + rank.position[row], rank.expert_ids, rank.router_logits);
    }
    for (const std::int64_t position : rank.context_position) {
      add_routing(layer + 20 + position, rank.context_expert_ids, rank.context_router_logits);
    }
  }
}

RankFileSpec spec_of(const SyntheticRun& run, std::size_t index) {
  const SyntheticRank& rank = run.ranks[index];
  RankFileSpec spec;
  spec.experiment = "synthetic";
  spec.policy = run.policy;
  spec.rank = static_cast<std::int64_t>(index);
  spec.world_size = static_cast<std::int64_t>(run.ranks.size());
  spec.expert_parallel = run.expert_parallel;
  spec.dp_rank = spec.rank / run.expert_parallel;
  spec.ep_rank = spec.rank % run.expert_parallel;
  spec.host = "node7";
  spec.device = rank.device;
  spec.started_at = run.started_at;
  spec.weights_digest = rank.weights_digest;
  spec.inputs_digest = rank.inputs_digest;
  spec.attributes = {{"dtype", rank.dtype}};
  if (!rank.link.empty()) {
    spec.attributes.push_back({attribute::kLink, rank.link});
  }
  if (!rank.execution.empty()) {
    spec.attributes.push_back({attribute::kResolvedExecution, rank.execution});
  }
  if (!rank.routing.empty()) {
    spec.attributes.push_back({attribute::kRouting, rank.routing});
  }
  spec.config = "experiment: synthetic\n";
  spec.schedules = {run.schedule};
  spec.rounds = run.rounds;
  spec.rounds_began_ns = run.rounds_began_ns;
  spec.steps = std::ssize(rank.timed_hashes.front());
  spec.iterations = std::ssize(rank.step_ns) / spec.steps;
  spec.variants = std::ssize(rank.poisoned_hashes);
  spec.profiled =
      std::max(std::ssize(rank.profiles), std::ssize(rank.profiled_hashes) * spec.steps);
  spec.clock_offset_ns = rank.clock_offset_ns;
  spec.clock_error_ns = rank.clock_error_ns;
  spec.tokens = static_cast<std::int64_t>(rank.request_id.size());
  spec.requests = static_cast<std::int64_t>(rank.requests.size());
  for (const auto& [name, output] : rank.outputs) {
    const std::int64_t rows = name == "logits" ? spec.requests : spec.tokens;
    spec.outputs.push_back({name, output.dtype, {rows, output.columns}});
  }
  spec.route_layers = run.with_route ? SyntheticRun::kLayers : 0;
  spec.route_top_k = SyntheticRun::kTopK;
  spec.route_experts = SyntheticRun::kExperts;
  spec.has_given_routing = !rank.natural_ids.empty();
  spec.context_tokens = static_cast<std::int64_t>(rank.context_request_id.size());
  spec.experts_per_rank = SyntheticRun::kExpertsPerRank;
  spec.traffic_layers =
      static_cast<std::int64_t>(rank.tokens_per_expert.size()) / spec.experts_per_rank;
  spec.first_expert = spec.ep_rank * spec.experts_per_rank;
  return spec;
}

void write_profiles(RankRecorder& recorder, const SyntheticRank& rank) {
  for (std::size_t i = 0; i < rank.profiles.size(); ++i) {
    const SyntheticProfile& profile = rank.profiles[i];
    const auto index = static_cast<std::int64_t>(i);
    for (std::size_t kind = 0; kind < profile.passes.size(); ++kind) {
      const SyntheticPass& pass = profile.passes[kind];
      if (pass.start_ns < 0) {
        continue;
      }
      recorder.write_profiled_pass(index,
                                   {.pass = static_cast<ProfilePass>(kind),
                                    .step_start_ns = pass.start_ns,
                                    .step_end_ns = pass.end_ns,
                                    .op_start_ns = pass.op_start_ns,
                                    .op_end_ns = pass.op_end_ns});
    }
    recorder.write_profiled_host(index,
                                 {.schedule = profile.schedule,
                                  .enqueued_ns = profile.enqueued_ns,
                                  .hand_off_wait_ns = profile.hand_off_wait_ns,
                                  .counts_wait_ns = 0});
  }
}

void write_hashes(RankRecorder& recorder, const SyntheticRank& rank) {
  const auto write = [](const std::vector<std::vector<HashRow>>& rows, const auto& write_one) {
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (std::size_t step = 0; step < rows[i].size(); ++step) {
        write_one(static_cast<std::int64_t>(i), static_cast<std::int64_t>(step), rows[i][step]);
      }
    }
  };
  write(rank.timed_hashes, [&](std::int64_t i, std::int64_t step, const HashRow& row) {
    recorder.write_timed_hash(i, step, row, 10);
  });
  const auto steps = std::ssize(rank.timed_hashes.front());
  write(rank.profiled_hashes, [&](std::int64_t i, std::int64_t step, const HashRow& row) {
    recorder.write_profiled_hash(i * steps + step, row);
  });
  write(rank.poisoned_hashes, [&](std::int64_t i, std::int64_t step, const HashRow& row) {
    recorder.write_poisoned_hash(i, step, row);
  });
  recorder.write_scalar(path::kUntouchedBefore, rank.untouched_before);
  recorder.write_scalar(path::kUntouchedAfter, rank.untouched_after);
}

void write_rank(const SyntheticRun& run, std::size_t index, const std::filesystem::path& path) {
  const SyntheticRank& rank = run.ranks[index];
  RankRecorder recorder(path, spec_of(run, index));
  const auto steps = std::ssize(rank.timed_hashes.front());
  for (std::size_t i = 0; i < rank.step_ns.size(); ++i) {
    if (rank.step_ns[i] >= 0) {
      const auto at = static_cast<std::int64_t>(i);
      if (!rank.before.empty()) {
        recorder.write_before(at / steps, at % steps, rank.before.at(i));
      }
      recorder.write_start(at / steps, at % steps, at * run.rounds / std::ssize(rank.step_ns), at);
      recorder.write_step(at / steps,
                          at % steps,
                          rank.step_ns[i],
                          rank.decisions.empty() ? rank.decision : rank.decisions.at(i),
                          rank.enqueue_ns.empty() ? -1 : rank.enqueue_ns.at(i));
    }
  }
  recorder.set_attribute(path::kTiming, {attribute::kIterationsRun, run.iterations_run});
  recorder.write_graph_counters(rank.graphs);
  recorder.write_memory(rank.memory);
  recorder.set_attribute(path::kTiming,
                         {attribute::kDeviceClockErrorNs, rank.device_clock_error_ns});
  for (std::size_t i = 0; i < rank.clock.size(); ++i) {
    recorder.write_clock(static_cast<std::int64_t>(i), rank.clock[i]);
  }
  write_profiles(recorder, rank);
  write_hashes(recorder, rank);
  recorder.write(path::kInputIds, std::span<const std::int64_t>(rank.input_ids));
  recorder.write(path::kRequestId, std::span<const std::int64_t>(rank.request_id));
  recorder.write(path::kPositions, std::span<const std::int64_t>(rank.position));
  recorder.write(path::kRequests, std::span<const std::int64_t>(rank.requests));
  recorder.write(path::kRequestPosition, std::span<const std::int64_t>(rank.request_position));
  for (const auto& [name, output] : rank.outputs) {
    recorder.write(std::string(path::kOutput) + "/" + name,
                   output.dtype,
                   output.bytes.empty() ? std::as_bytes(std::span(output.values))
                                        : std::span<const std::byte>(output.bytes));
  }
  if (run.with_route) {
    recorder.write(path::kExpertIds, std::span<const std::int32_t>(rank.expert_ids));
    const auto write_logits = [&](const char* dataset, const std::vector<float>& logits) {
      recorder.write(dataset, DType::float32, std::as_bytes(std::span(logits)));
    };
    write_logits(path::kRouterLogits, rank.router_logits);
    if (!rank.natural_ids.empty()) {
      recorder.write(path::kNaturalExpertIds, std::span<const std::int32_t>(rank.natural_ids));
    }
    if (!rank.context_request_id.empty()) {
      recorder.write(path::kContextRequestId,
                     std::span<const std::int64_t>(rank.context_request_id));
      recorder.write(path::kContextPositions, std::span<const std::int64_t>(rank.context_position));
      recorder.write(path::kContextExpertIds,
                     std::span<const std::int32_t>(rank.context_expert_ids));
      write_logits(path::kContextRouterLogits, rank.context_router_logits);
    }
  }
  recorder.write(path::kTokensPerExpert, std::span<const std::int64_t>(rank.tokens_per_expert));
  if (!rank.most_roundings.empty()) {
    recorder.write(path::kMostRoundings, rank.most_roundings);
  }
  recorder.write_scalar(path::kDispatchWireBytes, 100);
  recorder.write_scalar(path::kCombineWireBytes, 200);
  recorder.write_scalar(path::kDispatchLogicalBytes, 300);
  recorder.write_scalar(path::kCombineLogicalBytes, 400);
  recorder.write_scalar(path::kTrafficCountsWaitNs, 50);
  if (rank.status != RunStatus::running) {
    recorder.finish(rank.status, rank.failure);
  }
}

}  // namespace

std::size_t SyntheticRank::row_of(std::int64_t request, std::int64_t at_position) const {
  for (std::size_t row = 0; row < request_id.size(); ++row) {
    if (request_id[row] == request && position[row] == at_position) {
      return row;
    }
  }
  throw std::out_of_range("no such token on this rank");
}

std::filesystem::path SyntheticRun::write(const std::filesystem::path& parent) const {
  std::filesystem::path folder = parent / policy;
  std::filesystem::create_directories(folder);
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    if (!ranks[i].is_missing) {
      write_rank(*this, i, folder / rank_file_name(static_cast<std::int64_t>(i)));
    }
  }
  return folder;
}

SyntheticRank& SyntheticRun::rank_of(std::int64_t request) {
  for (SyntheticRank& rank : ranks) {
    for (const std::int64_t id : rank.requests) {
      if (id == request) {
        return rank;
      }
    }
  }
  throw std::out_of_range("no such request");
}

SyntheticRun make_synthetic_run(int num_ranks, const std::string& policy) {
  SyntheticRun run;
  run.policy = policy;
  run.expert_parallel = num_ranks;
  run.schedule = {.name = policy,
                  .num_ubatches = 1,
                  .digest = "d",
                  .ops = {{-1, 0, "embed", "compute", {}},
                          {2, 0, "attention", "compute", {0}},
                          {2, 0, "dispatch", "comm", {1}},
                          {2, 0, "experts", "compute", {2}}}};
  run.ranks.resize(static_cast<std::size_t>(num_ranks));
  for (std::size_t request = 0; request < kLengths.size(); ++request) {
    add_request(run.ranks[request * run.ranks.size() / kLengths.size()],
                static_cast<std::int64_t>(request));
  }
  SyntheticRank& with_context = run.rank_of(5);
  with_context.context_request_id = {5, 5};
  with_context.context_position = {-2, -1};
  for (SyntheticRank& rank : run.ranks) {
    add_tensors(rank);
  }
  add_synthetic_iterations(run, 3, 0, 1, 1);
  return run;
}

void add_synthetic_iterations(
    SyntheticRun& run, int timed, int profiled, int variants, std::size_t steps) {
  for (SyntheticRank& rank : run.ranks) {
    // Over all ranks the sum is the same on every grid.
    std::int64_t base = 0;
    for (const std::int64_t request : rank.requests) {
      base += 1000 + request;
    }
    const auto row = [&](int variant, std::size_t step) -> HashRow {
      const auto own = base * (1 + variant) * static_cast<std::int64_t>(1 + step);
      return {variant, 0, {own, 2 * own, 3 * own}};
    };
    const auto fill = [&](int count, std::vector<std::vector<HashRow>>& rows) {
      rows.assign(static_cast<std::size_t>(count), {});
      for (int i = 0; i < count; ++i) {
        for (std::size_t step = 0; step < steps; ++step) {
          rows[static_cast<std::size_t>(i)].push_back(row(i % variants, step));
        }
      }
    };
    fill(timed, rank.timed_hashes);
    fill(profiled, rank.profiled_hashes);
    fill(variants, rank.poisoned_hashes);
    rank.step_ns.assign(static_cast<std::size_t>(timed) * steps, 1000);
    if (timed == 3 && steps == 1) {
      rank.step_ns = {1000, 2000, 3000};
    }
  }
}

void add_synthetic_profile(SyntheticRun& run) {
  run.schedule = {.name = "dual_batch",
                  .num_ubatches = 2,
                  .digest = "d2",
                  .ops = {{0, 0, "attention", "compute", {}},
                          {0, 0, "dispatch", "comm", {0}},
                          {0, 1, "attention", "compute", {}},
                          {0, 1, "dispatch", "comm", {2}},
                          {0, 0, "experts", "compute", {1}}}};
  constexpr std::int64_t shared_origin = 5'000'000'000;
  for (std::size_t i = 0; i < run.ranks.size(); ++i) {
    SyntheticRank& rank = run.ranks[i];
    rank.clock_offset_ns = i == 0 ? 0 : 1'000'000'000;
    const auto at = [&](std::vector<std::int64_t> times) {
      for (std::int64_t& time : times) {
        time += time < 0 ? 0 : shared_origin - rank.clock_offset_ns;
      }
      return times;
    };
    const std::int64_t origin = shared_origin - rank.clock_offset_ns;
    // Rank 1 comes to the first dispatch 8 us later.
    SyntheticProfile profile;
    profile.passes = {{origin,
                       origin + 100'000,
                       at({2'000, i == 0 ? 22'000 : 30'000, 24'000, 46'000, 50'000}),
                       at({20'000, i == 0 ? 40'000 : 42'000, 44'000, 60'000, 90'000})},
                      {origin + 200'000,
                       origin + 280'000,
                       at({200'000, -1, 215'000, -1, 231'000}),
                       at({215'000, -1, 231'000, -1, 271'000})},
                      {origin + 300'000,
                       origin + 330'000,
                       at({-1, i == 0 ? 300'000 : 304'000, -1, 312'000, -1}),
                       at({-1, 312'000, -1, 324'000, -1})}};
    profile.enqueued_ns = at({1'000, 21'000, 23'000, 45'000, 47'000});
    profile.hand_off_wait_ns = {0, 1'000, 1'000, 1'000, 1'000};
    rank.profiles = {profile};
  }
}

}  // namespace dovetail
