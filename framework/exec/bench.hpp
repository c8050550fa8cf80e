// What `dovetail bench handoff|runner|plan` measures: costs of the machinery itself, with no work
// in the ops.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace dovetail {

/// Order statistics of one measured quantity.
struct BenchResult {
  std::string name;      ///< "handoff", "runner", "plan", ...
  std::string variant;   ///< "3 threads", "threads, with comm ops", ...
  std::string quantity;  ///< "ns per hand-off", "ns per op", "ns"
  std::size_t num_samples = 0;
  double median = 0;
  std::optional<double> p99;  ///< nothing with too few samples: has_percentile
  double min = 0;
  double max = 0;
};

/// Statistics of samples; throws ContractError where there are none. p99 is the smallest sample
/// that at least 99 % of all do not exceed.
BenchResult summarize(std::string name,
                      std::string variant,
                      std::string quantity,
                      std::vector<double> samples);

/// Hand-offs around a ring of N = 2, 3, 4 threads, each op by another thread: ns from the release
/// to the moment that the next thread has the baton (hand_off_wait_ns of the op times), a sample a
/// hand-off. `next_may_spin`: for kShortSpin, else not at all.
std::vector<BenchResult> bench_handoff(bool next_may_spin, int num_rounds = 20'000);

/// Runner, baton and host executor with a body that does nothing: 8 layers, dual_batch, N = 2; ns
/// per op of a whole step, a sample a step. Variants: threads and inline, each with all ops, with
/// the comm ops left out of the pass, with every op on the compute lane, and that with the board
/// which a run keeps for its failure reports (some 45 ns an op: below 0.1 % of a step).
std::vector<BenchResult> bench_runner(bool next_may_spin, int num_steps = 2'000);

/// Making, checking and digesting a schedule of 61 layers (3 dense, 58 MoE with shared experts) and
/// 8 ubatches, and reading it back from JSON with the checks; ns.
std::vector<BenchResult> bench_plan(int num_samples = 50);

/// {"name": .., "variant": .., "quantity": .., "samples": n, "median": .., "p99": .. or null,
/// "min": .., "max": ..}
void to_json(nlohmann::json& json, const BenchResult& result);

}  // namespace dovetail
