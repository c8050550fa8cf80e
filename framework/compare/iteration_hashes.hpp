// The hashes of a policy's iterations over all ranks, as tables of steps.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "framework/compare/verify_iterations.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {

/// One step of one iteration, on all ranks.
struct HashedStep {
  IterationKind kind = IterationKind::timed;
  std::int64_t iteration = 0;  ///< within its kind; poisoned: the variant
  std::int64_t step = 0;
  std::int64_t variant = 0;
  std::vector<std::int64_t> schedules;  ///< of the iteration's steps up to this one
  std::vector<StepHash> hashes;         ///< by rank

  /// What steps that ran alike have in common.
  auto way() const { return std::tuple(variant, step, schedules); }

  /// The hash of all ranks' rows, which does not depend on which rank holds which.
  StepHash over_ranks() const;
};

/// All of a complete policy folder, in order of kind, iteration, step.
struct IterationHashes {
  std::int64_t num_variants = 1;
  std::int64_t steps_per_iteration = 1;
  std::vector<HashedStep> steps;
  double hash_share = -1;               ///< IterationsReport::hash_share
  std::vector<bool> untouched_changed;  ///< by rank: keys and values that no step may write

  /// The steps whose outputs are recorded: of the last timed iteration of each variant, by variant
  /// and step.
  std::map<std::pair<std::int64_t, std::int64_t>, const HashedStep*> recorded() const;
};

/// Whether all ranks' files have hashes (schema version 4).
bool has_iteration_hashes(const PolicyFolder& folder);

/// Throws InputError where a timed step has no hash, or where ranks contradict one another about
/// the number of iterations, steps or variants, or about the schedule of a step.
IterationHashes read_iteration_hashes(const PolicyFolder& folder);

}  // namespace dovetail
