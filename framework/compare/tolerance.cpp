#include "framework/compare/tolerance.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

// Of tokens whose trajectories part with natural routing.
constexpr double kMaxExcludedShare = 0.1;

// Root mean square of a rounding, in unit roundoffs of the number: sqrt(1/3 3/(8 ln 2)), of errors
// spread evenly up to half a last place and significands spread as 1/m over [1, 2).
constexpr double kRmsOfRounding = 0.4246;
constexpr double kElementDeviations = 5;

/// m of row_bounds.
double margin(DType dtype) {
  return dtype == DType::bfloat16 ? 1.885 : dtype == DType::float16 ? 2.4 : 2.3;
}

/// c of row_bounds.
double terms_per_rounding(DeviceRelation devices) {
  return devices == DeviceRelation::same ? 32 : 2;
}

/// n' of row_bounds.
double roundings(DType dtype,
                 std::int64_t depth,
                 std::int64_t reduction_length,
                 DeviceRelation devices,
                 std::span<const double> layer_roundings) {
  const double of_sums =
      std::min(1.0, unit_roundoff(DType::float32) / unit_roundoff(dtype));  // float64 sums itself
  const auto layers = std::max<std::int64_t>(depth, 1);
  const auto last = static_cast<std::size_t>(layers - 1);
  const double behind = std::max(kRoundingsPerLayer * static_cast<double>(layers),
                                 last < layer_roundings.size() ? layer_roundings[last] : 0);
  return behind * (1 + static_cast<double>(reduction_length) / terms_per_rounding(devices) *
                           of_sums * of_sums) +
         2;
}

ToleranceRule float_rule(DType dtype,
                         std::int64_t num_layers,
                         std::int64_t reduction_length,
                         DeviceRelation devices,
                         std::span<const double> layer_roundings) {
  ToleranceRule rule{
      .bounds = row_bounds(dtype, num_layers, reduction_length, devices, layer_roundings),
      .max_excluded_share = kMaxExcludedShare,
      .reason = {}};
  const bool amplifies = roundings(dtype, num_layers, reduction_length, devices, layer_roundings) >
                         1.001 * roundings(dtype, num_layers, reduction_length, devices, {});
  char text[700];
  std::snprintf(
      text,
      sizeof(text),
      "%s: a row may differ by %.2f sqrt(2) %.4f u sqrt(n) = %.2e of its norm, an element by %.0f "
      "times that of itself or of the row's rms, with unit roundoff u = %.2e and n = %.0f "
      "roundings "
      "in %lld layers%s; experts chosen differently by sqrt(2) times as much between their logits",
      std::string(to_string(dtype)).c_str(),
      margin(dtype),
      kRmsOfRounding,
      rule.bounds.row,
      kElementDeviations,
      unit_roundoff(dtype),
      roundings(dtype, num_layers, reduction_length, devices, layer_roundings),
      static_cast<long long>(num_layers),
      amplifies ? ", amplified by experts' weights that add up to more than 1" : "");
  rule.reason = text;
  return rule;
}

}  // namespace

double unit_roundoff(DType dtype) {
  switch (dtype) {
    case DType::float64:
      return std::ldexp(1.0, -53);
    case DType::float32:
      return std::ldexp(1.0, -24);
    case DType::float16:
      return std::ldexp(1.0, -11);
    case DType::bfloat16:
      return std::ldexp(1.0, -8);
    case DType::int32:
    case DType::int64:
    case DType::uint8:
      break;
  }
  DOVETAIL_CHECK(false, "integers are not rounded");
  return 0;
}

double expert_excess(double weight_sum, double stream_share) {
  return weight_sum > 1 ? stream_share * (1 - 1 / (weight_sum * weight_sum)) : 0;
}

double roundings_behind(double before, double excess) {
  return before * (1 + kGrowthInExperts * excess) + kRoundingsPerLayer * (1 + excess);
}

RowBounds row_bounds(DType dtype,
                     std::int64_t depth,
                     std::int64_t reduction_length,
                     DeviceRelation devices,
                     std::span<const double> layer_roundings) {
  const double row = margin(dtype) * std::sqrt(2.0) * kRmsOfRounding * unit_roundoff(dtype) *
                     std::sqrt(roundings(dtype, depth, reduction_length, devices, layer_roundings));
  return {.row = row, .element = kElementDeviations * row};
}

RowBounds logits_bounds(const RowBounds& bounds, std::int64_t num_experts) {
  const double spread = 1 / std::sqrt(2 * static_cast<double>(num_experts));
  return {.row = bounds.row * (1 + 4 * spread), .element = bounds.element};
}

double choice_bound(const RowBounds& bounds) {
  return std::sqrt(2.0) * bounds.element;
}

ToleranceRule tolerance_rule(DType dtype,
                             std::int64_t num_layers,
                             std::int64_t reduction_length,
                             DeviceRelation devices,
                             std::span<const double> layer_roundings) {
  if (!is_float(dtype)) {
    return {.reason = "integers must be equal"};
  }
  return float_rule(dtype, num_layers, reduction_length, devices, layer_roundings);
}

}  // namespace dovetail
