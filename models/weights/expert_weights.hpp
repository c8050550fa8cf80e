// One rank's experts of one layer, from either layout that checkpoints of the Qwen MoE family have.
#pragma once

#include <string>

#include "framework/step/weight_source.hpp"

namespace dovetail {

/// The v4 names of one expert: "<prefix>.experts.<expert>.gate_proj.weight" and so on.
std::string expert_weight_name(const std::string& prefix, int expert, const char* projection);

/// Reads experts [first_expert, first_expert + E_local) of a layer. `prefix` is e.g.
/// "model.layers.3.mlp"; `gate_up` [E_local, 2I, H] (gate's rows first, then up's) and `down`
/// [E_local, H, I] are contiguous destinations.
/// Layouts: transformers 4, one tensor per expert and projection: gate_proj and up_proj [I, H],
/// down_proj [H, I]; transformers 5, stacked: "<prefix>.experts.gate_up_proj" [E, 2I, H] and
/// "<prefix>.experts.down_proj" [E, H, I] (modeling_qwen3_moe.py and conversion_mapping.py of
/// transformers 5.17). Throws what the source throws where neither is there.
void read_experts(WeightSource& source,
                  const std::string& prefix,
                  int first_expert,
                  int num_experts,
                  const at::Tensor& gate_up,
                  const at::Tensor& down);

}  // namespace dovetail
