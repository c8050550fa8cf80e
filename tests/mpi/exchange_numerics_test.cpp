// SumOrder::by_choice: a token's sum has the same bits whatever the number of ranks, and they are
// those of a serial sum; by_rank they are not, which these tests see.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include "framework/mpi/check.hpp"
#include "tests/mpi/exchange_driver.hpp"
#include "tests/support/mpi_world.hpp"

namespace dovetail::test {
namespace {

constexpr int kNumExperts = 12;
constexpr std::int64_t kTokens = 53;
constexpr std::int64_t kHidden = 9;

/// A batch as one rank alone has it, with random fractions as payload, and what must come out.
class WholeBatch {
 public:
  WholeBatch(int top_k, at::ScalarType dtype, Routing routing, std::uint64_t seed)
      : batch_(make_batch(
            {.num_experts = kNumExperts, .top_k = top_k, .hidden = kHidden, .dtype = dtype},
            {kTokens},
            routing,
            Weights::random,
            seed)),
        tokens_(to_tensors(batch_, 0)) {
    std::mt19937_64 random(seed);
    const auto fraction = [&random] {
      return static_cast<float>(static_cast<double>(random() >> 40) * 0x1p-23 - 1);
    };
    auto hidden = at::empty(tokens_.hidden.sizes(), at::TensorOptions().dtype(at::kFloat));
    std::generate_n(hidden.mutable_data_ptr<float>(), hidden.numel(), fraction);
    tokens_.hidden = hidden.to(dtype);
    scales_.resize(kNumExperts);
    std::generate(scales_.begin(), scales_.end(), fraction);
  }

  const ExchangeShape& shape() const { return batch_.shape; }

  RoutedTokens tokens(std::int64_t begin, std::int64_t end) const {
    return {.hidden = tokens_.hidden.narrow(0, begin, end - begin),
            .expert_ids = tokens_.expert_ids.narrow(0, begin, end - begin),
            .weights = tokens_.weights.narrow(0, begin, end - begin)};
  }

  /// Rows of experts first, first + 1, ... as arrange gives them.
  at::Tensor apply_experts(int first, const ExpertRows& rows) const {
    auto out = rows.rows.to(at::kFloat);
    const auto* offsets = rows.offsets.const_data_ptr<std::int32_t>();
    for (std::int64_t local = 0, row = 0; local < rows.offsets.size(0); ++local) {
      for (; row < offsets[local]; ++row) {
        auto expert_row = out[row];
        expert_row.mul_(scales_[static_cast<std::size_t>(first + local)]);
      }
    }
    return out.to(batch_.shape.dtype);
  }

  /// The sum of one token by plain loops: float32 in ascending k, products rounded, rounded once to
  /// the dtype. `far` is set where a sum in double lies farther away than rounding explains.
  at::Tensor serial_sum(std::int64_t token, bool& far) const {
    const auto x = tokens_.hidden[token].to(at::kFloat);
    auto sum = at::empty({kHidden}, at::TensorOptions().dtype(at::kFloat));
    std::vector<double> exact(kHidden);
    std::vector<double> magnitude(kHidden);
    bool first = true;
    sum.zero_();
    for (int j = 0; j < batch_.shape.top_k; ++j) {
      const auto expert = tokens_.expert_ids[token][j].item<std::int64_t>();
      if (expert < 0) {
        continue;
      }
      const auto row =
          x.mul(scales_[static_cast<std::size_t>(expert)]).to(batch_.shape.dtype).to(at::kFloat);
      const auto* y = row.const_data_ptr<float>();
      const auto weight = tokens_.weights[token][j].item<float>();
      for (std::int64_t h = 0; h < kHidden; ++h) {
        const float term = weight * y[h];
        auto& total = sum.mutable_data_ptr<float>()[h];
        total = first ? term : total + term;
        const auto i = static_cast<std::size_t>(h);
        exact[i] += static_cast<double>(weight) * y[h];
        magnitude[i] += std::abs(static_cast<double>(weight) * y[h]);
      }
      first = false;
    }
    const auto rounded = sum.to(batch_.shape.dtype);
    const auto got = rounded.to(at::kDouble);
    const double unit = batch_.shape.dtype == at::kFloat      ? 0x1p-24
                        : batch_.shape.dtype == at::kBFloat16 ? 0x1p-8
                                                              : 0x1p-11;
    for (std::size_t h = 0; h < kHidden; ++h) {
      const double bound = magnitude[h] * (1.05 * unit + (batch_.shape.top_k + 1) * 0x1p-24) +
                           (batch_.shape.dtype == at::kHalf ? 0x1p-24 : 0);
      far = far || !(std::abs(got.const_data_ptr<double>()[h] - exact[h]) <= bound);
    }
    return rounded;
  }

