// config.json of DeepSeek-V2, DeepSeek-V3, Kimi-K2 and GLM-4.5: what is read, what is refused, and
// what follows for costs and placement.
#include <cmath>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/scratch_folder.hpp"
#include "models/deepseek_v2.hpp"
#include "models/deepseek_v3.hpp"
#include "models/glm4_moe.hpp"
#include "models/registry.hpp"
#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::json;
using Reader = std::function<MoeDecoderConfig(const std::string& path)>;

const std::string kConfigs = DOVETAIL_SOURCE_DIR "/models/configs/";

Json published(const std::string& name) {
  std::ifstream file(kConfigs + name + ".json");
  return Json::parse(file);
}

MoeDecoderConfig read(const Reader& reader, const Json& values) {
  const ScratchFolder folder;
  const std::string path = (folder.path() / "config.json").string();
  std::ofstream(path) << values.dump();
  return reader(path);
}

struct BadValue {
  std::string key;
  std::string value;  // JSON
  std::string message;
};

void expect_refused(const Reader& reader, const Json& good, const std::vector<BadValue>& all) {
  ASSERT_NO_THROW(read(reader, good));
  for (const BadValue& bad : all) {
    Json values = good;
    values[bad.key] = Json::parse(bad.value);
    const std::string message = testing::input_error_of([&] { read(reader, values); });
    EXPECT_NE(message.find("key '" + bad.key), std::string::npos) << bad.key << ": " << message;
    EXPECT_NE(message.find(bad.message), std::string::npos) << bad.key << ": " << message;
  }
}

TEST(DeepseekV3Config, IsWhatIsPublished) {
  const MoeDecoderConfig config = read_deepseek_v3_config(kConfigs + "deepseek-v3.json");
  ASSERT_TRUE(config.latent.has_value());
  const LatentAttentionDims& dims = *config.latent;
  EXPECT_EQ(dims.latent_size(), 576);
  EXPECT_EQ(dims.query_size(), 192);
  EXPECT_TRUE(dims.rotates_pairs);
  const double mscale = 0.1 * std::log(40.0) + 1;
  EXPECT_NEAR(dims.softmax_scale, mscale * mscale / std::sqrt(192.0), 1e-12);
  EXPECT_EQ(config.router.groups, (ExpertGroups{8, 4, GroupScore::sum_of_two}));
  EXPECT_EQ(config.router.score, RouterScore::sigmoid);
  EXPECT_TRUE(config.router.normalize && config.has_router_bias);
  EXPECT_EQ(config.router.scale, 2.5);
  EXPECT_EQ(config.is_moe_layer[2], false);
  EXPECT_EQ(config.is_moe_layer[3], true);
  EXPECT_EQ(config.shared_intermediate_size, 2048);
  const auto kimi = read_deepseek_v3_config(kConfigs + "kimi-k2.json");
  EXPECT_FALSE(kimi.router.groups.are_limited());
  EXPECT_EQ(kimi.num_experts, 384);
  Json halves = published("deepseek-v3");
  halves["rope_interleave"] = false;
  EXPECT_FALSE(read(read_deepseek_v3_config, halves).latent->rotates_pairs);
}

TEST(DeepseekV3Config, RefusesWhatItDoesNotMean) {
  expect_refused(read_deepseek_v3_config,
                 published("deepseek-v3"),
                 {{"model_type", "\"deepseek_v2\"", "allowed: deepseek_v3, kimi_k2"},
                  {"scoring_func", "\"softmax\"", "allowed: sigmoid"},
                  {"topk_method", "\"greedy\"", "allowed: noaux_tc"},
                  {"n_group", "7", "a divisor of n_routed_experts 256"},
                  {"n_group", "256", "groups of one expert"},
                  {"topk_group", "9", "from 1 to 8"},
                  {"num_experts_per_tok", "257", "from 1 to 256"},
                  {"routed_scaling_factor", "0", "routed_scaling_factor"},
                  {"num_key_value_heads", "8", "allowed with the other sizes: 128"},
                  {"head_dim", "128", "allowed with the other sizes: 64"},
                  {"qk_rope_head_dim", "63", "even"},
                  {"kv_lora_rank", "0", "from 1 to"},
                  {"moe_layer_freq", "2", "allowed: 1"},
                  {"mlp_bias", "true", "allowed: false"},
                  {"first_k_dense_replace", "-1", "from 0 to"},
                  {"partial_rotary_factor", "0.5", "allowed: 1"}});
  Json small = published("deepseek-v3");
  small["num_experts_per_tok"] = 129;
  const std::string message =
      testing::input_error_of([&] { read(read_deepseek_v3_config, small); });
  EXPECT_NE(message.find("hold fewer than num_experts_per_tok 129"), std::string::npos) << message;
}

TEST(DeepseekV2Config, MethodsAndWhatTheyNeed) {
  const Json lite = published("deepseek-v2-lite");
  MoeDecoderConfig config = read(read_deepseek_v2_config, lite);
  EXPECT_EQ(config.latent->q_lora_rank, 0);
  EXPECT_FALSE(config.has_router_bias || config.router.normalize);
  EXPECT_FALSE(config.router.groups.are_limited());
  Json grouped = lite;
  grouped["topk_method"] = "group_limited_greedy";
  grouped["n_group"] = 8;
  grouped["topk_group"] = 3;
  config = read(read_deepseek_v2_config, grouped);
  EXPECT_EQ(config.router.groups, (ExpertGroups{8, 3, GroupScore::best}));
  grouped["topk_method"] = "greedy";
  EXPECT_FALSE(read(read_deepseek_v2_config, grouped).router.groups.are_limited());
  expect_refused(read_deepseek_v2_config,
                 lite,
                 {{"norm_topk_prob", "true", "allowed: false"},
                  {"scoring_func", "\"sigmoid\"", "softmax"},
                  {"topk_method", "\"noaux_tc\"", "group_limited_greedy"},
                  {"rope_interleave", "true", "allowed: false"}});
}

