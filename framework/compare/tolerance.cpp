#include "framework/compare/tolerance.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

// A flip costs the token and, by attention, the later tokens of its request. A verdict must rest on
// at least half of the tokens.
constexpr double kMaxExcludedShare = 0.5;

// Measured: noise of 1e-3 in the logits flips 0.8 % of the token-layers, so 8 times the noise;
// doubled to allow for routers with closer logits.
constexpr double kFlipShareOfNoise = 16;

ToleranceRule float32_rule() {
  return {
      .max_error = 2e-6,
      .max_margin = 1e-4,
      .max_flip_share = 1e-3,
      .max_excluded_share = kMaxExcludedShare,
      .reason =
          "float32: error 2e-6, about 32 unit roundoffs (6e-8), for kernels that sum in another "
          "order when rows are cut or spread over ranks; margin 1e-4, two logits of up to 25 "
          "that each move by 2e-6 of their size; flips 0.1 % of the token-layers, the share "
          "of margins below 1e-4 among hundreds of experts"};
}

ToleranceRule reduced_rule(DType dtype, GridRelation grid, int num_layers) {
  const double roundings = (grid == GridRelation::same ? 2.0 : 3.0) * std::max(num_layers, 1);
  const double noise = unit_roundoff(dtype) * std::sqrt(roundings);
  ToleranceRule rule{.max_error = 4 * noise,
                     .max_margin = 2 * 4 * noise,
                     .max_flip_share = std::min(1.0, kFlipShareOfNoise * noise),
                     .max_excluded_share = kMaxExcludedShare,
                     .reason = {}};
  char text[400];
  std::snprintf(
      text,
      sizeof(text),
      "%s: error 4 u sqrt(n) = %.2e with unit roundoff u = %.2e and n = %.0f roundings of "
      "the residual stream; margin twice that, two logits of order 1 that each move by "
      "it; flips 16 times the noise u sqrt(n), twice the measured share",
      std::string(to_string(dtype)).c_str(),
      rule.max_error,
      unit_roundoff(dtype),
      roundings);
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

ToleranceRule tolerance_rule(DType dtype, GridRelation grid, int num_layers) {
  switch (dtype) {
    case DType::float32:
      return float32_rule();
    case DType::float16:
    case DType::bfloat16:
    case DType::float64:
      return reduced_rule(dtype, grid, num_layers);
    case DType::int32:
    case DType::int64:
    case DType::uint8:
      break;
  }
  return {.reason = "integers must be equal"};
}

}  // namespace dovetail
