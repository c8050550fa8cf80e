// The stages of `dovetail run` before the first step, beside what is resolved (resolve.hpp): the
// workload, the model, the result folder.
#pragma once

#include <memory>
#include <string>

#include "framework/plan/workload.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/run/run_context.hpp"
#include "framework/run/run_options.hpp"
#include "framework/step/model_catalog.hpp"
#include "framework/step/rank_device.hpp"

namespace dovetail {

/// Bounded by the experiment's timeout_s; polls for signals and failed peers.
WaitPolicy make_wait_policy(const Experiment& experiment,
                            FailureChannel& failures,
                            const SignalWatch& signals);

/// The experiment's architecture, from its config.json. Collective over the world. Throws
/// AgreedError.
std::unique_ptr<Architecture> read_architecture(const RunContext& context,
                                                const ModelCatalog& models);

/// This rank's requests and tokens. Collective over the world. Throws AgreedError where a trace is
/// wrong or ranks read different ones.
RankWorkload read_workload(const RunContext& context, const Architecture& architecture);

/// The model of this rank: dp_rank 0 reads the weights, its replicas receive them. Collective over
/// the world. Throws AgreedError for what all ranks of a dp group know of (a file that cannot be
/// read). A failure of one rank alone is thrown as it is, and its peers are still waiting: the
/// caller reports it, which ends them.
std::unique_ptr<Model> load_model(const RunContext& context,
                                  const ModelCatalog& models,
                                  const Architecture& architecture,
                                  RankDevice& device);

/// Rank 0 makes the result folder, for this run alone, and writes experiment.yaml into it, or takes
/// up that of an earlier start; all ranks return its path. Collective over the world. Throws
/// AgreedError where the folder exists and is not empty, is not of an earlier start, or another run
/// writes into it.
RunFolder make_run_folder(const RunContext& context, const RunOptions& options);

/// Digests that identify a run's weights and inputs whatever the grid, as hexadecimal text.
struct RunDigests {
  std::string weights;
  std::string inputs;
};

/// Collective over the world. Throws RunError where replicas hold different weights.
RunDigests agree_on_digests(const RunContext& context,
                            const Model& model,
                            const RankWorkload& workload);

}  // namespace dovetail
