// Splits: vectors of SGLang and properties over random batches, with brute force for the balance.
#include "framework/plan/split.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

Batch batch_of(const std::vector<std::int64_t>& lengths) {
  Batch batch;
  for (const auto length : lengths) {
    batch.requests.push_back({static_cast<std::int64_t>(batch.requests.size()) + 100, length, 0});
  }
  return batch;
}

std::vector<std::int64_t> sizes_of(const std::vector<UbatchSlice>& slices) {
  std::vector<std::int64_t> sizes;
  sizes.reserve(slices.size());
  for (const auto& slice : slices) {
    sizes.push_back(slice.num_tokens);
  }
  return sizes;
}

/// Every token once, in order, in the right request at the right place.
void check_cover(const Batch& batch, const std::vector<UbatchSlice>& slices, int num_ubatches) {
  ASSERT_EQ(slices.size(), static_cast<std::size_t>(num_ubatches));
  std::vector<std::pair<int, std::int64_t>> expected;  // token -> request, place in its query
  for (std::size_t r = 0; r < batch.requests.size(); ++r) {
    for (std::int64_t t = 0; t < batch.requests[r].query_length; ++t) {
      expected.emplace_back(static_cast<int>(r), t);
    }
  }
  std::int64_t token = 0;
  for (const auto& slice : slices) {
    EXPECT_EQ(slice.token_start, token);
    for (const auto& segment : slice.segments) {
      EXPECT_GE(segment.query_length, 1);
      EXPECT_EQ(segment.token_start, token);
      for (std::int64_t t = 0; t < segment.query_length; ++t, ++token) {
        ASSERT_LT(static_cast<std::size_t>(token), expected.size());
        EXPECT_EQ(expected[static_cast<std::size_t>(token)],
                  std::make_pair(segment.request, segment.query_start + t));
      }
    }
    EXPECT_EQ(token, slice.token_start + slice.num_tokens);
  }
  EXPECT_EQ(token, batch.num_tokens());
}

TEST(Split, MeetsTheVectorsOfSGLang) {
  struct Vector {
    std::vector<std::int64_t> lengths;
    int cut_request;
    std::int64_t cut_token;
  };

  const std::vector<Vector> vectors = {{{42}, 0, 21},
                                       {{42, 999}, 1, 520},
                                       {{4096, 4096, 4096, 4096}, 2, 8192},
                                       {{1, 1, 1, 1, 99999}, 4, 50001}};
  for (const auto& [lengths, request, token] : vectors) {
    const auto slices = split_batch(batch_of(lengths), {"token_midpoint", {}}, 2);
    EXPECT_EQ(slices[1].token_start, token);
    EXPECT_EQ(slices[1].segments.front().request, request);
  }
  const auto decode = split_batch(batch_of(std::vector<std::int64_t>(99, 1)), {}, 2);
  EXPECT_EQ(sizes_of(decode), (std::vector<std::int64_t>{49, 50}));
}

TEST(Split, MidpointCutsInsideARequest) {
  const auto slices = split_batch(batch_of({3, 5}), {}, 3);
  EXPECT_EQ(sizes_of(slices), (std::vector<std::int64_t>{2, 3, 3}));
  ASSERT_EQ(slices[1].segments.size(), 2U);
  EXPECT_EQ(slices[1].segments[0].query_start, 2);
  EXPECT_EQ(slices[1].segments[0].query_length, 1);
  EXPECT_EQ(slices[1].segments[1].request, 1);
  EXPECT_EQ(slices[1].segments[1].token_start, 3);
}

TEST(Split, RequestKeepsRequestsWhole) {
  const auto sizes = [](const std::vector<std::int64_t>& lengths, int n) {
    return sizes_of(split_batch(batch_of(lengths), {"request", {}}, n));
  };
  using Sizes = std::vector<std::int64_t>;
  EXPECT_EQ(sizes({4096, 4096, 4096, 4096}, 2), (Sizes{8192, 8192}));
  EXPECT_EQ(sizes({1, 1, 1, 1, 99999}, 2), (Sizes{4, 99999}));
  EXPECT_EQ(sizes({42}, 2), (Sizes{0, 42})) << "the earliest of two equal cuts";
  EXPECT_EQ(sizes({10, 1, 1}, 3), (Sizes{10, 1, 1})) << "no ubatch is empty for nothing";
  EXPECT_EQ(sizes({5, 1, 5}, 2), (Sizes{5, 6})) << "the earlier cut of two equal ones";
  EXPECT_EQ(sizes({}, 3), (Sizes{0, 0, 0}));
}

