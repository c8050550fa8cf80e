// Digests see every bit, order and name, and add up to the same number on every grid.
#include <cstring>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/base/word_hash.hpp"
#include "models/weights/digest.hpp"
#include "models/weights/expert_weights.hpp"
#include "models/weights/seeded.hpp"

namespace dovetail {
namespace {

std::uint64_t hash_of(const std::string& name, const std::vector<std::byte>& bytes) {
  return content_hash(name, bytes);
}

std::vector<std::byte> counting_bytes(std::size_t size) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<std::byte>(i * 7 + 1);
  }
  return bytes;
}

TEST(Digest, KnownAnswers) {
  // From a separate implementation.
  std::vector<std::byte> bytes(77);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(i);
  }
  EXPECT_EQ(hash_of("", {}), 0x7C726007B7E7489CU);
  EXPECT_EQ(hash_of("abc", bytes), 0xBE23BDAA6EAAEBC2U);
  bytes.resize(5000);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(i * i >> 3);
  }
  EXPECT_EQ(hash_of("abc", bytes), 0x14ECA60DDC2C4C9AU);
}

TEST(Digest, WordsAreReadAsTheyLieWithZerosBehindTheLast) {
  for (std::size_t size = 1; size <= 40; ++size) {
    const std::vector<std::byte> bytes = counting_bytes(size);
    std::vector<std::byte> padded = bytes;
    padded.resize(48);
    for (std::size_t word = 0; word * 8 < size; ++word) {
      std::uint64_t expected = 0;
      std::memcpy(&expected, padded.data() + 8 * word, 8);
      EXPECT_EQ(word_from_bytes(reinterpret_cast<const unsigned char*>(bytes.data()),
                                static_cast<std::int64_t>(size),
                                static_cast<std::int64_t>(word)),
                expected)
          << size << " " << word;
    }
  }
}

TEST(Digest, ASingleWordOfALargeContentIsNeverLost) {
  std::vector<std::byte> bytes = counting_bytes(std::size_t{1} << 20);
  std::set<std::uint64_t> seen = {hash_of("w", bytes)};
  for (std::size_t place = 0; place < bytes.size(); place += 8 * 257) {
    const std::byte before = bytes[place + 7];
    bytes[place + 7] ^= std::byte{0x80};  // the highest bit of a word
    seen.insert(hash_of("w", bytes));
    bytes[place + 7] = before;
  }
  EXPECT_EQ(seen.size(), 1U + (bytes.size() + 8 * 257 - 1) / (8 * 257));
}

TEST(Digest, SwappedBlocksMatter) {
  constexpr std::size_t block = 4096;
  std::vector<std::byte> bytes(8 * block);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(i % block / 16 + i / block);
  }
  std::set<std::uint64_t> seen = {hash_of("w", bytes)};
  for (std::size_t a = 0; a < 8; ++a) {
    for (std::size_t b = a + 1; b < 8; ++b) {
      std::vector<std::byte> swapped = bytes;
      std::memcpy(swapped.data() + a * block, bytes.data() + b * block, block);
      std::memcpy(swapped.data() + b * block, bytes.data() + a * block, block);
      seen.insert(hash_of("w", swapped));
    }
  }
  EXPECT_EQ(seen.size(), 1U + 8 * 7 / 2);
}

TEST(Digest, EveryPairOfBitsMatters) {
  std::vector<std::byte> bytes = counting_bytes(72);
  const auto flip = [&](std::size_t bit) {
    bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
  };
  std::set<std::uint64_t> seen;
  for (std::size_t a = 0; a < std::size_t{72} * 8; ++a) {
    for (std::size_t b = 0; b < a; ++b) {
      flip(a);
      flip(b);
      seen.insert(hash_of("w", bytes));
      flip(a);
      flip(b);
    }
  }
  EXPECT_EQ(seen.size(), 576U * 575U / 2U);
}

