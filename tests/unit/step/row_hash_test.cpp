// Hashes of rows against a plain loop over bytes; what changes them and what does not.
#include "framework/step/row_hash.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <set>

#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/base/hash.hpp"

namespace dovetail {
namespace {

at::Tensor numbers(const std::vector<std::int64_t>& values) {
  return at::tensor(values, at::kLong);
}

/// Random bits of any type.
at::Tensor random_rows(std::mt19937_64& random,
                       std::int64_t rows,
                       std::int64_t width,
                       at::ScalarType type) {
  auto tensor = at::empty({rows, width}, type);
  auto* bytes = static_cast<unsigned char*>(tensor.mutable_data_ptr());
  std::generate(
      bytes, bytes + tensor.nbytes(), [&] { return static_cast<unsigned char>(random()); });
  return tensor;
}

/// By the definition: each word of each row, in the order in which bytes lie.
std::uint64_t plain_sum(const HashedRows& rows) {
  const auto size = static_cast<std::size_t>(rows.tensor.nbytes()) /
                    static_cast<std::size_t>(std::max<std::int64_t>(1, rows.tensor.size(0)));
  const auto* bytes = static_cast<const unsigned char*>(rows.tensor.const_data_ptr());
  std::uint64_t sum = 0;
  for (std::int64_t i = 0; i < rows.keys.numel(); ++i) {
    const auto place = rows.places.defined() ? rows.places[i].item<std::int64_t>() : i;
    const auto key = static_cast<std::uint64_t>(rows.keys[i].item<std::int64_t>());
    const auto start = combine_hash(rows.tag, key);
    for (std::size_t word = 0; word * 8 < size; ++word) {
      std::uint64_t value = 0;
      for (std::size_t byte = 0; byte < 8 && word * 8 + byte < size; ++byte) {
        value += std::uint64_t{bytes[static_cast<std::size_t>(place) * size + word * 8 + byte]}
                 << (8 * byte);
      }
      sum += mix_bits((start + word * 0xD1342543DE82EF95U) ^ value);
    }
  }
  return sum;
}

std::uint64_t hash_of(const HashedRows& rows) {
  return RowHasher({rows}, 1).sums().front();
}

HashedRows some_rows(std::mt19937_64& random, std::int64_t rows = 5, std::int64_t width = 7) {
  std::vector<std::int64_t> keys;
  for (std::int64_t i = 0; i < rows; ++i) {
    keys.push_back(row_key(3 + i / 2, i));
  }
  return {random_rows(random, rows, width, at::kBFloat16), {}, numbers(keys), row_tag("hidden"), 0};
}

TEST(RowHash, IsTheSumOverAllWords) {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 60; ++trial) {
    const auto below = [&](std::int64_t end) {
      return std::uniform_int_distribution<std::int64_t>(0, end - 1)(random);
    };
    const auto rows = below(40);
    const auto width = below(trial % 3 == 0 ? 3000 : 20);
    const std::array types = {at::kFloat, at::kBFloat16, at::kInt, at::kByte};
    HashedRows part = {random_rows(random, rows, width, types[static_cast<std::size_t>(below(4))]),
                       {},
                       {},
                       random(),
                       0};
    const auto taken = below(2) == 0 || rows == 0 ? rows : below(rows);
    std::vector<std::int64_t> keys(static_cast<std::size_t>(taken));
    std::generate(keys.begin(), keys.end(), [&] { return static_cast<std::int64_t>(random()); });
    part.keys = numbers(keys);
    if (taken != rows || below(2) == 0) {
      std::vector<std::int64_t> places(static_cast<std::size_t>(rows));
      std::iota(places.begin(), places.end(), 0);
      std::shuffle(places.begin(), places.end(), random);
      places.resize(keys.size());
      part.places = numbers(places);
    }
    EXPECT_EQ(hash_of(part), plain_sum(part)) << trial;
  }
}

TEST(RowHash, EveryBitCounts) {
  std::mt19937_64 random(2);
  const auto rows = some_rows(random);
  std::set<std::uint64_t> seen = {hash_of(rows)};
  auto* bytes = static_cast<unsigned char*>(rows.tensor.mutable_data_ptr());
  for (std::size_t bit = 0; bit < 8 * rows.tensor.nbytes(); ++bit) {
    bytes[bit / 8] ^= static_cast<unsigned char>(1U << (bit % 8));
    EXPECT_TRUE(seen.insert(hash_of(rows)).second) << bit;
    bytes[bit / 8] ^= static_cast<unsigned char>(1U << (bit % 8));
  }
  EXPECT_EQ(seen.count(hash_of(rows)), 1U);
}

TEST(RowHash, RowsThatChangePlacesAndOtherNamesCount) {
  std::mt19937_64 random(3);
  const auto rows = some_rows(random);
  auto swapped = rows;
  swapped.tensor = at::index_select(rows.tensor, 0, numbers({1, 0, 2, 3, 4}));
  EXPECT_NE(hash_of(swapped), hash_of(rows));
  auto renamed = rows;
  renamed.tag = row_tag("layer_0");
  EXPECT_NE(hash_of(renamed), hash_of(rows));
  auto moved = rows;  // another request at the same position
  moved.keys = rows.keys.clone();
  moved.keys[4] = row_key(9, 4);
  EXPECT_NE(hash_of(moved), hash_of(rows));
  EXPECT_NE(row_key(1, 2), row_key(2, 1));
}

TEST(RowHash, DoesNotDependOnWhereARowLiesNorOnWhichRank) {
  std::mt19937_64 random(4);
  const auto rows = some_rows(random);
  auto shuffled = rows;
  const auto order = numbers({4, 2, 0, 1, 3});
  shuffled.tensor = at::index_select(rows.tensor, 0, order);
  shuffled.keys = at::index_select(rows.keys, 0, order);
  EXPECT_EQ(hash_of(shuffled), hash_of(rows));
  auto first = rows;
  auto second = rows;
  first.tensor = rows.tensor.narrow(0, 0, 2);
  first.keys = rows.keys.narrow(0, 0, 2);
  second.tensor = rows.tensor.narrow(0, 2, 3);
  second.keys = rows.keys.narrow(0, 2, 3);
  EXPECT_EQ(hash_of(first) + hash_of(second), hash_of(rows));
}

TEST(RowHash, GroupsAreApart) {
  std::mt19937_64 random(5);
  auto one = some_rows(random);
  auto other = some_rows(random, 3, 2);
  other.group = 2;
  const auto sums = RowHasher({one, other}, 3).sums();
  EXPECT_EQ(sums, (std::vector<std::uint64_t>{plain_sum(one), 0, plain_sum(other)}));
  one.tensor.zero_();
  const RowHasher hasher({one, other}, 3);
  const auto before = hasher.sums();
  one.tensor.fill_(1);
  EXPECT_NE(hasher.sums()[0], before[0]) << "refers to the tensor";
  EXPECT_EQ(hasher.sums()[2], before[2]);
}

TEST(RowHash, WhatDoesNotFitIsRefused) {
  std::mt19937_64 random(6);
  const auto rows = some_rows(random);
  const auto refuses = [&](const HashedRows& wrong) {
    EXPECT_THROW(RowHasher({wrong}, 1), ContractError);
  };
  auto wrong = rows;
  wrong.group = 1;
  refuses(wrong);
  wrong = rows;
  wrong.keys = rows.keys.narrow(0, 0, 4);
  refuses(wrong);
  wrong.places = numbers({0, 1, 2, 5});
  refuses(wrong);
  wrong.places = numbers({0, 1, 2, -1});
  refuses(wrong);
  wrong = rows;
  wrong.tensor = at::zeros({7, 5}).t();
  refuses(wrong);
  wrong = rows;
  wrong.keys = rows.keys.to(at::kInt);
  refuses(wrong);
}

}  // namespace
}  // namespace dovetail
