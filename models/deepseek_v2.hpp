// The architecture deepseek_v2: DeepSeek-V2 models as published (e.g.
// deepseek-ai/DeepSeek-V2-Lite), whole or a range of their layers. Reference:
// modeling_deepseek_v2.py of transformers 5.17.
#pragma once

#include <memory>
#include <string>

#include "framework/config/experiment.hpp"
#include "framework/step/architecture.hpp"
#include "models/decoder/config.hpp"

namespace dovetail {

/// Reads a config.json as transformers 4 or 5 writes it. Throws InputError naming file and key.
MoeDecoderConfig read_deepseek_v2_config(const std::string& path);

/// Reads the config.json. Throws InputError naming file and key, also for layers that the model
/// does not have.
std::unique_ptr<Architecture> make_deepseek_v2(const ModelConfig& model);

}  // namespace dovetail
