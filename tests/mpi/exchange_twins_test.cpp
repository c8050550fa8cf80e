// Test doubles with one fault each: the checks of the conformance suite must catch every one, and
// nothing where there is no fault.
#include <tuple>
#include <utility>

#include <ATen/ops/empty_like.h>
#include <gtest/gtest.h>

#include "tests/mpi/exchange_driver.hpp"

namespace dovetail::test {
namespace {

enum class Fault {
  none,
  swaps_two_rows,        ///< arrange: first and last row change places
  drops_a_row,           ///< arrange: the last row is zero
  shifts_an_offset,      ///< arrange: one row counted for the expert before
  sums_backwards,        ///< reduce: descending k
  moves_a_weight,        ///< prepare: one weight by one unit in the last place
  forgets_a_weight,      ///< prepare: one weight is 1
  chooses_wrong_expert,  ///< prepare: one choice goes to another expert
  swaps_two_choices,     ///< reduce: two expert rows of one token change places
  swaps_two_tokens,      ///< finish: first and last token change places
  changes_an_element,    ///< finish: one element by one unit in the last place
  loses_a_part,          ///< finish: one token is zero
  receives_rows_late,    ///< dispatch: rows of the first group are there with the next one only
  forgets_a_group,       ///< reduce: rows of an earlier group are zero when the last one is summed
  returns_stale_rows     ///< dispatch is left out on a later layer: rows of the layer before
};

/// Works on copies, so that the wrapped exchange stays whole.
class FaultyExchange final : public Exchange {
 public:
  FaultyExchange(std::unique_ptr<Exchange> inner, Fault fault)
      : inner_(std::move(inner)), fault_(fault) {}

  void prepare(int ubatch, const RoutedTokens& tokens) override {
    RoutedTokens given = {.hidden = tokens.hidden,
                          .expert_ids = tokens.expert_ids.clone(),
                          .weights = tokens.weights.clone(),
                          .layer = tokens.layer,
                          .num_groups = tokens.num_groups};
    auto& ids = given.expert_ids;
    if (fault_ == Fault::sums_backwards) {
      ids = ids.flip({1}).contiguous();
      given.weights = given.weights.flip({1}).contiguous();
    } else if (fault_ == Fault::moves_a_weight && given.weights.numel() > 0) {
      bump(given.weights);
    } else if (fault_ == Fault::forgets_a_weight && given.weights.numel() > 0) {
      given.weights.mutable_data_ptr<float>()[given.weights.numel() - 1] = 1.0F;
    } else if (fault_ == Fault::chooses_wrong_expert && ids.numel() > 0) {
      // Exchanges the experts of the first two choices: the same rows travel.
      std::swap(ids.mutable_data_ptr<std::int64_t>()[0], ids.mutable_data_ptr<std::int64_t>()[1]);
    }
    if (fault_ == Fault::returns_stale_rows && !first_ && stale_.sizes() == given.hidden.sizes()) {
      given.hidden = stale_;
    }
    if (first_) {
      stale_ = tokens.hidden.clone();
      first_ = false;
    }
    inner_->prepare(ubatch, given);
  }

  void dispatch(int ubatch, int group) override {
    inner_->dispatch(ubatch, group);
    if (fault_ != Fault::receives_rows_late || group > 0) {
      return;
    }
    late_.clear();
    for (const at::Tensor& rows : inner_->buffers().received_rows(ubatch, Phase::dispatch, group)) {
      late_.push_back(rows.clone());
      rows.zero_();
    }
  }

  ExpertRows arrange(int ubatch, int group) override {
    auto result = inner_->arrange(ubatch, group);
    for (std::size_t i = 0; group == 0 && i < late_.size(); ++i) {
      inner_->buffers().received_rows(ubatch, Phase::dispatch, group)[i].copy_(late_[i]);
    }
    ExpertRows copy{.rows = result.rows.clone(),
                    .offsets = result.offsets.clone(),
                    .first_expert = result.first_expert};
    arranged_ = result.rows.clone();
    const auto last = copy.rows.size(0) - 1;
    if (last > 0 && fault_ == Fault::swaps_two_rows) {
      swap_rows(copy.rows);
    } else if (last > 0 && fault_ == Fault::drops_a_row) {
      copy.rows.narrow(0, last, 1).zero_();
    } else if (last > 0 && fault_ == Fault::shifts_an_offset) {
      ++copy.offsets.mutable_data_ptr<std::int32_t>()[0];
    }
    return copy;
  }

  void reduce(int ubatch, int group, const at::Tensor& expert_rows) override {
    auto given = expert_rows.clone();
    if (fault_ == Fault::swaps_two_choices) {
      swap_choices_of_a_token(given);
    }
    inner_->reduce(ubatch, group, given);
    if (fault_ == Fault::forgets_a_group) {
      given.zero_();
    }
  }

  void combine(int ubatch, int group) override { inner_->combine(ubatch, group); }

  at::Tensor finish(int ubatch) override {
    auto output = inner_->finish(ubatch).clone();
    if (output.size(0) > 1 && fault_ == Fault::swaps_two_tokens) {
      swap_rows(output);
    } else if (output.numel() > 0 && fault_ == Fault::changes_an_element) {
      bump(output);
    } else if (output.size(0) > 0 && fault_ == Fault::loses_a_part) {
      output.narrow(0, output.size(0) - 1, 1).zero_();
    }
    return output;
  }

  ExchangePlans& plans() override { return inner_->plans(); }

