// Compiled with -O3 (vectorised row loops) and without contraction to fused multiply-adds, so that
// sums are the same on every host (CMakeLists.txt).
#include "framework/comm/exchange/row_kernels.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "framework/base/check.hpp"

namespace dovetail {
namespace {

// The accumulator of one row. The first term is stored, not added to zero, so that a single term is
// kept as it is (-0 included).
class RowSum {
 public:
  explicit RowSum(std::int64_t hidden) : sum_(static_cast<std::size_t>(hidden)) {}

  template <class T>
  void start(const T* row, float weight) {
    float* sum = sum_.data();
    for (std::size_t h = 0; h < sum_.size(); ++h) {
      sum[h] = weight * static_cast<float>(row[h]);
    }
  }

  template <class T>
  void add(const T* row, float weight) {
    float* sum = sum_.data();
    for (std::size_t h = 0; h < sum_.size(); ++h) {
      sum[h] += weight * static_cast<float>(row[h]);
    }
  }

  template <class T>
  void round_to(T* out) const {
    const float* sum = sum_.data();
    for (std::size_t h = 0; h < sum_.size(); ++h) {
      out[h] = static_cast<T>(sum[h]);
    }
  }

 private:
  std::vector<float> sum_;
};

// out[n] = the sum of weights[i] * row_at(i) over i in [begin[n], begin[n + 1]), in that order;
// zeros where there is none. The one weighted sum of an exchange, whoever makes it.
template <class T, class Index, class RowAt>
void sum_weighted_as(std::int64_t hidden,
                     std::span<const Index> begin,
                     std::span<const float> weights,
                     RowAt row_at,
                     T* out) {
  RowSum sum(hidden);
  for (std::size_t n = 0; n + 1 < begin.size(); ++n, out += hidden) {
    const auto first = static_cast<std::size_t>(begin[n]);
    const auto end = static_cast<std::size_t>(begin[n + 1]);
    if (first == end) {
      std::fill_n(out, hidden, static_cast<T>(0.0F));
      continue;
    }
    sum.start(row_at(first), weights[first]);
    for (auto i = first + 1; i < end; ++i) {
      sum.add(row_at(i), weights[i]);
    }
    sum.round_to(out);
  }
}

template <class T>
void sum_parts_as(std::int64_t hidden,
                  std::span<const std::int64_t> part_begin,
                  std::span<const std::int32_t> parts,
                  const SplitRows& rows,
                  T* out) {
  RowSum sum(hidden);
  const auto row = [&](std::int64_t i) {
    return reinterpret_cast<const T*>(rows.row(parts[static_cast<std::size_t>(i)]));
  };
  for (std::size_t token = 0; token + 1 < part_begin.size(); ++token, out += hidden) {
    const auto begin = part_begin[token];
    const auto end = part_begin[token + 1];
    if (begin == end) {
      std::fill_n(out, hidden, static_cast<T>(0.0F));
    } else if (begin + 1 == end) {
      std::copy_n(row(begin), hidden, out);
    } else {
      sum.start(row(begin), 1.0F);
      for (auto i = begin + 1; i < end; ++i) {
        sum.add(row(i), 1.0F);
      }
      sum.round_to(out);
    }
  }
}

// Calls body(T{}) with the C++ type of an activation dtype.
template <class Body>
void with_type(at::ScalarType dtype, Body body) {
  switch (dtype) {
    case at::kFloat:
      return body(0.0F);
    case at::kBFloat16:
      return body(c10::BFloat16());
    case at::kHalf:
      return body(c10::Half());
    default:
      detail::fail_check(
          __FILE__,
          __LINE__,
          "activation dtype",
          std::string(c10::toString(dtype)) + "; allowed: float32, bfloat16, float16");
  }
}

template <class Rows>
void copy_rows_of(const Rows& source, std::span<const std::int32_t> order, std::byte* out) {
  for (const auto index : order) {
    std::memcpy(out, source.row(index), static_cast<std::size_t>(source.row_bytes));
    out += source.row_bytes;
  }
}

}  // namespace

void copy_rows(const std::byte* source,
               std::span<const std::int32_t> order,
               std::int64_t row_bytes,
               std::byte* out) {
  for (const auto index : order) {
    std::memcpy(out, source + index * row_bytes, static_cast<std::size_t>(row_bytes));
    out += row_bytes;
  }
}

void copy_rows(const SplitRows& source, std::span<const std::int32_t> order, std::byte* out) {
  copy_rows_of(source, order, out);
}

void copy_rows(const GroupedRows& source, std::span<const std::int32_t> order, std::byte* out) {
  copy_rows_of(source, order, out);
}

void sum_choices(at::ScalarType dtype,
                 std::int64_t hidden,
                 const Arrangement& arrangement,
                 std::int64_t first_slot,
                 std::int64_t end_slot,
                 const GroupedRows& rows,
                 void* out) {
  const auto begin = std::span(arrangement.slot_begin)
                         .subspan(static_cast<std::size_t>(first_slot),
                                  static_cast<std::size_t>(end_slot - first_slot + 1));
  with_type(dtype, [&]<class T>(T) {
    sum_weighted_as<T, std::int32_t>(
        hidden,
        begin,
        arrangement.choice_weight,
        [&](std::size_t i) {
          return reinterpret_cast<const T*>(rows.row(arrangement.choice_row[i]));
        },
        static_cast<T*>(out));
  });
}

void sum_parts(at::ScalarType dtype,
               std::int64_t hidden,
               std::span<const std::int64_t> part_begin,
               std::span<const std::int32_t> parts,
               const SplitRows& rows,
               void* out) {
  with_type(dtype, [&]<class T>(T) {
    sum_parts_as(hidden, part_begin, parts, rows, static_cast<T*>(out));
  });
}

void sum_weighted_parts(at::ScalarType dtype,
                        std::int64_t hidden,
                        std::span<const std::int64_t> part_begin,
                        std::span<const std::int32_t> parts,
                        std::span<const float> weights,
                        const SplitRows& rows,
                        void* out) {
  with_type(dtype, [&]<class T>(T) {
    sum_weighted_as<T, std::int64_t>(
        hidden,
        part_begin,
        weights,
        [&](std::size_t i) { return reinterpret_cast<const T*>(rows.row(parts[i])); },
        static_cast<T*>(out));
  });
}

}  // namespace dovetail
