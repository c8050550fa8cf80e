// Rotary position embedding (Su et al., arXiv:2104.09864), with the pairing of Hugging Face:
// element i of a head turns with element i + head_dim / 2, head_dim being of the part that turns.
#pragma once

#include <cstdint>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "framework/config/choices.hpp"
#include "models/layers/rotary_frequencies.hpp"

namespace dovetail {

/// The frequencies of one model.
class Rotary {
 public:
  /// head_dim is even. Throws ContractError where the layout does not give each row the number of
  /// frequencies that its section states.
  Rotary(std::int64_t head_dim, const RopeParameters& rope, at::Device device);

  /// cos and sin of every angle, times the attention factor, [2, T, head_dim / 2] in `dtype`.
  /// positions [T], or [3, T]; int64. batch_invariant: each position by itself.
  at::Tensor table(const at::Tensor& positions,
                   at::ScalarType dtype,
                   Numerics numerics = Numerics::fast) const;

 private:
  at::Tensor frequencies_;   // [head_dim / 2] float32
  double attention_factor_;  // of cosines and sines
  at::Tensor position_row_;  // [head_dim / 2] int64: the row of 2-D positions of each frequency
};

/// x [T, heads, head_dim] turned by the angles of table [2, T, n]: the first 2 n elements of each
/// head; those behind them stay as they are. Returns a new contiguous tensor. batch_invariant: each
/// row by itself.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& table, Numerics numerics = Numerics::fast);

}  // namespace dovetail
