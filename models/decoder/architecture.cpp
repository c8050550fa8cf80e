#include "models/decoder/architecture.hpp"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>
#include <variant>

#include "framework/base/check.hpp"
#include "framework/base/error.hpp"
#include "framework/base/text.hpp"
#include "models/decoder/model.hpp"
#include "models/decoder/renamed_weights.hpp"
#include "models/decoder/tied_weights.hpp"
#include "models/decoder/weights.hpp"
#include "models/layers/cuda/layers.hpp"

namespace dovetail {
namespace {

ModelShape shape_of(const MoeDecoderConfig& config) {
  ModelShape shape;
  for (int number = config.stage().first; number < config.stage().last; ++number) {
    const bool is_moe = config.is_moe_layer.at(static_cast<std::size_t>(number));
    shape.layers.push_back(
        {.is_moe = is_moe, .has_shared_experts = is_moe && config.shared_intermediate_size > 0});
  }
  return shape;
}

/// Products of one token in the linear layers of attention. In latent attention a token's own keys
/// and values, expanded, cost what absorbing its query and expanding its result do.
std::int64_t attention_products(const MoeDecoderConfig& config) {
  if (!config.latent) {
    return config.hidden_size * config.head_dim *
           (2 * config.num_attention_heads + 2 * config.num_key_value_heads);
  }
  const LatentAttentionDims& dims = *config.latent;
  const std::int64_t queries = dims.heads * dims.query_size();
  return (dims.q_lora_rank > 0 ? dims.q_lora_rank * (config.hidden_size + queries)
                               : config.hidden_size * queries) +
         config.hidden_size * (dims.latent_size() + dims.heads * dims.v_head_dim) +
         dims.kv_lora_rank * dims.heads * (dims.qk_nope_head_dim + dims.v_head_dim);
}

TokenFlops token_flops(const MoeDecoderConfig& config) {
  const auto layers = shape_of(config).layers;
  const auto moe_layers = std::count_if(
      layers.begin(), layers.end(), [](const LayerShape& layer) { return layer.is_moe; });
  const auto flops = [](std::int64_t num_layers, std::int64_t products) {
    return 2.0 * static_cast<double>(num_layers * products);
  };
  const std::int64_t gate = config.has_shared_expert_gate ? 1 : 0;
  return {
      .attention = flops(std::ssize(layers), attention_products(config)),
      .route = flops(moe_layers, config.hidden_size * config.num_experts),
      .experts = flops(moe_layers,
                       3 * config.hidden_size * config.router.top_k * config.moe_intermediate_size),
      .shared_experts =
          flops(moe_layers, config.hidden_size * (3 * config.shared_intermediate_size + gate)),
      .mlp = flops(std::ssize(layers) - moe_layers,
                   3 * config.hidden_size * config.intermediate_size)};
}

/// q k^T and the weighted sum of v, for one query and one key, by the sizes of a head of each.
double attention_flops(const MoeDecoderConfig& config,
                       std::int64_t key_size,
                       std::int64_t value_size) {
  const LayerRange stage = config.stage();
  return 2.0 * static_cast<double>(config.num_attention_heads * (key_size + value_size)) *
         (stage.last - stage.first);
}

/// Of many queries of a request.
double flops_per_key(const MoeDecoderConfig& config) {
  return config.latent
             ? attention_flops(config, config.latent->query_size(), config.latent->v_head_dim)
             : attention_flops(config, config.head_dim, config.head_dim);
}

/// Of a request's only query, which is absorbed in latent attention.
double flops_per_decode_key(const MoeDecoderConfig& config) {
  return config.latent
             ? attention_flops(config, config.latent->latent_size(), config.latent->kv_lora_rank)
             : flops_per_key(config);
}

/// Of a latent of the context, which becomes a key and a value of each head.
double flops_per_expanded_key(const MoeDecoderConfig& config) {
  if (!config.latent) {
    return 0;
  }
  const LatentAttentionDims& dims = *config.latent;
  const LayerRange stage = config.stage();
  return 2.0 *
         static_cast<double>(dims.kv_lora_rank * dims.heads *
                             (dims.qk_nope_head_dim + dims.v_head_dim)) *
         (stage.last - stage.first);
}

ModelDims dims_of(const MoeDecoderConfig& config) {
  return {.hidden = config.hidden_size,
          .vocabulary = config.vocab_size,
          .kv_heads = config.latent ? 1 : config.num_key_value_heads,
          .head_dim = config.latent ? config.latent->latent_size() : config.head_dim,
          .caches_latents = config.latent.has_value(),
          .max_positions = config.rope.max_position_embeddings,
          .num_experts = static_cast<int>(config.num_experts),
          .top_k = static_cast<int>(config.router.top_k),
          .expert_groups = config.router.groups,
          .has_router_scores = config.router.score == RouterScore::sigmoid,
          .has_float32_router = config.router.is_float32,
          .dtype = at::kFloat,
          .first_layer = config.stage().first,
          .is_first_stage = config.is_first_stage(),
          .is_last_stage = config.is_last_stage(),
          .token_flops = token_flops(config),
          .flops_per_key = flops_per_key(config),
          .flops_per_decode_key = flops_per_decode_key(config),
          .flops_per_expanded_key = flops_per_expanded_key(config)};
}

/// Throws InputError for sizes that the kernels for bfloat16 on a GPU are not built for.
void check_kernels(const MoeDecoderConfig& config, const ModelPlacement& placement) {
  constexpr std::int64_t vector_elements = 8;
  constexpr std::int64_t max_head_dim = 256;
  if (!placement.device.is_cuda() || placement.dtype != at::kBFloat16) {
    return;
  }
  if (config.latent && !gpu::takes_latents(*config.latent)) {
    throw InputError(
        "bfloat16 on a GPU with latent attention of these sizes is not built yet; allowed: "
        "qk_nope_head_dim 128, qk_rope_head_dim 64, v_head_dim 128, kv_lora_rank 512");
  }
  if (!config.latent && config.turned_dim() % vector_elements != 0) {
    throw InputError("bfloat16 on a GPU with heads of which " +
                     std::to_string(config.turned_dim()) +
                     " elements turn (partial_rotary_factor) is not built yet: they must be a "
                     "multiple of 8");
  }
  if (config.head_dim % vector_elements != 0 || config.head_dim > max_head_dim) {
    throw InputError("bfloat16 on a GPU with head_dim " + std::to_string(config.head_dim) +
                     " is not built yet: it must be a multiple of 8, at most 256");
  }
  if (config.hidden_size % vector_elements != 0 ||
      config.moe_intermediate_size % vector_elements != 0) {
    throw InputError("bfloat16 on a GPU with hidden_size " + std::to_string(config.hidden_size) +
                     " and moe_intermediate_size " + std::to_string(config.moe_intermediate_size) +
                     " is not built yet: they must be multiples of 8");
  }
}

void check_placement(const MoeDecoderConfig& config, const ModelPlacement& placement) {
  DOVETAIL_CHECK(
      placement.ep_size >= 1 && placement.ep_rank >= 0 && placement.ep_rank < placement.ep_size,
      "ep_rank outside the ep group");
  if (config.num_experts % placement.ep_size != 0) {
    throw InputError("the model's " + counted(config.num_experts, "expert") +
                     " cannot be spread evenly over " + counted(placement.ep_size, "rank") +
                     "; allowed for expert_parallel: a divisor of " +
                     std::to_string(config.num_experts));
  }
  check_kernels(config, placement);
}

/// The same rank without memory for its weights.
ModelPlacement without_memory(const ModelPlacement& placement) {
  ModelPlacement nowhere = placement;
  nowhere.device = at::kMeta;
  return nowhere;
}

}  // namespace

MoeDecoderArchitecture::MoeDecoderArchitecture(MoeDecoderConfig config)
    : config_(std::move(config)), shape_(shape_of(config_)), dims_(dims_of(config_)) {}

std::vector<MemoryPart> MoeDecoderArchitecture::weight_memory(
    const ModelPlacement& placement) const {
  check_placement(config_, placement);
  return memory_of_decoder(config_, allocate_decoder(config_, without_memory(placement)));
}

std::vector<MemoryPart> MoeDecoderArchitecture::untied_memory(
    WeightSource& weights, const ModelPlacement& placement) const {
  RenamedWeights renamed(weights, config_.older_name);
  if (!keeps_both_tied(config_, config_.older_name ? renamed : weights, placement.dtype)) {
    return {};
  }
  const auto element = static_cast<std::int64_t>(c10::elementSize(placement.dtype));
  return {{kLmHeadPart, config_.vocab_size * config_.hidden_size * element}};
}

void MoeDecoderArchitecture::check_weights(WeightSource& weights,
                                           const ModelPlacement& placement) const {
  check_placement(config_, placement);
  RenamedWeights renamed(weights, config_.older_name);
  read_decoder(config_, config_.older_name ? renamed : weights, without_memory(placement));
}

std::unique_ptr<Model> MoeDecoderArchitecture::make_model(WeightSource& weights,
                                                          const ModelPlacement& placement) const {
  check_placement(config_, placement);
  if (!config_.older_name) {
    return std::make_unique<MoeDecoderModel>(config_, shape_, dims_, weights, placement);
  }
  RenamedWeights renamed(weights, config_.older_name);
  return std::make_unique<MoeDecoderModel>(config_, shape_, dims_, renamed, placement);
}

std::unique_ptr<Architecture> make_decoder(MoeDecoderConfig config, const ModelConfig& model) {
  if (const auto* cut = std::get_if<FirstLayers>(&model.layers)) {
    if (cut->count < 1 || cut->count > config.num_hidden_layers) {
      throw InputError("model.layers is " + std::to_string(cut->count) + ", and the model of " +
                       model.config + " has " + counted(config.num_hidden_layers, "layer") +
                       "; allowed: 1 to " + std::to_string(config.num_hidden_layers) + ", or all");
    }
    config.num_hidden_layers = cut->count;
    config.is_moe_layer.resize(static_cast<std::size_t>(cut->count));
  }
  if (model.stage() != nullptr) {
    config.layers = *model.stage();
  }
  const LayerRange stage = config.stage();
  if (stage.first < 0 || stage.first >= stage.last || stage.last > config.num_hidden_layers) {
    throw InputError("model.layers is [" + std::to_string(stage.first) + ", " +
                     std::to_string(stage.last) + "], and the model of " + model.config + " has " +
                     counted(config.num_hidden_layers, "layer") +
                     "; allowed: [first, last) with 0 <= first < last <= " +
                     std::to_string(config.num_hidden_layers) + ", or all");
  }
  return std::make_unique<MoeDecoderArchitecture>(std::move(config));
}

}  // namespace dovetail
