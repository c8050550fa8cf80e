// From the tensors of an iteration to the datasets of a rank file.
#pragma once

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/comm/exchange/exchange.hpp"
#include "framework/config/experiment.hpp"
#include "framework/plan/workload.hpp"
#include "framework/record/recorder.hpp"
#include "framework/step/iteration.hpp"
#include "framework/step/step_inputs.hpp"

namespace dovetail {

/// What the steps of all variants have written, in order of steps; [tokens or requests, ...].
void record_outputs(const RecordConfig& record,
                    const std::vector<StepOutputs>& steps,
                    RankRecorder& recorder);

/// Writes /context_route: which tokens filled the cache, and how they were routed. Nothing where
/// the rank has no context.
void record_context_routing(const RankWorkload& workload,
                            const Iteration& iteration,
                            RankRecorder& recorder);

/// With `kv` among the outputs: the keys and values that the steps have left in the cache, a row a
/// token and layer, in order of steps.
void record_kv(const RecordConfig& record, Iteration& iteration, RankRecorder& recorder);

/// Sums since the exchange's last reset, and the rows of each local expert over the same steps
/// [layers, experts_per_rank].
void record_traffic(const Traffic& traffic,
                    const std::vector<std::int64_t>& tokens_per_expert,
                    RankRecorder& recorder);

}  // namespace dovetail
