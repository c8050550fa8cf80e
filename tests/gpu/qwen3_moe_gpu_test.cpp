// The model on a GPU: float32 there against float32 on the CPU and transformers, bfloat16 there
// against float32 on the CPU, over prefill, requests cut by ubatches, padding, and decode through
// pages.
#include <cstdio>
#include <set>
#include <string>

#include <ATen/Context.h>
#include <ATen/TensorOperators.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "models/weights/checkpoint.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/layers_support.hpp"
#include "tests/gpu/qwen3_moe_gpu_step.hpp"
#include "tests/unit/models/fixture.hpp"
#include "tests/unit/models/small_model.hpp"

namespace dovetail::test {
namespace {

constexpr double kFloatTolerance = 1e-5;
constexpr double kBf16Tolerance = 0.06;  // as of bfloat16 on the CPU

/// small_config with sizes that the kernels for bfloat16 serve.
MoeDecoderConfig even_config() {
  MoeDecoderConfig config = small_config();
  config.hidden_size = 64;
  config.intermediate_size = 48;
  config.num_attention_heads = 8;
  config.head_dim = 16;
  config.moe_intermediate_size = 32;
  config.rope.mrope = {.section = {4, 2, 2}};
  return config;
}

void forbid_tf32() {
  at::globalContext().setAllowTF32CuBLAS(false);
}

/// One step on both devices, each on its own cache.
struct Pair {
  std::vector<std::unique_ptr<Model>> on_cpu;
  std::unique_ptr<Model> on_gpu;
  SerialCache cpu_cache;
  SerialCache gpu_cache;
  FramePadding padding;

  Pair(const MoeDecoderConfig& config,
       std::uint64_t seed,
       at::ScalarType gpu_dtype,
       const std::vector<std::int64_t>& kv_tokens,
       int page_size) {
    MemorySource source(seed);
    on_cpu = make_ranks(config, source);
    on_gpu = make_gpu_model(config, source, gpu_dtype);
    cpu_cache = make_serial_cache(*on_cpu.front(), kv_tokens, page_size);
    gpu_cache = make_gpu_cache(*on_gpu, kv_tokens, page_size);
  }

