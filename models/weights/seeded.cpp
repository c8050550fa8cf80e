#include "models/weights/seeded.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "framework/base/error.hpp"
#include "models/weights/convert.hpp"

#ifdef DOVETAIL_WITH_CUDA
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "models/weights/cuda/seeded_kernel.hpp"
#endif

namespace dovetail {
namespace {

constexpr std::int64_t kPieceElements = 4096;  // float32 values between generator and conversion

/// Blocks made side by side, so that the compiler can use vector registers.
constexpr std::int64_t kBlocksAtOnce = 16;

constexpr double kLargestInteger = 1 << 24;

/// A uniform distribution over (-a, a) has the standard deviation a / sqrt(3).
SeededScale centred(double standard_deviation) {
  return {.offset = 0,
          .shift = 8,
          .scale = static_cast<float>(standard_deviation * std::sqrt(3.0) / kLargestInteger)};
}

}  // namespace

SeededScale seeded_scale(const std::string& name, std::span<const std::int64_t> shape) {
  if (name.find("embed_tokens") != std::string::npos) {
    return centred(1.0);
  }
  if (shape.size() >= 2) {
    return centred(1.0 / std::sqrt(static_cast<double>(std::max<std::int64_t>(shape.back(), 1))));
  }
  if (name.ends_with("bias")) {
    return centred(1.0 / 50.0);
  }
  if (shape.size() == 1 && name.ends_with(".weight")) {
    return {.offset = 1 << 23, .shift = 13, .scale = 1.0F / (1 << 23)};
  }
  throw InputError("seeded weights: no rule for '" + name +
                   "'; there are rules for matrices, norms (1-D .weight) and biases");
}

void generate_seeded(std::uint64_t seed,
                     std::uint64_t parameter,
                     const SeededScale& scale,
                     std::int64_t first,
                     std::int64_t count,
                     float* values) {
  const std::int64_t end = first + count;
  std::array<std::uint32_t, 4 * kBlocksAtOnce> words;
  for (std::int64_t block = first / 4; block * 4 < end; block += kBlocksAtOnce) {
    for (std::size_t i = 0; i < kBlocksAtOnce; ++i) {
      const RandomBlock made = random_block(seed, parameter, static_cast<std::uint64_t>(block) + i);
      for (std::size_t word = 0; word < 4; ++word) {
        words[4 * i + word] = made.words[word];
      }
    }
    const std::int64_t begin_here = std::max(first, block * 4);
    const std::int64_t count_here = std::min(end, (block + kBlocksAtOnce) * 4) - begin_here;
    const std::uint32_t* const words_here = words.data() + (begin_here - block * 4);
    float* const values_here = values + (begin_here - first);
    for (std::int64_t i = 0; i < count_here; ++i) {
      values_here[i] = seeded_value(words_here[i], scale);
    }
  }
}

bool SeededSource::has(const std::string& name) const {
  return name.ends_with(".weight") || name.ends_with("bias");
}

void SeededSource::read(const WeightRequest& request) {
  const RequestedElements wanted = check_request(request);
  if (!has(request.name)) {
    throw InputError("seeded weights: no tensor '" + request.name +
                     "'; allowed: names that end in .weight or .bias");
  }
  const SeededScale scale = seeded_scale(request.name, request.shape);
  if (request.destination.is_meta()) {
    return;
  }
  const std::uint64_t parameter = parameter_key(request.name);
#ifdef DOVETAIL_WITH_CUDA
  if (request.destination.is_cuda()) {
    const at::Device device = request.destination.device();
    const c10::cuda::CUDAGuard guard(device);
    launch_seeded({.seed = seed_,
                   .parameter = parameter,
                   .scale = scale,
                   .first = wanted.first,
                   .count = wanted.count},
                  wanted.dtype,
                  request.destination.data_ptr(),
                  c10::cuda::getCurrentCUDAStream(device.index()));
    return;
  }
#endif
  const auto size = static_cast<std::int64_t>(size_of(wanted.dtype));
  std::array<float, kPieceElements> values;
  for (std::int64_t done = 0; done < wanted.count; done += kPieceElements) {
    const std::int64_t count = std::min(kPieceElements, wanted.count - done);
    generate_seeded(seed_, parameter, scale, wanted.first + done, count, values.data());
    convert_elements(reinterpret_cast<const std::byte*>(values.data()),
                     DType::float32,
                     wanted.data + done * size,
                     wanted.dtype,
                     count);
  }
}

}  // namespace dovetail
