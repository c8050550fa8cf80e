// What tests of every exchange share. Instantiated in exchange_conformance_test.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "tests/mpi/exchange_driver.hpp"

namespace dovetail::test {

inline constexpr std::int64_t kMaxTokens = 12;  ///< of a rank and ubatch

/// By name of the back end, type of rows and order of sums.
class ExchangeConformance
    : public ::testing::TestWithParam<std::tuple<std::string, at::ScalarType, SumOrder>> {
 protected:
  std::unique_ptr<Exchange> make(const ExchangeShape& shape) const {
    return group_.make(std::get<0>(GetParam()), shape);
  }

  ExchangeShape shape(int experts_per_rank, int top_k, int num_ubatches = 1) const {
    auto made = group_.shape(experts_per_rank, top_k);
    made.dtype = std::get<1>(GetParam());
    made.sum_order = std::get<2>(GetParam());
    made.num_ubatches = num_ubatches;
    return made;
  }

  std::vector<std::int64_t> tokens(std::uint64_t variant) const {
    return tokens_per_rank(group_.size, variant, kMaxTokens);
  }

  std::size_t index_of_rank() const { return static_cast<std::size_t>(group_.rank); }

  TestGroup group_;
  std::uint64_t seed_ = fresh_seed();
};

}  // namespace dovetail::test
