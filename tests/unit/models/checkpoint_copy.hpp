// Checkpoints written by tests: the parameters of a model, changed as a test wants them.
#pragma once

#include <map>
#include <string>

#include <ATen/core/Tensor.h>
#include <nlohmann/json.hpp>

#include "framework/step/architecture.hpp"
#include "framework/step/weight_source.hpp"

namespace dovetail {

using Tensors = std::map<std::string, at::Tensor>;

/// What `source` gives for every parameter that one rank of the architecture reads, under the names
/// of the requests.
Tensors parameters_of(const Architecture& architecture,
                      WeightSource& source,
                      at::ScalarType dtype = at::kFloat);

/// Writes model.safetensors and, where it is not null, config.json; both must not be there. Types:
/// float32, float16, bfloat16, and the floats of 8 bits that checkpoints have.
void write_checkpoint(const std::string& folder,
                      const nlohmann::json& config,
                      const Tensors& tensors);

}  // namespace dovetail
