#include "models/decoder/absent_keys.hpp"

#include <array>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

constexpr auto kQwen3Moe = std::to_array<AbsentKey>({{"attention_bias", "false", ""},
                                                     {"decoder_sparse_step", "1", ""},
                                                     {"hidden_act", "\"silu\"", ""},
                                                     {"mlp_only_layers", "[]", "[]"},
                                                     {"n_shared_experts", "0", "0"},  // our own
                                                     {"norm_topk_prob", "", ""},
                                                     {"tie_word_embeddings", "false", ""},
                                                     {"use_sliding_window", "false", ""}});

constexpr auto kQwen2Moe = std::to_array<AbsentKey>({{"decoder_sparse_step", "1", ""},
                                                     {"hidden_act", "\"silu\"", ""},
                                                     {"mlp_only_layers", "[]", "[]"},
                                                     {"norm_topk_prob", "false", ""},
                                                     {"qkv_bias", "true", ""},
                                                     {"tie_word_embeddings", "false", ""},
                                                     {"use_sliding_window", "false", ""}});

constexpr auto kMixtral = std::to_array<AbsentKey>(
    {{"hidden_act", "\"silu\"", ""}, {"tie_word_embeddings", "false", ""}});

constexpr auto kGlm4Moe = std::to_array<AbsentKey>({{"attention_bias", "false", ""},
                                                    {"first_k_dense_replace", "1", ""},
                                                    {"hidden_act", "\"silu\"", ""},
                                                    {"n_group", "1", ""},
                                                    {"n_shared_experts", "1", ""},
                                                    {"norm_topk_prob", "true", ""},
                                                    {"partial_rotary_factor", "", ""},
                                                    {"routed_scaling_factor", "1.0", ""},
                                                    {"tie_word_embeddings", "false", ""},
                                                    {"topk_group", "1", ""},
                                                    {"use_qk_norm", "false", ""}});

/// Groups have no default: the method that needs them refuses to miss them.
constexpr auto kDeepseekV2 = std::to_array<AbsentKey>({{"attention_bias", "false", ""},
                                                       {"first_k_dense_replace", "0", ""},
                                                       {"hidden_act", "\"silu\"", ""},
                                                       {"n_shared_experts", "2", ""},
                                                       {"norm_topk_prob", "false", "false"},
                                                       {"q_lora_rank", "1536", "null"},
                                                       {"routed_scaling_factor", "1.0", ""},
                                                       {"tie_word_embeddings", "false", ""},
                                                       {"topk_method", "\"greedy\"", ""}});

constexpr auto kDeepseekV3 = std::to_array<AbsentKey>({{"attention_bias", "false", ""},
                                                       {"first_k_dense_replace", "3", ""},
                                                       {"hidden_act", "\"silu\"", ""},
                                                       {"n_group", "8", ""},
                                                       {"n_shared_experts", "1", ""},
                                                       {"norm_topk_prob", "true", "false"},
                                                       {"num_key_value_heads", "128", "null"},
                                                       {"q_lora_rank", "1536", "null"},
                                                       {"rope_interleave", "true", "false"},
                                                       {"routed_scaling_factor", "2.5", ""},
                                                       {"tie_word_embeddings", "false", ""},
                                                       {"topk_group", "4", ""}});

struct ArchitectureKeys {
  std::string_view architecture;
  std::span<const AbsentKey> keys;
};

constexpr auto kArchitectures = std::to_array<ArchitectureKeys>({{"deepseek_v2", kDeepseekV2},
                                                                 {"deepseek_v3", kDeepseekV3},
                                                                 {"glm4_moe", kGlm4Moe},
                                                                 {"mixtral", kMixtral},
                                                                 {"qwen2_moe", kQwen2Moe},
                                                                 {"qwen3_moe", kQwen3Moe}});

}  // namespace

std::span<const AbsentKey> absent_keys(std::string_view architecture) {
  for (const ArchitectureKeys& each : kArchitectures) {
    if (each.architecture == architecture) {
      return each.keys;
    }
  }
  throw ContractError("no table of absent keys for this architecture");
}

}  // namespace dovetail
