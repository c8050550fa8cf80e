// `numerics: batch_invariant` on the CPU: attention and whole models give a request the same bits
// alone, in a batch, in ubatches, in any pages, in chunks (down to decode), on every number of
// ranks and threads.
#include <memory>
#include <random>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <gtest/gtest.h>

#include "tests/unit/models/chunked_run.hpp"
#include "tests/unit/models/memory_source.hpp"
#include "tests/unit/models/paged_case.hpp"
#include "tests/unit/models/row_check.hpp"
#include "tests/unit/models/serial_step.hpp"
#include "tests/unit/models/small_model.hpp"

namespace dovetail {
namespace {

constexpr auto kInvariant = Numerics::batch_invariant;

class Threads {
 public:
  explicit Threads(int count) : before_(at::get_num_threads()) { at::set_num_threads(count); }

  ~Threads() { at::set_num_threads(before_); }

  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  Threads(Threads&&) = delete;
  Threads& operator=(Threads&&) = delete;

 private:
  int before_;
};

/// The request's rows [first, first + count) as a chunk of their own.
DenseRequest chunk_of(const DenseRequest& whole, std::int64_t first, std::int64_t count) {
  return {.context_length = first,
          .queries = whole.queries.narrow(0, first, count),
          .keys = whole.keys.narrow(0, 0, first + count),
          .values = whole.values.narrow(0, 0, first + count)};
}

at::Tensor attend(const PagedCase& paged, at::ScalarType type, Numerics numerics) {
  return attend_to_context(paged.queries.to(type),
                           paged.segments,
                           paged.block_tables,
                           paged.keys.to(type),
                           paged.values.to(type),
                           numerics);
}

/// Elements of a request's attention that differ between the whole request and chunks of random
/// sizes, each in a batch with others, in other pages and with other numbers of threads.
std::int64_t changed_by_chunks(const Sizes& sizes,
                               at::ScalarType type,
                               Numerics numerics,
                               std::mt19937_64& random) {
  const std::int64_t length = 200;
  const DenseRequest whole = random_request(sizes, 0, length);
  const at::Tensor expected = attend(scattered({whole}, 16, random()), type, numerics);
  std::int64_t changed = 0;
  for (std::int64_t done = 0; done < length;) {
    const auto wanted = static_cast<std::int64_t>(random() % 3 == 0 ? 1 : random() % 60 + 1);
    const std::int64_t count = std::min(length - done, wanted);
    const Threads threads(static_cast<int>(random() % 4 + 1));
    const std::vector<DenseRequest> batch = {
        random_request(sizes, 5, 9), chunk_of(whole, done, count), random_request(sizes, 0, 1)};
    const int page_size = std::vector{1, 3, 16, 1000}.at(random() % 4);
    const at::Tensor result = attend(scattered(batch, page_size, random()), type, numerics);
    changed += count_different_bits(result.narrow(0, 9, count), expected.narrow(0, done, count));
    done += count;
  }
  return changed;
}

TEST(BatchInvariantAttention, ChunksInAnyBatchHaveTheBitsOfTheWhole) {
  const std::uint64_t seed = std::random_device{}();
  std::mt19937_64 random(seed);
  at::manual_seed(seed);
  std::int64_t changed_by_fast = 0;
  for (const Sizes& sizes : {Sizes{}, Sizes{8, 1, 64}, Sizes{1, 1, 12}, Sizes{4, 4, 128}}) {
    for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
      EXPECT_EQ(changed_by_chunks(sizes, type, kInvariant, random), 0)
          << sizes.heads << " heads, " << at::toString(type) << ", seed " << seed;
      changed_by_fast += changed_by_chunks(sizes, type, Numerics::fast, random);
    }
  }
  EXPECT_GT(changed_by_fast, 0) << "the comparison notices nothing, or `fast` is invariant";
}

TEST(BatchInvariantAttention, IsAttention) {
  const Sizes sizes;
  const std::vector<DenseRequest> requests = {random_request(sizes, 0, 40),
                                              random_request(sizes, 37, 1),
                                              random_request(sizes, 100, 23),
                                              random_request(sizes, 0, 1)};
  for (const int page_size : {1, 16}) {
    const PagedCase paged = scattered(requests, page_size, 3);
    EXPECT_LT(worst_error(attend(paged, at::kFloat, kInvariant), requests), 3e-6);
    EXPECT_LT(worst_error(attend(paged, at::kHalf, kInvariant), requests), 3e-2);
  }
  EXPECT_GT(worst_error(attend(scattered(requests, 4, 3), at::kFloat, kInvariant),
                        {requests[1], requests[0], requests[2], requests[3]}),
            1e-3);
}

std::vector<std::unique_ptr<Model>> with_numerics(const std::vector<std::unique_ptr<Model>>& ranks,
                                                  Numerics numerics) {
  std::vector<std::unique_ptr<Model>> views;
  views.reserve(ranks.size());
  for (const auto& rank : ranks) {
    views.push_back(rank->with_numerics(numerics));
  }
  return views;
}

/// What small_config has not: biases, a gate of the shared expert, scaled frequencies, and queries
/// and keys without norms.
MoeDecoderConfig other_config() {
  MoeDecoderConfig config = small_config();
  config.has_qk_norm = false;
  config.qkv_bias = true;
  config.has_shared_expert_gate = true;
  config.router.normalize = false;
  config.rope.type = RopeType::yarn;
  config.rope.factor = 4;
  config.rope.original_max_position_embeddings = 32;
  return config;
}

std::vector<MoeDecoderConfig> all_configs() {
  return {small_config(), other_config()};
}

class BatchInvariantModel : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  BatchInvariantModel() : seed_(std::random_device{}()), random_(seed_) {}

