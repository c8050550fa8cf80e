// The sum of SumOrder::by_expert as a recursion over halves, the obviously right way.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <optional>

namespace dovetail::test {

/// The node over the blocks [begin, end), `experts_per_block` experts each; nothing where it has no
/// terms. `terms`: by expert. `rounded`: to the activation dtype.
inline std::optional<float> tree_sum(const std::map<int, float>& terms,
                                     int begin,
                                     int end,
                                     int experts_per_block,
                                     const std::function<float(float)>& rounded) {
  if (end - begin == 1) {
    std::optional<float> sum;
    for (int expert = begin * experts_per_block; expert < end * experts_per_block; ++expert) {
      const auto found = terms.find(expert);
      if (found != terms.end()) {
        sum = sum ? *sum + found->second : found->second;
      }
    }
    return sum ? std::optional(rounded(*sum)) : sum;
  }
  const int middle = begin + (end - begin) / 2;
  const auto left = tree_sum(terms, begin, middle, experts_per_block, rounded);
  const auto right = tree_sum(terms, middle, end, experts_per_block, rounded);
  return left && right ? std::optional(rounded(*left + *right)) : left ? left : right;
}

}  // namespace dovetail::test
