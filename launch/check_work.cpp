#include "launch/check_work.hpp"

#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/compare/table.hpp"
#include "framework/run/phase_work.hpp"

namespace dovetail {
namespace {

int rank_with_most_tokens(const CheckedRun& run) {
  int most = 0;
  const auto tokens_of = [&](int rank) {
    return run.workloads[static_cast<std::size_t>(rank)].steps.front().batch.num_tokens();
  };
  for (int rank = 1; rank < run.grid.world_size; ++rank) {
    if (tokens_of(rank) > tokens_of(most)) {
      most = rank;
    }
  }
  return most;
}

OrderedJson describe_phase(const PhaseWork& work) {
  return {{"flops", work.flops},
          {"weight_bytes", work.weight_bytes},
          {"cache_read_bytes", work.cache_read_bytes},
          {"cache_written_bytes", work.cache_written_bytes},
          {"sent_bytes", work.sent_bytes},
          {"received_bytes", work.received_bytes}};
}

/// The phases that cost something, then all of them.
OrderedJson describe_phases(const WorkByPhase& work) {
  OrderedJson phases = OrderedJson::object();
  PhaseWork total;
  for (int phase = 0; phase < kNumPhases; ++phase) {
    const auto& own = work[static_cast<std::size_t>(phase)];
    total += own;
    if (own.flops + own.memory_bytes() + own.sent_bytes + own.received_bytes > 0) {
      phases[std::string(to_string(static_cast<Phase>(phase)))] = describe_phase(own);
    }
  }
  phases["total"] = describe_phase(total);
  return phases;
}

std::string scaled(const OrderedJson& value, double unit, int digits = 2) {
  return format_fixed(value.get<double>() / unit, digits);
}

void print_phases(const OrderedJson& phases) {
  constexpr double mebi = 1 << 20;
  TextTable table({{"phase", TextTable::Align::left},
                   {"GFLOP"},
                   {"weights [MiB]"},
                   {"cache read [MiB]"},
                   {"cache written [MiB]"},
                   {"FLOP a byte"},
                   {"sent [MiB]"},
                   {"received [MiB]"}});
  for (const auto& [name, phase] : phases.items()) {
    const double bytes = phase["weight_bytes"].get<double>() +
                         phase["cache_read_bytes"].get<double>() +
                         phase["cache_written_bytes"].get<double>();
    table.add_row({name,
                   scaled(phase["flops"], 1e9, 3),
                   scaled(phase["weight_bytes"], mebi),
                   scaled(phase["cache_read_bytes"], mebi),
                   scaled(phase["cache_written_bytes"], mebi),
                   bytes > 0 ? scaled(phase["flops"], bytes) : "-",
                   scaled(phase["sent_bytes"], mebi),
                   scaled(phase["received_bytes"], mebi)});
  }
  std::cout << table.to_string();
}

}  // namespace

OrderedJson describe_work(const CheckedRun& run) {
  const int rank = rank_with_most_tokens(run);
  auto policies = OrderedJson::array();
  for (std::size_t policy = 0; policy < run.policies.size(); ++policy) {
    policies.push_back({{"name", run.experiment.policies[policy].name},
                        {"tokens_of_ubatches", tokens_of_step(run, policy, rank, 0)},
                        {"phases", describe_phases(work_of_step(run, policy, rank, 0))}});
  }
  return {{"step", 0}, {"rank", rank}, {"policies", policies}};
}

void print_work(const OrderedJson& work) {
  std::vector<std::pair<OrderedJson, std::vector<std::string>>> cuts;
  std::map<std::string, OrderedJson> phases;
  for (const auto& policy : work["policies"]) {
    const auto& tokens = policy["tokens_of_ubatches"];
    if (phases.emplace(tokens.dump(), policy["phases"]).second) {
      cuts.push_back({tokens, {}});
    }
    for (auto& [cut, names] : cuts) {
      if (cut == tokens) {
        names.push_back(policy["name"]);
      }
    }
  }
  std::cout << "work of step 0 on rank " << work["rank"]
            << ", with experts as if drawn evenly and the rows that are needed:\n";
  for (const auto& [cut, names] : cuts) {
    if (cut != cuts.front().first) {
      std::cout << "\n";
    }
    std::string tokens;
    for (const auto& count : cut) {
      tokens += (tokens.empty() ? "" : " + ") + count.dump();
    }
    std::cout << join_names(names) << ", " << tokens << " tokens\n";
    print_phases(phases[cut.dump()]);
  }
  std::cout << "\n";
}

}  // namespace dovetail
