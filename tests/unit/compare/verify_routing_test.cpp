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
  const VerifyReport report = verify([](SyntheticRun& run) { change_expert(run, 1, 5, 3); });
  EXPECT_EQ(report.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(report,
                    {"routing: layer 1, rank 2, request 5, position 3: experts",
                     "are not the best by the router's logits"}));
  EXPECT_EQ(report.routing->num_mismatches, 1);
}

TEST_F(Verify, WrongExpertOfAContextIsNamed) {
  const VerifyReport report = verify(
      [](SyntheticRun& run) {
        run.rank_of(5).context_expert_ids.at(SyntheticRun::kTopK * 3 + 1) = 9;  // layer 1, row 1
      },
      CompareMode::tolerance,
      1);
  EXPECT_EQ(report.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(report, {"routing: layer 1, rank 2, request 5, position -1 (context)"}));
  EXPECT_EQ(report.routing->num_context_tokens, 2);
  const VerifyReport without = verify([](SyntheticRun& run) {
    SyntheticRank& rank = run.rank_of(5);
    rank.context_request_id.pop_back();
    rank.context_position.pop_back();
    for (std::int64_t layer = 0; layer < SyntheticRun::kLayers; ++layer) {
      const auto erase = [&](auto& values, std::int64_t width) {
        values.erase(values.begin() + (layer + 1) * width, values.begin() + (layer + 2) * width);
      };
      erase(rank.context_expert_ids, SyntheticRun::kTopK);
      erase(rank.context_router_logits, SyntheticRun::kExperts);
    }
  });
  EXPECT_TRUE(names(without, {"request 5, position -1 of the baseline"}));
}

TEST_F(Verify, AFlipInAContextExcludesWhatAttendsToIt) {
  const VerifyReport report = verify([](SyntheticRun& run) {
    SyntheticRank& rank = run.rank_of(5);
    rank.context_expert_ids.at(SyntheticRun::kTopK * 5 + 1) = 7;  // layer 2, row 1
    rank.context_router_logits.at(SyntheticRun::kExperts * 5 + 7) = 2 + 1e-6F;
  });
  EXPECT_EQ(report.verdict, Verdict::verified) << "layer 2 is the last";
  EXPECT_EQ(report.routing->num_different, 1);
  const VerifyReport earlier = verify([](SyntheticRun& run) {
    SyntheticRank& rank = run.rank_of(5);
    rank.context_expert_ids.at(SyntheticRun::kTopK * 1 + 1) = 7;  // layer 0, row 1
    rank.context_router_logits.at(SyntheticRun::kExperts * 1 + 7) = 2 + 1e-6F;
  });
  EXPECT_DOUBLE_EQ(earlier.routing->excluded_share, 6.0 / 26);
}

TEST_F(Verify, ReplayedChoicesAreJudgedAndNothingIsExcluded) {
  const auto replayed = [](SyntheticRun& run) {
    give_experts(run);
    SyntheticRank& rank = run.rank_of(2);
    const std::size_t row = routed_row(rank, 1, 2, 4);
    rank.natural_ids.at(2 * row + 1) = 7;
    rank.router_logits.at(row * SyntheticRun::kExperts + 7) = 2 + 1e-6F;
  };
  const VerifyReport report = verify(replayed);
  EXPECT_EQ(report.verdict, Verdict::verified) << to_text(report);
  EXPECT_EQ(report.routing->num_different, 1);
  EXPECT_EQ(report.routing->num_judged, 3 * (26 + 2));
  EXPECT_EQ(report.routing->excluded_share, 0);
  // Twins: an output that a flip would have excluded; a natural choice without a near tie; other
  // experts used than given.
  EXPECT_EQ(verify([&](SyntheticRun& run) {
              replayed(run);
              element(run, "hidden", 2, 6, 0) += 0.01F;
            }).verdict,
            Verdict::mismatch);
  EXPECT_TRUE(names(verify([&](SyntheticRun& run) {
                      replayed(run);
                      SyntheticRank& rank = run.rank_of(3);
                      rank.natural_ids.at(2 * routed_row(rank, 0, 3, 1) + 1) = 9;
                    }),
                    {"routing: layer 0, rank 1, request 3, position 1", "are not the best"}));
  EXPECT_TRUE(names(verify([&](SyntheticRun& run) {
                      replayed(run);
                      change_expert(run, 2, 3, 1);
                    }),
                    {"routing: layer 2, rank 1, request 3, position 1", "those of the baseline"}));
}

