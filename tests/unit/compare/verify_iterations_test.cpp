// All of a run is judged: a fault in any iteration is named, and nothing is left out in silence.
#include "framework/compare/verify_iterations.hpp"

#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/compare/summary.hpp"
#include "tests/unit/compare/verify_fixture.hpp"

namespace dovetail {
namespace {

/// Twenty timed iterations of one step, three profiled ones, one poisoned.
Change twenty(const Change& change = no_change) {
  return [change](SyntheticRun& run) {
    add_synthetic_iterations(run, 20, 3, 1, 1);
    change(run);
  };
}

/// Seven timed, two profiled, three poisoned iterations of two steps and three variants.
Change variants(const Change& change = no_change) {
  return [change](SyntheticRun& run) {
    add_synthetic_iterations(run, 7, 2, 3, 2);
    change(run);
  };
}

TEST_F(Verify, RightIterationsAreAllJudged) {
  for (const auto mode : {CompareMode::tolerance, CompareMode::bitwise}) {
    for (const int baseline_ranks : {1, 3}) {
      const auto report = verify(twenty(), mode, baseline_ranks, twenty());
      EXPECT_EQ(report.verdict, Verdict::verified) << to_text(report);
      ASSERT_TRUE(report.iterations.has_value());
      EXPECT_EQ(report.iterations->num_steps, 24);
      EXPECT_EQ(report.iterations->num_as_recorded, 24);
      EXPECT_NE(
          to_text(report).find("iterations: 20 timed, 3 profiled, 1 poisoned; 24 of 24 steps "
                               "left the recorded bits; hashing one took 1.0 % of its time\n"),
          std::string::npos)
          << to_text(report);
    }
  }
  const auto report = verify(variants(), CompareMode::bitwise, 3, variants());
  EXPECT_EQ(report.verdict, Verdict::verified) << to_text(report);
  EXPECT_EQ(report.iterations->num_steps, 2 * (7 + 2 + 3));
  EXPECT_EQ(report.iterations->num_as_recorded, report.iterations->num_steps);
  EXPECT_NE(to_text(report).find("7 timed, 2 profiled, 3 poisoned, of 3 variants; 24 of 24 steps"),
            std::string::npos)
      << to_text(report);
}

TEST_F(Verify, AFaultInOneOfTwentyIterationsIsNamed) {
  struct Case {
    std::int64_t StepHash::*quantity;
    std::string name;
  };

  for (const Case& one : {Case{&StepHash::outputs, "outputs"},
                          Case{&StepHash::kv, "keys and values"},
                          Case{&StepHash::routing, "routing"}}) {
    for (const auto mode : {CompareMode::tolerance, CompareMode::bitwise}) {
      const auto report = verify(twenty([&](SyntheticRun& run) {
                                   ++(run.ranks[1].timed_hashes[7][0].hash.*one.quantity);
                                 }),
                                 mode,
                                 3,
                                 twenty());
      EXPECT_EQ(report.verdict, Verdict::mismatch);
      EXPECT_EQ(report.problems.size(), 1U) << to_text(report);
      EXPECT_TRUE(
          names(report, {"iterations: timed iteration 7, step 0: " + one.name + " on rank 1 "}))
          << to_text(report);
      EXPECT_EQ(report.iterations->num_different, 1);
      EXPECT_EQ(report.iterations->num_as_recorded, 23);
    }
  }
}

TEST_F(Verify, AFaultInAProfiledOrAPoisonedIterationIsNamed) {
  EXPECT_TRUE(names(
      verify(variants([](SyntheticRun& run) { ++run.ranks[2].profiled_hashes[1][1].hash.outputs; }),
             CompareMode::tolerance,
             3,
             variants()),
      {"profiled iteration 1, step 1 (variant 1): outputs on rank 2 "}));
  EXPECT_TRUE(names(verify(variants([](SyntheticRun& run) {
                             for (auto& rank : run.ranks) {
                               ++rank.poisoned_hashes[2][0].hash.outputs;
                             }
                           }),
                           CompareMode::tolerance,
                           3,
                           variants()),
                    {"poisoned iteration 2, step 0 (variant 2): outputs on ranks 0, 1, 2 "}));
}

TEST_F(Verify, TheRecordedIterationIsTheOneToBlameWhereItStandsAlone) {
  const auto report =
      verify(twenty([](SyntheticRun& run) { ++run.ranks[0].timed_hashes[19][0].hash.outputs; }),
             CompareMode::tolerance,
             3,
             twenty());
  EXPECT_EQ(report.problems.size(), 1U) << to_text(report);
  EXPECT_TRUE(names(report, {"timed iteration 19, step 0, which is recorded: outputs on rank 0"}));
}

TEST_F(Verify, IterationsThatAllDifferAreCounted) {
  const auto report =
      verify(twenty([](SyntheticRun& run) {
               for (std::int64_t i = 0; i < 20; ++i) {
                 run.ranks[0].timed_hashes[static_cast<std::size_t>(i)][0].hash.kv += i;
               }
             }),
             CompareMode::tolerance,
             3,
             twenty());
  EXPECT_EQ(report.iterations->num_different, 19);
  EXPECT_TRUE(names(report, {"and 11 more like these"}));
}

/// What is left behind of another variant is no right result.
TEST_F(Verify, AResultOfAnotherVariantIsNamed) {
  const auto report = verify(variants([](SyntheticRun& run) {
                               for (auto& rank : run.ranks) {
                                 rank.timed_hashes[4][1].hash = rank.timed_hashes[3][1].hash;
                               }
                             }),
                             CompareMode::tolerance,
                             3,
                             variants());
  EXPECT_EQ(report.problems.size(), 1U) << to_text(report);
  EXPECT_TRUE(names(report, {"timed iteration 4, step 1 (variant 1)", "on ranks 0, 1, 2"}));
}

/// A vetoed iteration: the plain schedule, whose sums are cut otherwise.
Change vetoed(std::int64_t offset) {
  return twenty([offset](SyntheticRun& run) {
    for (auto& rank : run.ranks) {
      // All ranks' ubatched steps have bits of their own.
      for (auto* rows : {&rank.timed_hashes, &rank.profiled_hashes, &rank.poisoned_hashes}) {
        for (auto& steps : *rows) {
          steps[0].hash.outputs += 5;
        }
      }
      rank.timed_hashes[3][0].schedule = 1;
      rank.timed_hashes[3][0].hash.outputs += offset;
    }
  });
}

TEST_F(Verify, AnIterationThatRanOtherwiseMustLeaveTheBaselinesBits) {
  const auto right = verify(vetoed(-5), CompareMode::tolerance, 1, twenty());
  EXPECT_EQ(right.verdict, Verdict::verified) << to_text(right);
  EXPECT_EQ(right.iterations->num_as_baseline, 1);
  EXPECT_EQ(right.iterations->num_as_recorded, 23);
  EXPECT_NE(to_text(right).find("1 ran otherwise and left the baseline's"), std::string::npos);
  // The bits of the other schedule, or any others: nothing says that they are right.
  for (const std::int64_t offset : {0, 1}) {
    const auto report = verify(vetoed(offset), CompareMode::tolerance, 1, twenty());
    EXPECT_EQ(report.verdict, Verdict::mismatch);
    EXPECT_EQ(report.iterations->num_unjudged, 1);
    EXPECT_TRUE(names(report, {"timed iteration 3, step 0 ran otherwise", "nothing says"}));
    EXPECT_NE(to_text(report).find("1 NOT JUDGED"), std::string::npos);
  }
}

/// Later steps read what an earlier one wrote in its own way.
TEST_F(Verify, StepsBehindAVetoedOneRanOtherwise) {
  const auto report = verify(variants([](SyntheticRun& run) {
                               for (auto& rank : run.ranks) {
                                 rank.timed_hashes[2][0].schedule = 1;
                                 ++rank.timed_hashes[2][1].hash.outputs;
                               }
                             }),
                             CompareMode::tolerance,
                             3,
                             variants());
  EXPECT_EQ(report.iterations->num_different, 0) << to_text(report);
  EXPECT_EQ(report.iterations->num_as_baseline, 1);
  EXPECT_EQ(report.iterations->num_unjudged, 1);
  EXPECT_TRUE(names(report, {"timed iteration 2, step 1 (variant 2) ran otherwise"}));
}

TEST_F(Verify, BitwiseComparesAllHashesWithTheBaselines) {
  const auto all_others = twenty([](SyntheticRun& run) {
    for (auto& rank : run.ranks) {
      for (auto* rows : {&rank.timed_hashes, &rank.profiled_hashes, &rank.poisoned_hashes}) {
        for (auto& steps : *rows) {
          ++steps[0].hash.kv;
        }
      }
    }
  });
  EXPECT_EQ(verify(all_others, CompareMode::tolerance, 3, twenty()).verdict, Verdict::verified);
  const auto report = verify(all_others, CompareMode::bitwise, 3, twenty());
  EXPECT_EQ(report.verdict, Verdict::mismatch);
  EXPECT_TRUE(
      names(report, {"timed iteration 19, step 0: keys and values differ from the baseline's"}));
}

TEST_F(Verify, ContextsMustKeepTheirBits) {
  const auto report = verify(twenty([](SyntheticRun& run) { ++run.ranks[2].untouched_after; }),
                             CompareMode::tolerance,
                             3,
                             twenty());
  EXPECT_EQ(report.verdict, Verdict::mismatch);
  EXPECT_TRUE(names(report, {"rank 2", "keys and values that no step may write have changed"}));
}

TEST_F(Verify, TheBaselinesIterationsAreJudgedAsWell) {
  const auto report = verify(twenty(), CompareMode::tolerance, 3, twenty([](SyntheticRun& run) {
                               ++run.ranks[1].timed_hashes[0][0].hash.outputs;
                             }));
  EXPECT_EQ(report.verdict, Verdict::mismatch);
  EXPECT_TRUE(
      names(report, {"iterations of the baseline: timed iteration 0, step 0: outputs on rank 1"}));
  EXPECT_TRUE(report.iterations->problems.empty());
  ASSERT_TRUE(report.baseline_iterations.has_value());
  EXPECT_EQ(report.baseline_iterations->num_different, 1);
}

TEST_F(Verify, FilesThatContradictThemselvesAreNotComparable) {
  const auto expect_refused = [&](const Change& change, const std::string& text) {
    const auto report = verify(twenty(change), CompareMode::tolerance, 3, twenty());
    EXPECT_EQ(report.verdict, Verdict::not_comparable);
    EXPECT_TRUE(names(report, {text}));
  };
  expect_refused(
      [](SyntheticRun& run) {
        run.ranks[1].timed_hashes[4][0] = {-1, -1, {}};
      },
      "nothing of iteration 4, step 0");
  expect_refused([](SyntheticRun& run) { run.ranks[1].timed_hashes[4][0].schedule = 1; },
                 "iteration 4, step 0 ran otherwise than on rank 0");
  expect_refused([](SyntheticRun& run) { run.ranks[2].untouched_after = -1; }, "not written");
}

TEST_F(Verify, JsonHoldsHowIterationsWereJudged) {
  const auto report = verify(vetoed(-5), CompareMode::tolerance, 1, twenty());
  const auto json = to_json(report);
  const auto& iterations = json.at("iterations");
  EXPECT_EQ(iterations.at("timed"), 20);
  EXPECT_EQ(iterations.at("profiled"), 3);
  EXPECT_EQ(iterations.at("poisoned"), 1);
  EXPECT_EQ(iterations.at("steps"), 24);
  EXPECT_EQ(iterations.at("as_recorded"), 23);
  EXPECT_EQ(iterations.at("as_baseline"), 1);
  EXPECT_EQ(iterations.at("unjudged"), 0);
  EXPECT_EQ(iterations.at("passed"), true);
  EXPECT_EQ(iterations.at("hash_share"), 0.01);
  EXPECT_EQ(json.at("baseline_iterations").at("as_recorded"), 24);
  // A summary of a baseline whose iterations differ has no times.
  auto judged = *report.baseline_iterations;
  EXPECT_EQ(policy_summary(baseline_dir_, {.iterations = judged}).at("timings"), "valid");
  judged.problems.emplace_back("a problem");
  EXPECT_EQ(policy_summary(baseline_dir_, {.iterations = judged}).at("timings"), "invalid");
}

/// Keys and values are outputs with a bound of their own layer.
TEST_F(Verify, KeysAndValuesAreComparedByTheirDepth) {
  const auto with_kv = [](float error) {
    return [error](SyntheticRun& run) {
      for (auto& rank : run.ranks) {
        rank.outputs["key_0"] = rank.outputs.at("layer_0");
        rank.outputs["value_2"] = rank.outputs.at("layer_2");
      }
      element(run, "value_2", 3, 1, 4) += error;
    };
  };
  const auto report = verify(with_kv(0), CompareMode::tolerance, 1, with_kv(0));
  EXPECT_EQ(report.verdict, Verdict::verified) << to_text(report);
  ASSERT_EQ(report.tensors.size(), 6U);
  EXPECT_EQ(report.tensors[0].name, "key_0");
  EXPECT_EQ(report.tensors[0].bounds.row, report.tensors[1].bounds.row) << "of layer_0";
  EXPECT_EQ(report.tensors[3].name, "value_2");
  EXPECT_EQ(report.tensors[3].bounds.row, report.tensors[2].bounds.row) << "of layer_2";
  const auto wrong = verify(with_kv(1e-3F), CompareMode::tolerance, 1, with_kv(0));
  EXPECT_TRUE(names(wrong, {"value_2: ", "request 3, position 1, element 4"}));
}

}  // namespace
}  // namespace dovetail
