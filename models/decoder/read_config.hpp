// Reads the parts of a config.json that decoders share, as transformers 4 or 5 writes them. Each
// throws InputError naming file and key: what is missing, of the wrong type or out of range, and
// sizes that do not divide.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/decoder/config.hpp"
#include "models/hf_config.hpp"

namespace dovetail {

/// The file, in which the keys that it may leave out have the values of the first of these
/// architectures (absent_keys.hpp). model_type must be one of them, hidden_act silu.
HfConfig read_file_of(const std::string& path, const std::vector<std::string>& model_types);

/// Vocabulary, hidden size, epsilon, tied embeddings, dtype of the published weights.
void read_sizes(const HfConfig& file, MoeDecoderConfig& config);

/// Heads and their size. Needs hidden_size.
void read_attention(const HfConfig& file, MoeDecoderConfig& config);

/// Heads, ranks of latents, sizes and rotary embeddings, as DeepSeek's models have them.
void read_latent_attention(const HfConfig& file, MoeDecoderConfig& config);

/// Number of experts and of choices.
void read_experts(const HfConfig& file, MoeDecoderConfig& config);

/// The same of DeepSeek's models and those after them: n_routed_experts of moe_intermediate_size,
/// routed_scaling_factor, and the shared experts.
void read_routed_experts(const HfConfig& file, MoeDecoderConfig& config);

/// n_shared_experts of moe_intermediate_size.
void read_shared_experts(const HfConfig& file, MoeDecoderConfig& config);

/// n_group and topk_group, which the routers of some models need. Needs the experts.
void read_expert_groups(const HfConfig& file, GroupScore score, MoeDecoderConfig& config);

/// The router of DeepSeek-V3 (scoring_func sigmoid, topk_method noaux_tc): biased sigmoids, groups
/// by the sum of their two best, norm_topk_prob. Needs the experts.
void read_sigmoid_router(const HfConfig& file, MoeDecoderConfig& config);

/// The first first_k_dense_replace layers are dense.
void read_dense_first_layers(const HfConfig& file, MoeDecoderConfig& config);

/// Number and types of the layers, of which full_attention alone is built.
void read_layer_types(const HfConfig& file, MoeDecoderConfig& config);

/// The same, and which layers are dense, and the size of these: num_hidden_layers,
/// decoder_sparse_step, mlp_only_layers, intermediate_size.
void read_layers(const HfConfig& file, MoeDecoderConfig& config);

/// Throws InputError where use_sliding_window is true; sliding_window alone is a size of what is
/// not used, in models that have both keys.
void refuse_sliding_windows(const HfConfig& file);

}  // namespace dovetail
