#include "models/layers/rotary_frequencies.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/clamp.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/where.h>

namespace dovetail {
namespace {

/// theta^(2 i / head_dim).
at::Tensor periods(const RopeParameters& rope, std::int64_t head_dim) {
  const at::Tensor exponents =
      at::arange(0, head_dim, 2, at::kFloat).div_(static_cast<double>(head_dim));
  return at::pow(rope.theta, exponents);
}

/// How far along the ramp each of n frequencies is: 0 up to `begin`, 1 from `end` on.
at::Tensor ramp(double begin, double end, std::int64_t n) {
  constexpr double least_length = 0.001;
  const double last = begin == end ? end + least_length : end;
  return at::clamp((at::arange(n, at::kFloat) - begin) / (last - begin), 0, 1);
}

/// The frequency, as a fractional index, that turns `rotations` times within the original context.
double index_of(double rotations, const RopeParameters& rope, double head_dim) {
  const auto length = static_cast<double>(rope.original_max_position_embeddings);
  return head_dim * std::log(length / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(rope.theta));
}

at::Tensor yarn(const RopeParameters& rope, std::int64_t head_dim) {
  const auto size = static_cast<double>(head_dim);
  double begin = index_of(rope.beta_fast, rope, size);
  double end = index_of(rope.beta_slow, rope, size);
  if (rope.truncate) {
    begin = std::floor(begin);
    end = std::ceil(end);
  }
  const at::Tensor kept = 1 - ramp(std::max(begin, 0.0), std::min(end, size - 1), head_dim / 2);
  const at::Tensor period = periods(rope, head_dim);
  return (period * rope.factor).reciprocal_() * (1 - kept) + period.reciprocal() * kept;
}

double default_attention_factor(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

double yarn_attention_factor(const RopeParameters& rope) {
  if (rope.attention_factor) {
    return *rope.attention_factor;
  }
  if (rope.mscale != 0 && rope.mscale_all_dim != 0) {
    return default_attention_factor(rope.factor, rope.mscale) /
           default_attention_factor(rope.factor, rope.mscale_all_dim);
  }
  return default_attention_factor(rope.factor, 1);
}

at::Tensor llama3(const RopeParameters& rope, std::int64_t head_dim) {
  const auto length = static_cast<double>(rope.original_max_position_embeddings);
  const double longest = length / rope.low_freq_factor;
  const double shortest = length / rope.high_freq_factor;
  const at::Tensor plain = periods(rope, head_dim).reciprocal_();
  const at::Tensor wavelength = plain.reciprocal() * (2 * std::numbers::pi);
  const at::Tensor scaled = at::where(wavelength > longest, plain / rope.factor, plain);
  const at::Tensor share = (wavelength.reciprocal() * length - rope.low_freq_factor) /
                           (rope.high_freq_factor - rope.low_freq_factor);
  const at::Tensor between = (1 - share) * scaled / rope.factor + share * scaled;
  const at::Tensor is_between =
      (wavelength < shortest).logical_not() * (wavelength > longest).logical_not();
  return at::where(is_between, between, scaled);
}

}  // namespace

RotaryFrequencies rotary_frequencies(const RopeParameters& rope, std::int64_t head_dim) {
  switch (rope.type) {
    case RopeType::yarn:
      return {.values = yarn(rope, head_dim), .attention_factor = yarn_attention_factor(rope)};
    case RopeType::llama3:
      return {.values = llama3(rope, head_dim)};
    case RopeType::linear:
      return {.values = periods(rope, head_dim).reciprocal_().div_(rope.factor)};
    case RopeType::standard:
    case RopeType::dynamic:
      break;
  }
  return {.values = periods(rope, head_dim).reciprocal_()};
}

}  // namespace dovetail
