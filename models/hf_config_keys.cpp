#include "models/hf_config_keys.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "framework/base/strict_json.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

/// Keys whose value does not matter: names and versions, tokens, training, generation, labels,
/// what a call returns, and sizes of features that other keys switch on. Keys that begin with an
/// underscore are notes of the library that wrote the file.
constexpr auto kIgnored = std::to_array<std::string_view>({
    "architectures",
    "attn_implementation",
    "auto_map",
    "custom_pipelines",
    "dtype",
    "ep_size",
    "model_max_length",
    "name_or_path",
    "torch_dtype",
    "transformers_version",
    "unsloth_fixed",
    "unsloth_version",
    // tokens
    "bos_token_id",
    "decoder_start_token_id",
    "eos_token_id",
    "pad_token_id",
    "prefix",
    "sep_token_id",
    "tokenizer_class",
    "unk_token_id",
    // training
    "attention_dropout",
    "aux_loss_alpha",
    "classifier_dropout",
    "embd_pdrop",
    "gradient_checkpointing",
    "hidden_dropout",
    "initializer_range",
    "resid_pdrop",
    "router_aux_loss_coef",
    "router_jitter_noise",
    "router_z_loss_coef",
    "seq_aux",
    // generation, as transformers 4 wrote it
    "bad_words_ids",
    "begin_suppress_tokens",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "length_penalty",
    "max_length",
    "max_new_tokens",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_scores",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "suppress_tokens",
    "temperature",
    "top_k",
    "top_p",
    "typical_p",
    // tasks, and what a call returns or how it goes about it
    "chunk_size_feed_forward",
    "finetuning_task",
    "id2label",
    "is_decoder",
    "label2id",
    "num_labels",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "pretraining_tp",
    "problem_type",
    "return_dict",
    "task_specific_params",
    "tf_legacy_loss",
    "torchscript",
    "use_bfloat16",
    "use_cache",
    // sizes that matter only where other keys say so, or to no forward pass
    "max_position_embeddings",
    "max_window_layers",
    "num_mtp_layers",
    "num_nextn_predict_layers",
    "original_max_position_embeddings",
});

/// A key of a feature that is not built, and the values of it that switch the feature off.
struct NeutralKey {
  std::string_view key;
  std::string_view values;  ///< JSON list; null, which counts as absent, always is one
};

constexpr auto kNeutral = std::to_array<NeutralKey>({
    {"add_bias_linear", "[false]"},
    {"add_cross_attention", "[false]"},
    {"alibi", "[false]"},
    {"attention_bias", "[false]"},
    {"attention_chunk_size", "[0]"},
    {"attention_multiplier", "[1]"},
    {"attn_logit_softcapping", "[0]"},
    {"clip_qkv", "[0]"},
    {"embedding_multiplier", "[1]"},
    {"final_logit_softcapping", "[0]"},
    {"first_k_dense_replace", "[0]"},
    {"is_encoder_decoder", "[false]"},
    {"kv_lora_rank", "[0]"},
    {"logit_scale", "[1]"},
    {"logits_scaling", "[1]"},
    {"mlp_bias", "[false]"},
    {"moe_layer_freq", "[1]"},
    {"n_group", "[0, 1]"},
    {"n_shared_experts", "[0]"},
    {"norm_topk_prob", "[true]"},
    {"num_shared_experts", "[0]"},
    {"partial_rotary_factor", "[1]"},
    {"pruned_heads", "[{}]"},
    {"q_lora_rank", "[0]"},
    {"qk_layernorm", "[false]"},
    {"qkv_bias", "[false]"},
    {"residual_multiplier", "[1]"},
    {"rope_interleave", "[false]"},
    {"rope_ratio", "[1]"},
    {"routed_scaling_factor", "[1]"},
    {"scoring_func", R"(["softmax"])"},
    {"shared_expert_intermediate_size", "[0]"},
    {"sliding_window", "[]"},
    {"tie_encoder_decoder", "[false]"},
    {"topk_group", "[0, 1]"},
    {"topk_method", R"(["greedy"])"},
    {"use_bias", "[false]"},
    {"use_qk_norm", "[false]"},
    {"use_sliding_window", "[false]"},
});

void refuse_other_values(const HfConfig& file, const NeutralKey& neutral) {
  const nlohmann::json& value = file.value(std::string(neutral.key));
  const auto allowed = nlohmann::json::parse(neutral.values);
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) {
    return;
  }
  std::string list;
  for (const nlohmann::json& each : allowed) {
    list += each.dump() + ", ";
  }
  file.fail(std::string(neutral.key),
            "is " + printable_json(value) +
                ", which changes what is computed and is not built for this architecture; "
                "allowed: " +
                list + "none");
}

}  // namespace

void refuse_other_keys(const HfConfig& file) {
  for (const std::string& key : file.keys_not_asked()) {
    if (key.starts_with('_') ||
        std::find(kIgnored.begin(), kIgnored.end(), key) != kIgnored.end()) {
      continue;
    }
    const auto* const neutral = std::find_if(
        kNeutral.begin(), kNeutral.end(), [&](const NeutralKey& each) { return each.key == key; });
    if (neutral == kNeutral.end()) {
      file.fail(printable(key),
                "is not known, so it might change what is computed; take it out of the file if it "
                "does not");
    }
    refuse_other_values(file, *neutral);
  }
}

}  // namespace dovetail
