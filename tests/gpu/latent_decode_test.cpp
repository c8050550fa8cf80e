// Decode over paged latents against double precision.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/softmax.h>
#include <gtest/gtest.h>

#include "framework/cuda/num_sms.hpp"
#include "tests/gpu/latent_attention_case.hpp"

namespace dovetail::test {
using namespace gpu;  // NOLINT(google-build-using-namespace)

namespace {

/// One query a request over paged latents, or none.
struct DecodeCase {
  std::vector<std::int64_t> lengths;
  std::int64_t heads = 0;
  std::int64_t padding = 0;  // segments and rows
  int page_size = 16;
  std::vector<std::int64_t> rows;  // of each request's query; -1 = none
  at::Tensor latents;              // [pages, page_size, 576]
  at::Tensor queries;              // [rows, heads, 576]
  std::vector<at::Tensor> keys;    // of each request [length, 576]
  at::Tensor tables, query_starts, key_lengths;
};

DecodeCase make_decode_case(std::vector<std::int64_t> lengths,
                            std::int64_t heads,
                            std::int64_t padding,
                            std::mt19937_64& random,
                            int page_size = 16,
                            const std::vector<std::size_t>& without_query = {}) {
  DecodeCase result;
  result.page_size = page_size;
  result.lengths = std::move(lengths);
  result.heads = heads;
  result.padding = padding;
  const auto count = static_cast<std::int64_t>(result.lengths.size());
  std::int64_t pages = 0;
  for (const std::int64_t length : result.lengths) {
    pages += (length + result.page_size - 1) / result.page_size;
  }
  std::vector<std::int64_t> order(static_cast<std::size_t>(pages));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random_order(random());  // keys are the same for pages of any size
  std::shuffle(order.begin(), order.end(), random_order);
  const std::int64_t most =
      *std::max_element(result.lengths.begin(), result.lengths.end()) / result.page_size + 1;
  at::Tensor tables = at::full({count + padding, most}, -1, at::kInt);
  at::Tensor latents = at::full({pages * result.page_size, kLatentKeyDim}, kNan, at::kFloat);
  std::size_t next = 0;
  for (std::int64_t request = 0; request < count; ++request) {
    const std::int64_t length = result.lengths[static_cast<std::size_t>(request)];
    const at::Tensor keys = random_bf16_values({length, kLatentKeyDim}, random);
    for (std::int64_t first = 0; first < length; first += result.page_size) {
      const std::int64_t page = order[next++];
      tables[request][first / result.page_size] = page;
      const std::int64_t size = std::min<std::int64_t>(result.page_size, length - first);
      latents.narrow(0, page * result.page_size, size).copy_(keys.narrow(0, first, size));
    }
    result.keys.push_back(to_gpu(keys));
  }
  std::vector<std::int64_t> query_lengths(static_cast<std::size_t>(count), 1);
  for (const std::size_t request : without_query) {
    query_lengths[request] = 0;
  }
  std::int64_t rows = 0;
  for (const std::int64_t queries : query_lengths) {
    result.rows.push_back(queries == 0 ? -1 : rows++);
  }
  query_lengths.resize(static_cast<std::size_t>(count + padding), 0);
  std::vector<std::int64_t> key_lengths = result.lengths;
  key_lengths.resize(query_lengths.size(), 0);
  result.latents = to_gpu(latents).view({pages, result.page_size, kLatentKeyDim});
  result.queries = to_gpu(random_bf16_values({rows + padding, heads, kLatentKeyDim}, random));
  result.tables = tables.to(at::kCUDA);
  result.query_starts = int32_on_gpu(starts_of(query_lengths));
  result.key_lengths = int32_on_gpu(key_lengths);
  return result;
}

/// [rows, heads, 512]; it lies behind another stride than the kernel's own.
at::Tensor run_decode(const DecodeCase& x,
                      DecodeSplit split_by,
                      int splits,
                      int sms_to_fill = num_sms()) {
  const std::int64_t rows = x.queries.size(0);
  const auto options = x.queries.options();
  at::Tensor result = at::full({x.heads, rows, kLatentValueDim}, kNan, options).transpose(0, 1);
  LatentDecodeArguments arguments = {
      .queries = {.latent = x.queries.const_data_ptr(),
                  .latent_token_stride = x.queries.stride(0),
                  .latent_head_stride = x.queries.stride(1),
                  .rope = x.queries.narrow(2, kLatentValueDim, 64).const_data_ptr(),
                  .rope_token_stride = x.queries.stride(0),
                  .rope_head_stride = x.queries.stride(1)},
      .result = result.mutable_data_ptr(),
      .result_token_stride = result.stride(0),
      .result_head_stride = result.stride(1),
      .tokens = rows,
      .heads = x.heads,
      .latents = x.latents.const_data_ptr(),
      .page_size = x.page_size,
      .segments = {.query_starts = x.query_starts.const_data_ptr<std::int32_t>(),
                   .key_lengths = x.key_lengths.const_data_ptr<std::int32_t>(),
                   .block_tables = x.tables.const_data_ptr<std::int32_t>(),
                   .table_stride = x.tables.stride(0),
                   .count = x.tables.size(0)},
      .scale = kScale,
      .split_by = split_by,
      .splits = splits,
      .num_sms = sms_to_fill};
  const at::Tensor partial =
      at::full({latent_decode_partial_floats(arguments)}, kNan, options.dtype(at::kFloat));
  arguments.partial = partial.mutable_data_ptr<float>();
  launch_latent_decode(arguments, stream());
  check_gpu();
  return result;
}

at::Tensor exact_of(const DecodeCase& x, std::size_t request, std::int64_t left_out = 0) {
  const at::Tensor& all = x.keys[request];
  const at::Tensor keys = all.narrow(0, 0, all.size(0) - left_out).to(at::kDouble);
  const at::Tensor queries = x.queries.select(0, x.rows[request]).to(at::kDouble);
  const at::Tensor shares = at::softmax(at::mm(queries, keys.t()) * double{kScale}, -1);
  return at::mm(shares, keys.narrow(1, 0, kLatentValueDim)).unsqueeze(0);
}

const std::vector<std::int64_t> kLengths = {1, 2, 63, 64, 65, 128, 129, 700, 1000, 5000};

TEST(LatentDecode, IsThatOfDoublePrecision) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  for (const std::int64_t heads : {1, 16, 20, 64, 100, 128}) {
    const DecodeCase x = make_decode_case(kLengths, heads, 3, random);
    const auto count = static_cast<std::int64_t>(kLengths.size());
    for (const int splits : {1, 2, 7}) {
      SCOPED_TRACE(testing::Message() << heads << " heads, " << splits << " splits");
      const at::Tensor got = run_decode(x, DecodeSplit::launch, splits);
      for (std::size_t request = 0; request < kLengths.size(); ++request) {
        const at::Tensor row = got.narrow(0, static_cast<std::int64_t>(request), 1);
        EXPECT_LE(row_error(row, exact_of(x, request)), kBound) << kLengths[request] << " keys";
        // What a lost key would give. (To one head alone it may matter less than rounding.)
        if (heads > 1 && kLengths[request] > 1 && kLengths[request] < 200) {
          EXPECT_GT(row_error(row, exact_of(x, request, 1)), kBound) << kLengths[request];
        }
      }
      EXPECT_TRUE((got.narrow(0, count, x.padding) == 0).all().item<bool>()) << "padding rows";
    }
  }
}

/// Most of the segments have one split, and alone are of a launch that has one: what another way
/// from sums to results would change is one element of many thousand.
TEST(LatentDecode, SplitsByLengthGiveARowTheSameBitsInAnyBatch) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  std::vector<std::int64_t> lengths = kLengths;
  for (std::int64_t length = 3; length <= 256; length += 4) {
    lengths.push_back(length);
  }
  const DecodeCase x = make_decode_case(lengths, 20, 2, random);
  const at::Tensor whole = run_decode(x, DecodeSplit::length, decode_splits_by_length(5000));
  for (std::size_t request = 0; request < lengths.size(); ++request) {
    DecodeCase alone = x;
    const auto place = static_cast<std::int64_t>(request);
    alone.queries = x.queries.narrow(0, place, 1);
    alone.tables = x.tables.narrow(0, place, 1);
    alone.query_starts = int32_on_gpu({0, 1});
    alone.key_lengths = x.key_lengths.narrow(0, place, 1);
    const int splits = decode_splits_by_length(lengths[request]);
    EXPECT_EQ(bitwise_difference(run_decode(alone, DecodeSplit::length, splits),
                                 whole.narrow(0, place, 1)),
              "")
        << lengths[request] << " keys";
  }
}

