// Routing and hidden states that an earlier run has recorded, for the tokens of this rank: rows are
// matched by request and position, so that the runs may have different grids.
#pragma once

#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/config/experiment.hpp"
#include "framework/plan/workload.hpp"
#include "framework/step/model.hpp"

namespace dovetail {

/// Expert ids of each step, [layers, tokens, k] int64 on the host. Local. Throws InputError where
/// the policy folder holds other layers, another k, experts that the model does not have, or not
/// all of this rank's tokens.
std::vector<at::Tensor> read_routing(const std::string& folder,
                                     const RankWorkload& workload,
                                     const Model& model);

/// Hidden states of each step, [tokens, hidden] in the model's dtype on the host. Local. Throws
/// InputError unless the policy folder is of the stage that ends where the experiment's begins, on
/// the same workload.
std::vector<at::Tensor> read_hidden(const std::string& folder,
                                    const RankWorkload& workload,
                                    const Model& model,
                                    const Experiment& experiment);

/// The experiment of the run that a policy folder is of. Throws InputError where its layers are not
/// `own`'s.
Experiment read_source_experiment(const std::string& folder, const ModelConfig& own);

}  // namespace dovetail
