// Rotary position embedding (Su et al., arXiv:2104.09864), with the pairing of Hugging Face:
// element i of a head turns with element i + head_dim / 2.
#pragma once

#include <array>
#include <cstdint>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include "framework/config/choices.hpp"

namespace dovetail {

/// Which row of 2-D positions a frequency takes its angle from (M-RoPE, arXiv:2409.12191).
struct MropeSections {
  /// How many frequencies take it from the temporal, the height and the width row; they add up to
  /// head_dim / 2.
  std::array<std::int64_t, 3> section = {};
  /// false: the first section[0] frequencies are temporal, the next are height, the last are width
  /// (Qwen2-VL). true: they take turns (Qwen3-VL): frequency i is of the height if i % 3 == 1 and i
  /// < 3 section[1], of the width if i % 3 == 2 and i < 3 section[2], else temporal.
  bool interleaved = false;
};

/// The frequencies of one model. Frequency i is theta^(-2 i / head_dim).
class Rotary {
 public:
  /// head_dim is even. Throws ContractError where the layout does not give each row the number of
  /// frequencies that its section states.
  Rotary(std::int64_t head_dim, double theta, const MropeSections& mrope, at::Device device);

  /// cos and sin of every angle, [2, T, head_dim / 2] in `dtype`. positions [T], or [3, T]; int64.
  /// batch_invariant: each position by itself.
  at::Tensor table(const at::Tensor& positions,
                   at::ScalarType dtype,
                   Numerics numerics = Numerics::fast) const;

 private:
  at::Tensor frequencies_;   // [head_dim / 2] float32
  at::Tensor position_row_;  // [head_dim / 2] int64: the row of 2-D positions of each frequency
};

/// x [T, heads, head_dim] turned by the angles of table [2, T, head_dim / 2]. Returns a new
/// contiguous tensor. batch_invariant: each row by itself.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& table, Numerics numerics = Numerics::fast);

}  // namespace dovetail
