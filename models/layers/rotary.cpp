#include "models/layers/rotary.hpp"

#include <array>
#include <vector>

#include <ATen/ops/cat.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sin.h>
#include <ATen/ops/tensor.h>

#include "framework/base/check.hpp"
#include "models/layers/cuda/layers.hpp"
#include "models/layers/row_math.hpp"

namespace dovetail {
namespace {

std::int64_t row_of_frequency(const MropeSections& mrope, std::int64_t frequency) {
  const auto& section = mrope.section;
  if (!mrope.interleaved) {
    return frequency < section[0] ? 0 : frequency < section[0] + section[1] ? 1 : 2;
  }
  const std::int64_t row = frequency % 3;
  return frequency < 3 * section.at(static_cast<std::size_t>(row)) ? row : 0;
}

at::Tensor row_of_each_frequency(const MropeSections& mrope, std::int64_t num_frequencies) {
  std::vector<std::int64_t> rows;
  std::array<std::int64_t, 3> counts = {};
  for (std::int64_t frequency = 0; frequency < num_frequencies; ++frequency) {
    rows.push_back(row_of_frequency(mrope, frequency));
    ++counts.at(static_cast<std::size_t>(rows.back()));
  }
  DOVETAIL_CHECK(counts == mrope.section, "mrope_section does not fit the number of frequencies");
  return at::tensor(rows, at::kLong);
}

}  // namespace

Rotary::Rotary(std::int64_t head_dim, const RopeParameters& rope, at::Device device)
    : position_row_(row_of_each_frequency(rope.mrope, head_dim / 2).to(device)) {
  const RotaryFrequencies frequencies = rotary_frequencies(rope, head_dim);
  frequencies_ = frequencies.values.to(device);
  attention_factor_ = frequencies.attention_factor;
}

at::Tensor Rotary::table(const at::Tensor& positions,
                         at::ScalarType dtype,
                         Numerics numerics) const {
  const bool two_dimensional = positions.dim() == 2;
  DOVETAIL_CHECK(positions.dim() == 1 || (two_dimensional && positions.size(0) == 3),
                 "positions must be [T] or [3, T]");
  if constexpr (gpu::kIsBuilt) {
    if (positions.is_cuda() && dtype == at::kBFloat16) {
      return gpu::rotary_table(positions, frequencies_, position_row_, attention_factor_);
    }
  }
  const at::Tensor of_frequency =
      two_dimensional ? at::index_select(positions, 0, position_row_).t() : positions.unsqueeze(1);
  const at::Tensor angles = at::mul(of_frequency.to(at::kFloat), frequencies_);
  if (numerics == Numerics::batch_invariant && angles.is_cpu()) {
    return row_math::cos_and_sin(angles, attention_factor_, dtype);
  }
  at::Tensor result = at::empty({2, angles.size(0), angles.size(1)}, angles.options().dtype(dtype));
  result.select(0, 0).copy_(at::cos(angles).mul_(attention_factor_));
  result.select(0, 1).copy_(at::sin(angles).mul_(attention_factor_));
  return result;
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& table, Numerics numerics) {
  const std::int64_t turned = 2 * table.size(2);
  if (turned < x.size(-1)) {
    return at::cat({rotate(x.narrow(-1, 0, turned), table, numerics),
                    x.narrow(-1, turned, x.size(-1) - turned)},
                   -1);
  }
  if (numerics == Numerics::batch_invariant && x.is_cpu()) {
    return row_math::rotate(x, table);
  }
  const std::int64_t half = x.size(-1) / 2;
  const at::Tensor cosine = table.select(0, 0).unsqueeze(1);  // [T, 1, head_dim / 2]
  const at::Tensor sine = table.select(0, 1).unsqueeze(1);
  const at::Tensor first = x.narrow(-1, 0, half);
  const at::Tensor second = x.narrow(-1, half, half);
  at::Tensor result = at::empty_like(x, at::MemoryFormat::Contiguous);
  at::Tensor turned_first = result.narrow(-1, 0, half);
  at::Tensor turned_second = result.narrow(-1, half, half);
  at::mul_out(turned_first, first, cosine).addcmul_(second, sine, -1);
  at::mul_out(turned_second, second, cosine).addcmul_(first, sine);
  return result;
}

}  // namespace dovetail
