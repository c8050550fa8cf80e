#include "models/layers/row_math.hpp"

#include <algorithm>
#include <cmath>
#include <span>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "framework/base/check.hpp"

namespace dovetail::row_math {
namespace {

constexpr std::int64_t kElementsOfAThread = 8192;  // at least, where threads share the rows

/// compute(row) for each row of `size` elements.
template <class Compute>
void for_each_row(std::int64_t rows, std::int64_t size, const Compute& compute) {
  const std::int64_t grain =
      std::max<std::int64_t>(1, kElementsOfAThread / std::max<std::int64_t>(size, 1));
  at::parallel_for(0, rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      compute(row);
    }
  });
}

/// compute(T()), T the element type.
template <class Compute>
void with_element_type(at::ScalarType type, const Compute& compute) {
  switch (type) {
    case at::kFloat:
      return compute(float{});
    case at::kBFloat16:
      return compute(at::BFloat16{});
    case at::kHalf:
      return compute(at::Half{});
    default:
      DOVETAIL_CHECK(false, "rows must be float32, bfloat16 or float16");
  }
}

/// Rounded to T and back.
template <class T>
float rounded(float value) {
  return static_cast<float>(static_cast<T>(value));
}

template <class T>
void norm_row(const T* x, const T* weight, double epsilon, std::int64_t size, T* result) {
  double squares = 0;
  for (std::int64_t i = 0; i < size; ++i) {
    const double value = static_cast<float>(x[i]);
    squares += value * value;
  }
  const auto scale =
      static_cast<float>(1.0 / std::sqrt(squares / static_cast<double>(size) + epsilon));
  for (std::int64_t i = 0; i < size; ++i) {
    const float normed = rounded<T>(static_cast<float>(x[i]) * scale);
    result[i] = static_cast<T>(normed * static_cast<float>(weight[i]));
  }
}

template <class T>
void turn_row(const T* x, const T* cosine, const T* sine, std::int64_t half, T* result) {
  for (std::int64_t i = 0; i < half; ++i) {
    const auto first = static_cast<float>(x[i]);
    const auto second = static_cast<float>(x[half + i]);
    const auto c = static_cast<float>(cosine[i]);
    const auto s = static_cast<float>(sine[i]);
    result[i] = static_cast<T>(rounded<T>(first * c) - second * s);
    result[half + i] = static_cast<T>(rounded<T>(second * c) + first * s);
  }
}

template <class T>
void gate_row(const T* gate, const T* up, std::int64_t size, T* result) {
  for (std::int64_t i = 0; i < size; ++i) {
    const auto value = static_cast<float>(gate[i]);
    const float silu = rounded<T>(value / (1.0F + std::exp(-value)));
    result[i] = static_cast<T>(silu * static_cast<float>(up[i]));
  }
}

void weigh_row(std::span<const float> logits,
               std::span<const std::int64_t> chosen,
               float* weights) {
  const float largest = *std::max_element(logits.begin(), logits.end());
  double all = 0;
  for (const float logit : logits) {
    all += std::exp(logit - largest);
  }
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    DOVETAIL_CHECK(chosen[i] >= 0 && static_cast<std::size_t>(chosen[i]) < logits.size(),
                   "an expert outside of the row");
    weights[i] =
        static_cast<float>(std::exp(logits[static_cast<std::size_t>(chosen[i])] - largest) / all);
  }
}

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  const at::Tensor rows = x.contiguous();
  const at::Tensor factors = weight.contiguous();
  const std::int64_t size = x.size(-1);
  DOVETAIL_CHECK_EQ(factors.numel(), size);
  DOVETAIL_CHECK(factors.scalar_type() == x.scalar_type(), "the weight has another dtype");
  at::Tensor result = at::empty_like(rows);
  with_element_type(x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    const T* const from = rows.const_data_ptr<T>();
    T* const to = result.mutable_data_ptr<T>();
    for_each_row(x.numel() / size, size, [&](std::int64_t row) {
      norm_row(from + row * size, factors.const_data_ptr<T>(), epsilon, size, to + row * size);
    });
  });
  return result;
}

