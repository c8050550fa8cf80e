// Writes small and benchmark checkpoints: used by `dovetail bench load` and by tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dovetail {

/// A tensor to be written. Several may share the same bytes.
struct TensorToWrite {
  std::string name;
  std::string dtype;  ///< as in the file: "BF16"
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};

/// Writes a safetensors file with the tensors' data in the given order. Throws InputError where the
/// file exists, RunError where it cannot be written.
void write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors);

}  // namespace dovetail
