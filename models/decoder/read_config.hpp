// Reads the parts of a config.json that decoders share, as transformers 4 or 5 writes them. Each
// throws InputError naming file and key: what is missing, of the wrong type or out of range, and
// sizes that do not divide.
#pragma once

#include <string>

#include "models/decoder/config.hpp"
#include "models/hf_config.hpp"

namespace dovetail {

/// model_type must be this one, hidden_act silu.
void check_kind(const HfConfig& file, const std::string& model_type);

/// Vocabulary, hidden size, epsilon, tied embeddings, dtype of the published weights.
void read_sizes(const HfConfig& file, MoeDecoderConfig& config);

/// Heads and their size. Needs hidden_size.
void read_attention(const HfConfig& file, MoeDecoderConfig& config);

/// Number of experts and of choices.
void read_experts(const HfConfig& file, MoeDecoderConfig& config);

/// Number and types of the layers, of which full_attention alone is built.
void read_layer_types(const HfConfig& file, MoeDecoderConfig& config);

/// The same, and which layers are dense, and the size of these: num_hidden_layers,
/// decoder_sparse_step, mlp_only_layers, intermediate_size.
void read_layers(const HfConfig& file, MoeDecoderConfig& config);

/// Throws InputError where use_sliding_window is true; sliding_window alone is a size of what is
/// not used, in models that have both keys.
void refuse_sliding_windows(const HfConfig& file);

}  // namespace dovetail
