// Attention over a paged cache, against plain loops over requests that know no pages.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "tests/unit/models/paged_case.hpp"

namespace dovetail {
namespace {

constexpr int kPageSizes[] = {1, 3, 16, 1000};

/// context and query length of the requests of a batch.
using Lengths = std::vector<std::pair<std::int64_t, std::int64_t>>;

class PagedAttention : public testing::TestWithParam<Lengths> {};

TEST_P(PagedAttention, EqualsPlainLoopsForAnyPagesAndIsTheSameToTheBit) {
  const auto seed = std::random_device{}();
  for (const Sizes& sizes : {Sizes{}, Sizes{.heads = 4, .kv_heads = 4, .head_dim = 16}}) {
    std::vector<DenseRequest> requests;
    for (const auto& [context, length] : GetParam()) {
      requests.push_back(random_request(sizes, context, length));
    }
    const at::Tensor first = scattered(requests, 16, seed).attend();
    EXPECT_LT(worst_error(first, requests), 2e-6);
    for (const int page_size : kPageSizes) {
      EXPECT_TRUE(at::equal(scattered(requests, page_size, seed + 1).attend(), first))
          << "page size " << page_size << ", seed " << seed;
      EXPECT_TRUE(at::equal(
          put_into_pages(requests, neighbouring_pages(requests, page_size)).attend(), first))
          << "neighbouring pages of " << page_size;
    }
  }
}

TEST_P(PagedAttention, IsTheSameToTheBitInReducedPrecision) {
  const auto seed = std::random_device{}();
  std::vector<DenseRequest> requests;
  for (const auto& [context, length] : GetParam()) {
    requests.push_back(
        random_request({.heads = 8, .kv_heads = 2, .head_dim = 64}, context, length));
  }
  for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
    const auto attend = [&](PagedCase batch) {
      for (auto* tensor : {&batch.queries, &batch.keys, &batch.values}) {
        *tensor = tensor->to(dtype);
      }
      return batch.attend();
    };
    const at::Tensor first = attend(scattered(requests, 16, seed));
    EXPECT_EQ(first.scalar_type(), dtype);
    EXPECT_LT(worst_error(first, requests), 0.05);
    for (const int page_size : kPageSizes) {
      EXPECT_TRUE(at::equal(attend(scattered(requests, page_size, seed + 1)), first)) << seed;
      EXPECT_TRUE(at::equal(
          attend(put_into_pages(requests, neighbouring_pages(requests, page_size))), first));
    }
  }
}

TEST_P(PagedAttention, CutsAnywhereGiveTheSame) {
  const auto seed = std::random_device{}();
  std::mt19937 random(seed);
  std::vector<DenseRequest> requests;
  for (const auto& [context, length] : GetParam()) {
    requests.push_back(random_request({}, context, length));
  }
  PagedCase whole = scattered(requests, 3, seed);
  const at::Tensor expected = whole.attend();
  for (int round = 0; round < 12; ++round) {
    // Every segment in two parts, in calls of their own: the second continues the first.
    PagedCase parts[2] = {whole, whole};
    for (PagedCase& part : parts) {
      part.segments.clear();
      part.block_tables = whole.block_tables.narrow(0, 0, 0);
    }
    const auto add_to = [&](PagedCase& part, std::int64_t r, const AttentionSegment& segment) {
      if (segment.query_length > 0) {
        part.segments.push_back(segment);
        part.block_tables = at::cat({part.block_tables, whole.block_tables.narrow(0, r, 1)});
      }
    };
    for (std::int64_t r = 0; r < std::ssize(requests); ++r) {
      const auto& segment = whole.segments[static_cast<std::size_t>(r)];
      const auto cut = static_cast<std::int64_t>(
          random() % static_cast<std::uint64_t>(segment.query_length + 1));
      add_to(parts[0], r, {segment.token_start, cut, segment.context_length});
      add_to(parts[1],
             r,
             {segment.token_start + cut, segment.query_length - cut, segment.context_length + cut});
    }
    const at::Tensor sum = parts[0].attend() + parts[1].attend();
    EXPECT_LT((sum - expected).abs().max().item<double>(), 2e-6) << "seed " << seed;
  }
}

TEST_P(PagedAttention, WrongTablesAndSlotsAreSeen) {
  const auto seed = std::random_device{}();
  std::vector<DenseRequest> requests;
  for (const auto& [context, length] : GetParam()) {
    requests.push_back(random_request({}, context, length));
  }
  const auto is_seen = [&](const PagedCase& changed) {
    const double error = worst_error(changed.attend(), requests);
    return std::isnan(error) || error > 1e-3;
  };
  const PagedCase good = scattered(requests, 1, seed);
  EXPECT_FALSE(is_seen(good));
  for (std::int64_t r = 0; r < std::ssize(requests); ++r) {
    const std::int64_t length = requests[static_cast<std::size_t>(r)].keys.size(0);
    // Another page than the request's, which nobody owns.
    PagedCase wrong = good;
    wrong.block_tables = good.block_tables.clone();
    std::vector<bool> owned(static_cast<std::size_t>(good.keys.size(0)), false);
    const auto tables = wrong.block_tables.accessor<int, 2>();
    for (std::int64_t i = 0; i < tables.size(0); ++i) {
      for (std::int64_t j = 0; j < tables.size(1); ++j) {
        if (tables[i][j] >= 0) {
          owned[static_cast<std::size_t>(tables[i][j])] = true;
        }
      }
    }
    const auto nobody = std::find(owned.begin(), owned.end(), false) - owned.begin();
    wrong.block_tables[r][length / 2] = static_cast<int>(nobody);
    EXPECT_TRUE(std::isnan(worst_error(wrong.attend(), requests)))
        << "an unwritten slot of request " << r;
    // The first and the last position swapped: to the last query alone it is the same.
    PagedCase swapped = good;
    swapped.block_tables = good.block_tables.clone();
    swapped.block_tables[r][0].copy_(good.block_tables[r][length - 1]);
    swapped.block_tables[r][length - 1].copy_(good.block_tables[r][0]);
    EXPECT_EQ(is_seen(swapped), requests[static_cast<std::size_t>(r)].queries.size(0) > 1)
        << "swapped pages of request " << r;
    // A page of another request.
    const std::int64_t other = (r + 1) % std::ssize(requests);
    PagedCase mixed = good;
    mixed.block_tables = good.block_tables.clone();
    mixed.block_tables[r][0].copy_(good.block_tables[other][0]);
    EXPECT_EQ(is_seen(mixed), other != r) << "another's page in request " << r;
    // A context that is one too short.
    if (requests[static_cast<std::size_t>(r)].context_length > 0) {
      PagedCase shorter = good;
      shorter.segments[static_cast<std::size_t>(r)].context_length -= 1;
      EXPECT_TRUE(is_seen(shorter)) << "context of request " << r;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Batches,
                         PagedAttention,
                         testing::Values(Lengths{{0, 1}},
                                         Lengths{{300, 1}, {17, 1}, {1, 1}},
                                         Lengths{{0, 7}, {1, 255}},
                                         Lengths{{0, 256}},
                                         Lengths{{255, 257}},
                                         Lengths{{0, 40}, {100, 1}, {33, 30}, {600, 1}},
                                         Lengths{{11, 600}}),
                         [](const auto& test) {
                           std::string name;
                           for (const auto& [context, length] : test.param) {
                             name += (name.empty() ? "" : "_") + std::to_string(context) + "with" +
                                     std::to_string(length);
                           }
                           return name;
                         });

TEST(AttendToContext, RowsOutsideOfSegmentsAreZero) {
  const std::vector<DenseRequest> requests = {random_request({}, 2, 4), random_request({}, 0, 3)};
  PagedCase batch = scattered(requests, 3, 1);
  const at::Tensor without = batch.attend();
  // Padding behind each of the two.
  const at::Tensor padding = at::randn({1, 6, 10});
  batch.queries =
      at::cat({batch.queries.narrow(0, 0, 4), padding, batch.queries.narrow(0, 4, 3), padding});
  ++batch.segments[1].token_start;
  const at::Tensor with = batch.attend();
  EXPECT_TRUE(at::equal(with.narrow(0, 0, 4), without.narrow(0, 0, 4)));
  EXPECT_TRUE(at::equal(with.narrow(0, 5, 3), without.narrow(0, 4, 3)));
  EXPECT_EQ(with[4].abs().max().item<float>(), 0);
  EXPECT_EQ(with[8].abs().max().item<float>(), 0);
}

TEST(AttendToContext, BrokenPromisesAreContractErrors) {
  const std::vector<DenseRequest> requests = {random_request({}, 5, 4), random_request({}, 0, 3)};
  const PagedCase good = scattered(requests, 2, 1);
  PagedCase bad = good;
  bad.segments[1].query_length = 4;  // more rows than the ubatch has
  EXPECT_THROW(bad.attend(), ContractError);
  bad = good;
  bad.segments[0].context_length = 7;  // more tokens than pages
  EXPECT_THROW(bad.attend(), ContractError);
  bad = good;
  bad.segments[1].context_length = 2;  // a page that is none
  EXPECT_THROW(bad.attend(), ContractError);
  bad = good;
  bad.block_tables = good.block_tables.clone();
  bad.block_tables[0][1] = static_cast<int>(good.keys.size(0));
  EXPECT_THROW(bad.attend(), ContractError);
  bad = good;
  bad.segments[1].query_length = 0;
  EXPECT_THROW(bad.attend(), ContractError);
  bad = good;
  bad.segments.pop_back();  // a table for each segment
  EXPECT_THROW(bad.attend(), ContractError);
}

}  // namespace
}  // namespace dovetail
