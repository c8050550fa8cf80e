// Tensors compared to the bit, and fresh random numbers, for GPU tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <sstream>
#include <string>

#include <ATen/core/Tensor.h>

#include "tests/support/host_place.hpp"

namespace dovetail::test {

inline at::Device own_gpu() {
  return {at::kCUDA, static_cast<c10::DeviceIndex>(host_place().index)};
}

/// A new seed in each run and on each rank.
inline std::uint64_t fresh_seed() {
  std::random_device device;
  return (std::uint64_t{device()} << 32) | device();
}

/// Empty where both hold the same bits; otherwise the first element that differs.
inline std::string bit_difference(const at::Tensor& got, const at::Tensor& wanted) {
  std::ostringstream text;
  if (got.scalar_type() != wanted.scalar_type() || got.sizes() != wanted.sizes()) {
    text << "got " << got.scalar_type() << " " << got.sizes() << ", wanted " << wanted.scalar_type()
         << " " << wanted.sizes();
    return text.str();
  }
  const at::Tensor a = got.cpu().contiguous();
  const at::Tensor b = wanted.cpu().contiguous();
  const auto* const bytes_a = static_cast<const unsigned char*>(a.const_data_ptr());
  const auto* const bytes_b = static_cast<const unsigned char*>(b.const_data_ptr());
  if (a.nbytes() == 0 || std::memcmp(bytes_a, bytes_b, a.nbytes()) == 0) {
    return {};
  }
  std::size_t place = 0;
  while (bytes_a[place] == bytes_b[place]) {
    ++place;
  }
  const std::size_t element = place / a.element_size();
  const auto hexadecimal = [&](const unsigned char* bytes) {
    for (std::size_t i = a.element_size(); i > 0; --i) {
      constexpr const char* digits = "0123456789abcdef";
      const unsigned char byte = bytes[element * a.element_size() + i - 1];
      text << digits[byte / 16] << digits[byte % 16];
    }
  };
  text << "element " << element << " of " << a.numel() << " (" << a.scalar_type() << " "
       << a.sizes() << "): wanted 0x";
  hexadecimal(bytes_b);
  text << ", got 0x";
  hexadecimal(bytes_a);
  return text.str();
}

}  // namespace dovetail::test
