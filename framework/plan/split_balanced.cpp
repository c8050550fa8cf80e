// The split "balanced": cuts between tokens that make the most expensive ubatch as cheap as
// possible.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "framework/base/check.hpp"
#include "framework/plan/split.hpp"

namespace dovetail {
namespace {

/// Sums of keys stay within int64 below this.
constexpr std::int64_t kMaxLength = std::int64_t{1} << 31U;

/// Cost of any range of a batch's tokens, from sums of whole numbers, so that equal ranges cost the
/// same wherever they lie and a longer range never costs less.
class TokenCosts {
 public:
  TokenCosts(const Batch& batch, const KeyCosts& key_cost) : key_cost_(key_cost) {
    for (const double cost : {key_cost.of_several, key_cost.of_only}) {
      DOVETAIL_CHECK(cost >= 0.0 && std::isfinite(cost), "key_cost = " + std::to_string(cost));
    }
    for (const auto& request : batch.requests) {
      DOVETAIL_CHECK(request.query_length >= 0 && request.context_length >= 0 &&
                         request.query_length < kMaxLength && request.context_length < kMaxLength,
                     "lengths of request " + std::to_string(request.id));
      contexts_.push_back(request.context_length);
      starts_.push_back(starts_.back() + request.query_length);
      keys_.push_back(keys_.back() + keys_of(request.context_length, request.query_length));
      only_keys_.push_back(only_keys_.back() +
                           (request.query_length == 1 ? request.context_length + 1 : 0));
      DOVETAIL_CHECK(starts_.back() < kMaxLength, "a batch has fewer than 2^31 tokens");
    }
  }

  std::int64_t num_tokens() const { return starts_.back(); }

  double operator()(std::int64_t first, std::int64_t last) const {
    const std::int64_t only = only_keys_before(last) - only_keys_before(first);
    const std::int64_t all = keys_before(last) - keys_before(first);
    return static_cast<double>(last - first) +
           key_cost_.of_several * static_cast<double>(all - only) +
           key_cost_.of_only * static_cast<double>(only);
  }

  /// The largest end up to which tokens [first, end) cost at most `limit`.
  std::int64_t furthest(std::int64_t first, double limit) const {
    std::int64_t low = first;
    std::int64_t high = num_tokens();
    while (low < high) {
      const std::int64_t middle = high - (high - low) / 2;
      if ((*this)(first, middle) <= limit) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  /// The smallest start from which tokens [start, last) cost at most `limit`.
  std::int64_t earliest(std::int64_t last, double limit) const {
    std::int64_t low = 0;
    std::int64_t high = last;
    while (low < high) {
      const std::int64_t middle = low + (high - low) / 2;
      if ((*this)(middle, last) <= limit) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }

 private:
  /// Keys that the first `count` tokens of a request attend to, together.
  static std::int64_t keys_of(std::int64_t context, std::int64_t count) {
    return count * context + count * (count + 1) / 2;
  }

  /// Of a token; of a request's first token that request.
  std::size_t request_of(std::int64_t token) const {
    const auto after = std::upper_bound(starts_.begin(), starts_.end(), token);
    return static_cast<std::size_t>(after - starts_.begin()) - 1;
  }

  std::int64_t only_keys_before(std::int64_t token) const { return only_keys_[request_of(token)]; }

  std::int64_t keys_before(std::int64_t token) const {
    const auto request = request_of(token);
    if (request == contexts_.size()) {
      return keys_.back();
    }
    return keys_[request] + keys_of(contexts_[request], token - starts_[request]);
  }

  KeyCosts key_cost_;
  std::vector<std::int64_t> contexts_;         ///< [requests]
  std::vector<std::int64_t> starts_ = {0};     ///< [requests + 1]: first token of each
  std::vector<std::int64_t> keys_ = {0};       ///< [requests + 1]: keys of all tokens before
  std::vector<std::int64_t> only_keys_ = {0};  ///< the same of tokens that are their request's only
};

bool fits(const TokenCosts& costs, int num_parts, double limit) {
  std::int64_t end = 0;
  for (int part = 0; part < num_parts; ++part) {
    end = costs.furthest(end, limit);
  }
  return end == costs.num_tokens();
}

/// The least limit that fits. Doubles of one sign are ordered as their bits, so the search over
/// these ends at the very cost of some range.
double smallest_largest_part(const TokenCosts& costs, int num_parts) {
  std::uint64_t low = 0;
  auto high = std::bit_cast<std::uint64_t>(costs(0, costs.num_tokens()));
  while (low < high) {
    const std::uint64_t middle = low + (high - low) / 2;
    if (fits(costs, num_parts, std::bit_cast<double>(middle))) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return std::bit_cast<double>(low);
}

/// Of the ends in [low, high] the one at which the cost of [first, end) is nearest to `share`.
std::int64_t nearest_end(const TokenCosts& costs,
                         std::int64_t first,
                         std::int64_t low,
                         std::int64_t high,
                         double share) {
  const std::int64_t below = std::clamp(costs.furthest(first, share), low, high);
  const std::int64_t above = std::min(below + 1, high);
  const double gap_below = std::abs(costs(first, below) - share);
  const double gap_above = std::abs(costs(first, above) - share);
  return gap_above < gap_below ? above : below;
}

}  // namespace

double token_range_cost(const Batch& batch,
                        const KeyCosts& key_cost,
                        std::int64_t token_start,
                        std::int64_t num_tokens) {
  return TokenCosts(batch, key_cost)(token_start, token_start + num_tokens);
}

std::vector<std::int64_t> balanced_boundaries(const Batch& batch,
                                              const KeyCosts& key_cost,
                                              int num_parts) {
  const TokenCosts costs(batch, key_cost);
  const double limit = smallest_largest_part(costs, num_parts);
  const auto parts = static_cast<std::size_t>(num_parts);
  std::vector<std::int64_t> earliest(parts + 1, costs.num_tokens());
  for (std::size_t part = parts; part > 0; --part) {
    earliest[part - 1] = costs.earliest(earliest[part], limit);
  }
  std::vector<std::int64_t> boundaries = {0};
  for (std::size_t part = 1; part <= parts; ++part) {
    const std::int64_t first = boundaries.back();
    const double left = costs(first, costs.num_tokens());
    boundaries.push_back(nearest_end(costs,
                                     first,
                                     std::max(earliest[part], first),
                                     costs.furthest(first, limit),
                                     left / static_cast<double>(parts - part + 1)));
  }
  return boundaries;
}

}  // namespace dovetail
