// The architecture deepseek_v3: DeepSeek-V3 models as published (e.g. deepseek-ai/DeepSeek-V3), and
// Kimi-K2, whose configuration has a model_type of its own (kimi_k2), whole or a range of their
// layers. Reference: modeling_deepseek_v3.py of transformers 5.17.
#pragma once

#include <memory>
#include <string>

#include "framework/config/experiment.hpp"
#include "framework/step/architecture.hpp"
#include "models/decoder/config.hpp"

namespace dovetail {

/// Reads a config.json as transformers 4 or 5 writes it. Throws InputError naming file and key.
MoeDecoderConfig read_deepseek_v3_config(const std::string& path);

/// Reads the config.json. Throws InputError naming file and key, also for layers that the model
/// does not have.
std::unique_ptr<Architecture> make_deepseek_v3(const ModelConfig& model);

}  // namespace dovetail
