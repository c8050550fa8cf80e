// The stages of `dovetail run` before the first step: the experiment that all ranks agree on, the
// model, the result folder.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "framework/config/experiment.hpp"
#include "framework/device/rank_context.hpp"
#include "framework/plan/workload.hpp"
#include "launch/commands.hpp"
#include "models/architecture.hpp"

namespace dovetail {

/// Rank 0 reads the file and broadcasts it; every rank parses and validates the same text.
/// Collective over the world. Throws AgreedError.
Experiment agree_on_experiment(const MpiSession& session, const RunOptions& options);

/// Bounded by the experiment's timeout_s; polls for signals and failed peers.
WaitPolicy make_wait_policy(const Experiment& experiment,
                            FailureChannel& failures,
                            const SignalWatch& signals);

/// As `wait`, for the stages in which ranks legitimately wait for one another's disk: ten minutes
/// at least.
WaitPolicy patient(const WaitPolicy& wait);

/// The experiment's architecture, from its config.json. Collective over the world. Throws
/// AgreedError.
std::unique_ptr<Architecture> read_architecture(const RankContext& context);

/// The model of this rank: dp_rank 0 reads the weights, its replicas receive them. Collective over
/// the world. Throws AgreedError.
std::unique_ptr<Model> load_model(const RankContext& context, const Architecture& architecture);

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

/// Expert ids [layers, tokens, k] int64 for `workload.routing: {replay: DIR}`, from the routing
/// that a policy folder has recorded, matched by request and position; undefined where the
/// experiment routes naturally. Collective over the world. Throws AgreedError where the folder
/// holds no such routing.
at::Tensor load_replay_routing(const RankContext& context,
                               const RankWorkload& workload,
                               const Model& model);

}  // namespace dovetail
