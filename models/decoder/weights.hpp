// All weights of a decoder on one rank: how they are laid out, named and read.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/step/architecture.hpp"
#include "framework/step/weight_source.hpp"
#include "models/decoder/config.hpp"
#include "models/layers/attention.hpp"
#include "models/layers/experts.hpp"
#include "models/layers/latent_attention.hpp"
#include "models/layers/mlp.hpp"

namespace dovetail {

struct MoeDecoderLayerWeights {
  at::Tensor input_norm;                    ///< [H], before attention
  at::Tensor post_attention_norm;           ///< [H], before the experts or the dense feed-forward
  AttentionWeights attention;               ///< one of the two
  LatentAttentionWeights latent_attention;  ///< where the config has such sizes
  at::Tensor router;                        ///< [E, H]; MoE layers, as the next three
  at::Tensor router_bias;                   ///< [E] float32, or undefined
  ExpertWeights experts;                    ///< the rank's own
  MlpWeights shared_experts;                ///< undefined where the model has none
  at::Tensor shared_expert_gate;            ///< [1, H], or undefined
  MlpWeights mlp;                           ///< dense layers
};

/// The names of the two matrices that may be tied.
inline constexpr const char* kEmbeddingName = "model.embed_tokens.weight";
inline constexpr const char* kLmHeadName = "lm_head.weight";

struct MoeDecoderWeights {
  at::Tensor embedding;                        ///< [vocabulary, H]; of the first stage
  std::vector<MoeDecoderLayerWeights> layers;  ///< of the stage
  at::Tensor final_norm;                       ///< [H]; of the last stage, as the next
  at::Tensor lm_head;  ///< [vocabulary, H]; the embedding itself where the two are tied and the
                       ///< stage is the first, too
  std::string embedding_name = kEmbeddingName;  ///< under which the two were read
  std::string lm_head_name = kLmHeadName;
};

/// Parts of the memory estimate, in the order in which they are reported.
enum class MoeDecoderPart {
  embedding,
  norms,
  attention,
  router,
  experts,
  shared_experts,
  dense_layers,
  lm_head
};

/// Its name.
inline constexpr const char* kLmHeadPart = "lm_head";

/// Receives every parameter of the stage once, in the order of the checkpoint's layers, under the
/// model's own layer numbers. Tensors are contiguous views that cover the rank's weights exactly.
struct MoeDecoderVisitor {
  /// A parameter that every rank holds, under its name in a checkpoint.
  std::function<void(MoeDecoderPart part, const std::string& name, const at::Tensor& values)>
      replicated;
  /// The rank's experts of one layer; `prefix` is e.g. "model.layers.3.mlp".
  std::function<void(const std::string& prefix, const ExpertWeights& experts)> experts;
};

/// Tensors of one rank, values not set, tied as the config says. On the meta device they cost no
/// memory.
MoeDecoderWeights allocate_decoder(const MoeDecoderConfig& config, const ModelPlacement& placement);

void visit_decoder(const MoeDecoderConfig& config,
                   const MoeDecoderWeights& weights,
                   const MoeDecoderVisitor& visitor);

/// Reads every parameter of the rank once, in the visitor's order. Where the config ties embedding
/// and lm_head, what is stored decides (tied_weights.hpp).
MoeDecoderWeights read_decoder(const MoeDecoderConfig& config,
                               WeightSource& source,
                               const ModelPlacement& placement);

/// Bytes of each part, parts without any included.
std::vector<MemoryPart> memory_of_decoder(const MoeDecoderConfig& config,
                                          const MoeDecoderWeights& weights);

}  // namespace dovetail
