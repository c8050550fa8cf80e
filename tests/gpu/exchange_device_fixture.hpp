// Shapes and batches of the conformance suite over device tensors.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "tests/gpu/exchange_facade.hpp"
#include "tests/gpu/gpu_test.hpp"

namespace dovetail::test {

inline constexpr std::int64_t kMaxTokens = 12;

class DeviceExchange
    : public ::testing::TestWithParam<std::tuple<std::string, at::ScalarType, SumOrder>> {
 protected:
  std::unique_ptr<ExchangeFacade> make(const ExchangeShape& shape,
                                       std::int64_t max_tokens = kMaxTokens + 1,
                                       FacadeFault fault = FacadeFault::none) const {
    return std::make_unique<ExchangeFacade>(
        make_on_gpu(group_, std::get<0>(GetParam()), shape), shape, max_tokens, fault);
  }

  // hidden 9: rows of no multiple of 16 bytes; 24: whole units of 16 bytes.
  ExchangeShape shape(int experts_per_rank,
                      int top_k,
                      int num_ubatches = 1,
                      std::int64_t hidden = 9) const {
    auto made = group_.shape(experts_per_rank, top_k);
    made.dtype = std::get<1>(GetParam());
    made.sum_order = std::get<2>(GetParam());
    made.num_ubatches = num_ubatches;
    made.hidden = hidden;
    return made;
  }

  std::vector<std::int64_t> tokens(std::uint64_t variant, std::int64_t most = kMaxTokens) const {
    return tokens_per_rank(group_.size, variant, most);
  }

  /// One batch for each ubatch and layer, of all routings in turn.
  std::vector<std::vector<GroupBatch>> batches(const ExchangeShape& made, int num_layers) const {
    std::vector<std::vector<GroupBatch>> layers(static_cast<std::size_t>(num_layers));
    std::uint64_t variant = seed_ % 1000;
    for (auto& layer : layers) {
      for (int u = 0; u < made.num_ubatches; ++u) {
        ++variant;
        layer.push_back(make_batch(made,
                                   tokens(variant),
                                   kAllRoutings[variant % std::size(kAllRoutings)],
                                   weights_of(variant),
                                   seed_ + variant));
      }
    }
    return layers;
  }

  TestGroup group_;
  std::uint64_t seed_ = fresh_seed();
};

/// The suite of some back ends.
inline auto all_in(const std::vector<SumOrder>& orders,
                   const std::vector<std::string>& kinds = built_exchanges(/*on_gpu=*/true)) {
  return ::testing::Combine(::testing::ValuesIn(kinds),
                            ::testing::Values(at::kFloat, at::kBFloat16, at::kHalf),
                            ::testing::ValuesIn(orders));
}

inline std::string name_of(const ::testing::TestParamInfo<DeviceExchange::ParamType>& suite) {
  return std::get<0>(suite.param) + "_" + c10::toString(std::get<1>(suite.param)) + "_" +
         std::string(to_string(std::get<2>(suite.param)));
}

}  // namespace dovetail::test
