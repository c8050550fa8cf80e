// Rules that tie values of an experiment to each other, to the build and to the number of ranks.
// What upper layers offer is passed in, so that config knows none of them.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "framework/config/load.hpp"

namespace dovetail {

/// An overlap policy and how many ubatches, and groups of experts, it takes.
struct PolicyCapability {
  std::string name;
  int min_ubatches = 1;
  int max_ubatches = 1;
  int default_ubatches = 1;
  int max_groups = 1;
};

/// An exchange back end and what it needs.
struct ExchangeCapability {
  std::string name;
  bool on_cpu = true;
  bool on_gpu = false;
  GraphMode max_graph = GraphMode::none;  ///< on a GPU: how much of a step can be captured
  bool built = true;                      ///< false: named by the design, refused by that name
};

/// What is wrong with a part of an experiment, and where in it ("moe[1][0]", "" = the whole).
struct ConfigProblem {
  std::string place;
  std::string message;
};

/// What this build offers, by name.
struct Capabilities {
  std::vector<std::string> architectures;
  std::vector<PolicyCapability> policies;
  std::vector<std::string> splits;            ///< "sizes" among them: explicit sizes
  std::vector<ExchangeCapability> exchanges;  ///< "auto" is known without being named here
  std::vector<std::string> phases;            ///< of an op, for `fault`
  bool cuda = false;  ///< built with CUDA; whether there is a GPU is not asked
  /// Finds what is wrong with the stages of a policy; empty = stages are not looked at.
  std::function<std::optional<ConfigProblem>(const StagesConfig&, int num_groups)>
      find_stages_problem = nullptr;
};

/// Number of ubatches of a policy: as stated, or the overlap policy's default.
int num_ubatches(const PolicyConfig& policy, const PolicyCapability& capability);

/// Throws InputError, at the place of the value, for the first broken rule: names that are unknown
/// (the known ones are listed) or not built yet, policy names, ubatches, groups, stages, what auto
/// needs,
/// splits, thresholds, what the device can run (leniently for `auto`: validate_execution.hpp),
/// verification, and, where num_ranks is known, the world, rank_scale and the
/// fault's rank.
void validate(const LoadedExperiment& loaded,
              const Capabilities& capabilities,
              std::optional<int> num_ranks = std::nullopt);

/// The first key, "workload.seed", that two stages of one pipeline must state alike and do not;
/// empty = none. Of execution it is dtype only.
std::string find_difference_of_stages(const Experiment& before, const Experiment& own);

}  // namespace dovetail
