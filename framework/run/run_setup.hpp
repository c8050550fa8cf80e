// The stages of `dovetail run` before the first step: the experiment that all ranks agree on, the
// model, the result folder.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "framework/config/experiment.hpp"
#include "framework/config/sweep.hpp"
#include "framework/config/validate.hpp"
#include "framework/plan/workload.hpp"
#include "framework/run/run_options.hpp"
#include "framework/step/model_catalog.hpp"
#include "framework/step/rank_context.hpp"
#include "framework/step/rank_device.hpp"

namespace dovetail {

/// Rank 0 reads the file and broadcasts it; every rank parses and validates the same text, in a
/// sweep every point. Collective over the world. Throws AgreedError.
Sweep agree_on_sweep(const MpiSession& session,
                     const RunOptions& options,
                     const Capabilities& capabilities);

/// The experiment of a point as it is run: validated, with the policies that the point has chosen
/// and the baseline. Pure. Throws InputError.
Experiment point_experiment(const Sweep& sweep,
                            std::size_t point,
                            int num_ranks,
                            const Capabilities& capabilities);

/// Bounded by the experiment's timeout_s; polls for signals and failed peers.
WaitPolicy make_wait_policy(const Experiment& experiment,
                            FailureChannel& failures,
                            const SignalWatch& signals);

/// The experiment's architecture, from its config.json. Collective over the world. Throws
/// AgreedError.
std::unique_ptr<Architecture> read_architecture(const RankContext& context,
                                                const ModelCatalog& models);

/// This rank's requests and tokens. Collective over the world. Throws AgreedError where a trace is
/// wrong or ranks read different ones.
RankWorkload read_workload(const RankContext& context, const Architecture& architecture);

/// All that can be known to fail before weights are read: outputs that the stage does not have,
/// schedules, caches that are too small, and files of schedules or step times that differ between
/// ranks. Collective over the world. Throws AgreedError.
void check_policies(const RankContext& context,
                    const Architecture& architecture,
                    const RankWorkload& workload);

/// What the experiment asks of the device that `auto` has been resolved to. Collective over the
/// world. Throws AgreedError.
void check_device(const RankContext& context, const RankDevice& device);

/// The model of this rank: dp_rank 0 reads the weights, its replicas receive them. Collective over
/// the world. Throws AgreedError.
std::unique_ptr<Model> load_model(const RankContext& context,
                                  const ModelCatalog& models,
                                  const Architecture& architecture,
                                  RankDevice& device);

/// Rank 0 makes the result folder and writes experiment.yaml into it; all ranks return its path.
/// Collective over the world. Throws AgreedError where the folder exists and is not empty.
std::filesystem::path make_run_folder(const RankContext& context, const RunOptions& options);

/// Digests that identify a run's weights and inputs whatever the grid, as hexadecimal text.
struct RunDigests {
  std::string weights;
  std::string inputs;
};

/// Collective over the world. Throws RunError where replicas hold different weights.
RunDigests agree_on_digests(const RankContext& context,
                            const Model& model,
                            const RankWorkload& workload);

}  // namespace dovetail
