// Reads the parts of a config.json that decoders share, as transformers 4 or 5 writes them. Each
// throws InputError naming file and key: what is missing, of the wrong type or out of range, and
// sizes that do not divide.
#pragma once

#include <string>

#include "models/decoder/config.hpp"
#include "models/hf_config.hpp"

namespace dovetail {

/// Throws InputError for another model_type, and for features that change the outputs and are not
/// built (sliding windows, quantization, ...).
void refuse_what_is_not_built(const HfConfig& file, const std::string& model_type);

/// Vocabulary, hidden size, epsilon, tied embeddings, dtype of the published weights.
void read_sizes(const HfConfig& file, MoeDecoderConfig& config);

/// Needs hidden_size.
void read_attention(const HfConfig& file, MoeDecoderConfig& config);

/// Needs head_dim.
void read_rope(const HfConfig& file, MoeDecoderConfig& config);

/// Routed experts.
void read_experts(const HfConfig& file, MoeDecoderConfig& config);

/// Which layers are dense, and the size of these: num_hidden_layers, decoder_sparse_step,
/// mlp_only_layers, intermediate_size.
void read_layers(const HfConfig& file, MoeDecoderConfig& config);

}  // namespace dovetail
