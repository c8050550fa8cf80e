// Roundings of rows, against loops over tolerance.hpp's formulae in double precision.
#include "framework/step/rounding_meter.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <ATen/Functions.h>
#include <gtest/gtest.h>

#include "framework/compare/tolerance.hpp"

namespace dovetail {
namespace {

constexpr std::int64_t kHidden = 24;
constexpr std::int64_t kTopK = 3;

/// The hidden states before a layer's experts, and the state behind them.
struct Layer {
  at::Tensor before;
  UbatchState state;
};

class RoundingMeterTest : public testing::Test {
 protected:
  RoundingMeterTest() { RecordProperty("seed", std::to_string(seed_)); }

  Layer layer(std::int64_t tokens, bool has_shared) {
    Layer made = {.before = numbers({tokens, kHidden}), .state = {}};
    made.state.hidden = at::add(made.before, numbers({tokens, kHidden}));
    made.state.weights = at::abs(numbers({tokens, kTopK}));
    made.state.expert_ids = at::zeros({tokens, kTopK}, at::kLong);
    if (has_shared) {
      made.state.shared_output = numbers({tokens, kHidden});
    }
    return made;
  }

  /// What a row's roundings become behind a layer.
  static double behind(double before, const Layer& made, std::int64_t row) {
    double sum = made.state.shared_output.defined() ? 1 : 0;
    for (std::int64_t k = 0; k < kTopK; ++k) {
      sum += made.state.weights[row][k].item<double>();
    }
    double added = 0;
    double all = 0;
    for (std::int64_t column = 0; column < kHidden; ++column) {
      const double after = made.state.hidden[row][column].item<double>();
      const double change = after - made.before[row][column].item<double>();
      added += change * change;
      all += after * after;
    }
    return roundings_behind(before, expert_excess(sum, added / all));
  }

  at::Tensor numbers(at::IntArrayRef shape) {
    auto made = at::empty(shape, at::kFloat);
    std::normal_distribution<float> normal;
    std::generate_n(made.data_ptr<float>(), made.numel(), [&] { return normal(random_); });
    return made;
  }

  const unsigned seed_ = std::random_device{}();
  const testing::ScopedTrace trace_{__FILE__, __LINE__, "seed " + std::to_string(seed_)};
  std::mt19937 random_{seed_};
};

TEST_F(RoundingMeterTest, EachRowHasItsOwnAndTheMostCounts) {
  RoundingMeter meter(4);
  std::vector<double> most(4, 0);
  for (const std::int64_t tokens : {5, 1, 0, 9}) {
    std::vector<double> rows(static_cast<std::size_t>(tokens), 0);
    at::Tensor roundings;
    for (std::size_t index = 0; index < 4; ++index) {
      const auto made = layer(tokens, index == 2);
      if (index == 1) {
        meter.add_dense(index, made.state, roundings);
      } else {
        meter.add_experts(index, made.before, made.state, roundings);
      }
      for (std::size_t row = 0; row < rows.size(); ++row) {
        rows[row] =
            index == 1 ? rows[row] + 6 : behind(rows[row], made, static_cast<std::int64_t>(row));
        most[index] = std::max(most[index], rows[row]);
      }
    }
  }
  for (std::size_t index = 0; index < 4; ++index) {
    EXPECT_NEAR(meter.most()[index], most[index], 1e-4 * most[index]) << index;
  }
}

TEST_F(RoundingMeterTest, PaddingDoesNotCountWhateverItHolds) {
  auto made = layer(6, true);
  const double expected = std::max({behind(0, made, 0), behind(0, made, 1), behind(0, made, 2)});
  made.state.expert_ids.narrow(0, 3, 3).fill_(-1);
  made.state.weights.narrow(0, 3, 1).fill_(100);
  made.state.hidden.narrow(0, 4, 2).fill_(std::numeric_limits<float>::quiet_NaN());
  RoundingMeter meter(1);
  at::Tensor roundings;
  meter.add_experts(0, made.before, made.state, roundings);
  EXPECT_NEAR(meter.most()[0], expected, 1e-4 * expected);
}

TEST_F(RoundingMeterTest, WeightsThatAddUpToOneAmplifyNothing) {
  auto made = layer(7, false);
  made.state.weights = at::full({7, kTopK}, 1.0 / kTopK, at::kFloat);
  RoundingMeter meter(2);
  at::Tensor roundings;
  meter.add_experts(0, made.before, made.state, roundings);
  meter.add_experts(1, made.before, made.state, roundings);
  EXPECT_NEAR(meter.most()[0], 6, 1e-4);
  EXPECT_NEAR(meter.most()[1], 12, 1e-4);
}

TEST_F(RoundingMeterTest, NothingAddedIsZero) {
  EXPECT_EQ(RoundingMeter(2).most(), std::vector<float>({0, 0}));
}

}  // namespace
}  // namespace dovetail
