// The architecture qwen3_moe: Qwen3-MoE models as published (e.g. Qwen/Qwen3-30B-A3B), whole or a
// range of their layers. Reference: modeling_qwen3_moe.py of transformers 5.17, and for M-RoPE
// modeling_qwen3_vl_moe.py.
#pragma once

#include <memory>
#include <string>

#include "framework/config/experiment.hpp"
#include "framework/step/architecture.hpp"
#include "models/decoder/config.hpp"

namespace dovetail {

/// Reads a config.json as transformers 4 or 5 writes it. Throws InputError naming file and key.
MoeDecoderConfig read_qwen3_moe_config(const std::string& path);

/// Reads the config.json. Throws InputError naming file and key, also for layers that the model
/// does not have.
std::unique_ptr<Architecture> make_qwen3_moe(const ModelConfig& model);

}  // namespace dovetail