at::Tensor cos_and_sin(const at::Tensor& angles, double factor, at::ScalarType dtype) {
  const auto scale = static_cast<float>(factor);
  const at::Tensor rows = angles.contiguous();
  const std::int64_t size = rows.size(1);
  at::Tensor result = at::empty({2, rows.size(0), size}, rows.options().dtype(dtype));
  with_element_type(dtype, [&](auto element) {
    using T = decltype(element);
    const auto* const from = rows.const_data_ptr<float>();
    T* const to = result.mutable_data_ptr<T>();
    for_each_row(rows.size(0), size, [&](std::int64_t row) {
      for (std::int64_t i = row * size; i < (row + 1) * size; ++i) {
        to[i] = static_cast<T>(std::cos(from[i]) * scale);
        to[rows.numel() + i] = static_cast<T>(std::sin(from[i]) * scale);
      }
    });
  });
  return result;
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& table) {
  const at::Tensor rows = x.contiguous();
  const at::Tensor angles = table.contiguous();
  const std::int64_t tokens = x.size(0);
  const std::int64_t heads = x.size(1);
  const std::int64_t size = x.size(2);
  const std::int64_t half = size / 2;
  DOVETAIL_CHECK(angles.sizes() == at::IntArrayRef({2, tokens, half}) &&
                     angles.scalar_type() == x.scalar_type(),
                 "the table must be [2, tokens, head_dim / 2] in the dtype of x");
  at::Tensor result = at::empty_like(rows);
  with_element_type(x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    const T* const from = rows.const_data_ptr<T>();
    const T* const cosines = angles.const_data_ptr<T>();
    T* const to = result.mutable_data_ptr<T>();
    for_each_row(tokens * heads, size, [&](std::int64_t row) {
      const T* const cosine = cosines + row / heads * half;
      turn_row(from + row * size, cosine, cosine + tokens * half, half, to + row * size);
    });
  });
  return result;
}

at::Tensor swiglu(const at::Tensor& gate_up) {
  const at::Tensor rows = gate_up.contiguous();
  const std::int64_t size = rows.size(1) / 2;
  at::Tensor result = at::empty({rows.size(0), size}, rows.options());
  with_element_type(rows.scalar_type(), [&](auto element) {
    using T = decltype(element);
    const T* const from = rows.const_data_ptr<T>();
    T* const to = result.mutable_data_ptr<T>();
    for_each_row(rows.size(0), size, [&](std::int64_t row) {
      const T* const gate = from + 2 * row * size;
      gate_row(gate, gate + size, size, to + row * size);
    });
  });
  return result;
}

at::Tensor times_sigmoid(const at::Tensor& x, const at::Tensor& logits) {
  const at::Tensor rows = x.contiguous();
  const at::Tensor gates = logits.contiguous();
  const std::int64_t size = x.size(1);
  DOVETAIL_CHECK(gates.numel() == x.size(0) && gates.scalar_type() == x.scalar_type(),
                 "logits must be [rows, 1] in the dtype of x");
  at::Tensor result = at::empty_like(rows);
  with_element_type(x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    const T* const from = rows.const_data_ptr<T>();
    const T* const gate = gates.const_data_ptr<T>();
    T* const to = result.mutable_data_ptr<T>();
    for_each_row(x.size(0), size, [&](std::int64_t row) {
      const float factor = rounded<T>(1.0F / (1.0F + std::exp(-static_cast<float>(gate[row]))));
      for (std::int64_t i = row * size; i < (row + 1) * size; ++i) {
        to[i] = static_cast<T>(static_cast<float>(from[i]) * factor);
      }
    });
  });
  return result;
}

at::Tensor chosen_probabilities(const at::Tensor& logits, const at::Tensor& expert_ids) {
  const at::Tensor rows = logits.contiguous();
  const at::Tensor chosen = expert_ids.contiguous();
  const auto experts = static_cast<std::size_t>(rows.size(1));
  const auto k = static_cast<std::size_t>(chosen.size(1));
  at::Tensor weights = at::empty(chosen.sizes(), rows.options());
  const std::span all(rows.const_data_ptr<float>(), static_cast<std::size_t>(rows.numel()));
  const std::span ids(chosen.const_data_ptr<std::int64_t>(),
                      static_cast<std::size_t>(chosen.numel()));
  auto* const to = weights.mutable_data_ptr<float>();
  for_each_row(rows.size(0), rows.size(1), [&](std::int64_t index) {
    const auto row = static_cast<std::size_t>(index);
    weigh_row(all.subspan(row * experts, experts), ids.subspan(row * k, k), to + row * k);
  });
  return weights;
}

at::Tensor normalized(const at::Tensor& x) {
  const at::Tensor rows = x.contiguous();
  const std::int64_t size = rows.size(1);
  at::Tensor result = at::empty_like(rows);
  const auto* const from = rows.const_data_ptr<float>();
  auto* const to = result.mutable_data_ptr<float>();
  for_each_row(rows.size(0), size, [&](std::int64_t row) {
    double sum = 0;
    for (std::int64_t i = row * size; i < (row + 1) * size; ++i) {
      sum += from[i];
    }
    for (std::int64_t i = row * size; i < (row + 1) * size; ++i) {
      to[i] = static_cast<float>(from[i] / sum);
    }
  });
  return result;
}

at::Tensor sigmoid(const at::Tensor& x) {
  const at::Tensor rows = x.contiguous();
  const std::int64_t size = rows.size(1);
  at::Tensor result = at::empty_like(rows);
  const auto* const from = rows.const_data_ptr<float>();
  auto* const to = result.mutable_data_ptr<float>();
  for_each_row(rows.size(0), size, [&](std::int64_t row) {
    for (std::int64_t i = row * size; i < (row + 1) * size; ++i) {
      to[i] = 1.0F / (1.0F + std::exp(-from[i]));
    }
  });
  return result;
}

}  // namespace dovetail::row_math
