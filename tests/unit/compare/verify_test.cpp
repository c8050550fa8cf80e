#include "framework/compare/verify.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <span>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/unit/compare/synthetic_run.hpp"

namespace dovetail {
namespace {

using Change = std::function<void(SyntheticRun&)>;

class Verify : public ::testing::Test {
 protected:
  /// The baseline on `baseline_ranks`, the changed policy on 3 ranks.
  VerifyReport verify(const Change& change,
                      CompareMode mode = CompareMode::tolerance,
                      int baseline_ranks = 3,
                      const Change& change_baseline = {}) {
    const auto parent = folder_.path() / std::to_string(++runs_);
    SyntheticRun baseline = make_synthetic_run(baseline_ranks, "sequential");
    if (change_baseline) {
      change_baseline(baseline);
    }
    SyntheticRun policy = make_synthetic_run(3, "dual_batch");
    change(policy);
    baseline_dir_ = baseline.write(parent);
    policy_dir_ = policy.write(parent);
    return verify_policies(baseline_dir_, policy_dir_, {mode});
  }

  /// True if a problem has all the texts in it.
  static ::testing::AssertionResult names(const VerifyReport& report,
                                          const std::vector<std::string>& texts) {
    for (const std::string& problem : report.problems) {
      if (std::all_of(texts.begin(), texts.end(), [&](const std::string& text) {
            return problem.find(text) != std::string::npos;
          })) {
        return ::testing::AssertionSuccess();
      }
    }
    return ::testing::AssertionFailure() << to_text(report);
  }

  static float& element(SyntheticRun& run,
                        const std::string& output,
                        std::int64_t request,
                        std::int64_t position,
                        std::size_t column) {
    SyntheticRank& rank = run.rank_of(request);
    SyntheticTensor& tensor = rank.outputs.at(output);
    return tensor.values.at(
        rank.row_of(request, position) * static_cast<std::size_t>(tensor.columns) + column);
  }

  static void change_expert(SyntheticRun& run,
                            std::int64_t layer,
                            std::int64_t request,
                            std::int64_t position,
                            float margin) {
    SyntheticRank& rank = run.rank_of(request);
    const std::size_t at =
        static_cast<std::size_t>(layer) * rank.request_id.size() + rank.row_of(request, position);
    rank.expert_ids.at(2 * at + 1) = 7;
    rank.margin.at(at) = margin;
  }