  TrafficMeter& meter() override { return inner_->meter(); }

  StepBuffers& buffers() override { return inner_->buffers(); }

 private:
  static void swap_rows(at::Tensor& rows, std::int64_t a, std::int64_t b) {
    const auto first = rows.narrow(0, a, 1).clone();
    auto last = rows.narrow(0, b, 1);
    rows.narrow(0, a, 1).copy_(last);
    last.copy_(first);
  }

  static void swap_rows(at::Tensor& rows) { swap_rows(rows, 0, rows.size(0) - 1); }

  // Rows of one token are equal where they come in, and lie at different experts.
  void swap_choices_of_a_token(at::Tensor& rows) const {
    for (std::int64_t row = 1; row < rows.size(0); ++row) {
      if (arranged_[row].equal(arranged_[0])) {
        swap_rows(rows, 0, row);
        return;
      }
    }
  }

  // The lowest bit of the last element.
  static void bump(at::Tensor& tensor) {
    auto* bytes = static_cast<unsigned char*>(tensor.mutable_data_ptr());
    bytes[tensor.nbytes() - static_cast<std::size_t>(tensor.element_size())] ^= 1U;
  }

  std::unique_ptr<Exchange> inner_;
  Fault fault_;
  bool first_ = true;
  at::Tensor stale_;
  at::Tensor arranged_;
  std::vector<at::Tensor> late_;
};

using Sums = std::tuple<at::ScalarType, SumOrder>;

bool is_caught(
    const TestGroup& group, Fault fault, const Sums& sums, Weights weights, int num_groups = 1) {
  auto shape = group.shape(4, 3);
  std::tie(shape.dtype, shape.sum_order) = sums;
  const std::vector<std::int64_t> tokens(static_cast<std::size_t>(group.size), 9);
  const auto seed = fresh_seed();
  std::vector<std::vector<GroupBatch>> layers;
  for (std::uint64_t layer = 0; layer < 3; ++layer) {
    layers.push_back({make_batch(shape, tokens, Routing::one_rank, weights, seed + layer)});
  }
  FaultyExchange exchange(group.make("ragged", shape), fault);
  CommLane lane(false);
  return on_any_rank(!run_layers(exchange, group.rank, layers, lane, num_groups).empty());
}

class ExchangeTwins : public ::testing::TestWithParam<Sums> {
 protected:
  TestGroup group_;
};

TEST_P(ExchangeTwins, FaultlessDoubleIsAccepted) {
  EXPECT_FALSE(is_caught(group_, Fault::none, GetParam(), Weights::random));
  EXPECT_FALSE(is_caught(group_, Fault::none, GetParam(), Weights::order_shows));
}

TEST_P(ExchangeTwins, EveryFaultIsCaught) {
  for (const auto& [fault, name] : {std::pair{Fault::swaps_two_rows, "swaps_two_rows"},
                                    std::pair{Fault::drops_a_row, "drops_a_row"},
                                    std::pair{Fault::shifts_an_offset, "shifts_an_offset"},
                                    std::pair{Fault::chooses_wrong_expert, "chooses_wrong_expert"},
                                    std::pair{Fault::forgets_a_weight, "forgets_a_weight"},
                                    std::pair{Fault::swaps_two_choices, "swaps_two_choices"},
                                    std::pair{Fault::swaps_two_tokens, "swaps_two_tokens"},
                                    std::pair{Fault::changes_an_element, "changes_an_element"},
                                    std::pair{Fault::loses_a_part, "loses_a_part"},
                                    std::pair{Fault::returns_stale_rows, "returns_stale_rows"}}) {
    EXPECT_TRUE(is_caught(group_, fault, GetParam(), Weights::random)) << name;
  }
}

TEST_P(ExchangeTwins, FaultsBetweenGroupsAreCaught) {
  EXPECT_FALSE(is_caught(group_, Fault::none, GetParam(), Weights::random, 4));
  EXPECT_TRUE(is_caught(group_, Fault::sums_backwards, GetParam(), Weights::order_shows, 2));
  if (group_.size > 1) {
    EXPECT_TRUE(is_caught(group_, Fault::receives_rows_late, GetParam(), Weights::random, 2));
  }
  if (std::get<1>(GetParam()) == SumOrder::by_rank || group_.size == 1) {
    EXPECT_TRUE(is_caught(group_, Fault::forgets_a_group, GetParam(), Weights::random, 2));
  }
}

TEST_P(ExchangeTwins, WrongOrderOfSummationIsCaught) {
  EXPECT_TRUE(is_caught(group_, Fault::sums_backwards, GetParam(), Weights::order_shows));
}

// Rounding to 16 bits hides one unit in the last place of a float32 weight.
TEST_P(ExchangeTwins, OneBitOfAWeightIsCaughtInFloat32) {
  if (std::get<0>(GetParam()) == at::kFloat) {
    EXPECT_TRUE(is_caught(group_, Fault::moves_a_weight, GetParam(), Weights::random));
  }
}

INSTANTIATE_TEST_SUITE_P(Sums,
                         ExchangeTwins,
                         ::testing::Combine(::testing::Values(at::kFloat, at::kBFloat16, at::kHalf),
                                            ::testing::Values(SumOrder::by_rank,
                                                              SumOrder::by_choice)),
                         [](const auto& suite) {
                           return std::string(c10::toString(std::get<0>(suite.param))) + "_" +
                                  std::string(to_string(std::get<1>(suite.param)));
                         });

}  // namespace
}  // namespace dovetail::test
