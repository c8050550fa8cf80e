// Embedding and lm_head where the config ties them. What is stored decides, as in transformers
// (tie_weights of modeling_utils.py): of one alone both are made, and two are one only if they are
// equal.
#pragma once

#include <ATen/core/Tensor.h>

#include "framework/step/weight_source.hpp"
#include "models/decoder/config.hpp"
#include "models/decoder/weights.hpp"

namespace dovetail {

/// Names, and an lm_head of its own, by which of two tied matrices are stored.
void tie_what_is_stored(const WeightSource& source, MoeDecoderWeights& weights);

/// Gives back the second of two equal matrices; on the meta device none is known to be equal.
void tie_what_is_equal(MoeDecoderWeights& weights);

/// Whether a rank keeps both although the config ties them. Reads nothing unless both are stored,
/// and then a few rows at a time, up to the first that differ. Throws what their reading throws.
bool keeps_both_tied(const MoeDecoderConfig& config, WeightSource& source, at::ScalarType dtype);

}  // namespace dovetail
