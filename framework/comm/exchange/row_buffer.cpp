#include "framework/comm/exchange/row_buffer.hpp"

#include <ATen/ops/zeros.h>

namespace dovetail {

RowBuffer::RowBuffer(std::int64_t hidden, at::ScalarType dtype)
    : storage_(at::zeros({0, hidden}, dtype)) {}

void RowBuffer::reserve(std::int64_t rows) {
  if (rows > storage_.size(0)) {
    storage_ = at::zeros({rows, storage_.size(1)}, storage_.scalar_type());
  }
}

at::Tensor RowBuffer::view(std::int64_t rows) const {
  return storage_.narrow(0, 0, rows);
}

}  // namespace dovetail
