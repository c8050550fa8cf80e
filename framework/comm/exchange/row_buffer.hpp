// A buffer of rows that keeps its memory from step to step.
#pragma once

#include <cstddef>
#include <cstdint>

#include <ATen/core/Tensor.h>

namespace dovetail {

/// Grows, never shrinks; growing drops the contents. Fresh memory is zero, so that a pass which
/// leaves the wire out computes on numbers. Host memory.
class RowBuffer {
 public:
  RowBuffer(std::int64_t hidden, at::ScalarType dtype);

  /// Makes room for `rows` rows; earlier views keep the old memory alive.
  void reserve(std::int64_t rows);

  /// The first `rows` rows, [rows, hidden]; rows <= what was reserved.
  at::Tensor view(std::int64_t rows) const;

  /// All rows that were reserved.
  at::Tensor all() const { return storage_; }

  std::byte* data() const { return static_cast<std::byte*>(storage_.mutable_data_ptr()); }

  std::int64_t bytes() const { return static_cast<std::int64_t>(storage_.nbytes()); }

 private:
  at::Tensor storage_;
};

}  // namespace dovetail
