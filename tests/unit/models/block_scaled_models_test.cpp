// Whole models from checkpoints of 8-bit floats: their configurations and weights, in both layouts
// of experts and with factors of both types, are to the bit the models of what the products are.
#include <cmath>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/stack.h>
#include <gtest/gtest.h>

#include "models/registry.hpp"
#include "models/weights/block_scaled.hpp"
#include "models/weights/seeded.hpp"
#include "tests/unit/models/checkpoint_copy.hpp"
#include "tests/unit/models/fixture.hpp"
#include "tests/unit/models/serial_step.hpp"
#include "tests/unit/models/small_model.hpp"
#include "tests/unit/models/weights_files.hpp"

namespace dovetail {
namespace {

using nlohmann::json;
using testing::ScratchFolder;

// Sizes around a block: whole ones, and last ones that are not.
const json kQwen3 = json::parse(R"({
  "model_type": "qwen3_moe", "vocab_size": 50, "hidden_size": 160, "intermediate_size": 300,
  "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 68,
  "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 136, "norm_topk_prob": true,
  "rms_norm_eps": 1e-6, "rope_theta": 10000, "mlp_only_layers": [0]})");

const json kDeepseekV3 = json::parse(R"({
  "model_type": "deepseek_v3", "vocab_size": 50, "hidden_size": 130, "intermediate_size": 256,
  "num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 3,
  "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 72,
  "n_shared_experts": 2, "n_group": 2, "topk_group": 1, "q_lora_rank": 129, "kv_lora_rank": 132,
  "qk_nope_head_dim": 40, "qk_rope_head_dim": 8, "v_head_dim": 48, "first_k_dense_replace": 1,
  "rms_norm_eps": 1e-6, "rope_theta": 10000})");

/// What published models keep in 16 bits: embeddings, norms, biases and routers.
bool is_quantized(const std::string& name) {
  return name.find("_proj") != std::string::npos && !name.ends_with("bias");
}

/// One matrix as it is stored, and the products.
struct Quantized {
  at::Tensor values;
  at::Tensor factors;
  at::Tensor products;
};

Quantized quantize(const at::Tensor& matrix, bool powers_of_two) {
  constexpr double largest = 448;
  const std::int64_t rows = num_scale_blocks(matrix.size(0));
  const std::int64_t columns = num_scale_blocks(matrix.size(1));
  Quantized result = {.values = at::empty(matrix.sizes(), at::kFloat8_e4m3fn),
                      .factors = at::empty({rows, columns}),
                      .products = at::empty(matrix.sizes())};
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t column = 0; column < columns; ++column) {
      const auto block = [&](const at::Tensor& whole) {
        return whole.slice(0, row * kScaleBlock, (row + 1) * kScaleBlock)
            .slice(1, column * kScaleBlock, (column + 1) * kScaleBlock);
      };
      double factor = block(matrix).abs().max().item<double>() / largest;
      factor = powers_of_two ? std::exp2(std::ceil(std::log2(factor))) : factor;
      result.factors[row][column].fill_(factor);
      const float scale = result.factors[row][column].item<float>();
      const at::Tensor values = (block(matrix) / scale).clamp(-largest, largest);
      block(result.values).copy_(values.to(at::kFloat8_e4m3fn));
      block(result.products).copy_(values.to(at::kFloat8_e4m3fn).to(at::kFloat) * scale);
    }
  }
  if (powers_of_two) {
    constexpr int bias = 127;
    result.factors = (result.factors.log2() + bias).round().to(at::kByte).view(at::kFloat8_e8m0fnu);
  }
  return result;
}

/// The experts of each layer in one tensor each, as transformers 5 writes them.
void stack_experts(Tensors& tensors, int num_experts) {
  const std::string first = ".experts.0.down_proj.weight";
  std::vector<std::string> prefixes;
  for (const auto& [name, tensor] : tensors) {
    if (name.ends_with(first)) {
      prefixes.push_back(name.substr(0, name.size() - first.size()) + ".experts.");
    }
  }
  for (const std::string& prefix : prefixes) {
    std::vector<at::Tensor> gate_up;
    std::vector<at::Tensor> down;
    for (int expert = 0; expert < num_experts; ++expert) {
      const auto take = [&](const char* name) {
        return tensors.extract(prefix + std::to_string(expert) + "." + name + ".weight").mapped();
      };
      const at::Tensor gate = take("gate_proj");
      gate_up.push_back(at::cat({gate, take("up_proj")}));
      down.push_back(take("down_proj"));
    }
    tensors[prefix + "gate_up_proj"] = at::stack(gate_up);
    tensors[prefix + "down_proj"] = at::stack(down);
  }
}

struct Checkpoints {
  Tensors quantized;
  Tensors products;  ///< bfloat16
};

