#include "framework/plan/kv_pages.hpp"

#include <random>
#include <set>
#include <stdexcept>
#include <string>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

using Tokens = std::vector<std::int64_t>;

std::string error_of(const Tokens& tokens, int page_size, std::int64_t cache_tokens) {
  auto error =
      testing::input_error_of([&] { allocate_kv_pages(tokens, page_size, cache_tokens, 1); });
  EXPECT_EQ(testing::input_error_of([&] { count_kv_pages(tokens, page_size, cache_tokens); }),
            error);
  return error;
}

TEST(KvPages, EverySlotHasOneOwnerAndLiesInTheCache) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937 random(seed);
  for (int trial = 0; trial < 300; ++trial) {
    Tokens tokens(random() % 7);
    std::int64_t pages_needed = 0;
    const auto page_size = static_cast<int>(1 + random() % 9);
    for (auto& count : tokens) {
      count = static_cast<std::int64_t>(random() % 40);
      pages_needed += (count + page_size - 1) / page_size;
    }
    const auto spare = static_cast<std::int64_t>(random() % 4);
    const bool as_needed = random() % 2 == 0 || pages_needed + spare == 0;
    const auto num_pages = as_needed ? pages_needed : pages_needed + spare;
    const auto kv =
        allocate_kv_pages(tokens, page_size, as_needed ? 0 : num_pages * page_size, random());
    EXPECT_EQ(kv.page_size, page_size);
    EXPECT_EQ(kv.num_pages, num_pages);
    EXPECT_EQ(count_kv_pages(tokens, page_size, as_needed ? 0 : num_pages * page_size), num_pages);
    ASSERT_EQ(kv.pages.size(), tokens.size());
    std::set<std::int64_t> slots;
    std::set<std::int32_t> pages;
    std::int64_t all_tokens = 0;
    std::size_t all_pages = 0;
    for (std::size_t request = 0; request < tokens.size(); ++request) {
      all_tokens += tokens[request];
      all_pages += kv.pages[request].size();
      pages.insert(kv.pages[request].begin(), kv.pages[request].end());
      for (std::int64_t position = 0; position < tokens[request]; ++position) {
        const auto slot = kv.slot(request, position);
        EXPECT_TRUE(slots.insert(slot).second) << "slot " << slot << " is owned twice";
        EXPECT_GE(slot, 0);
        EXPECT_LT(slot, num_pages * page_size);
        EXPECT_EQ(slot % page_size, position % page_size);
      }
    }
    EXPECT_EQ(static_cast<std::int64_t>(slots.size()), all_tokens);
    EXPECT_EQ(pages.size(), all_pages);
    EXPECT_EQ(static_cast<std::int64_t>(all_pages), pages_needed);
  }
}

TEST(KvPages, PagesAreScatteredByTheSeed) {
  const Tokens tokens = {400, 400};
  const auto kv = allocate_kv_pages(tokens, 4, 0, 5);
  int neighbours = 0;
  for (const auto& pages : kv.pages) {
    for (std::size_t i = 1; i < pages.size(); ++i) {
      neighbours += pages[i] == pages[i - 1] + 1 ? 1 : 0;
    }
  }
  EXPECT_LT(neighbours, 20);  // of 198; a random order has 1 on average
  EXPECT_EQ(allocate_kv_pages(tokens, 4, 0, 5).pages, kv.pages);
  EXPECT_NE(allocate_kv_pages(tokens, 4, 0, 6).pages, kv.pages);
}

TEST(KvPages, CapacityIsExact) {
  // 3 + 1 + 2 pages of 4.
  const Tokens tokens = {9, 4, 0, 5};
  EXPECT_EQ(allocate_kv_pages(tokens, 4, 24, 1).num_pages, 6);
  const auto message = error_of(tokens, 4, 20);
  EXPECT_NE(message.find("need 18 tokens in 6 pages of 4"), std::string::npos) << message;
  EXPECT_NE(message.find("holds 20 tokens in 5 pages of 4"), std::string::npos) << message;
  EXPECT_NE(message.find("at least 24"), std::string::npos) << message;
  // Pages of one token hold exactly the tokens.
  EXPECT_EQ(error_of(tokens, 1, 18), "");
  EXPECT_NE(error_of(tokens, 1, 17).find("at least 18"), std::string::npos);
  EXPECT_EQ(error_of({0, 0}, 16, 16), "");
  EXPECT_EQ(allocate_kv_pages({}, 16, 0, 1).num_pages, 0);
}

/// As `dovetail check` counts them; to draw these pages takes minutes and 8 GB.
TEST(KvPages, CountingTakesNoMemory) {
  const Tokens tokens = {9};
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(count_kv_pages(tokens, 1, 2'000'000'000), 2'000'000'000);
  }
}

TEST(KvPages, BadSizesAreRefused) {
  EXPECT_NE(error_of({1}, 16, 40).find("multiples of page_size 16"), std::string::npos);
  EXPECT_NE(error_of({1}, 16, -16).find("multiples of page_size 16"), std::string::npos);
  EXPECT_NE(error_of({1}, 0, 16).find("execution.page_size is 0"), std::string::npos);
  EXPECT_NE(error_of({1}, 1, std::int64_t{1} << 31).find("at most 2147483647"), std::string::npos);
  EXPECT_THROW(allocate_kv_pages(Tokens{-1}, 1, 0, 1), ContractError);
}

TEST(KvPages, PositionsBeyondARequestsPagesAreRefused) {
  const auto kv = allocate_kv_pages(Tokens{5, 3}, 4, 0, 1);
  EXPECT_NO_THROW(kv.slot(0, 7));
  EXPECT_THROW(kv.slot(0, 8), std::out_of_range);
  EXPECT_THROW(kv.slot(2, 0), std::out_of_range);
  EXPECT_THROW(kv.slot(0, -1), ContractError);
}

}  // namespace
}  // namespace dovetail
