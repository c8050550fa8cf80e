// The model over a cache that earlier steps have filled: chunked prefill, decode and mixed batches
// against the whole request at once.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <random>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/roll.h>
#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "framework/plan/split.hpp"
#include "framework/step/step_inputs.hpp"
#include "tests/unit/models/chunked_run.hpp"
#include "tests/unit/models/memory_source.hpp"
#include "tests/unit/models/serial_step.hpp"
#include "tests/unit/models/small_model.hpp"

namespace dovetail {
namespace {

constexpr double kTolerance = 2e-6;  // whole against chunks

/// Random requests none of whose choices of experts is so close that rounding might turn it.
std::vector<std::vector<std::int64_t>> clear_requests(
    const std::vector<std::unique_ptr<Model>>& ranks,
    std::uint64_t seed,
    const std::vector<int>& lengths) {
  while (true) {
    const auto requests = random_requests(seed++, lengths);
    const SerialResult result = run_step(ranks, whole_step(requests));
    bool is_clear = true;
    for (std::size_t layer = 0; layer < result.expert_ids.size(); ++layer) {
      is_clear = is_clear && (!result.expert_ids[layer].defined() ||
                              result.margin(layer).min().item<float>() > 1e-5F);
    }
    if (is_clear) {
      return requests;
    }
  }
}

TEST(Context, ChunksInAnyPagesAndSplitsGiveTheWhole) {
  const std::uint64_t seed = std::random_device{}();
  std::mt19937_64 random(seed);
  MemorySource source(3);
  const auto ranks = make_ranks(small_config(), source);
  const auto requests = clear_requests(ranks, seed, {7, 1, 60, 280});
  const SerialResult whole = run_step(ranks, whole_step(requests));
  double worst = 0;
  for (int round = 0; round < 4; ++round) {
    const ChunkSizes sizes = random_chunks(lengths_of(requests), random);
    at::Tensor first;
    for (const int page_size : {1, 3, 16, 1000}) {
      SerialCache cache =
          make_serial_cache(*ranks.front(), lengths_of(requests), page_size, random());
      const at::Tensor logits = run_chunks(ranks, {requests, {}, {}}, sizes, cache).logits;
      worst = std::max(worst, relative_error(logits, whole.logits));
      ASSERT_LT(worst, kTolerance) << "pages of " << page_size << ", seed " << seed;
      first = first.defined() ? first : logits;
      EXPECT_TRUE(at::equal(logits, first)) << "pages of " << page_size << ", seed " << seed;
    }
    SerialCache cache = make_serial_cache(*ranks.front(), lengths_of(requests), 4, random());
    const at::Tensor split = run_chunks(ranks, {requests, {}, {}}, sizes, cache, &random).logits;
    worst = std::max(worst, relative_error(split, whole.logits));
    ASSERT_LT(worst, kTolerance) << "split, seed " << seed;
  }
  std::printf("worst error of chunks %.2e\n", worst);
}

TEST(Context, MixedBatchesGiveEachRequestAlone) {
  const std::uint64_t seed = std::random_device{}();
  std::mt19937_64 random(seed);
  MemorySource source(4);
  const auto ranks = make_ranks(small_config(), source);
  // Prefill, chunked prefill, decode, and one that rests, in one batch.
  const auto requests = clear_requests(ranks, seed, {30, 100, 81, 5});
  const ChunkSizes sizes = {{0, 33, 80, 5}, {30, 67, 1, 0}};
  SerialCache cache = make_serial_cache(*ranks.front(), lengths_of(requests), 8, random());
  const at::Tensor mixed = run_chunks(ranks, {requests, {}, {}}, sizes, cache, &random).logits;
  std::int64_t row = 0;
  for (const auto& request : requests) {
    const SerialResult alone = run_step(ranks, whole_step({request}));
    const auto length = std::ssize(request);
    EXPECT_LT(relative_error(mixed.narrow(0, row, length), alone.logits), kTolerance)
        << "seed " << seed;
    row += length;
  }
}

TEST(Context, EveryIterationStartsFromTheSameState) {
  MemorySource source(5);
  const auto ranks = make_ranks(small_config(), source);
  const auto requests = random_requests(6, {20, 9});
  SerialCache cache = make_serial_cache(*ranks.front(), lengths_of(requests), 4);
  run_step(ranks, next_step({requests, {}, {}}, {0, 0}, {18, 7}), cache);
  const auto iterate = [&] {
    const c10::InferenceMode inference;  // as a step runs; the cache is made outside
    std::vector<at::Tensor> logits;
    for (std::int64_t done = 0; done < 2; ++done) {
      const SerialStep step = next_step({requests, {}, {}}, {18 + done, 7 + done}, {1, 1});
      logits.push_back(run_step(ranks, step, cache).logits);
    }
    return at::cat(logits);
  };
  const at::Tensor first = iterate();
  EXPECT_TRUE(at::equal(iterate(), first));
  // Poisoned slots are written before they are read; a step that is left out is seen.
  std::vector<std::int64_t> slots;
  for (std::size_t r = 0; r < requests.size(); ++r) {
    for (std::int64_t back = 1; back <= 2; ++back) {
      slots.push_back(cache.pages.slot(r, std::ssize(requests[r]) - back));
    }
  }
  const at::Tensor written = at::tensor(slots, at::kLong);
  poison_slots(cache.cache, written);
  EXPECT_TRUE(at::equal(iterate(), first));
  poison_slots(cache.cache, written);
  const SerialStep second = next_step({requests, {}, {}}, {19, 8}, {1, 1});
  EXPECT_TRUE(run_step(ranks, second, cache).logits.isnan().all().item<bool>());
}

TEST(Context, WrongContextsPagesAndSlotsAreSeen) {
  MemorySource source(7);
  const auto ranks = make_ranks(small_config(), source);
  const auto requests = random_requests(8, {12, 10});
  const SerialResult whole = run_step(ranks, whole_step(requests));
  const at::Tensor expected =
      at::cat({whole.logits.narrow(0, 8, 4), whole.logits.narrow(0, 18, 4)});
  const SerialStep chunk = next_step({requests, {}, {}}, {8, 6}, {4, 4});
  const auto error_with = [&](const auto& change) {
    SerialCache cache = make_serial_cache(*ranks.front(), lengths_of(requests), 2);
    run_step(ranks, next_step({requests, {}, {}}, {0, 0}, {8, 6}), cache);
    SerialStep step = chunk;
    change(step, cache);
    return relative_error(run_step(ranks, step, cache).logits, expected);
  };
  const auto is_seen = [](double error) { return std::isnan(error) || error > 1e-3; };
  EXPECT_LT(error_with([](SerialStep&, SerialCache&) {}), kTolerance);
  EXPECT_TRUE(is_seen(error_with([](SerialStep& step, SerialCache&) {
    step.context_lengths[0] = 7;  // off by one
  })));
  EXPECT_TRUE(
      is_seen(error_with([](SerialStep& step, SerialCache&) { step.context_lengths[1] = 5; })));
  EXPECT_TRUE(is_seen(error_with([](SerialStep&, SerialCache& cache) {
    std::swap(cache.pages.pages[0][1], cache.pages.pages[1][1]);
  })));
  EXPECT_TRUE(is_seen(error_with([](SerialStep&, SerialCache& cache) {
    // Every slot one further than where the first step wrote.
    for (auto* side : {&cache.cache.keys, &cache.cache.values}) {
      for (at::Tensor& tensor : *side) {
        tensor = tensor.flatten(0, 1).roll(1, 0).view(tensor.sizes());
      }
    }
  })));
}

TEST(Context, SegmentsThatOverwriteAnotherTokenAreSeen) {
  // The slot of one token shifted by one in the ubatch itself: its neighbour's key is lost.
  MemorySource source(9);
  const auto ranks = make_ranks(small_config(), source);
  const auto requests = random_requests(10, {12});
  const SerialResult whole = run_step(ranks, whole_step(requests));
  SerialCache cache = make_serial_cache(*ranks.front(), {12}, 3);
  const auto workload = workload_of(whole_step(requests));
  const auto attend = [&](bool shifted) {
    const auto inputs = make_step_inputs(workload, cache.pages, {}, at::kCPU);
    UbatchState state;
    state.inputs = slice_inputs(inputs, slice_tokens(inputs.batch, 0, 12));
    if (shifted) {
      state.inputs.slot_mapping = state.inputs.slot_mapping.clone();
      state.inputs.slot_mapping[4].copy_(state.inputs.slot_mapping[5]);
    }
    ranks.front()->embed(state);
    KvCache fresh = make_kv_cache(cache.pages, ranks.front()->dims(), 3, at::kCPU);
    ranks.front()->attention(0, state, fresh);
    return state.hidden;
  };
  const at::Tensor good = attend(false);
  const at::Tensor bad = attend(true);
  EXPECT_FALSE(good.isnan().any().item<bool>());
  EXPECT_TRUE(bad.narrow(0, 4, 8).isnan().all().item<bool>());  // position 4 was never written
}

}  // namespace
}  // namespace dovetail
