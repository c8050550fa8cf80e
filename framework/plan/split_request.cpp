// The split "request": cuts between requests that make the largest ubatch as small as possible.
#include <algorithm>
#include <cstddef>
#include <utility>

#include "framework/plan/split.hpp"

namespace dovetail {
namespace {

/// True if the requests fit, in order, into num_parts parts of at most `limit` tokens.
bool fits(const std::vector<std::int64_t>& starts, int num_parts, std::int64_t limit) {
  int parts = 1;
  std::int64_t part_start = 0;
  for (std::size_t i = 1; i < starts.size(); ++i) {
    if (starts[i] - starts[i - 1] > limit) {
      return false;
    }
    if (starts[i] - part_start > limit) {
      ++parts;
      part_start = starts[i - 1];
    }
  }
  return parts <= num_parts;
}

std::int64_t smallest_largest_part(const std::vector<std::int64_t>& starts, int num_parts) {
  std::int64_t low = 0;
  std::int64_t high = starts.back();
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (fits(starts, num_parts, middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

/// The cut into one part more than before, of the requests from each one on to the last. The least
/// sum of squares of requests [i, n) has its first cut no later than that of [i + 1, n): squares of
/// sums are a Monge array, also where a bound forbids large parts. So the first cuts of a range of
/// requests lie between those of its ends, and halving finds all of them in n log n steps.
class NextPart {
 public:
  /// furthest[i]: the last end of a part that begins with request i. before[i]: the least sum of
  /// squares of requests [i, n) in the parts so far, for i from `first` on; for others there is
  /// none.
  NextPart(const std::vector<std::int64_t>& starts,
           const std::vector<std::size_t>& furthest,
           const std::vector<std::int64_t>& before,
           std::size_t first)
      : starts_(starts),
        furthest_(furthest),
        before_(before),
        first_(first),
        sums_(starts.size()),
        cuts_(starts.size()) {
    const auto reaches = std::lower_bound(furthest.begin(), furthest.end(), first);
    begin_ = static_cast<std::size_t>(reaches - furthest.begin());
    find(begin_, starts.size(), first, starts.size() - 1);
  }

  /// The first request from which on the others fit into this many parts.
  std::size_t begin() const { return begin_; }

  /// By request, from begin() on: the least sum of squares, and the end of its first part.
  std::vector<std::int64_t>& sums() { return sums_; }

  std::vector<std::size_t>& cuts() { return cuts_; }

 private:
  /// Of requests [low, high), whose first cuts are in [left, right].
  void find(std::size_t low, std::size_t high, std::size_t left, std::size_t right) {
    if (low == high) {
      return;
    }
    const std::size_t i = low + (high - low) / 2;
    const std::size_t last = std::min(right, furthest_[i]);
    std::size_t best = std::max({left, i, first_});
    for (std::size_t end = best + 1; end <= last; ++end) {
      if (sum(i, end) < sum(i, best)) {
        best = end;
      }
    }
    sums_[i] = sum(i, best);
    cuts_[i] = best;
    find(low, i, left, best);
    find(i + 1, high, best, right);
  }

  std::int64_t sum(std::size_t i, std::size_t end) const {
    const std::int64_t part = starts_[end] - starts_[i];
    return part * part + before_[end];
  }

  const std::vector<std::int64_t>& starts_;
  const std::vector<std::size_t>& furthest_;
  const std::vector<std::int64_t>& before_;
  std::size_t first_;
  std::size_t begin_ = 0;
  std::vector<std::int64_t> sums_;
  std::vector<std::size_t> cuts_;
};

}  // namespace

std::vector<std::int64_t> request_boundaries(const std::vector<std::int64_t>& starts,
                                             int num_parts) {
  const std::int64_t limit = smallest_largest_part(starts, num_parts);
  const std::size_t num_requests = starts.size() - 1;
  std::vector<std::size_t> furthest(starts.size());
  std::size_t end = 0;
  for (std::size_t i = 0; i <= num_requests; ++i) {
    while (end < num_requests && starts[end + 1] - starts[i] <= limit) {
      ++end;
    }
    furthest[i] = end;
  }
  std::vector<std::int64_t> sums(starts.size());  // no part: 0 requests, the empty sum
  std::size_t first = num_requests;
  std::vector<std::vector<std::size_t>> cuts;  // by number of parts, less one
  for (int part = 0; part < num_parts; ++part) {
    NextPart next(starts, furthest, sums, first);
    first = next.begin();
    sums.swap(next.sums());
    cuts.push_back(std::move(next.cuts()));
  }
  std::vector<std::int64_t> boundaries{0};
  std::size_t at = 0;
  for (auto of_parts = cuts.rbegin(); of_parts != cuts.rend(); ++of_parts) {
    at = (*of_parts)[at];
    boundaries.push_back(starts[at]);
  }
  return boundaries;
}

}  // namespace dovetail
