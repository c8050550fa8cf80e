"""config.json of small models whose heads have published sizes, which the kernels in bfloat16 ask for."""

V3 = {"model_type": "deepseek_v3", "vocab_size": 512, "hidden_size": 256, "num_hidden_layers": 3, "first_k_dense_replace": 1, "moe_layer_freq": 1,
      "num_attention_heads": 6, "num_key_value_heads": 6, "q_lora_rank": 96, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
      "v_head_dim": 128, "intermediate_size": 320, "moe_intermediate_size": 64, "n_routed_experts": 32, "num_experts_per_tok": 6, "n_shared_experts": 1,
      "n_group": 4, "topk_group": 2, "norm_topk_prob": True, "routed_scaling_factor": 2.5, "hidden_act": "silu", "rms_norm_eps": 1e-6,
      "rope_theta": 10000, "max_position_embeddings": 4096, "tie_word_embeddings": False, "attention_bias": False,
      "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 1024, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0,
                       "mscale_all_dim": 1.0},
      "scoring_func": "sigmoid", "topk_method": "noaux_tc"}
V2 = {**V3, "model_type": "deepseek_v2", "q_lora_rank": None, "num_attention_heads": 16, "num_key_value_heads": 16, "scoring_func": "softmax",
      "topk_method": "group_limited_greedy", "norm_topk_prob": False, "routed_scaling_factor": 4.0}
KIMI_K2 = {**V3, "model_type": "kimi_k2", "n_group": 1, "topk_group": 1, "routed_scaling_factor": 2.827}
PLAIN = {"vocab_size": 512, "hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 320,
         "num_experts_per_tok": 4, "hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000, "rope_scaling": None,
         "max_position_embeddings": 4096, "tie_word_embeddings": False}
QWEN3 = {**PLAIN, "moe_intermediate_size": 64, "model_type": "qwen3_moe", "head_dim": 128, "num_experts": 32, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
         "attention_bias": False}
MIXTRAL = {**PLAIN, "model_type": "mixtral", "head_dim": 128, "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": None}
QWEN2 = {**PLAIN, "moe_intermediate_size": 64, "model_type": "qwen2_moe", "hidden_size": 512, "num_attention_heads": 4, "num_key_value_heads": 4, "num_experts": 60,
         "shared_expert_intermediate_size": 128, "norm_topk_prob": False, "decoder_sparse_step": 1, "mlp_only_layers": [], "qkv_bias": True,
         "use_sliding_window": False}
GLM4 = {**PLAIN, "moe_intermediate_size": 64, "model_type": "glm4_moe", "head_dim": 128, "partial_rotary_factor": 0.5, "attention_bias": True, "use_qk_norm": True,
        "first_k_dense_replace": 1, "n_routed_experts": 32, "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "norm_topk_prob": True,
        "routed_scaling_factor": 1.0}