  std::vector<std::unique_ptr<Model>> ranks(const MoeDecoderConfig& config, Numerics numerics) {
    MemorySource source(3);
    return with_numerics(make_ranks(config, source, 1, GetParam()), numerics);
  }

  /// Elements of the logits that random chunks, batches, ubatches, pages and threads change.
  std::int64_t changed_bits(const MoeDecoderConfig& config, Numerics numerics) {
    const auto models = ranks(config, numerics);
    const auto requests = random_requests(seed_, {7, 1, 60, 130});
    std::vector<at::Tensor> alone;
    alone.reserve(requests.size());
    for (const auto& request : requests) {
      alone.push_back(run_step(models, whole_step({request})).logits);
    }
    const at::Tensor expected = at::cat(alone);
    std::int64_t changed =
        count_different_bits(run_step(models, whole_step(requests)).logits, expected);
    for (const int page_size : {1, 16}) {
      const Threads threads(static_cast<int>(random_() % 4 + 1));
      SerialCache cache =
          make_serial_cache(*models.front(), lengths_of(requests), page_size, random_());
      const ChunkSizes sizes = random_chunks(lengths_of(requests), random_);
      const ChunkedResult result = run_chunks(models, {requests, {}, {}}, sizes, cache, &random_);
      changed += count_different_bits(result.logits, expected);
    }
    return changed;
  }

  const std::uint64_t seed_;
  std::mt19937_64 random_;
};

TEST_P(BatchInvariantModel, EveryCutAndCompanyGivesTheSameBits) {
  for (const MoeDecoderConfig& config : all_configs()) {
    EXPECT_EQ(changed_bits(config, kInvariant), 0) << "seed " << seed_;
  }
}

TEST_P(BatchInvariantModel, IsTheSameModel) {
  const double tolerance = GetParam() == at::kFloat ? 5e-6 : GetParam() == at::kHalf ? 1e-2 : 6e-2;
  for (const MoeDecoderConfig& config : all_configs()) {
    const auto requests = random_requests(seed_, {30, 9});
    const SerialResult own = run_step(ranks(config, kInvariant), whole_step(requests));
    SerialStep replayed = whole_step(requests);
    replayed.replay_ids = own.expert_ids;  // near ties must not decide
    const SerialResult fast = run_step(ranks(config, Numerics::fast), replayed);
    EXPECT_LT(relative_error(own.logits, fast.logits), tolerance) << "seed " << seed_;
  }
}

INSTANTIATE_TEST_SUITE_P(Dtypes,
                         BatchInvariantModel,
                         ::testing::Values(at::kFloat, at::kBFloat16, at::kHalf),
                         [](const auto& of) { return at::toString(of.param); });

/// That the comparison above notices something.
class BatchInvariantTwin : public BatchInvariantModel {};

TEST_P(BatchInvariantTwin, FastIsNot) {
  for (const MoeDecoderConfig& config : all_configs()) {
    EXPECT_GT(changed_bits(config, Numerics::fast), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Float, BatchInvariantTwin, ::testing::Values(at::kFloat));

TEST(ModelView, SharesTheWeights) {
  MemorySource source(3);
  auto models = make_ranks(small_config(), source);
  const auto view = models.front()->with_numerics(kInvariant);
  const auto digest = models.front()->weights_digest();
  EXPECT_EQ(view->weights_digest().experts, digest.experts);
  EXPECT_EQ(view->weight_bytes(), models.front()->weight_bytes());
  models.clear();
  EXPECT_EQ(view->weights_digest().replicated, digest.replicated);  // it needs no other
}

}  // namespace
}  // namespace dovetail
