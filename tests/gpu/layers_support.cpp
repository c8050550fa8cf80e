#include "tests/gpu/layers_support.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iterator>

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/tensor.h>
#include <cuda_runtime_api.h>

#include "framework/base/check.hpp"
#include "framework/cuda/check.hpp"

namespace dovetail::test {
namespace {

std::string place_of(const at::Tensor& x, std::int64_t flat) {
  std::string place;
  for (std::int64_t dim = x.dim(); dim-- > 0;) {
    place = (dim > 0 ? ", " : "") + std::to_string(flat % x.size(dim)) + place;
    flat /= x.size(dim);
  }
  return "[" + place + "]";
}

template <typename Equal>
std::string compare(const at::Tensor& got, const at::Tensor& wanted, const Equal& is_equal) {
  DOVETAIL_CHECK(got.sizes() == wanted.sizes(), "shapes differ");
  const at::Tensor left = got.cpu().to(at::kDouble).contiguous();
  const at::Tensor right = wanted.cpu().to(at::kDouble).contiguous();
  const auto* a = left.const_data_ptr<double>();
  const auto* b = right.const_data_ptr<double>();
  std::int64_t count = 0;
  std::int64_t first = -1;
  for (std::int64_t i = 0; i < left.numel(); ++i) {
    if (!is_equal(a[i], b[i])) {
      first = first < 0 ? i : first;
      ++count;
    }
  }
  if (count == 0) {
    return "";
  }
  return std::to_string(count) + " of " + std::to_string(left.numel()) +
         " elements are wrong; first at " + place_of(left, first) + ": wanted " +
         std::to_string(b[first]) + ", got " + std::to_string(a[first]);
}

}  // namespace

std::uint64_t next_seed() {
  static std::uint64_t seed = [] {
    const char* text = std::getenv("DOVETAIL_TEST_SEED");  // NOLINT(concurrency-mt-unsafe)
    return text != nullptr ? std::strtoull(text, nullptr, 10)
                           : std::uint64_t{std::random_device{}()};
  }();
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  return seed++;
}

at::Tensor random_bf16_values(const std::vector<std::int64_t>& shape,
                              std::mt19937_64& random,
                              double scale) {
  at::Tensor values = at::empty(shape, at::kFloat);
  std::normal_distribution<float> noise(0, static_cast<float>(scale));
  std::generate_n(values.mutable_data_ptr<float>(), values.numel(), [&] { return noise(random); });
  return values.to(at::kBFloat16).to(at::kFloat);
}

at::Tensor to_gpu(const at::Tensor& x, at::ScalarType dtype) {
  return x.to(dtype).to(at::Device(at::kCUDA));
}

at::Tensor to_gpu(const at::Tensor& x) {
  return to_gpu(x, at::kBFloat16);
}

SegmentTensors device_segments(const std::vector<AttentionSegment>& segments,
                               std::int64_t padding,
                               at::Device device) {
  SegmentTensors result;
  std::vector<int> query_starts = {0};
  std::vector<int> key_lengths;
  std::vector<int> key_starts = {0};
  std::vector<std::int64_t> last_rows;
  for (const AttentionSegment& segment : segments) {
    DOVETAIL_CHECK_EQ(segment.token_start, query_starts.back());
    const std::int64_t keys = segment.context_length + segment.query_length;
    query_starts.push_back(static_cast<int>(segment.token_start + segment.query_length));
    key_lengths.push_back(static_cast<int>(keys));
    key_starts.push_back(key_starts.back() + static_cast<int>(keys));
    last_rows.push_back(segment.token_start + segment.query_length - 1);
    result.max_query_length = std::max(result.max_query_length, segment.query_length);
    result.max_key_length = std::max(result.max_key_length, keys);
    result.has_context = result.has_context || segment.context_length > 0;
  }
  for (std::int64_t i = 0; i < padding; ++i) {
    query_starts.push_back(query_starts.back());
    key_lengths.push_back(0);
    key_starts.push_back(key_starts.back());
    last_rows.push_back(0);
  }
  result.max_keys = key_starts.back();
  result.query_starts = at::tensor(query_starts, at::kInt).to(device);
  result.key_lengths = at::tensor(key_lengths, at::kInt).to(device);
  result.key_starts = at::tensor(key_starts, at::kInt).to(device);
  result.last_rows = at::tensor(last_rows, at::kLong).to(device);
  return result;
}

at::Tensor with_padding_tables(const at::Tensor& tables, std::int64_t padding) {
  return at::cat({tables, at::full({padding, tables.size(1)}, -1, tables.options())});
}

std::string difference(const at::Tensor& got,
                       const at::Tensor& wanted,
                       double relative,
                       double absolute) {
  return compare(got, wanted, [&](double a, double b) {
    return a == b || std::abs(a - b) <= relative * std::abs(b) + absolute;
  });
}

std::string bitwise_difference(const at::Tensor& got, const at::Tensor& wanted) {
  return compare(
      got, wanted, [](double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); });
}

void check_gpu() {
  check_cuda(cudaDeviceSynchronize(), "kernels of this test");
}

}  // namespace dovetail::test