TEST(Glm4MoeConfig, TurnsAPartOfEachHead) {
  const Json air = published("glm-4.5-air");
  MoeDecoderConfig config = read(read_glm4_moe_config, air);
  EXPECT_EQ(config.turned_dim(), 64);
  EXPECT_TRUE(config.qkv_bias);
  EXPECT_FALSE(config.output_bias || config.has_qk_norm || config.latent);
  Json changed = air;
  changed.erase("partial_rotary_factor");
  EXPECT_EQ(read(read_glm4_moe_config, changed).turned_dim(), 64) << "half where nothing is said";
  changed.erase("rope_scaling");
  changed["rope_parameters"] = {{"partial_rotary_factor", 0.25}, {"rope_theta", 1000000}};
  EXPECT_EQ(read(read_glm4_moe_config, changed).turned_dim(), 32);
  expect_refused(read_glm4_moe_config,
                 air,
                 {{"partial_rotary_factor", "0.01", "an even number"},
                  {"partial_rotary_factor", "1.5", "an even number"},
                  {"kv_lora_rank", "512", "allowed: 0"},
                  {"hidden_act", "\"gelu\"", "allowed: silu"}});
  changed["partial_rotary_factor"] = 0.5;
  const std::string message = testing::input_error_of([&] { read(read_glm4_moe_config, changed); });
  EXPECT_NE(message.find("differs from another"), std::string::npos) << message;
}

/// Costs by the published sizes, written out.
TEST(DeepseekCosts, CountEveryProduct) {
  const auto make = [](const std::string& name, LayerRange layers) {
    const std::string path = kConfigs + name + ".json";
    const auto architecture = published(name)["model_type"].get<std::string>();
    return architectures().at(architecture)({architecture, path, {}, layers});
  };
  const double h = 7168;
  const double attention =
      h * 1536 + 1536.0 * 128 * 192 + h * 576 + 512.0 * 128 * 256 + 128.0 * 128 * h;
  const auto moe = make("deepseek-v3", {.first = 3, .last = 4});
  EXPECT_DOUBLE_EQ(moe->dims().token_flops.sum(), 2 * (attention + h * 256 + 3 * h * 2048 * 9));
  EXPECT_DOUBLE_EQ(moe->dims().flops_per_key, 2 * 128.0 * (192 + 128));
  EXPECT_DOUBLE_EQ(moe->dims().flops_per_decode_key, 2 * 128.0 * (576 + 512));
  EXPECT_EQ(moe->dims().kv_heads * moe->dims().head_dim, 576);
  EXPECT_TRUE(moe->dims().caches_latents && moe->dims().has_router_scores);
  const auto dense = make("deepseek-v3", {.first = 0, .last = 1});
  EXPECT_DOUBLE_EQ(dense->dims().token_flops.sum(), 2 * (attention + 3 * h * 18432));
  const auto lite = make("deepseek-v2-lite", {.first = 0, .last = 1});
  EXPECT_DOUBLE_EQ(lite->dims().token_flops.sum(),
                   2 * (2048.0 * 16 * 192 + 2048.0 * 576 + 512.0 * 16 * 256 + 16.0 * 128 * 2048 +
                        3 * 2048.0 * 10944));
  const auto glm = make("glm-4.5-air", {.first = 0, .last = 1});
  EXPECT_DOUBLE_EQ(glm->dims().flops_per_key, glm->dims().flops_per_decode_key);
  EXPECT_FALSE(glm->dims().caches_latents);
}

/// Published sizes of latent attention run in bfloat16 on GPUs; what has no kernels is named.
TEST(DeepseekCosts, SaysWhatIsNotBuiltForGpus) {
  const ModelPlacement gpu = {.dtype = at::kBFloat16, .device = at::Device(at::kCUDA, 0)};
  const auto make = [](const std::string& path) {
    const auto config = nlohmann::json::parse(std::ifstream(path));
    return architectures().at(config["model_type"].get<std::string>())(
        {config["model_type"].get<std::string>(), path, {}, {}});
  };
  for (const char* name : {"deepseek-v2-lite", "deepseek-v3", "kimi-k2", "glm-4.5-air"}) {
    EXPECT_NO_THROW(make(kConfigs + name + ".json")->weight_memory(gpu)) << name;
  }
  for (const auto& [path, wanted] :
       {std::pair{std::string(DOVETAIL_SOURCE_DIR "/tests/fixtures/glm4-moe-norms/config.json"),
                  "heads of which 4 elements turn"},
        {std::string(DOVETAIL_SOURCE_DIR "/tests/fixtures/deepseek-v3-groups/config.json"),
         "latent attention of these sizes"}}) {
    const std::string message =
        testing::input_error_of([&, &of = path] { make(of)->weight_memory(gpu); });
    EXPECT_NE(message.find(wanted), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace dovetail