  /// Runs `step` on the CPU, then on the GPU with the CPU's experts; the relative error.
  double run(SerialStep step, const std::string& name) {
    SerialStep on_host = step;
    on_host.padding = 0;
    const SerialResult wanted = run_step(on_cpu, on_host, cpu_cache);
    step.replay_ids = wanted.expert_ids;
    const SerialResult got = run_gpu_step(*on_gpu, step, gpu_cache, padding);
    const double error = relative_error(got.logits, wanted.logits);
    std::printf("%s: logits off by %.1e\n", name.c_str(), error);
    return error;
  }
};

SerialStep step_of(const std::vector<std::vector<std::int64_t>>& requests,
                   const std::vector<std::int64_t>& contexts,
                   std::vector<std::int64_t> ubatch_ends,
                   std::int64_t padding) {
  SerialStep step = whole_step(requests);
  step.context_lengths = contexts;
  if (!ubatch_ends.empty()) {
    step.ubatch_ends = std::move(ubatch_ends);
  }
  step.padding = padding;
  return step;
}

/// Prefill in one ubatch and in three that cut requests, then a mixed step, then decode.
void check_sequence(const MoeDecoderConfig& config, at::ScalarType dtype, double tolerance) {
  for (const int page_size : {3, 16}) {
    for (const std::int64_t padding : {0, 5}) {
      for (const bool cut : {false, true}) {
        const std::uint64_t seed = next_seed();
        const std::string name = std::string(c10::toString(dtype)) + ", page_size " +
                                 std::to_string(page_size) + ", padding " +
                                 std::to_string(padding) + (cut ? ", cut" : "");
        SCOPED_TRACE(name);
        Pair pair(config, seed, dtype, {40, 30, 20}, page_size);
        pair.padding = {.segments = padding / 2, .dead_expert_rows = 11 * padding};
        using Ends = std::vector<std::int64_t>;
        const SerialStep prefill = step_of(
            random_requests(seed, {20, 1, 13}), {0, 0, 0}, cut ? Ends{8, 25, 34} : Ends{}, padding);
        EXPECT_LT(pair.run(prefill, name + ", prefill"), tolerance);
        const SerialStep mixed = step_of(random_requests(seed + 1, {1, 17, 2}),
                                         {20, 1, 13},
                                         cut ? Ends{0, 9, 20} : Ends{},
                                         padding);
        EXPECT_LT(pair.run(mixed, name + ", mixed"), tolerance);
        for (std::int64_t step = 0; step < 3; ++step) {
          const SerialStep decode = step_of(random_requests(seed + 2, {1, 1, 1}),
                                            {21 + step, 18 + step, 15 + step},
                                            cut ? Ends{2, 3} : Ends{},
                                            padding);
          EXPECT_LT(pair.run(decode, name + ", decode"), tolerance);
        }
      }
    }
  }
}

TEST(Qwen3MoeGpu, Float32IsThatOfTheCpu) {
  DOVETAIL_REQUIRE_GPU();
  forbid_tf32();
  check_sequence(small_config(), at::kFloat, kFloatTolerance);
}

TEST(Qwen3MoeGpu, Bfloat16IsCloseToFloat32OfTheCpu) {
  DOVETAIL_REQUIRE_GPU();
  check_sequence(even_config(), at::kBFloat16, kBf16Tolerance);
}

TEST(Qwen3MoeGpu, Float32RoutesAsTheCpu) {
  DOVETAIL_REQUIRE_GPU();
  forbid_tf32();
  const std::uint64_t seed = next_seed();
  Pair pair(small_config(), seed, at::kFloat, {20, 30}, 4);
  const SerialStep step = step_of(random_requests(seed, {20, 30}), {0, 0}, {}, 0);
  const SerialResult wanted = run_step(pair.on_cpu, step, pair.cpu_cache);
  const SerialResult got = run_gpu_step(*pair.on_gpu, step, pair.gpu_cache, {});
  for (const std::size_t layer : {0, 2}) {
    EXPECT_EQ(bitwise_difference(got.expert_ids[layer], wanted.expert_ids[layer]), "");
    EXPECT_EQ(difference(got.weights[layer], wanted.weights[layer], 1e-4, 1e-6), "");
    EXPECT_EQ(difference(got.router_logits[layer], wanted.router_logits[layer], 1e-3, 1e-4), "");
  }
  EXPECT_LT(relative_error(got.logits, wanted.logits), kFloatTolerance);
}

TEST(Qwen3MoeGpu, Bfloat16RoutesByItselfAndRepeatsToTheBit) {
  DOVETAIL_REQUIRE_GPU();
  const std::uint64_t seed = next_seed();
  const SerialStep step = step_of(random_requests(seed, {20, 30}), {0, 0}, {25, 50}, 3);
  const auto run = [&] {
    Pair pair(even_config(), seed, at::kBFloat16, {20, 30}, 4);
    return run_gpu_step(*pair.on_gpu, step, pair.gpu_cache, {.segments = 1});
  };
  const SerialResult first = run();
  const SerialResult second = run();
  EXPECT_EQ(bitwise_difference(first.logits, second.logits), "");
  EXPECT_EQ(bitwise_difference(first.expert_ids[0], second.expert_ids[0]), "");
  EXPECT_GE(first.expert_ids[0].min().item<std::int64_t>(), 0);
  EXPECT_LT(first.expert_ids[0].max().item<std::int64_t>(), 8);
}

TEST(Qwen3MoeGpu, AWrongTokenOrContextIsSeen) {
  DOVETAIL_REQUIRE_GPU();
  forbid_tf32();
  const std::uint64_t seed = next_seed();
  for (const bool wrong_token : {true, false}) {
    Pair pair(small_config(), seed, at::kFloat, {20, 9}, 4);
    const auto requests = random_requests(seed, {12, 6});
    EXPECT_LT(pair.run(step_of(requests, {0, 0}, {}, 2), "right"), kFloatTolerance);
    auto next = step_of(random_requests(seed + 1, {1, 1}), {12, 6}, {}, 2);
    const SerialResult wanted =
        run_step(pair.on_cpu, step_of(next.requests, {12, 6}, {}, 0), pair.cpu_cache);
    next.replay_ids = wanted.expert_ids;
    if (wrong_token) {
      next.requests[0][0] = (next.requests[0][0] + 1) % 50;
    } else {
      std::swap(pair.gpu_cache.pages.pages[0][0], pair.gpu_cache.pages.pages[1][0]);
    }
    const SerialResult got = run_gpu_step(*pair.on_gpu, next, pair.gpu_cache, {});
    EXPECT_GT(relative_error(got.logits, wanted.logits), 100 * kFloatTolerance) << wrong_token;
  }
}

TEST(Qwen3MoeGpu, SizesThatTheKernelsCannotServeAreRefused) {
  DOVETAIL_REQUIRE_GPU();
  MemorySource source(1);
  EXPECT_THROW(make_gpu_model(small_config(), source, at::kBFloat16), InputError);
  EXPECT_NO_THROW(make_gpu_model(small_config(), source, at::kFloat));
}

/// A fixture's model in float32 and bfloat16.
double fixture_error(const Fixture& fixture, at::ScalarType dtype) {
  SerialStep step = whole_step(fixture.requests);
  step.mrope_positions = fixture.positions;
  step.embeds = fixture.embeds;
  const auto on_cpu = make_models(fixture, 1, at::kFloat);
  step.replay_ids = run_step(on_cpu, step).expert_ids;
  if (step.embeds.defined()) {
    step.embeds = step.embeds.to(dtype);
  }
  CheckpointSource source(fixture.folder);
  HostStagedSource staged(source);
  const auto architecture = architecture_of(fixture);
  const auto model = architecture->make_model(
      staged, {.ep_size = 1, .ep_rank = 0, .dtype = dtype, .device = at::Device(at::kCUDA)});
  std::vector<std::int64_t> kv_tokens;
  for (const auto& request : fixture.requests) {
    kv_tokens.push_back(static_cast<std::int64_t>(request.size()));
  }
  SerialCache cache = make_gpu_cache(*model, kv_tokens, 3);
  step.padding = 2;
  const SerialResult result =
      run_gpu_step(*model, step, cache, {.segments = 1, .dead_expert_rows = 20});
  return relative_error(result.logits, fixture.logits);
}

TEST(Qwen3MoeGpu, FixturesOfTransformers) {
  DOVETAIL_REQUIRE_GPU();
  forbid_tf32();
  const std::vector<std::string> names = {"qwen3-moe-tiny",
                                          "odd-heads-stacked",
                                          "tied-dense-sharded",
                                          "all-experts-half",
                                          "mrope-contiguous",
                                          "mrope-interleaved",
                                          "yarn-nested",
                                          "mixtral-linear",
                                          "mixtral-yarn-stacked",
                                          "qwen2-moe-llama3",
                                          "qwen2-moe-odd"};
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    const std::set<std::string> odd_sizes = {"odd-heads-stacked",
                                             "all-experts-half",
                                             "yarn-nested",
                                             "mixtral-yarn-stacked",
                                             "qwen2-moe-llama3"};
    const bool is_served = odd_sizes.count(name) == 0;
    for (const char* file : {"expected", "embeds"}) {
      const Fixture fixture = load_fixture(name, file);
      const double exact = fixture_error(fixture, at::kFloat);
      std::printf("%s, %s: float32 %.1e\n", name.c_str(), file, exact);
      EXPECT_LT(exact, kFloatTolerance);
      if (is_served) {
        const double error = fixture_error(fixture, at::kBFloat16);
        std::printf("%s, %s: bfloat16 %.1e\n", name.c_str(), file, error);
        EXPECT_LT(error, kBf16Tolerance);
        EXPECT_GT(error, 0);
      }
    }
  }
}

}  // namespace
}  // namespace dovetail::test
