// The architecture glm4_moe: GLM-4.5 models as published (e.g. zai-org/GLM-4.5-Air), whole or a
// range of their layers. Reference: modeling_glm4_moe.py of transformers 5.17.
#pragma once

#include <memory>
#include <string>

#include "framework/config/experiment.hpp"
#include "framework/step/architecture.hpp"
#include "models/decoder/config.hpp"

namespace dovetail {

/// Reads a config.json as transformers 4 or 5 writes it. Throws InputError naming file and key.
MoeDecoderConfig read_glm4_moe_config(const std::string& path);

/// Reads the config.json. Throws InputError naming file and key, also for layers that the model
/// does not have.
std::unique_ptr<Architecture> make_glm4_moe(const ModelConfig& model);

}  // namespace dovetail
