#include "framework/plan/step_bounds.hpp"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <set>

namespace dovetail {
namespace {

using PerUbatch = std::array<std::int64_t, kMaxUbatches>;

std::int64_t round_up(std::int64_t value, std::int64_t step) {
  return (value + step - 1) / step * step;
}

/// 0 stays 0: an empty ubatch costs nothing.
std::int64_t round_tokens(std::int64_t tokens, const std::vector<std::int64_t>& sizes) {
  const auto size = std::lower_bound(sizes.begin(), sizes.end(), tokens);
  return tokens == 0 || size == sizes.end() ? tokens : *size;
}

std::int64_t automatic_size(std::int64_t tokens) {
  const auto count = static_cast<std::uint64_t>(tokens);
  if (count <= 8) {
    return static_cast<std::int64_t>(std::bit_ceil(count));
  }
  return round_up(tokens,
                  std::max<std::int64_t>(8, static_cast<std::int64_t>(std::bit_floor(count)) / 16));
}

void raise(PerUbatch& to, const PerUbatch& values) {
  for (std::size_t u = 0; u < to.size(); ++u) {
    to[u] = std::max(to[u], values[u]);
  }
}

StepBounds widest_of(std::span<const StepBounds> steps) {
  StepBounds widest;
  for (const StepBounds& step : steps) {
    widest.num_ubatches = step.num_ubatches;
    raise(widest.tokens, step.tokens);
    raise(widest.segments, step.segments);
    raise(widest.keys, step.keys);
    raise(widest.context, step.context);
    widest.query_length = std::max(widest.query_length, step.query_length);
    widest.key_length = std::max(widest.key_length, step.key_length);
  }
  return widest;
}

bool have_equal_tokens(std::span<const StepBounds> steps) {
  return std::all_of(steps.begin(), steps.end(), [&](const StepBounds& step) {
    return step.tokens == steps.front().tokens;
  });
}

int count_shapes(const BoundsRule& rule,
                 std::span<const StepBounds> split,
                 std::span<const StepBounds> whole) {
  std::vector<StepBounds> shapes;
  for (const auto steps : {split, whole}) {
    for (const StepBounds& step : steps) {
      const auto padded = padded_bounds(step, rule);
      if (std::find(shapes.begin(), shapes.end(), padded) == shapes.end()) {
        shapes.push_back(padded);
      }
    }
  }
  return static_cast<int>(shapes.size());
}

}  // namespace

BoundsRule make_bounds_rule(const std::optional<std::vector<std::int64_t>>& sizes,
                            std::span<const StepBounds> split,
                            std::span<const StepBounds> whole) {
  BoundsRule rule = {
      .token_sizes = {}, .widest_split = widest_of(split), .widest_whole = widest_of(whole)};
  if (sizes) {
    rule.token_sizes = *sizes;
    rule.num_shapes = count_shapes(rule, split, whole);
    return rule;
  }
  std::set<std::int64_t> needed;
  for (const auto steps : {split, whole}) {
    if (have_equal_tokens(steps)) {
      continue;
    }
    for (const StepBounds& step : steps) {
      for (const std::int64_t tokens : step.tokens) {
        if (tokens > 0) {
          needed.insert(automatic_size(tokens));
        }
      }
    }
  }
  rule.token_sizes = {needed.begin(), needed.end()};
  rule.num_shapes = count_shapes(rule, split, whole);
  return rule;
}

StepBounds padded_bounds(const StepBounds& exact, const BoundsRule& rule) {
  const StepBounds& widest =
      exact.num_ubatches == rule.widest_split.num_ubatches ? rule.widest_split : rule.widest_whole;
  StepBounds padded = exact;
  for (std::size_t u = 0; u < padded.tokens.size(); ++u) {
    if (exact.tokens[u] == 0) {
      continue;
    }
    padded.tokens[u] = round_tokens(exact.tokens[u], rule.token_sizes);
    padded.segments[u] = std::max(exact.segments[u], widest.segments[u]);
    padded.keys[u] = round_up(std::max(exact.keys[u], widest.keys[u]), kKeysStep);
    if (exact.context[u] > 0) {
      padded.context[u] = round_up(std::max(exact.context[u], widest.context[u]), kKeyLengthStep);
    }
  }
  padded.key_length = round_up(std::max(exact.key_length, widest.key_length), kKeyLengthStep);
  if (exact.query_length > 1) {
    padded.query_length = std::max(exact.query_length, widest.query_length);
  }
  return padded;
}

}  // namespace dovetail