TEST(Digest, EveryBitOfEveryLengthMatters) {
  std::set<std::uint64_t> seen;
  std::size_t hashes = 0;
  for (std::size_t size = 0; size <= 100; ++size) {
    std::vector<std::byte> bytes = counting_bytes(size);
    seen.insert(hash_of("w", bytes));
    ++hashes;
    for (std::size_t bit = 0; bit < 8 * size; ++bit) {
      bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
      seen.insert(hash_of("w", bytes));
      ++hashes;
      bytes[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    }
  }
  EXPECT_EQ(seen.size(), hashes);
}

TEST(Digest, AppendedZerosAndNamesMatter) {
  std::set<std::uint64_t> seen;
  for (std::size_t size = 0; size <= 200; ++size) {
    seen.insert(hash_of("w", std::vector<std::byte>(size)));
  }
  EXPECT_EQ(seen.size(), 201U);
  EXPECT_NE(hash_of("a", counting_bytes(64)), hash_of("b", counting_bytes(64)));
}

TEST(Digest, AlignmentDoesNotMatter) {
  const std::vector<std::byte> bytes = counting_bytes(77);
  std::vector<std::byte> shifted(bytes.size() + 3);
  std::memcpy(shifted.data() + 3, bytes.data(), bytes.size());
  EXPECT_EQ(content_hash("w", bytes), content_hash("w", std::span(shifted).subspan(3)));
}

TEST(Digest, AnySwapOfUnequalWordsMatters) {
  const std::vector<std::byte> bytes = counting_bytes(std::size_t{16} * 8);
  std::set<std::uint64_t> seen = {hash_of("w", bytes)};
  for (std::size_t a = 0; a < 16; ++a) {
    for (std::size_t b = a + 1; b < 16; ++b) {
      std::vector<std::byte> swapped = bytes;
      std::memcpy(swapped.data() + 8 * a, bytes.data() + 8 * b, 8);
      std::memcpy(swapped.data() + 8 * b, bytes.data() + 8 * a, 8);
      seen.insert(hash_of("w", swapped));
    }
  }
  EXPECT_EQ(seen.size(), 1U + 16 * 15 / 2);
}

at::Tensor seeded(const std::string& name,
                  const std::vector<std::int64_t>& shape,
                  at::ScalarType type) {
  at::Tensor values = at::empty(shape, type);
  SeededSource(17).read({name, shape, 0, values});
  return values;
}

TEST(Digest, RowsShapeTypeAndNameOfAParameterMatter) {
  const at::Tensor w = seeded("w.weight", {6, 8}, at::kBFloat16);
  const std::uint64_t digest = parameter_digest("w.weight", w);
  EXPECT_EQ(digest, parameter_digest("w.weight", w.clone()));
  at::Tensor swapped = w.clone();
  swapped[1].copy_(w[4]);
  swapped[4].copy_(w[1]);
  EXPECT_NE(digest, parameter_digest("w.weight", swapped));
  at::Tensor flipped = w.clone();
  static_cast<std::uint16_t*>(flipped.data_ptr())[47] ^= 1;
  EXPECT_NE(digest, parameter_digest("w.weight", flipped));
  EXPECT_NE(digest, parameter_digest("v.weight", w));
  EXPECT_NE(digest, parameter_digest("w.weight", w.view({8, 6})));
  EXPECT_NE(digest, parameter_digest("w.weight", w.view(at::kHalf)));
  EXPECT_THROW(parameter_digest("w.weight", w.t()), ContractError);
}

constexpr int kExperts = 12;
constexpr std::int64_t kHidden = 8;
constexpr std::int64_t kIntermediate = 6;
const char* const kPrefix = "model.layers.2.mlp";

/// The sum over an ep group of what its ranks hold.
std::uint64_t group_digest(int ep_size, at::ScalarType type) {
  const int num_local = kExperts / ep_size;
  std::uint64_t sum = 0;
  for (int rank = 0; rank < ep_size; ++rank) {
    SeededSource source(17);
    const at::Tensor gate_up = at::empty({num_local, 2 * kIntermediate, kHidden}, type);
    const at::Tensor down = at::empty({num_local, kHidden, kIntermediate}, type);
    read_experts(source, kPrefix, rank * num_local, kExperts, gate_up, down);
    sum += experts_digest(kPrefix, rank * num_local, gate_up, down);
  }
  return sum;
}

TEST(Digest, ExpertsAddUpToTheSameOnEveryGrid) {
  // The slow way: each piece under its own name, read by itself.
  std::uint64_t expected = 0;
  for (int expert = 0; expert < kExperts; ++expert) {
    for (const char* projection : {"gate_proj", "up_proj", "down_proj"}) {
      const std::string name = expert_weight_name(kPrefix, expert, projection);
      const bool down = std::string(projection) == "down_proj";
      expected += parameter_digest(
          name,
          seeded(name,
                 down ? std::vector{kHidden, kIntermediate} : std::vector{kIntermediate, kHidden},
                 at::kFloat));
    }
  }
  for (const int ep_size : {1, 2, 3, 4, 6, 12}) {
    EXPECT_EQ(group_digest(ep_size, at::kFloat), expected) << ep_size;
  }
  EXPECT_NE(group_digest(2, at::kBFloat16), expected);
}

TEST(Digest, SwappedExpertsAndSwappedGateAndUpMatter) {
  SeededSource source(17);
  const at::Tensor gate_up = at::empty({kExperts, 2 * kIntermediate, kHidden}, at::kFloat);
  const at::Tensor down = at::empty({kExperts, kHidden, kIntermediate}, at::kFloat);
  read_experts(source, kPrefix, 0, kExperts, gate_up, down);
  const std::uint64_t digest = experts_digest(kPrefix, 0, gate_up, down);
  at::Tensor swapped = gate_up.clone();
  swapped[3].copy_(gate_up[5]);
  swapped[5].copy_(gate_up[3]);
  EXPECT_NE(digest, experts_digest(kPrefix, 0, swapped, down));
  swapped = at::cat({gate_up.slice(1, kIntermediate), gate_up.slice(1, 0, kIntermediate)}, 1);
  EXPECT_NE(digest, experts_digest(kPrefix, 0, swapped, down));
  EXPECT_NE(digest, experts_digest(kPrefix, 1, gate_up, down));
  EXPECT_NE(digest, experts_digest("model.layers.3.mlp", 0, gate_up, down));
}

}  // namespace
}  // namespace dovetail