/// Where a box of a page, a tile, or a cluster of two blocks may end.
TEST(LatentDecode, IsThatOfDoublePrecisionForPagesOfAnySize) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  const std::vector<std::int64_t> lengths = {
      1, 63, 64, 300, 65, 127, 128, 16, 257, 1000, 640, 2049};
  const std::vector<std::size_t> without_query = {3, 10};
  for (const int page_size : {1, 8, 16, 20, 64, 96, 256}) {
    for (const std::int64_t heads : {64, 96, 128, 130}) {
      const DecodeCase x = make_decode_case(lengths, heads, 2, random, page_size, without_query);
      for (const int splits : {1, 3}) {
        SCOPED_TRACE(testing::Message()
                     << page_size << " slots a page, " << heads << " heads, " << splits);
        const at::Tensor got = run_decode(x, DecodeSplit::launch, splits);
        for (std::size_t request = 0; request < lengths.size(); ++request) {
          if (x.rows[request] >= 0) {
            EXPECT_LE(row_error(got.narrow(0, x.rows[request], 1), exact_of(x, request)), kBound)
                << lengths[request] << " keys";
          }
        }
        EXPECT_TRUE((got.narrow(0, got.size(0) - 2, 2) == 0).all().item<bool>()) << "padding rows";
      }
    }
  }
}

