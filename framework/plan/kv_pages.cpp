#include "framework/plan/kv_pages.hpp"

#include <limits>
#include <numeric>
#include <string>
#include <utility>

#include "framework/base/check.hpp"
#include "framework/base/error.hpp"
#include "framework/base/hash.hpp"
#include "framework/base/text.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kMaxPages = std::numeric_limits<std::int32_t>::max();

std::int64_t pages_for(std::int64_t tokens, int page_size) {
  return tokens / page_size + (tokens % page_size == 0 ? 0 : 1);
}

std::string tokens_in_pages(std::int64_t tokens, std::int64_t pages, int page_size) {
  return counted(tokens, "token") + " in " + counted(pages, "page") + " of " +
         std::to_string(page_size);
}

/// 0 to count - 1 in an order that depends on the seed alone (Fisher-Yates).
std::vector<std::int32_t> permutation(std::int64_t count, std::uint64_t seed) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(count));
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t left = order.size(); left > 1; --left) {
    const std::uint64_t random = combine_hash(mix_bits(seed), left);
    std::swap(order[left - 1], order[static_cast<std::size_t>(random % left)]);
  }
  return order;
}

}  // namespace

std::int64_t KvPages::slot(std::size_t request, std::int64_t position) const {
  DOVETAIL_CHECK(position >= 0, "position " + std::to_string(position));
  const auto page = pages.at(request).at(static_cast<std::size_t>(position / page_size));
  return std::int64_t{page} * page_size + position % page_size;
}

KvPages KvPages::of_requests(std::size_t first, std::size_t count) const {
  DOVETAIL_CHECK(first + count <= pages.size(), "pages of requests that are not there");
  const auto begin = pages.begin() + static_cast<std::ptrdiff_t>(first);
  return {page_size, num_pages, {begin, begin + static_cast<std::ptrdiff_t>(count)}};
}

std::int64_t count_kv_pages(std::span<const std::int64_t> kv_tokens,
                            int page_size,
                            std::int64_t cache_tokens) {
  if (page_size < 1) {
    throw InputError("execution.page_size is " + std::to_string(page_size) +
                     "; allowed: at least 1");
  }
  if (cache_tokens < 0 || cache_tokens % page_size != 0) {
    throw InputError("execution.cache_tokens is " + std::to_string(cache_tokens) +
                     "; allowed: multiples of page_size " + std::to_string(page_size) +
                     ", or 0 = as needed");
  }
  std::int64_t tokens_needed = 0;
  std::int64_t pages_needed = 0;
  for (const std::int64_t tokens : kv_tokens) {
    DOVETAIL_CHECK(tokens >= 0, "a request with " + std::to_string(tokens) + " cache tokens");
    tokens_needed += tokens;
    pages_needed += pages_for(tokens, page_size);
  }
  const std::int64_t num_pages = cache_tokens == 0 ? pages_needed : cache_tokens / page_size;
  if (num_pages > kMaxPages) {
    throw InputError("execution.page_size " + std::to_string(page_size) + ": the KV cache has " +
                     std::to_string(num_pages) + " pages; allowed: at most " +
                     std::to_string(kMaxPages));
  }
  if (pages_needed > num_pages) {
    throw InputError(
        "execution.cache_tokens " + std::to_string(cache_tokens) +
        ": the requests of a rank need " + tokens_in_pages(tokens_needed, pages_needed, page_size) +
        ", and the KV cache holds " + tokens_in_pages(cache_tokens, num_pages, page_size) +
        "; allowed: at least " + std::to_string(pages_needed * page_size) + ", or 0 = as needed");
  }
  return num_pages;
}

KvPages allocate_kv_pages(std::span<const std::int64_t> kv_tokens,
                          int page_size,
                          std::int64_t cache_tokens,
                          std::uint64_t seed) {
  KvPages result;
  result.page_size = page_size;
  result.num_pages = count_kv_pages(kv_tokens, page_size, cache_tokens);
  const auto order = permutation(result.num_pages, seed);
  auto next = order.begin();
  for (const std::int64_t tokens : kv_tokens) {
    const auto end = next + pages_for(tokens, page_size);
    result.pages.emplace_back(next, end);
    next = end;
  }
  return result;
}

}  // namespace dovetail
