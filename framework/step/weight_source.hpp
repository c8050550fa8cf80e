// Where a model's weights come from: a checkpoint, a seeded generator, or a broadcast around
// either.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "framework/base/types.hpp"

namespace dovetail {

/// One tensor, or rows [first_row, first_row + destination.size(0)) of its dimension 0, to be
/// written to `destination`.
struct WeightRequest {
  std::string name;  ///< as in the checkpoint, e.g. "model.layers.0.self_attn.q_proj.weight"
  std::vector<std::int64_t> shape;  ///< the whole tensor's shape; checked against the checkpoint
  std::int64_t first_row = 0;
  at::Tensor destination;  ///< contiguous, on the model's device, activation dtype; shape = whole
                           ///< shape but for dimension 0. On the meta device nothing is read: all
                           ///< else is checked
  std::vector<std::string> also_sought =
      {};  ///< names that it might have had instead; for messages
};

/// A request in elements of the whole row-major tensor.
struct RequestedElements {
  std::int64_t first = 0;
  std::int64_t count = 0;
  DType dtype = DType::float32;  ///< of the destination
  std::byte* data = nullptr;     ///< of a destination in host memory; null for one elsewhere
};

/// For sources: throws ContractError where the destination does not fit the shape and rows that
/// the request states, RunError for one that is neither in host memory nor on a CUDA device of a
/// build with CUDA.
RequestedElements check_request(const WeightRequest& request);

/// Destinations may be in host memory or on a GPU. Calls are made in the same order on all ranks of
/// a dp group.
class WeightSource {
 public:
  WeightSource() = default;
  virtual ~WeightSource() = default;
  WeightSource(const WeightSource&) = delete;
  WeightSource& operator=(const WeightSource&) = delete;
  WeightSource(WeightSource&&) = delete;
  WeightSource& operator=(WeightSource&&) = delete;

  /// Whether a tensor of that name can be read (a seeded source has every name of transformers 4:
  /// one tensor per expert).
  virtual bool has(const std::string& name) const = 0;

  /// Whether a file holds a tensor of that name; a source that makes what it is asked for has none.
  virtual bool is_stored(const std::string& /*name*/) const { return false; }

  /// Reads, converts and writes; on a GPU in the order of its current stream. Throws InputError
  /// naming file and tensor where it is missing, has another shape or an unknown dtype.
  virtual void read(const WeightRequest& request) = 0;
};

}  // namespace dovetail