Checkpoints quantize_all(const Tensors& tensors, bool powers_of_two) {
  Checkpoints result;
  for (const auto& [name, tensor] : tensors) {
    if (!is_quantized(name)) {
      const bool is_wide = name.ends_with("e_score_correction_bias");
      result.quantized[name] = is_wide ? tensor : tensor.to(at::kBFloat16);
      result.products[name] = result.quantized[name];
      continue;
    }
    std::vector<Quantized> parts;
    for (const at::Tensor& matrix : tensor.dim() == 3 ? tensor.unbind() : std::vector{tensor}) {
      parts.push_back(quantize(matrix, powers_of_two));
    }
    const auto join = [&](at::Tensor Quantized::*member) {
      std::vector<at::Tensor> all;
      for (const Quantized& part : parts) {
        all.push_back(part.*member);
      }
      if (tensor.dim() < 3) {
        return all.front();
      }
      const at::ScalarType type = all.front().scalar_type();
      if (all.front().element_size() > 1) {
        return at::stack(all);
      }
      for (at::Tensor& each : all) {
        each = each.view(at::kByte);
      }
      return at::stack(all).view(type);
    };
    result.quantized[name] = join(&Quantized::values);
    result.quantized[scales_name(name)] = join(&Quantized::factors);
    result.products[name] = join(&Quantized::products).to(at::kBFloat16);
  }
  return result;
}

at::Tensor logits_of(const std::string& folder, int ep_size, at::ScalarType dtype) {
  Fixture fixture;
  fixture.folder = folder;
  return run_step(make_models(fixture, ep_size, dtype), whole_step(random_requests(3, {9, 1, 14})))
      .logits;
}

struct ModelCase {
  const char* name;
  const json* config;
  bool is_stacked;
  bool powers_of_two;
};

class BlockScaledModel : public ::testing::TestWithParam<ModelCase> {
 protected:
  Tensors seeded_parameters() const {
    const ScratchFolder folder;
    write_checkpoint(folder.path(), *GetParam().config, {});
    Fixture fixture;
    fixture.folder = folder.path();
    SeededSource source(17);
    Tensors tensors = parameters_of(*architecture_of(fixture), source);
    if (GetParam().is_stacked) {
      stack_experts(tensors, 4);
    }
    return tensors;
  }

  json quantized_config() const {
    json config = *GetParam().config;
    config["quantization_config"] = {{"quant_method", "fp8"},
                                     {"fmt", "e4m3"},
                                     {"activation_scheme", "dynamic"},
                                     {"weight_block_size", {128, 128}},
                                     {"modules_to_not_convert", {"lm_head"}}};
    if (GetParam().powers_of_two) {
      config["quantization_config"]["scale_fmt"] = "ue8m0";
    }
    return config;
  }
};

TEST_P(BlockScaledModel, IsTheModelOfItsProducts) {
  const Checkpoints both = quantize_all(seeded_parameters(), GetParam().powers_of_two);
  const ScratchFolder quantized;
  const ScratchFolder products;
  write_checkpoint(quantized.path(), quantized_config(), both.quantized);
  write_checkpoint(products.path(), *GetParam().config, both.products);
  for (const int ep_size : {1, 2}) {
    const at::Tensor wanted = logits_of(products.path(), ep_size, at::kBFloat16);
    EXPECT_TRUE(at::equal(logits_of(quantized.path(), ep_size, at::kBFloat16), wanted));
    EXPECT_FALSE(wanted.isnan().any().item<bool>());
  }
  // bfloat16 holds products with powers of two, others in float32 alone.
  EXPECT_EQ(at::equal(logits_of(quantized.path(), 1, at::kFloat),
                      logits_of(products.path(), 1, at::kFloat)),
            GetParam().powers_of_two);
}

/// Its twin: one factor of one block of one expert.
TEST_P(BlockScaledModel, AnotherFactorIsSeen) {
  Checkpoints both = quantize_all(seeded_parameters(), GetParam().powers_of_two);
  const ScratchFolder right;
  const ScratchFolder wrong;
  write_checkpoint(right.path(), quantized_config(), both.quantized);
  const std::string name = GetParam().is_stacked
                               ? "model.layers.1.mlp.experts.down_proj_scale_inv"
                               : "model.layers.1.mlp.experts.3.down_proj.weight_scale_inv";
  const at::Tensor last = both.quantized.at(name).view({-1}).slice(0, -1);  // of a ragged block
  if (GetParam().powers_of_two) {
    last.view(at::kByte).add_(2);
  } else {
    last.mul_(4);
  }
  write_checkpoint(wrong.path(), quantized_config(), both.quantized);
  EXPECT_FALSE(
      at::equal(logits_of(right.path(), 1, at::kFloat), logits_of(wrong.path(), 1, at::kFloat)));
}

INSTANTIATE_TEST_SUITE_P(Models,
                         BlockScaledModel,
                         ::testing::Values(ModelCase{"qwen3", &kQwen3, false, false},
                                           ModelCase{"qwen3_stacked", &kQwen3, true, true},
                                           ModelCase{"deepseek", &kDeepseekV3, false, true},
                                           ModelCase{
                                               "deepseek_stacked", &kDeepseekV3, true, false}),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace dovetail
