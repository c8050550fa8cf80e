// Rows and elements against their bounds.
#include <cmath>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/unit/compare/verify_fixture.hpp"

namespace dovetail {
namespace {

TEST_F(Verify, OnePerturbedElementIsNamedAlsoAcrossGrids) {
  for (const int baseline_ranks : {1, 3}) {
    const VerifyReport report =
        verify([](SyntheticRun& run) { element(run, "hidden", 3, 2, 5) += 1e-4F; },
               CompareMode::tolerance,
               baseline_ranks);
    EXPECT_EQ(report.verdict, Verdict::mismatch);
    EXPECT_TRUE(names(report, {"hidden: row error", "rank 1, request 3, position 2, element 5"}));
    ASSERT_NE(report.worst_tensor(), nullptr);
    EXPECT_EQ(report.worst_tensor()->name, "hidden");
    EXPECT_EQ(report.worst_tensor()->worst.policy_rank, 1);
    EXPECT_EQ(report.worst_tensor()->worst.baseline_rank, baseline_ranks == 1 ? 0 : 1);
    EXPECT_EQ(report.problems.size(), 1U);
  }
}

TEST_F(Verify, TheBoundSeparatesToleranceFromBitwise) {
  const auto change = [](SyntheticRun& run) {
    float& value = element(run, "layer_2", 4, 0, 1);
    value = std::nextafter(value, 2.0F);
  };
  EXPECT_EQ(verify(change).verdict, Verdict::verified);
  const VerifyReport exact = verify(change, CompareMode::bitwise);
  EXPECT_EQ(exact.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(exact, {"layer_2: 1 element differs in bits", "request 4, position 0"}));
}

TEST_F(Verify, EachTensorHasTheBoundOfItsOwnDepth) {
  for (const auto& [name, depth] : std::map<std::string, std::int64_t>{
           {"layer_0", 1}, {"layer_2", 3}, {"hidden", SyntheticRun::kLayers}}) {
    SCOPED_TRACE(name);
    SyntheticRun plain = make_synthetic_run(3, "dual_batch");
    double squares = 0;
    for (std::size_t column = 0; column < SyntheticRun::kHidden; ++column) {
      squares += std::pow(static_cast<double>(element(plain, name, 0, 0, column)), 2);
    }
    const double bound =
        row_bounds(DType::float32, depth, 1024, DeviceRelation::same).row * std::sqrt(squares);
    const auto verdict_of_shift = [&](double by) {
      return verify([&, tensor = name](SyntheticRun& run) {
               element(run, tensor, 0, 0, 0) += static_cast<float>(by);
             })
          .verdict;
    };
    EXPECT_EQ(verdict_of_shift(0.9 * bound), Verdict::verified);
    EXPECT_EQ(verdict_of_shift(1.1 * bound), Verdict::mismatch);
  }
}

TEST_F(Verify, TwoSwappedTokensAreCaught) {
  const VerifyReport report = verify([](SyntheticRun& run) {
    for (std::size_t column = 0; column < SyntheticRun::kHidden; ++column) {
      std::swap(element(run, "layer_0", 2, 1, column), element(run, "layer_0", 2, 2, column));
    }
  });
  EXPECT_EQ(report.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(report, {"layer_0: row error", "rank 1, request 2, position"}));
  EXPECT_EQ(report.problems.size(), 1U);
}

TEST_F(Verify, AFaultInASmallRowIsSeenBesideLargeOnes) {
  const auto enlarge = [](SyntheticRun& run) {
    for (SyntheticRank& rank : run.ranks) {
      for (std::size_t token = 0; token < rank.request_id.size(); ++token) {
        if (rank.request_id[token] != 3) {
          element(run, "hidden", rank.request_id[token], rank.position[token], 0) *= 1e6F;
        }
      }
    }
  };
  for (const bool fault : {true, false}) {
    const VerifyReport report = verify(
        [&](SyntheticRun& run) {
          enlarge(run);
          element(run, "hidden", 3, 2, 5) *= fault ? 1.001F : 1 + 1e-7F;
        },
        CompareMode::tolerance,
        3,
        enlarge);
    EXPECT_EQ(report.verdict, fault ? Verdict::mismatch : Verdict::verified) << to_text(report);
    EXPECT_EQ(names(report, {"hidden: row error", "request 3, position 2, element 5"}), fault);
  }
}

TEST_F(Verify, AWrongElementOfALongRowIsSeen) {
  const auto lengthen = [](SyntheticRun& run) {
    for (SyntheticRank& rank : run.ranks) {
      rank.dtype = "bfloat16";
      auto& hidden = rank.outputs.at("hidden");
      hidden.columns = 4096;
      hidden.values.assign(rank.request_id.size() * 4096, 1);
    }
  };
  for (const bool fault : {true, false}) {
    const VerifyReport report = verify(
        [&](SyntheticRun& run) {
          lengthen(run);
          element(run, "hidden", 2, 1, 4000) = fault ? 1.5F : 1.01F;
        },
        CompareMode::tolerance,
        3,
        lengthen);
    EXPECT_EQ(report.verdict, fault ? Verdict::mismatch : Verdict::verified) << to_text(report);
    EXPECT_EQ(names(report, {"hidden: element error", "request 2, position 1, element 4000"}),
              fault);
  }
}

TEST_F(Verify, IntegersAreEqualOrWrong) {
  const auto count = [](std::int32_t last) {
    return [last](SyntheticRun& run) {
      for (SyntheticRank& rank : run.ranks) {
        SyntheticTensor counts{.dtype = DType::int32, .columns = 1, .values = {}, .bytes = {}};
        std::vector<std::int32_t> values(rank.request_id.size(), 1000);
        values.back() = last;
        const auto bytes = std::as_bytes(std::span(values));
        counts.bytes.assign(bytes.begin(), bytes.end());
        rank.outputs["counts"] = counts;
      }
    };
  };
  EXPECT_EQ(verify(count(7), CompareMode::tolerance, 3, count(7)).verdict, Verdict::verified);
  EXPECT_EQ(verify(count(8), CompareMode::tolerance, 3, count(7)).verdict, Verdict::mismatch);
}

TEST_F(Verify, AGpuMaySumInAnotherOrderThanACpu) {
  for (const std::string device : {"cpu", "0: a GPU"}) {
    const VerifyReport report = verify([&](SyntheticRun& run) {
      for (SyntheticRank& rank : run.ranks) {
        rank.device = device;
      }
    });
    const auto devices = device == "cpu" ? DeviceRelation::same : DeviceRelation::different;
    EXPECT_EQ(report.rule.bounds.row,
              row_bounds(DType::float32, SyntheticRun::kLayers, 1024, devices).row);
  }
}

TEST_F(Verify, ExpertsOfTheBaselineAmplifyRoundings) {
  const auto with_roundings = [](float most) {
    return [=](SyntheticRun& run) {
      for (SyntheticRank& rank : run.ranks) {
        rank.tokens_per_expert.assign(SyntheticRun::kLayers * SyntheticRun::kExpertsPerRank, 1);
        rank.most_roundings = {6, 0.5F * most, 0.8F * most};
      }
      run.ranks[1].most_roundings = {6, 0.5F * most, most};
      run.ranks[0].most_roundings.back() = std::numeric_limits<float>::quiet_NaN();
    };
  };
  const auto bounds = [](const std::vector<double>& roundings) {
    return row_bounds(DType::float32, SyntheticRun::kLayers, 1024, DeviceRelation::same, roundings);
  };
  const double allowed = bounds({6, 20, 40}).row;
  ASSERT_GT(allowed, 1.4 * bounds({}).row);
  const auto nothing = [](SyntheticRun&) {};
  const auto amplified = verify(nothing, CompareMode::tolerance, 3, with_roundings(40));
  EXPECT_EQ(amplified.verdict, Verdict::verified);
  EXPECT_EQ(amplified.rule.bounds.row, allowed) << "the most of all ranks decides";
  EXPECT_NE(amplified.rule.reason.find("amplified"), std::string::npos);
  for (const TensorReport& tensor : amplified.tensors) {
    if (tensor.name == "layer_0") {
      EXPECT_EQ(tensor.bounds.row, row_bounds(DType::float32, 1, 1024, DeviceRelation::same).row);
    }
  }
  for (const auto& [of_policy, of_baseline] : std::vector<std::pair<Change, Change>>{
           {nothing, {}}, {nothing, with_roundings(18)}, {with_roundings(40), {}}}) {
    const auto plain = verify(of_policy, CompareMode::tolerance, 3, of_baseline);
    EXPECT_EQ(plain.rule.bounds.row, bounds({}).row);
    EXPECT_EQ(plain.rule.reason.find("amplified"), std::string::npos);
  }
  // A fault that only the wider bound lets pass: the bounds of rows and elements are used.
  const auto fault = [&](SyntheticRun& run) {
    for (std::size_t column = 0; column < SyntheticRun::kHidden; ++column) {
      float& value = element(run, "hidden", 3, 2, column);
      value *= 1 + static_cast<float>(0.9 * allowed);
    }
  };
  EXPECT_EQ(verify(fault).verdict, Verdict::mismatch);
  EXPECT_EQ(verify(fault, CompareMode::tolerance, 3, with_roundings(40)).verdict,
            Verdict::verified);
}

TEST_F(Verify, ActivationDtypeSetsTheBoundOfCoarserRuns) {
  const auto to_bfloat16 = [](SyntheticRun& run) {
    for (SyntheticRank& rank : run.ranks) {
      rank.dtype = "bfloat16";
    }
  };
  const VerifyReport report = verify(
      [&](SyntheticRun& run) {
        to_bfloat16(run);
        element(run, "hidden", 0, 0, 0) += 0.01F;
      },
      CompareMode::tolerance,
      3,
      to_bfloat16);
  EXPECT_EQ(report.verdict, Verdict::verified) << to_text(report);
  EXPECT_NEAR(report.rule.bounds.row,
              1.885 * std::sqrt(2.0) * 0.4246 * std::ldexp(1, -8) * std::sqrt(6 * 3 + 2),
              1e-6);
}

TEST_F(Verify, NaNIsNamedEvenOnBothSides) {
  const auto change = [](SyntheticRun& run) {
    element(run, "hidden", 5, 5, 7) = std::numeric_limits<float>::quiet_NaN();
  };
  EXPECT_TRUE(names(verify(change), {"hidden: not finite: rank 2, request 5, position 5"}));
  const VerifyReport both = verify(change, CompareMode::bitwise, 3, change);
  EXPECT_EQ(both.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(both, {"hidden: not finite"}));
  // Infinity, in the baseline only.
  const VerifyReport infinite = verify(no_change, CompareMode::tolerance, 3, [](SyntheticRun& run) {
    element(run, "layer_0", 0, 0, 0) = std::numeric_limits<float>::infinity();
  });
  EXPECT_EQ(infinite.verdict, Verdict::mismatch);
  EXPECT_NO_THROW(static_cast<void>(to_json(infinite).dump()));
}

}  // namespace
}  // namespace dovetail
