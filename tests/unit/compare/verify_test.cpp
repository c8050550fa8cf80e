// Which runs can be compared at all, and how a report is printed.
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/unit/compare/verify_fixture.hpp"

namespace dovetail {
namespace {

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
      EXPECT_EQ(report.routing->num_judged, 3 * (26 + 2)) << "the context's, too";
      EXPECT_EQ(report.grid, baseline_ranks == 3 ? GridRelation::same : GridRelation::different);
    }
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

TEST_F(Verify, OtherInputsOnAnotherNumberOfRanksAreExplained) {
  const auto change = [](SyntheticRun& run) {
    for (SyntheticRank& rank : run.ranks) {
      rank.inputs_digest = "other";
    }
  };
  const std::string hint = "(requests are per rank: halve `count` when you double the ranks)";
  const VerifyReport scaled = verify(change, CompareMode::tolerance, 1);
  EXPECT_EQ(scaled.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(scaled, {"inputs_digest differs", hint}));
  const VerifyReport same = verify(change);
  EXPECT_TRUE(names(same, {"inputs_digest differs"}));
  EXPECT_FALSE(names(same, {hint})) << "the ranks are not the cause";
}

TEST_F(Verify, OtherInputsAreNamed) {
  EXPECT_TRUE(names(verify([](SyntheticRun& run) {
                      for (SyntheticRank& rank : run.ranks) {
                        rank.inputs_digest = "other";
                      }
                    }),
                    {"inputs_digest differs"}));
  for (const std::int64_t other : {5, 5002}) {
    const VerifyReport id = verify([&](SyntheticRun& run) {
      SyntheticRank& rank = run.rank_of(4);
      rank.input_ids.at(rank.row_of(4, 2)) = other;
    });
    EXPECT_EQ(id.verdict, Verdict::mismatch);
    EXPECT_TRUE(names(id,
                      {"request 4, position 2 (rank 2) has input id " + std::to_string(other) +
                       " against 4002"}));
  }
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

TEST_F(Verify, IdleRankIsLegal) {
  const auto only_two = [](SyntheticRun& run) {
    const SyntheticRun two = make_synthetic_run(2, run.policy);
    run.ranks[0] = two.ranks[0];
    run.ranks[1] = two.ranks[1];
    SyntheticRank idle;
    idle.timed_hashes = two.ranks[0].timed_hashes;
    idle.profiled_hashes = two.ranks[0].profiled_hashes;
    idle.poisoned_hashes = two.ranks[0].poisoned_hashes;
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
  for (const char* part :
       {"mismatch: ", "hidden", "MISMATCH", "routing: natural, 0 of 84 choices differ, 0 wrong"}) {
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
