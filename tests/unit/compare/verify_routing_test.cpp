// Chosen experts, near ties, and the rows that they exclude.
#include <cstddef>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "tests/unit/compare/verify_fixture.hpp"

namespace dovetail {
namespace {

/// A second row of logits for request 4, as an earlier step leaves it: of its token 1.
void add_earlier_logits(SyntheticRun& run) {
  SyntheticRank& rank = run.rank_of(4);
  rank.requests.push_back(4);
  rank.request_position.push_back(1);
  auto& logits = rank.outputs.at("logits");
  for (std::int64_t column = 0; column < logits.columns; ++column) {
    logits.values.push_back(static_cast<float>(40 + column));
  }
}

TEST_F(Verify, WrongExpertIsNamed) {
  const VerifyReport report = verify([](SyntheticRun& run) { change_expert(run, 1, 5, 3, 0.5F); });
  EXPECT_EQ(report.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(report, {"routing: layer 1, rank 2, request 5, position 3", "7 against"}));
  EXPECT_EQ(report.routing->num_mismatches, 1);
}

TEST_F(Verify, NearTieIsCountedAndWhatItTouchesIsExcluded) {
  const auto flip = [](SyntheticRun& run) {
    change_expert(run, 1, 2, 4, 1e-6F);
    for (std::size_t column = 0; column < SyntheticRun::kHidden; ++column) {
      element(run, "layer_2", 2, 4, column) = 30;  // its own row
      element(run, "hidden", 2, 6, column) = -30;  // a later token of the request
    }
    SyntheticRank& rank = run.rank_of(2);
    rank.outputs.at("logits").values.at(0) = 99;  // request 2 is the first of rank 1
  };
  const VerifyReport report = verify(flip);
  EXPECT_EQ(report.verdict, Verdict::verified) << to_text(report);
  EXPECT_EQ(report.routing->num_flips, 1);
  EXPECT_DOUBLE_EQ(report.routing->excluded_share, 3.0 / 26);
  EXPECT_EQ(report.tensors[0].num_excluded_rows, 0) << "layer 0 comes before";
  EXPECT_EQ(report.tensors[1].num_excluded_rows, 3);
  EXPECT_EQ(report.tensors[3].num_excluded_rows, 1) << "the request's logits";
  EXPECT_EQ(verify(flip, CompareMode::bitwise).verdict, Verdict::mismatch);
  EXPECT_EQ(verify(flip, CompareMode::tolerance, 1).verdict, Verdict::verified);

  // Twins: an earlier token, another request, the layer before.
  for (const auto& [output, request, position] :
       std::vector<std::tuple<std::string, std::int64_t, std::int64_t>>{
           {"hidden", 2, 3}, {"hidden", 3, 0}, {"layer_0", 2, 5}}) {
    const VerifyReport twin = verify([&, name = output, r = request, p = position](auto& run) {
      flip(run);
      element(run, name, r, p, 0) += 0.01F;
    });
    EXPECT_EQ(twin.verdict, Verdict::mismatch) << output << " " << request << " " << position;
    EXPECT_EQ(twin.problems.size(), 1U);
  }
}

TEST_F(Verify, NaNInAnExcludedRowIsStillAMismatch) {
  const VerifyReport report = verify([](SyntheticRun& run) {
    change_expert(run, 1, 2, 4, 1e-6F);
    element(run, "hidden", 2, 4, 1) = std::numeric_limits<float>::quiet_NaN();
  });
  EXPECT_EQ(report.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(report, {"hidden: not finite", "request 2, position 4, element 1"}));
}

TEST_F(Verify, TooManyFlipsFail) {
  // 78 token-layers at 0.1 %, rounded up: one flip is allowed.
  const VerifyReport report = verify([](SyntheticRun& run) {
    change_expert(run, 2, 1, 0, 1e-6F);
    change_expert(run, 2, 4, 4, 1e-6F);
  });
  EXPECT_EQ(report.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(report, {"routing: 2 near ties", "allowed are 1"}));
}

TEST_F(Verify, AVerdictMustRestOnHalfOfTheRows) {
  // One flip at the head of the only request of a run: everything after it is excluded.
  const auto only_request_2 = [](SyntheticRun& run) {
    const SyntheticRank all = run.rank_of(2);
    for (SyntheticRank& rank : run.ranks) {
      rank = SyntheticRank{};
      for (const auto& [name, tensor] : all.outputs) {
        rank.outputs[name].columns = tensor.columns;
      }
    }
    SyntheticRank& rank = run.ranks[0];
    const auto head = [](auto& vector, std::size_t n) { vector.resize(n); };
    rank = all;
    const std::size_t tokens = 7;  // request 2 is the first of its rank
    for (auto* column : {&rank.request_id, &rank.position, &rank.input_ids}) {
      head(*column, tokens);
    }
    head(rank.requests, 1);
    head(rank.request_position, 1);
    for (auto& [name, tensor] : rank.outputs) {
      head(tensor.values,
           (name == "logits" ? 1 : tokens) * static_cast<std::size_t>(tensor.columns));
    }
    rank.expert_ids.assign(SyntheticRun::kLayers * tokens * 2, 1);
    rank.margin.assign(SyntheticRun::kLayers * tokens, 0.5F);
  };
  EXPECT_EQ(verify(only_request_2, CompareMode::tolerance, 3, only_request_2).verdict,
            Verdict::verified);
  const VerifyReport report = verify(
      [&](SyntheticRun& run) {
        only_request_2(run);
        change_expert(run, 0, 2, 1, 1e-6F);
      },
      CompareMode::tolerance,
      3,
      only_request_2);
  EXPECT_EQ(report.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(report, {"hidden: 85.7 % of the rows are excluded"}));
}

TEST_F(Verify, MissingRoutingIsNamed) {
  const auto remove = [](SyntheticRun& run) { run.with_route = false; };
  EXPECT_TRUE(names(verify(remove), {"routing: /route/expert_ids is missing"}));
  const VerifyReport neither = verify(remove, CompareMode::tolerance, 3, remove);
  EXPECT_EQ(neither.verdict, Verdict::verified);
  EXPECT_FALSE(neither.routing.has_value());
}

TEST_F(Verify, LogitsOfSeveralStepsAreMatchedByRequestAndPosition) {
  const auto later_first = [](SyntheticRun& run) {
    add_earlier_logits(run);
    SyntheticRank& rank = run.rank_of(4);  // the same rows in another order
    auto& logits = rank.outputs.at("logits");
    const auto width = static_cast<std::size_t>(logits.columns);
    const auto last = rank.requests.size() - 1;
    std::swap(rank.requests.front(), rank.requests.at(last));
    std::swap(rank.request_position.front(), rank.request_position.at(last));
    for (std::size_t column = 0; column < width; ++column) {
      std::swap(logits.values.at(column), logits.values.at(last * width + column));
    }
  };
  EXPECT_EQ(verify(later_first, CompareMode::bitwise, 1, add_earlier_logits).verdict,
            Verdict::verified);
  // Twins: a step's row is missing; a row is taken for another step's.
  EXPECT_EQ(verify([](SyntheticRun&) {}, CompareMode::bitwise, 1, add_earlier_logits).verdict,
            Verdict::mismatch);
  const VerifyReport report = verify(
      [](SyntheticRun& run) {
        add_earlier_logits(run);
        run.rank_of(4).request_position.back() = 2;
      },
      CompareMode::bitwise,
      1,
      add_earlier_logits);
  EXPECT_TRUE(names(report, {"request 4, position 1 of the baseline"}));
}

TEST_F(Verify, AFlipExcludesTheLogitsOfLaterStepsOnly) {
  const VerifyReport report = verify(
      [](SyntheticRun& run) {
        add_earlier_logits(run);
        SyntheticRank& rank = run.rank_of(4);
        const std::size_t row = rank.row_of(4, 3);
        rank.expert_ids.at(row * SyntheticRun::kTopK) = 9;
        rank.margin.at(row) = 0;
        for (std::int64_t position = 3; position < 5; ++position) {
          for (const auto* output : {"layer_0", "layer_2", "hidden"}) {
            if (position == 3 || std::string(output) != "layer_0") {
              element(run, output, 4, position, 0) += 30;
            }
          }
        }
      },
      CompareMode::tolerance,
      1,
      add_earlier_logits);
  EXPECT_EQ(report.tensors.back().num_excluded_rows, 1) << to_text(report);
}

}  // namespace
}  // namespace dovetail