 private:
  GroupBatch batch_;
  RoutedTokens tokens_;
  std::vector<float> scales_;
};

/// Tokens that came out other than the serial sum, on any rank, where groups of `group_size` ranks
/// of the world compute the batch. Ranks have different numbers of tokens; with three and more one
/// has none. Collective over the world.
std::int64_t count_differences(const std::string& kind,
                               SumOrder order,
                               int group_size,
                               const WholeBatch& whole) {
  const auto colour = world_rank() / group_size;
  const TestGroup group(MpiComm::split(session().world().raw(), colour, world_rank()));
  auto shape = whole.shape();
  shape.ep_size = group.size;
  shape.ep_rank = group.rank;
  shape.sum_order = order;
  const auto cut = [&](int rank) {
    return rank == 0            ? std::int64_t{0}
           : rank == group.size ? kTokens
                                : kTokens * std::max(1, rank - 1) / (group.size + 1);
  };
  const auto begin = cut(group.rank);
  const auto mine = whole.tokens(begin, cut(group.rank + 1));
  const auto exchange = group.make(kind, shape);
  poison(*exchange, shape, kTokens);
  exchange->prepare(0, mine);
  exchange->dispatch(0, 0);
  const auto rows = exchange->arrange(0, 0);
  exchange->reduce(0, 0, whole.apply_experts(group.rank * shape.experts_per_rank(), rows));
  exchange->combine(0, 0);
  const auto output = exchange->finish(0);

  std::int64_t differences = 0;
  bool far = false;
  EXPECT_EQ(output.size(0), mine.hidden.size(0));
  for (std::int64_t token = 0; token < output.size(0); ++token) {
    const auto expected = whole.serial_sum(begin + token, far);
    const auto row = output[token].contiguous();
    differences +=
        std::memcmp(row.const_data_ptr(), expected.const_data_ptr(), expected.nbytes()) == 0 ? 0
                                                                                             : 1;
  }
  EXPECT_FALSE(far) << "the serial sum itself is wrong";
  const MpiComm world = session().world();
  DOVETAIL_MPI(MPI_Allreduce(MPI_IN_PLACE, &differences, 1, MPI_INT64_T, MPI_SUM, world.raw()));
  return differences;
}

std::vector<int> group_sizes() {
  std::vector<int> sizes;
  for (int size = 1; size <= world_size(); ++size) {
    if (world_size() % size == 0) {
      sizes.push_back(size);
    }
  }
  return sizes;
}

class ExchangeNumerics : public ::testing::TestWithParam<std::tuple<std::string, at::ScalarType>> {
 protected:
  std::uint64_t seed_ = fresh_seed();
};

TEST_P(ExchangeNumerics, SumsByChoiceAreTheSameOnEveryGrid) {
  const auto& [kind, dtype] = GetParam();
  std::uint64_t variant = 0;
  for (const auto routing : {Routing::uniform, Routing::skewed, Routing::padding}) {
    for (const int top_k : {1, 2, 5, kNumExperts}) {
      const WholeBatch whole(top_k, dtype, routing, seed_ + ++variant);
      for (const int size : group_sizes()) {
        EXPECT_EQ(count_differences(kind, SumOrder::by_choice, size, whole), 0)
            << size << " ranks, k " << top_k << ", variant " << variant;
      }
    }
  }
}

// So a run on one rank needs no other order to be what larger grids are compared with.
TEST_P(ExchangeNumerics, OneRankHasTheSameBitsInBoth) {
  const auto& [kind, dtype] = GetParam();
  const WholeBatch whole(5, dtype, Routing::padding, seed_);
  EXPECT_EQ(count_differences(kind, SumOrder::by_rank, 1, whole), 0);
}

// The negative twin: partial sums depend on which choices share a rank.
TEST_P(ExchangeNumerics, SumsByRankDependOnTheGrid) {
  const auto& [kind, dtype] = GetParam();
  const WholeBatch whole(5, dtype, Routing::uniform, seed_);
  for (const int size : group_sizes()) {
    EXPECT_EQ(count_differences(kind, SumOrder::by_rank, size, whole) > 0, size > 1)
        << size << " ranks";
  }
}

INSTANTIATE_TEST_SUITE_P(
    BackEnds,
    ExchangeNumerics,
    ::testing::Combine(::testing::ValuesIn(built_exchanges(/*on_gpu=*/false)),
                       ::testing::Values(at::kFloat, at::kBFloat16, at::kHalf)),
    [](const auto& suite) {
      return std::get<0>(suite.param) + "_" + c10::toString(std::get<1>(suite.param));
    });

}  // namespace
}  // namespace dovetail::test
