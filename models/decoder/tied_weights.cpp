#include "models/decoder/tied_weights.hpp"

#include <algorithm>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/equal.h>

namespace dovetail {

void tie_what_is_stored(const WeightSource& source, MoeDecoderWeights& weights) {
  if (!source.is_stored(kLmHeadName)) {
    return;
  }
  weights.lm_head_name = kLmHeadName;
  if (!source.is_stored(kEmbeddingName)) {
    weights.embedding_name = kLmHeadName;
  } else if (weights.lm_head.defined() && weights.embedding.defined()) {
    weights.lm_head = at::empty_like(weights.embedding);
  }
}

void tie_what_is_equal(MoeDecoderWeights& weights) {
  if (weights.lm_head.defined() && weights.embedding.defined() && !weights.embedding.is_meta() &&
      at::equal(weights.embedding, weights.lm_head)) {
    weights.lm_head = weights.embedding;
    weights.lm_head_name = weights.embedding_name;
  }
}

bool keeps_both_tied(const MoeDecoderConfig& config, WeightSource& source, at::ScalarType dtype) {
  constexpr std::int64_t most_rows = 1024;
  if (!config.tie_word_embeddings || !config.is_first_stage() || !config.is_last_stage() ||
      !source.is_stored(kEmbeddingName) || !source.is_stored(kLmHeadName)) {
    return false;
  }
  for (std::int64_t first = 0; first < config.vocab_size; first += most_rows) {
    const std::int64_t rows = std::min(most_rows, config.vocab_size - first);
    const auto read = [&](const char* name) {
      at::Tensor values = at::empty({rows, config.hidden_size}, dtype);
      source.read({.name = name,
                   .shape = {config.vocab_size, config.hidden_size},
                   .first_row = first,
                   .destination = values});
      return values;
    };
    if (!at::equal(read(kEmbeddingName), read(kLmHeadName))) {
      return true;
    }
  }
  return false;
}

}  // namespace dovetail
