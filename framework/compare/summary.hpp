// The content of summary.json: one policy folder in one document.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>

#include <nlohmann/json_fwd.hpp>

#include "framework/compare/not_finite.hpp"
#include "framework/compare/verify.hpp"

namespace dovetail {

struct SummaryOptions {
  /// Of the same run; for speed-up and split tax. Empty = no baseline.
  std::filesystem::path baseline_dir;
  /// The verdict on this policy; nothing = it was not verified.
  std::optional<VerifyReport> verification;
  /// Of the baseline, which has no such verdict: whether its iterations left equal bits.
  std::optional<IterationsReport> iterations;
  /// The first NaN or Inf of the policy's recorded outputs; nothing = all are finite.
  std::optional<NotFinite> not_finite;
  /// Of a sweep: the point in which it was measured; nothing = in this run.
  std::optional<std::size_t> measured_in_point;
};

/// Identity, versions and environment (the root attributes of rank 0), step statistics, metrics,
/// decisions, traffic, verdict. A run that is not complete, whose verification found a mismatch,
/// whose iterations have a problem, or which is verified although its outputs are not finite (a
/// baseline), has null for all times ("timings": "invalid").
///
/// `not_finite` is null, or names the first NaN or Inf: not_finite.hpp.
///
/// `measured_in_point` is null, or the point of the sweep that the rank files are from.
///
/// `fault` is "none", or says what was injected into the policy: its times are no measurement.
///
/// `iterations` says how each iteration was judged: verify_iterations.hpp. `decisions` counts the
/// timed steps: how many ran as which graph, and why others were eager; `graphs` counts all steps
/// of the policy. `host_share` is the median of the host's time to enqueue a step over the step's.
/// `memory` holds bytes of the device, each of the fullest rank: peaks beside what a rank owns
/// (weights, cache, exchange buffers). What is not known is null.
///
/// Traffic is of the last timed iteration, over all of its steps and ubatches. Rows are counted in
/// each layer apart, because a layer waits for its own fullest rank, whatever the next one does:
///   tokens_per_expert  rows that each expert computed, n[layer][expert], replicas added; zeros in
///                      a layer without experts
///   imbalance_experts  [layer]: max_e n[layer][e] * experts / sum_e n[layer][e]; 1 in a layer
///                      without rows
///   tokens_per_rank    rows that the experts of each rank computed, m[layer][rank]
///   imbalance_ranks    sum_layer max_r m[layer][r] / sum_layer (sum_r m[layer][r] / ranks): how
///                      much longer the experts take than if all ranks had the same in each layer;
///                      1 where nothing was computed
///
/// Throws InputError where `policy_dir` does not exist or has no rank files.
nlohmann::json policy_summary(const std::filesystem::path& policy_dir,
                              const SummaryOptions& options = {});

}  // namespace dovetail