/// Boxes of pages of 16 and of 64 and single keys (20): the same tiles, so the same bits, always.
TEST(LatentDecode, HasTheSameBitsAtAnyTimeAndForPagesOfAnySize) {
  DOVETAIL_REQUIRE_GPU();
  const std::uint64_t seed = next_seed();
  const std::vector<std::int64_t> lengths(70, 1000);
  for (const DecodeSplit split_by : {DecodeSplit::launch, DecodeSplit::length}) {
    const int splits = split_by == DecodeSplit::launch ? 2 : decode_splits_by_length(1000);
    at::Tensor first;
    for (const int page_size : {64, 16, 20}) {
      std::mt19937_64 random(seed);
      const DecodeCase x = make_decode_case(lengths, 128, 1, random, page_size);
      for (int i = 0; i < 5; ++i) {
        const at::Tensor got = run_decode(x, split_by, splits);
        if (page_size == 64 && i == 0) {
          first = got;
        }
        EXPECT_EQ(bitwise_difference(got, first), "") << page_size << " slots a page, run " << i;
      }
    }
  }
}

/// Blocks walk over parts: one, many, of very uneven lengths, with empty ones between. Whoever
/// computes a part, and what was before it, must not matter.
TEST(LatentDecode, BlocksWalkOverManyParts) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  std::vector<std::int64_t> lengths;
  std::vector<std::size_t> without_query;
  for (std::size_t i = 0; i < 300; ++i) {
    const std::uint64_t most = i % 7 == 0 ? 3000 : (i % 3 == 0 ? 64 : 500);
    lengths.push_back(1 + static_cast<std::int64_t>(random() % most));
    if (random() % 5 == 0) {
      without_query.push_back(i);
    }
  }
  for (const std::int64_t heads : {64, 128}) {
    const DecodeCase x = make_decode_case(lengths, heads, 70, random, 64, without_query);
    std::vector<at::Tensor> wanted;
    for (std::size_t request = 0; request < lengths.size(); ++request) {
      wanted.push_back(x.rows[request] < 0 ? at::Tensor() : exact_of(x, request));
    }
    for (const int splits : {1, 3, 0}) {
      const DecodeSplit split_by = splits == 0 ? DecodeSplit::length : DecodeSplit::launch;
      const int most_splits = splits == 0 ? decode_splits_by_length(3000) : splits;
      const at::Tensor got = run_decode(x, split_by, most_splits);
      for (std::size_t request = 0; request < lengths.size(); ++request) {
        if (x.rows[request] >= 0) {
          EXPECT_LE(row_error(got.narrow(0, x.rows[request], 1), wanted[request]), kBound)
              << heads << " heads, splits " << splits << ", request " << request;
        }
      }
      EXPECT_TRUE((got.narrow(0, got.size(0) - 70, 70) == 0).all().item<bool>()) << "padding rows";
      for (const int sms : {num_sms(), num_sms() - 32, 7, 1}) {
        EXPECT_EQ(bitwise_difference(run_decode(x, split_by, most_splits, sms), got), "")
            << heads << " heads, splits " << splits << ", " << sms << " SMs";
      }
    }
  }
}

/// Of eight blocks, each first takes a long part or a short one. As many parts follow; where those
/// that had a long one took a long one again, this would last twice as long as the first parts.
TEST(LatentDecode, ABlockWithMuchToDoTakesAShortPart) {
  DOVETAIL_REQUIRE_GPU();
  constexpr int sms = 8;
  std::mt19937_64 random(next_seed());
  const std::vector<std::int64_t> first = {8192, 64, 8192, 64, 8192, 64, 8192, 64};
  std::vector<std::int64_t> twice = first;
  twice.insert(twice.end(), first.begin(), first.end());
  const auto milliseconds = [&](const std::vector<std::int64_t>& lengths) {
    const DecodeCase x = make_decode_case(lengths, 16, 0, random, 64);
    std::vector<double> samples;
    for (int i = 0; i < 9; ++i) {
      const auto begin = std::chrono::steady_clock::now();
      run_decode(x, DecodeSplit::launch, 1, sms);
      const std::chrono::duration<double, std::milli> took =
          std::chrono::steady_clock::now() - begin;
      samples.push_back(took.count());
    }
    std::sort(samples.begin(), samples.end());
    return samples[samples.size() / 2];
  };
  EXPECT_LT(milliseconds(twice), 1.5 * milliseconds(first));
}

}  // namespace
}  // namespace dovetail::test
