// Which pages of a rank's KV cache belong to which request. Pure arithmetic; the cache itself is in
// framework/step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace dovetail {

/// The pages of every request of a rank. A page holds page_size tokens, and belongs to one request
/// at most.
struct KvPages {
  int page_size = 1;
  std::int64_t num_pages = 0;                    ///< of the cache, used or not
  std::vector<std::vector<std::int32_t>> pages;  ///< by request of the rank, in order of position

  /// Cache slot of a position of a request: pages[position / page_size] * page_size + position %
  /// page_size. Throws std::out_of_range beyond the request's pages.
  std::int64_t slot(std::size_t request, std::int64_t position) const;

  /// Slots of the whole cache.
  std::int64_t num_slots() const { return num_pages * page_size; }

  /// The same cache, with the pages of requests [first, first + count) only.
  KvPages of_requests(std::size_t first, std::size_t count) const;
};

/// Pages of the cache that allocate_kv_pages makes of the same arguments, at no cost for each page.
/// Throws what it throws.
std::int64_t count_kv_pages(std::span<const std::int64_t> kv_tokens,
                            int page_size,
                            std::int64_t cache_tokens);

/// Gives each request ceil(kv_tokens / page_size) pages. They are drawn by a seeded permutation of
/// all pages, so that nothing can assume that a request's pages are neighbours; equal arguments
/// give equal pages. cache_tokens 0 = as many pages as are needed. Throws InputError where
/// page_size is less than 1, where it does not divide cache_tokens, where the requests do not fit
/// (it names the tokens and pages needed and there), and where a page number would not fit int32.
KvPages allocate_kv_pages(std::span<const std::int64_t> kv_tokens,
                          int page_size,
                          std::int64_t cache_tokens,
                          std::uint64_t seed);

}  // namespace dovetail