/// All cuts by recursion: the largest part, the sum of squares, the cuts; the least of these.
using Score = std::pair<std::pair<std::int64_t, std::int64_t>, std::vector<std::size_t>>;

Score best_cut(const std::vector<std::int64_t>& lengths, std::size_t from, int parts) {
  const auto sum = [&](std::size_t a, std::size_t b) {
    return std::accumulate(lengths.begin() + static_cast<std::ptrdiff_t>(a),
                           lengths.begin() + static_cast<std::ptrdiff_t>(b),
                           std::int64_t{0});
  };
  std::vector<Score> all;
  std::vector<std::size_t> cuts;
  const auto visit = [&](const auto& self,
                         std::size_t at,
                         int left,
                         std::int64_t largest,
                         std::int64_t squares) -> void {
    if (left == 1) {
      const auto part = sum(at, lengths.size());
      all.push_back({{std::max(largest, part), squares + part * part}, cuts});
      return;
    }
    for (std::size_t end = at; end <= lengths.size(); ++end) {
      const auto part = sum(at, end);
      cuts.push_back(end);
      self(self, end, left - 1, std::max(largest, part), squares + part * part);
      cuts.pop_back();
    }
  };
  visit(visit, from, parts, 0, 0);
  return *std::min_element(all.begin(), all.end());
}

TEST(Split, RequestIsTheBestOfAllCuts) {
  std::mt19937_64 random(testing::fresh_seed());
  for (int round = 0; round < 300; ++round) {
    std::vector<std::int64_t> lengths(random() % 8);
    for (auto& length : lengths) {
      length = static_cast<std::int64_t>(random() % 6);
    }
    const int n = 1 + static_cast<int>(random() % 4);
    const Batch batch = batch_of(lengths);
    const auto slices = split_batch(batch, {"request", {}}, n);
    check_cover(batch, slices, n);
    const Score best = best_cut(lengths, 0, n);
    std::vector<std::int64_t> starts = {0};
    std::partial_sum(lengths.begin(), lengths.end(), std::back_inserter(starts));
    for (std::size_t u = 1; u < slices.size(); ++u) {
      EXPECT_EQ(slices[u].token_start, starts[best.second[u - 1]]);
    }
  }
}

/// The plain way, with all cuts tried: quadratic. Token boundaries [parts + 1].
std::vector<std::int64_t> plain_request_boundaries(const std::vector<std::int64_t>& starts,
                                                   int num_parts,
                                                   std::int64_t limit) {
  const std::size_t n = starts.size() - 1;
  const auto parts = static_cast<std::size_t>(num_parts);
  constexpr std::int64_t impossible = std::numeric_limits<std::int64_t>::max();
  std::vector<std::vector<std::int64_t>> best(parts + 1,
                                              std::vector<std::int64_t>(n + 1, impossible));
  std::vector<std::vector<std::size_t>> cut(parts + 1, std::vector<std::size_t>(n + 1));
  best[0][n] = 0;
  for (std::size_t k = 1; k <= parts; ++k) {
    for (std::size_t i = 0; i <= n; ++i) {
      for (std::size_t end = i; end <= n && starts[end] - starts[i] <= limit; ++end) {
        const std::int64_t part = starts[end] - starts[i];
        if (best[k - 1][end] != impossible && part * part + best[k - 1][end] < best[k][i]) {
          best[k][i] = part * part + best[k - 1][end];
          cut[k][i] = end;
        }
      }
    }
  }
  std::vector<std::int64_t> boundaries{0};
  std::size_t at = 0;
  for (std::size_t k = parts; k >= 1; --k) {
    at = cut[k][at];
    boundaries.push_back(starts[at]);
  }
  return boundaries;
}