TEST_F(Verify, NearTieIsCountedAndWhatItTouchesIsExcluded) {
  const auto flip = [](SyntheticRun& run) {
    flip_expert(run, 1, 2, 5);
    for (std::size_t column = 0; column < SyntheticRun::kHidden; ++column) {
      element(run, "layer_2", 2, 5, column) = 30;  // its own row
      element(run, "hidden", 2, 6, column) = -30;  // a later token of the request
    }
    SyntheticRank& rank = run.rank_of(2);
    rank.outputs.at("logits").values.at(0) = 99;  // request 2 is the first of rank 1
  };
  const VerifyReport report = verify(flip);
  EXPECT_EQ(report.verdict, Verdict::verified) << to_text(report);
  EXPECT_EQ(report.routing->num_different, 1);
  EXPECT_DOUBLE_EQ(report.routing->excluded_share, 2.0 / 26);
  EXPECT_EQ(report.tensors[0].num_excluded_rows, 0) << "layer 0 comes before";
  EXPECT_EQ(report.tensors[1].num_excluded_rows, 2);
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

/// A router in float32 reads rows that were rounded to bfloat16, so its logits are as far apart as
/// these make them.
TEST_F(Verify, LogitsInFloat32AreJudgedByTheActivationsDtype) {
  const auto report = [&](const char* dtype, float logit) {
    const auto in_dtype = [&](SyntheticRun& run) {
      for (SyntheticRank& rank : run.ranks) {
        rank.dtype = dtype;
      }
    };
    return verify(
        [&](SyntheticRun& run) {
          in_dtype(run);
          flip_expert(run, 1, 2, 5);
          SyntheticRank& rank = run.rank_of(2);
          rank.router_logits.at(routed_row(rank, 1, 2, 5) * SyntheticRun::kExperts + 7) = logit;
        },
        CompareMode::tolerance,
        3,
        in_dtype);
  };
  const VerifyReport near = report("bfloat16", 2.02F);
  EXPECT_EQ(near.verdict, Verdict::verified) << to_text(near);
  EXPECT_EQ(near.routing->num_different, 1);
  for (const auto& [dtype, logit] : {std::pair("float32", 2.02F), {"bfloat16", 2.5F}}) {
    const VerifyReport far = report(dtype, logit);
    EXPECT_TRUE(names(far, {"routing: layer 1, rank 1, request 2, position 5"}));
    EXPECT_EQ(far.routing->num_mismatches, 2) << "the logit, and the choice";
  }
}

TEST_F(Verify, TooManyExcludedTokensAreNoVerdict) {
  const VerifyReport report = verify([](SyntheticRun& run) { flip_expert(run, 1, 2, 4); });
  EXPECT_EQ(report.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(report, {"routing: 11.5 % of the tokens are excluded", "allowed are 10.0 %"}));
}

TEST_F(Verify, NaNInAnExcludedRowIsStillAMismatch) {
  const VerifyReport report = verify([](SyntheticRun& run) {
    flip_expert(run, 1, 2, 4);
    element(run, "hidden", 2, 4, 1) = std::numeric_limits<float>::quiet_NaN();
  });
  EXPECT_EQ(report.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(report, {"hidden: not finite", "request 2, position 4, element 1"}));
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
        flip_expert(run, 0, 4, 3);
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

TEST_F(Verify, AMismatchOfACoarseDtypeWithoutRoutingSaysThatATieIsNotExcluded) {
  const auto without_routing = [](SyntheticRun& run) {
    run.with_route = false;
    for (SyntheticRank& rank : run.ranks) {
      rank.dtype = "bfloat16";
      rank.routing = "natural";
    }
  };
  const auto advice = [&](const Change& more, const Change& of_both) {
    return verify(
               [&](SyntheticRun& run) {
                 of_both(run);
                 element(run, "hidden", 2, 4, 1) += 1;
                 more(run);
               },
               CompareMode::tolerance,
               3,
               of_both)
        .advice;
  };
  EXPECT_NE(advice(no_change, without_routing)
                .find("routing was not recorded, so a near tie of a router, which two right runs "
                      "in bfloat16 may decide differently, cannot be told from a fault"),
            std::string::npos);
  EXPECT_NE(
      advice(no_change, without_routing).find("--set 'record.outputs=[hidden, logits, routing]'"),
      std::string::npos);
  EXPECT_EQ(advice(no_change, no_change), "") << "routing is there, and the dtype is float32";
  EXPECT_EQ(advice(no_change,
                   [&](SyntheticRun& run) {
                     without_routing(run);
                     run.with_route = true;
                   }),
            "")
      << "what is recorded is judged";
  EXPECT_EQ(advice(no_change,
                   [&](SyntheticRun& run) {
                     without_routing(run);
                     for (SyntheticRank& rank : run.ranks) {
                       rank.routing = "synthetic";
                     }
                   }),
            "")
      << "given experts have no ties";
  EXPECT_EQ(verify(without_routing, CompareMode::tolerance, 3, without_routing).advice, "")
      << "nothing differs";
}

}  // namespace
}  // namespace dovetail
