// Seeded weights made on a GPU, and digests of GPU memory: equal to the CPU's to the bit.
#include <chrono>
#include <cmath>
#include <iostream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randint.h>
#include <gtest/gtest.h>

#include "models/weights/digest.hpp"
#include "models/weights/seeded.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/tensor_bits.hpp"

namespace dovetail {
namespace {

using test::bit_difference;
using test::own_gpu;

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  /// In [from, to].
  std::int64_t between(std::int64_t from, std::int64_t to) {
    return std::uniform_int_distribution<std::int64_t>(from, to)(engine_);
  }

  template <class Item>
  Item one_of(const std::vector<Item>& items) {
    return items[static_cast<std::size_t>(between(0, static_cast<std::int64_t>(items.size()) - 1))];
  }

 private:
  std::mt19937_64 engine_;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Rows of a parameter, to be written into a frame that begins `lead` elements before them.
struct Case {
  std::string name;
  std::vector<std::int64_t> shape;
  std::int64_t first_row = 0;
  std::int64_t rows = 0;
  std::int64_t lead = 0;
  at::ScalarType type = at::kFloat;
};

constexpr std::int64_t kTail = 40;  // elements of a frame behind the destination

Case random_case(Random& random) {
  Case made;
  made.type = random.one_of<at::ScalarType>({at::kFloat, at::kBFloat16, at::kHalf});
  made.name = "model.layers." + std::to_string(random.between(0, 99)) + ".";
  if (random.between(0, 3) == 0) {
    made.name += random.one_of<std::string>({"q_norm.weight", "q_proj.bias"});
    made.shape = {random.between(1, 5000)};
  } else {
    made.name +=
        random.one_of<std::string>({"embed_tokens.weight", "mlp.experts.7.up_proj.weight"});
    made.shape = {random.between(1, 40),
                  random.one_of<std::int64_t>({1, 2, 3, 5, 7, 8, 12, 96, 129, 2048, 4099})};
    if (random.between(0, 4) == 0) {
      made.shape.push_back(random.between(1, 9));
    }
  }
  made.first_row = random.between(0, made.shape[0]);
  made.rows = random.between(0, made.shape[0] - made.first_row);
  made.lead = random.between(0, 17);
  return made;
}

/// The frame after the read, on the CPU: its guards must be as they were.
at::Tensor read_into_frame(const Case& made, std::uint64_t seed, const at::Device& device) {
  std::vector<std::int64_t> part = made.shape;
  part[0] = made.rows;
  std::int64_t count = 1;
  for (const std::int64_t size : part) {
    count *= size;
  }
  // The same NaN on both devices.
  const at::Tensor frame =
      at::full({made.lead + count + kTail}, std::nan(""), made.type).to(device);
  SeededSource(seed).read(
      {made.name, made.shape, made.first_row, frame.narrow(0, made.lead, count).view(part)});
  return frame.cpu();
}

TEST(GpuSeeded, EqualsTheCpuToTheBit) {
  DOVETAIL_REQUIRE_GPU();
  const std::uint64_t seed = test::fresh_seed();
  Random random(seed);
  int differing_twins = 0;
  for (int i = 0; i < 300; ++i) {
    const Case made = random_case(random);
    std::ostringstream place;
    place << "seed " << seed << ", case " << i << ": " << made.name << " "
          << at::IntArrayRef(made.shape) << ", rows " << made.first_row << " + " << made.rows
          << ", lead " << made.lead << ", " << made.type;
    const at::Tensor got = read_into_frame(made, seed, own_gpu());
    ASSERT_EQ(bit_difference(got, read_into_frame(made, seed, at::kCPU)), "") << place.str();
    // Negative twins: other seeds and names make other values. A few values of 16 bits may be equal
    // by chance.
    if (got.numel() - made.lead - kTail >= 32) {
      Case other = made;
      other.name = "x" + made.name;
      EXPECT_NE(bit_difference(got, read_into_frame(made, seed + 1, own_gpu())), "") << place.str();
      EXPECT_NE(bit_difference(got, read_into_frame(other, seed, own_gpu())), "") << place.str();
      ++differing_twins;
    }
  }
  EXPECT_GT(differing_twins, 100);
}

TEST(GpuSeeded, MoreThanTwoToThe31Elements) {
  DOVETAIL_REQUIRE_GPU();
  const std::string name = "model.layers.0.q_proj.weight";
  const std::vector<std::int64_t> shape = {(std::int64_t{1} << 20) + 4, 2051};
  const at::Tensor all =
      at::empty(shape, at::TensorOptions().dtype(at::kBFloat16).device(own_gpu()));
  const at::Tensor probe = at::empty({1, 2051}, all.options());
  SeededSource(3).read({name, shape, 0, probe});  // what is slow only once
  probe.cpu();
  auto start = std::chrono::steady_clock::now();
  SeededSource(3).read({name, shape, 0, all});
  probe.cpu();
  std::cout << "seeded " << static_cast<double>(all.nbytes()) / 1e9 << " GB in "
            << seconds_since(start) << " s\n";
  constexpr std::int64_t row_of_2_31 = (std::int64_t{1} << 31) / 2051;
  for (const std::int64_t row : {std::int64_t{0}, row_of_2_31 - 1, row_of_2_31, shape[0] - 3}) {
    const at::Tensor wanted = at::empty({3, 2051}, at::kBFloat16);
    SeededSource(3).read({name, shape, row, wanted});
    EXPECT_EQ(bit_difference(all.narrow(0, row, 3), wanted), "") << "rows from " << row;
  }
  start = std::chrono::steady_clock::now();
  const std::uint64_t digest = parameter_digest(name, all);
  std::cout << "digest of it in " << seconds_since(start) << " s\n";
  if (test::world_rank() == 0) {
    EXPECT_EQ(digest, parameter_digest(name, all.cpu()));
  }
  all[shape[0] - 1][2050].neg_();
  EXPECT_NE(digest, parameter_digest(name, all)) << "the last element was not hashed";
}

/// Random bytes in a frame on the CPU and, at the same offset from an aligned address, on the GPU.
void expect_equal_digests(Random& random, std::int64_t size, std::int64_t offset) {
  const at::Tensor host = at::randint(0, 256, {offset + size}, at::kByte);
  const at::Tensor device = host.to(own_gpu());
  const auto digest_at = [&](const at::Tensor& frame) {
    return parameter_digest("w", frame.narrow(0, offset, size));
  };
  const std::uint64_t wanted = digest_at(host);
  ASSERT_EQ(digest_at(device), wanted) << size << " bytes, offset " << offset;
  EXPECT_NE(parameter_digest("v", device.narrow(0, offset, size)), wanted);
  if (size == 0) {
    return;
  }
  // Negative twins: one bit of the first, the last or any byte.
  for (const std::int64_t place : {std::int64_t{0}, size - 1, random.between(0, size - 1)}) {
    device[offset + place].bitwise_xor_(1 << random.between(0, 7));
    EXPECT_NE(digest_at(device), wanted) << "byte " << place << " of " << size << " was changed";
    device.copy_(host);
  }
}

TEST(GpuDigest, EqualsTheCpuForAllLengthsAndAlignments) {
  DOVETAIL_REQUIRE_GPU();
  const std::uint64_t seed = test::fresh_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  for (std::int64_t size = 0; size <= 50; ++size) {
    expect_equal_digests(random, size, 0);
    expect_equal_digests(random, size, random.between(1, 17));
  }
  constexpr std::int64_t block_bytes = 16 * 4 * 256;  // of one block of threads
  for (const std::int64_t size : {block_bytes, 3 * block_bytes, 1056 * block_bytes}) {
    for (const std::int64_t more : {-17, -1, 0, 1, 8, 16, 31}) {
      expect_equal_digests(random, size + more, 0);
    }
    expect_equal_digests(random, size, random.between(1, 17));
  }
}

TEST(GpuDigest, OfExpertsEqualsTheCpu) {
  DOVETAIL_REQUIRE_GPU();
  const std::uint64_t seed = test::fresh_seed();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random(seed);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (int i = 0; i < 12; ++i) {
      const std::int64_t experts = random.between(0, 5);
      const std::int64_t hidden = random.one_of<std::int64_t>({3, 8, 33, 128});
      const std::int64_t inner = random.one_of<std::int64_t>({1, 5, 16, 48});
      const std::vector<std::int64_t> up_shape = {experts, 2 * inner, hidden};
      const std::vector<std::int64_t> down_shape = {experts, hidden, inner};
      const at::Tensor gate_up = at::empty(up_shape, type);
      const at::Tensor down = at::empty(down_shape, type);
      SeededSource(seed).read({"a.weight", up_shape, 0, gate_up});
      SeededSource(seed).read({"b.weight", down_shape, 0, down});
      const std::uint64_t wanted = experts_digest("model.layers.4.mlp", 7, gate_up, down);
      const at::Tensor gate_up_there = gate_up.to(own_gpu());
      const at::Tensor down_there = down.to(own_gpu());
      EXPECT_EQ(experts_digest("model.layers.4.mlp", 7, gate_up_there, down_there), wanted)
          << experts << " experts of " << hidden << " and " << inner << ", " << type;
      if (experts > 1) {
        EXPECT_NE(experts_digest("model.layers.4.mlp", 8, gate_up_there, down_there), wanted);
        EXPECT_NE(experts_digest("model.layers.4.mlp", 7, gate_up_there.flip(0), down_there),
                  wanted);
      }
    }
  }
}

}  // namespace
}  // namespace dovetail