TEST(Split, RequestCutsAsThePlainWayDoes) {
  std::mt19937_64 random(testing::fresh_seed());
  for (int round = 0; round < 2000; ++round) {
    const auto longest = std::array<std::uint64_t, 4>{1, 3, 50, 100'000}[random() % 4];
    std::vector<std::int64_t> starts = {0};
    for (auto left = random() % 80; left > 0; --left) {
      const auto length = random() % 4 == 0 ? 0 : random() % (longest + 1);
      starts.push_back(starts.back() + static_cast<std::int64_t>(length));
    }
    const int n = 1 + static_cast<int>(random() % 8);
    const auto found = request_boundaries(starts, n);
    std::int64_t largest = 0;
    for (std::size_t u = 1; u < found.size(); ++u) {
      largest = std::max(largest, found[u] - found[u - 1]);
    }
    if (largest > 0) {
      ASSERT_EQ(plain_request_boundaries(starts, n, largest - 1).back(), 0)
          << "fits into less: " << largest;
    }
    ASSERT_EQ(found, plain_request_boundaries(starts, n, largest)) << round;
  }
}

/// In the quadratic way each of these takes hours.
TEST(Split, CutsAMillionRequests) {
  constexpr std::int64_t num_requests = testing::kSanitized ? 100'000 : 1'000'000;
  const auto equal =
      split_batch(batch_of(std::vector<std::int64_t>(num_requests, 2)), {"request", {}}, 8);
  EXPECT_EQ(sizes_of(equal), (std::vector<std::int64_t>(8, num_requests / 4)));
  std::mt19937_64 random(testing::fresh_seed());
  std::vector<std::int64_t> lengths(num_requests);
  for (auto& length : lengths) {
    length = static_cast<std::int64_t>(random() % 100);
  }
  const auto sizes = sizes_of(split_batch(batch_of(lengths), {"request", {}}, 8));
  EXPECT_EQ(std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}),
            std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0}));
  EXPECT_LT(
      *std::max_element(sizes.begin(), sizes.end()) - *std::min_element(sizes.begin(), sizes.end()),
      200);
}

TEST(Split, SizesAreTakenAsStated) {
  const auto sizes = [](std::int64_t tokens, std::vector<std::int64_t> stated) {
    const int n = static_cast<int>(stated.size());
    return sizes_of(split_batch(batch_of({tokens}), {"sizes", std::move(stated)}, n));
  };
  using Sizes = std::vector<std::int64_t>;
  EXPECT_EQ(sizes(10, {3, 3, 3}), (Sizes{3, 3, 4}));
  EXPECT_EQ(sizes(10, {3, 30, 3}), (Sizes{3, 7, 0}));
  EXPECT_EQ(sizes(10, {0, 0}), (Sizes{0, 10}));
  EXPECT_EQ(sizes(0, {5, 5}), (Sizes{0, 0}));
  EXPECT_EQ(sizes(10, {9'223'372'036'854'775'807, 1}), (Sizes{10, 0}));
}

TEST(Split, CoversRandomBatchesExactly) {
  std::mt19937_64 random(testing::fresh_seed());
  for (int round = 0; round < 500; ++round) {
    std::vector<std::int64_t> lengths(random() % 12);
    for (auto& length : lengths) {
      length = static_cast<std::int64_t>(random() % 3 == 0 ? 0 : random() % 40);
    }
    const Batch batch = batch_of(lengths);
    const int n = 1 + static_cast<int>(random() % 9);
    check_cover(batch, split_batch(batch, {"request", {}}, n), n);
    const auto midpoint = split_batch(batch, {"token_midpoint", {}}, n);
    check_cover(batch, midpoint, n);
    const auto sizes = sizes_of(midpoint);
    EXPECT_LE(*std::max_element(sizes.begin(), sizes.end()) -
                  *std::min_element(sizes.begin(), sizes.end()),
              1);
    SplitRule stated{"sizes", std::vector<std::int64_t>(static_cast<std::size_t>(n))};
    for (auto& size : stated.sizes) {
      size = static_cast<std::int64_t>(random() % 50);
    }
    check_cover(batch, split_batch(batch, stated, n), n);
  }
}

TEST(Split, TakesEmptyBatchesOneTokenAndManyUbatches) {
  for (const char* kind : {"token_midpoint", "request"}) {
    for (const auto& lengths :
         std::vector<std::vector<std::int64_t>>{{}, {0}, {0, 0, 0}, {1}, {0, 1, 0}, {2, 1}}) {
      for (int n = 1; n <= 8; ++n) {
        const Batch batch = batch_of(lengths);
        check_cover(batch, split_batch(batch, {kind, {}}, n), n);
      }
    }
  }
}

TEST(Split, RefusesBadInput) {
  const Batch batch = batch_of({4, 4});
  EXPECT_THROW(split_batch(batch, {"half", {}}, 2), InputError);
  EXPECT_THROW(split_batch(batch, {"sizes", {1}}, 2), InputError);
  EXPECT_THROW(split_batch(batch, {"sizes", {-1, 4}}, 2), InputError);
  EXPECT_THROW(split_batch(batch, {}, 0), ContractError);
  EXPECT_THROW(split_batch(batch_of({-1}), {}, 1), ContractError);
  EXPECT_THROW(slice_tokens(batch, 4, 5), ContractError);
  EXPECT_THROW(slice_tokens(batch, -1, 2), ContractError);
  for (const auto& kind : split_kinds()) {
    EXPECT_NO_THROW(split_batch(batch, {kind.name, {4, 4}}, 2)) << kind.name;
  }
}

}  // namespace
}  // namespace dovetail
