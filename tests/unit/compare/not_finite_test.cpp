// Recorded outputs with NaN or Inf, without anything to compare them with.
#include "framework/compare/not_finite.hpp"

#include <limits>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/compare/summary.hpp"
#include "tests/unit/compare/verify_fixture.hpp"

namespace dovetail {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class FindNotFinite : public Verify {
 protected:
  std::filesystem::path write(const Change& change) {
    SyntheticRun run = make_synthetic_run(3, "sequential");
    change(run);
    return run.write(folder_.path() / std::to_string(++runs_));
  }

  std::string find(const Change& change) {
    const auto found = find_not_finite(PolicyFolder(write(change)));
    return found ? found->describe() : "";
  }
};

TEST_F(FindNotFinite, NothingInAGoodRun) {
  EXPECT_EQ(find(no_change), "");
}

TEST_F(FindNotFinite, NamesRankRequestPositionAndElement) {
  EXPECT_EQ(find([](SyntheticRun& run) { element(run, "hidden", 5, 5, 7) = kNaN; }),
            "hidden of rank 2, request 5, position 5, element 7 is nan");
  EXPECT_EQ(find([](SyntheticRun& run) { element(run, "hidden", 0, 3, 0) = -kInfinity; }),
            "hidden of rank 0, request 0, position 3, element 0 is -inf");
}

TEST_F(FindNotFinite, RowsOfLogitsAreRequests) {
  EXPECT_EQ(find([](SyntheticRun& run) {
              SyntheticRank& rank = run.rank_of(2);
              auto& logits = rank.outputs.at("logits");
              const auto row =
                  std::find(rank.requests.begin(), rank.requests.end(), 2) - rank.requests.begin();
              logits.values.at(static_cast<std::size_t>(row * logits.columns) + 1) = kInfinity;
            }),
            "logits of rank 1, request 2, position 6, element 1 is inf");
}

TEST_F(FindNotFinite, TheFirstInTheDataFlowIsNamed) {
  EXPECT_EQ(find([](SyntheticRun& run) {
              element(run, "hidden", 0, 0, 0) = kNaN;
              element(run, "layer_2", 1, 0, 2) = kNaN;
              element(run, "layer_2", 5, 0, 1) = kNaN;
            }),
            "layer_2 of rank 0, request 1, position 0, element 2 is nan");
}

TEST_F(FindNotFinite, CoarseOutputsAreDecoded) {
  EXPECT_EQ(find([](SyntheticRun& run) {
              for (SyntheticRank& rank : run.ranks) {
                SyntheticTensor& tensor = rank.outputs.at("hidden");
                tensor.dtype = DType::bfloat16;
                tensor.bytes.assign(2 * tensor.values.size(), std::byte{0});
              }
              run.ranks[1].outputs.at("hidden").bytes[1] = std::byte{0x7f};
              run.ranks[1].outputs.at("hidden").bytes[0] = std::byte{0xc0};
            }),
            "hidden of rank 1, request 2, position 0, element 0 is nan");
}

TEST_F(FindNotFinite, LogitsOfRoutersButNotThoseOfDenseLayers) {
  const auto change = [](SyntheticRun& run) {
    SyntheticRank& rank = run.rank_of(3);
    rank.router_logits.at(routed_row(rank, 1, 3, 2) * SyntheticRun::kExperts + 4) = kNaN;
  };
  EXPECT_EQ(find(change), "router_logits_1 of rank 1, request 3, position 2, element 4 is nan");
  EXPECT_EQ(find([&](SyntheticRun& run) {
              change(run);
              for (SyntheticRank& rank : run.ranks) {
                const auto rows = rank.request_id.size() * SyntheticRun::kTopK;
                std::fill_n(rank.expert_ids.begin() + static_cast<std::ptrdiff_t>(rows), rows, -1);
              }
            }),
            "");
}

TEST_F(FindNotFinite, TheSummarySaysSo) {
  const auto folder = write([](SyntheticRun& run) { element(run, "hidden", 5, 5, 7) = kNaN; });
  const auto found = find_not_finite(PolicyFolder(folder));
  const auto alone = policy_summary(folder, {.not_finite = found});
  EXPECT_EQ(alone.at("not_finite").at("tensor"), "hidden");
  EXPECT_EQ(alone.at("not_finite").at("request"), 5);
  EXPECT_EQ(alone.at("not_finite").at("value"), "nan");
  EXPECT_EQ(alone.at("timings"), "valid") << "nobody asked for right outputs";
  const auto baseline = policy_summary(folder, {.baseline_dir = folder, .not_finite = found});
  EXPECT_EQ(baseline.at("timings"), "invalid") << "nothing can be verified against it";
  EXPECT_TRUE(policy_summary(write(no_change)).at("not_finite").is_null());
}

}  // namespace
}  // namespace dovetail
