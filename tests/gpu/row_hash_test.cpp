// Hashes of rows in GPU memory equal the CPU's, for any sizes, types, addresses and orders.
#include "framework/step/row_hash.hpp"

#include <algorithm>
#include <chrono>
#include <iostream>
#include <numeric>
#include <random>

#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "framework/cuda/check.hpp"
#include "tests/gpu/gpu_test.hpp"

namespace dovetail {
namespace {

at::Tensor numbers(const std::vector<std::int64_t>& values) {
  return at::tensor(values, at::kLong);
}

/// The same rows in GPU memory, `shift` bytes behind an aligned address.
HashedRows copy_to_gpu(const HashedRows& rows, std::int64_t shift) {
  auto copy = rows;
  const auto element = static_cast<std::int64_t>(rows.tensor.element_size());
  const auto room =
      at::empty({rows.tensor.numel() + shift / element}, rows.tensor.options().device(at::kCUDA));
  copy.tensor = room.narrow(0, shift / element, rows.tensor.numel()).view(rows.tensor.sizes());
  copy.tensor.copy_(rows.tensor);
  copy.keys = rows.keys.to(at::kCUDA);
  copy.places = rows.places.defined() ? rows.places.to(at::kCUDA) : at::Tensor();
  return copy;
}

HashedRows random_part(std::mt19937_64& random, int num_groups) {
  const auto below = [&](std::int64_t end) {
    return std::uniform_int_distribution<std::int64_t>(0, end - 1)(random);
  };
  const auto rows = below(3) == 0 ? below(3) : below(700);
  const auto width = below(4) == 0 ? 8 * below(4000) : below(300);
  const std::array types = {at::kFloat, at::kBFloat16, at::kInt, at::kByte};
  HashedRows part = {at::empty({rows, width}, types[static_cast<std::size_t>(below(4))]),
                     {},
                     {},
                     random(),
                     static_cast<int>(below(num_groups))};
  auto* bytes = static_cast<unsigned char*>(part.tensor.mutable_data_ptr());
  std::generate(
      bytes, bytes + part.tensor.nbytes(), [&] { return static_cast<unsigned char>(random()); });
  std::vector<std::int64_t> keys(static_cast<std::size_t>(rows));
  std::generate(keys.begin(), keys.end(), [&] { return static_cast<std::int64_t>(random()); });
  if (rows > 0 && below(2) == 0) {
    std::vector<std::int64_t> places(keys.size());
    std::iota(places.begin(), places.end(), 0);
    std::shuffle(places.begin(), places.end(), random);
    places.resize(static_cast<std::size_t>(below(rows + 1)));
    keys.resize(places.size());
    part.places = numbers(places);
  }
  part.keys = numbers(keys);
  return part;
}

TEST(RowHashGpu, EqualsTheCpus) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(std::random_device{}());
  for (int trial = 0; trial < 25; ++trial) {
    constexpr int num_groups = 3;
    std::vector<HashedRows> on_host;
    std::vector<HashedRows> on_gpu;
    const auto count = std::uniform_int_distribution<int>(0, 12)(random);
    for (int i = 0; i < count; ++i) {
      on_host.push_back(random_part(random, num_groups));
      on_gpu.push_back(copy_to_gpu(on_host.back(), i % 2 == 0 ? 0 : 4));
    }
    EXPECT_EQ(RowHasher(on_gpu, num_groups).sums(), RowHasher(on_host, num_groups).sums()) << trial;
  }
}

TEST(RowHashGpu, EveryBitOfABfloat16TensorCounts) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(1);
  auto rows = HashedRows{at::ones({3, 24}, at::kBFloat16), {}, numbers({5, 6, 7}), 1, 0};
  const auto before = RowHasher({copy_to_gpu(rows, 0)}, 1).sums();
  auto* bytes = static_cast<unsigned char*>(rows.tensor.mutable_data_ptr());
  for (std::size_t bit = 0; bit < 8 * rows.tensor.nbytes(); bit += 5) {
    bytes[bit / 8] ^= static_cast<unsigned char>(1U << (bit % 8));
    EXPECT_NE(RowHasher({copy_to_gpu(rows, 0)}, 1).sums(), before) << bit;
    bytes[bit / 8] ^= static_cast<unsigned char>(1U << (bit % 8));
  }
}

/// What a step leaves at the size of Qwen3-30B on one rank: 24 layers, 8192 tokens of a prefill, or
/// 128 requests of a decode step. A figure, no test of speed.
TEST(RowHashGpu, PrintsItsTime) {
  DOVETAIL_REQUIRE_GPU();
  for (const auto& [name, tokens, requests] :
       {std::tuple{"prefill", 8192, 4}, {"decode", 128, 128}}) {
    const auto options = at::TensorOptions().dtype(at::kBFloat16).device(at::kCUDA);
    const auto keys = at::arange(tokens, options.dtype(at::kLong));
    std::vector<HashedRows> parts = {
        {at::ones({tokens, 2048}, options), {}, keys, 1, 0},
        {at::ones({requests, 151936}, options), {}, keys.narrow(0, 0, requests), 2, 0}};
    for (int layer = 0; layer < 24; ++layer) {
      for (int side = 0; side < 2; ++side) {
        parts.push_back({at::ones({tokens * 9, 512}, options), keys.mul(9), keys, 3, 1});
      }
    }
    const RowHasher hasher(parts, 2);
    hasher.sums();
    check_cuda(cudaDeviceSynchronize(), "before it is timed");
    const auto start = std::chrono::steady_clock::now();
    constexpr int runs = 20;
    for (int run = 0; run < runs; ++run) {
      hasher.sums();
    }
    const std::chrono::duration<double, std::micro> elapsed =
        std::chrono::steady_clock::now() - start;
    std::cout << "hash of a " << name << " step, 24 layers: " << elapsed.count() / runs << " us\n";
  }
}

}  // namespace
}  // namespace dovetail