  TemporaryFolder folder_;
  std::filesystem::path baseline_dir_;
  std::filesystem::path policy_dir_;
  int runs_ = 0;
};

void no_change(SyntheticRun& /*run*/) {}

TEST_F(Verify, TheReportNamesAnEmulatedLink) {
  const auto none = [](SyntheticRun&) {};
  EXPECT_EQ(to_text(verify(none)).find("link"), std::string::npos);
  const VerifyReport report = verify([](SyntheticRun& run) {
    for (SyntheticRank& rank : run.ranks) {
      rank.link = "emulated: 20 us, 1 GB/s";
    }
  });
  EXPECT_EQ(report.verdict, Verdict::verified) << "a link changes no outputs";
  EXPECT_NE(to_text(report).find("link emulated: 20 us, 1 GB/s, of the baseline none\n"),
            std::string::npos);
  EXPECT_EQ(to_json(report).at("link"), "emulated: 20 us, 1 GB/s");
  EXPECT_EQ(to_json(report).at("baseline_link"), "none");
}

TEST_F(Verify, EqualRunsAreVerifiedInBothModesAndOnOtherGrids) {
  for (const int baseline_ranks : {1, 2, 3}) {
    for (const CompareMode mode : {CompareMode::bitwise, CompareMode::tolerance}) {
      const VerifyReport report = verify(no_change, mode, baseline_ranks);
      EXPECT_EQ(report.verdict, Verdict::verified) << to_text(report);
      EXPECT_TRUE(report.problems.empty());
      ASSERT_EQ(report.tensors.size(), 4U);
      EXPECT_EQ(report.tensors[0].name, "layer_0");
      EXPECT_EQ(report.tensors[1].name, "layer_2");
      EXPECT_EQ(report.tensors[0].num_rows, 26) << "all tokens of all ranks";
      EXPECT_EQ(report.tensors[3].num_rows, 6) << "logits: all requests";
      EXPECT_EQ(report.routing->num_judged, 3 * 26);
      EXPECT_EQ(report.grid, baseline_ranks == 3 ? GridRelation::same : GridRelation::different);
    }
  }
}

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

TEST_F(Verify, DevicesMayDiffer) {
  const VerifyReport report = verify(
      [](SyntheticRun& run) {
        for (SyntheticRank& rank : run.ranks) {
          rank.device = "cuda:0 NVIDIA H200";
        }
      },
      CompareMode::bitwise);
  EXPECT_EQ(report.verdict, Verdict::verified) << to_text(report);
}

TEST_F(Verify, TheBoundSeparatesToleranceFromBitwise) {
  const auto change = [](SyntheticRun& run) {
    float& value = element(run, "layer_2", 4, 0, 1);
    value = std::nextafter(value, 2.0F);
  };
  EXPECT_EQ(verify(change).verdict, Verdict::verified);
  const VerifyReport exact = verify(change, CompareMode::bitwise);
  EXPECT_EQ(exact.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(exact, {"layer_2: 1 elements differ in bits", "request 4, position 0"}));
  // Either side of the bound of a row's norm.
  SyntheticRun plain = make_synthetic_run(3, "dual_batch");
  double squares = 0;
  for (std::size_t column = 0; column < SyntheticRun::kHidden; ++column) {
    squares += std::pow(static_cast<double>(element(plain, "hidden", 0, 0, column)), 2);
  }
  const double bound =
      row_bounds(DType::float32, SyntheticRun::kLayers, 1024, DeviceRelation::same).row *
      std::sqrt(squares);
  const auto shift = [](double by) {
    return [by](SyntheticRun& run) { element(run, "hidden", 0, 0, 0) += static_cast<float>(by); };
  };
  EXPECT_EQ(verify(shift(0.9 * bound)).verdict, Verdict::verified);
  EXPECT_EQ(verify(shift(1.1 * bound)).verdict, Verdict::mismatch);
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

TEST_F(Verify, MissingRankIsNamed) {
  const VerifyReport report = verify([](SyntheticRun& run) { run.ranks[1].is_missing = true; });
  EXPECT_EQ(report.verdict, Verdict::not_comparable);
  EXPECT_TRUE(names(report, {"dual_batch", "rank 1: missing"}));
}

TEST_F(Verify, FailedRunningAndInvalidRanksAreNamedOnBothSides) {
  const VerifyReport report = verify(
      [](SyntheticRun& run) {
        run.ranks[2].status = RunStatus::failed;
        run.ranks[2].failure = "ubatch 1, layer 0: boom";
      },
      CompareMode::tolerance,
      3,
      [](SyntheticRun& run) { run.ranks[0].status = RunStatus::running; });
  EXPECT_EQ(report.verdict, Verdict::not_comparable);
  EXPECT_TRUE(names(report, {"dual_batch", "rank 2: status failed", "boom"}));
  EXPECT_TRUE(names(report, {"sequential", "rank 0: status running"}));
  EXPECT_EQ(verify([](SyntheticRun& run) { run.ranks[0].status = RunStatus::invalid; }).verdict,
            Verdict::not_comparable);
}

TEST_F(Verify, CutFileIsNamed) {
  verify(no_change);
  const auto file = policy_dir_ / "rank-00001.h5";
  for (const std::uintmax_t size :
       {std::uintmax_t{0}, std::uintmax_t{100}, std::filesystem::file_size(file) / 2}) {
    std::filesystem::resize_file(file, size);
    const VerifyReport report = verify_policies(baseline_dir_, policy_dir_);
    EXPECT_EQ(report.verdict, Verdict::not_comparable);
    EXPECT_TRUE(names(report, {"rank 1: ", "rank-00001.h5"}));
  }
}

TEST_F(Verify, NoFolderIsAProblemNotACrash) {
  const VerifyReport report = verify_policies(folder_.path() / "none", folder_.path() / "neither");
  EXPECT_EQ(report.verdict, Verdict::not_comparable);
  EXPECT_EQ(report.problems.size(), 2U);
  EXPECT_TRUE(names(report, {"none"}));
}

TEST_F(Verify, OtherWeightsAreNamed) {
  const VerifyReport all = verify([](SyntheticRun& run) {
    for (SyntheticRank& rank : run.ranks) {
      rank.weights_digest = "other";
    }
  });
  EXPECT_EQ(all.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(all, {"weights_digest differs: other against weights"}));
  EXPECT_TRUE(all.tensors.empty()) << "the cause alone is reported";
  const VerifyReport one = verify([](SyntheticRun& run) { run.ranks[1].weights_digest = "odd"; });
  EXPECT_EQ(one.verdict, Verdict::mismatch);
  const auto odd = [](SyntheticRun& run) { run.ranks[1].weights_digest = "odd"; };
  const VerifyReport both = verify(odd, CompareMode::tolerance, 3, odd);
  EXPECT_EQ(both.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(both, {"differs between the ranks of a run"}));
}

TEST_F(Verify, OtherInputsAreNamed) {
  EXPECT_TRUE(names(verify([](SyntheticRun& run) {
                      for (SyntheticRank& rank : run.ranks) {
                        rank.inputs_digest = "other";
                      }
                    }),
                    {"inputs_digest differs"}));
  const VerifyReport id = verify([](SyntheticRun& run) {
    SyntheticRank& rank = run.rank_of(4);
    rank.input_ids.at(rank.row_of(4, 2)) = 5;
  });
  EXPECT_EQ(id.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(id, {"request 4, position 2 (rank 2) has input id 5 against 4002"}));
  const VerifyReport row = verify([](SyntheticRun& run) {
    SyntheticRank& rank = run.rank_of(4);
    rank.position.at(rank.row_of(4, 4)) = 50;
  });
  EXPECT_TRUE(names(row, {"request 4, position 4 of the baseline", "not in the policy"}));
  EXPECT_TRUE(names(row, {"request 4, position 50 of the policy", "not in the baseline"}));
  const VerifyReport request = verify([](SyntheticRun& run) { run.ranks[0].requests.at(0) = 77; });
  EXPECT_TRUE(names(request, {"request 0, position 3 of the baseline", "not in the policy"}));
}

TEST_F(Verify, DuplicatedRowIsNamed) {
  const VerifyReport report = verify([](SyntheticRun& run) {
    SyntheticRank& rank = run.rank_of(2);
    const std::size_t row = rank.row_of(2, 6);
    rank.position.at(row) = 5;
  });
  EXPECT_EQ(report.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(report, {"request 2, position 5 is there twice", "rank 1 row"}));
}

TEST_F(Verify, MissingOutputIsNamedAndAnExtraOneIsNot) {
  const auto remove = [](SyntheticRun& run) {
    for (SyntheticRank& rank : run.ranks) {
      rank.outputs.erase("layer_2");
    }
  };
  const VerifyReport report = verify(remove);
  EXPECT_EQ(report.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(report, {"layer_2: missing in", "rank-00000.h5"}));
  EXPECT_EQ(verify(no_change, CompareMode::tolerance, 3, remove).verdict, Verdict::verified);
  const VerifyReport one = verify([](SyntheticRun& run) { run.ranks[2].outputs.erase("hidden"); });
  EXPECT_TRUE(names(one, {"hidden: missing in", "rank-00002.h5"}));
}

TEST_F(Verify, MissingRoutingIsNamed) {
  const auto remove = [](SyntheticRun& run) { run.with_route = false; };
  EXPECT_TRUE(names(verify(remove), {"routing: /route/expert_ids is missing"}));
  const VerifyReport neither = verify(remove, CompareMode::tolerance, 3, remove);
  EXPECT_EQ(neither.verdict, Verdict::verified);
  EXPECT_FALSE(neither.routing.has_value());
}

TEST_F(Verify, NothingToCompareIsNotVerified) {
  const auto remove = [](SyntheticRun& run) {
    for (SyntheticRank& rank : run.ranks) {
      rank.outputs.clear();
    }
  };
  const VerifyReport report = verify(remove, CompareMode::tolerance, 3, remove);
  EXPECT_EQ(report.verdict, Verdict::not_comparable);
  EXPECT_TRUE(names(report, {"nothing to compare"}));
}

TEST_F(Verify, ShapeAndDtypeAreNamed) {
  const VerifyReport shape = verify([](SyntheticRun& run) {
    for (SyntheticRank& rank : run.ranks) {
      SyntheticTensor& tensor = rank.outputs.at("hidden");
      tensor.columns = 4;
      tensor.values.resize(tensor.values.size() / 2);
    }
  });
  EXPECT_TRUE(names(shape, {"hidden: shape", "4] in", "instead of", "8]"}));
  const VerifyReport dtype = verify([](SyntheticRun& run) {
    for (SyntheticRank& rank : run.ranks) {
      SyntheticTensor& tensor = rank.outputs.at("hidden");
      tensor.dtype = DType::bfloat16;
      tensor.bytes.resize(tensor.values.size() * 2);
    }
  });
  EXPECT_TRUE(names(dtype, {"hidden: dtype bfloat16", "against float32"}));
  const VerifyReport activation =
      verify([](SyntheticRun& run) { run.ranks[0].dtype = "bfloat16"; });
  EXPECT_TRUE(names(activation, {"activation dtype differs: bfloat16 against float32"}));
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
              2.2 * std::sqrt(2.0) * 0.4246 * std::ldexp(1, -8) * std::sqrt(6 * 3 + 2),
              1e-6);
}

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

TEST_F(Verify, IdleRankIsLegal) {
  const auto only_two = [](SyntheticRun& run) {
    const SyntheticRun two = make_synthetic_run(2, run.policy);
    run.ranks[0] = two.ranks[0];
    run.ranks[1] = two.ranks[1];
    SyntheticRank idle;
    for (const auto& [name, tensor] : two.ranks[0].outputs) {
      idle.outputs[name].columns = tensor.columns;
    }
    run.ranks[2] = idle;
  };
  const VerifyReport report = verify(only_two);
  EXPECT_EQ(report.verdict, Verdict::verified) << to_text(report);
  EXPECT_EQ(report.tensors[0].num_rows, 26);
}

TEST_F(Verify, ReportPrintsAndSerialises) {
  const VerifyReport report =
      verify([](SyntheticRun& run) { element(run, "hidden", 3, 2, 5) += 1e-4F; });
  const std::string text = to_text(report);
  for (const char* part : {"mismatch: ", "hidden", "MISMATCH", "routing: 78 token-layers"}) {
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
  const nlohmann::json json = nlohmann::json::parse(to_json(report).dump());
  EXPECT_EQ(json.at("verdict"), "mismatch");
  EXPECT_EQ(json.at("worst_tensor"), "hidden");
  EXPECT_EQ(json.at("tensors").at(2).at("worst").at("request"), 3);
  EXPECT_EQ(json.at("tensors").at(2).at("worst").at("element"), 5);
  EXPECT_EQ(json.at("rule").at("max_error"), report.rule.bounds.row);
  EXPECT_EQ(json.at("tensors").at(2).at("max_element_error"), 5 * report.rule.bounds.row);
}

}  // namespace
}  // namespace dovetail
