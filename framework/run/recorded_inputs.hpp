// Routing and hidden states that an earlier run has recorded, for the tokens of this rank: rows are
// matched by request and position, so that the runs may have different grids.
#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/config/experiment.hpp"
#include "framework/plan/workload.hpp"
#include "framework/record/schema.hpp"
#include "framework/step/model.hpp"

namespace dovetail {

/// Where a rank file holds a routing, and of which tokens.
struct RecordedRouting {
  const char* request_id;
  const char* positions;
  const char* expert_ids;
};

/// Of the steps, and of the contexts that fill the cache before them.
inline constexpr RecordedRouting kStepRouting = {
    path::kRequestId, path::kPositions, path::kExpertIds};
inline constexpr RecordedRouting kContextRouting = {
    path::kContextRequestId, path::kContextPositions, path::kContextExpertIds};

/// Expert ids of each step, [layers, tokens, k] int64 on the host. Local. Throws InputError where
/// the policy folder holds other layers, another k, experts that the model does not have, or not
/// all of this rank's tokens.
std::vector<at::Tensor> read_routing(const std::string& folder,
                                     const std::vector<StepWorkload>& steps,
                                     const RecordedRouting& recorded,
                                     const ModelShape& shape,
                                     const ModelDims& dims);

/// Hidden states of each step, [tokens, hidden] in the model's dtype on the host. Local. Throws
/// InputError unless the policy folder is of the stage that ends where the experiment's begins, on
/// the same workload.
std::vector<at::Tensor> read_hidden(const std::string& folder,
                                    const RankWorkload& workload,
                                    const ModelDims& dims,
                                    const Experiment& experiment);

/// Throws InputError where the layers of the run that a policy folder is of are not `own`'s.
void check_layers(const std::string& folder, const ModelConfig& own);

/// Throws what the readers above would throw on any of these ranks, in one reading of the files and
/// without memory for what they hold. Local.
void check_recorded_inputs(const Experiment& experiment,
                           const std::vector<RankWorkload>& ranks,
                           const ModelShape& shape,
                           const ModelDims& dims);

}  // namespace dovetail
