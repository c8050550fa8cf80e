// How many roundings a row has behind it in each layer, those that experts amplify counted as often
// as they do: what the bounds of `verify` need of a run (framework/compare/tolerance.hpp).
#pragma once

#include <cstddef>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/step/model.hpp"

namespace dovetail {

/// Keeps the most of all rows of all steps, by layer, on the model's device. Not copyable; one call
/// at a time. All but `most` is enqueued on the current stream, and not to be captured.
class RoundingMeter {
 public:
  explicit RoundingMeter(std::size_t num_layers) : num_layers_(num_layers) {}

  RoundingMeter(const RoundingMeter&) = delete;
  RoundingMeter& operator=(const RoundingMeter&) = delete;
  RoundingMeter(RoundingMeter&&) = delete;
  RoundingMeter& operator=(RoundingMeter&&) = delete;
  ~RoundingMeter() = default;

  /// `roundings` [T] float32 of a ubatch's rows becomes what it is behind this layer; undefined
  /// before the first one. `before` [T, H] was the hidden state to which experts added what gave
  /// state.hidden. Rows of padding (expert -1) do not count.
  void add_experts(std::size_t layer,
                   const at::Tensor& before,
                   const UbatchState& state,
                   at::Tensor& roundings);

  /// The same of a layer without experts.
  void add_dense(std::size_t layer, const UbatchState& state, at::Tensor& roundings);

  /// By layer; 0 where there were no rows. Waits for the device.
  std::vector<float> most() const;

 private:
  void keep(std::size_t layer, const at::Tensor& roundings);

  std::size_t num_layers_;
  at::Tensor most_;  ///< [layers] float32; undefined before the first row
};

}  // namespace dovetail
