// What a sweep's result is as a table, CSV and JSON, and the command that goes on with it.
#include <cmath>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/compare/sweep_result.hpp"
#include "framework/record/run_folder.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/pipe_file.hpp"
#include "tests/unit/compare/synthetic_run.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

SweepPolicy policy_row(const std::string& name, double p50_ms, const std::string& link) {
  SweepPolicy policy;
  policy.name = name;
  policy.schedule = name;
  policy.link = link;
  policy.max_tokens = 12;
  policy.total_tokens = 20;
  policy.step_ns = Statistics{.count = 100,
                              .min = p50_ms * 5e5,
                              .p50 = p50_ms * 1e6,
                              .p95 = p50_ms * 2e6,
                              .p99 = p50_ms * 2e6,
                              .max = p50_ms * 3e6,
                              .mean = p50_ms * 1e6};
  policy.hidden_share = 0.25;
  policy.verdict = "verified";
  return policy;
}

SweepResult sample(const std::string& second_link) {
  SweepResult result{.experiment = "e",
                     .world_size = 2,
                     .keys = {"a.b", "c"},
                     .points = {},
                     .step_times = nullptr};
  result.points.push_back(
      {.values = {"4", "[x, \"y\"]"},
       .folder = "point-0000",
       .status = SweepPointStatus::complete,
       .problem = "",
       .policies = {policy_row("p", 2, "none"), policy_row("q", 1.5, second_link)}});
  SweepPolicy& timed = result.points[0].policies[1];
  timed.round_ns = {1.5e6, std::numeric_limits<double>::quiet_NaN(), 1.6e6};
  timed.rounds_began_ns = 1'795'933'595'550'325'193;
  timed.speed_up = 1.25;
  timed.speed_up_interval = {1.125, 1.5};
  result.points.push_back({.values = {"8", "true"},
                           .folder = "",
                           .status = SweepPointStatus::pending,
                           .problem = "",
                           .policies = {}});
  return result;
}

TEST(SweepReport, TheTableHasARowForEachPolicyAndForWhatIsPending) {
  EXPECT_EQ(
      to_text(sample("none")),
      "Sweep e: tokens of a step on the rank that has most; p50 of the slowest rank; "
      "speed-up over the baseline of the point\n"
      "point  a.b         c  tokens  policy  p50 [ms]  speed-up          95 %  hidden  verdict\n"
      "-----  ---  --------  ------  ------  --------  --------  ------------  ------  --------\n"
      "    0    4  [x, \"y\"]      12  p          2.000         -             -  25.0 %  verified\n"
      "    0    4  [x, \"y\"]      12  q          1.500      1.25  1.12 to 1.50  25.0 %  verified\n"
      "    1    8      true       -  -              -         -             -       -  pending\n");
}

TEST(SweepReport, CountsItsComparisons) {
  SweepResult result = sample("none");
  EXPECT_EQ(to_text(result).find("comparisons"), std::string::npos);
  result.points[0].policies[1].counts = true;
  result.points.push_back(result.points[0]);
  EXPECT_NE(to_text(result).find("\n2 comparisons, each right in 95 of 100 runs"),
            std::string::npos);
  EXPECT_NE(to_csv(result).find(",1.25,1.125,1.5,true,0.25,"), std::string::npos) << to_csv(result);
}

TEST(SweepReport, FlagsStandBelowTheTableByPoint) {
  SweepResult result = sample("none");
  result.points.push_back(result.points[0]);
  result.points[0].policies[0].flags = {"drift"};
  result.points[2].policies[0].flags = {"drift", "not_quiet"};
  result.points[2].policies[1].flags = {"drift"};
  EXPECT_TRUE(to_text(result).ends_with(
      "\nTo be taken with care (dovetail compare of the point's folder says more):\n"
      "  drift: point 0 (p), point 2 (p, q)\n"
      "  not_quiet: point 2 (p)\n"))
      << to_text(result);
}

TEST(SweepReport, LinksAreNamedAboveOrInAColumn) {
  SweepResult result = sample("emulated: 1 us, 1 GB/s");
  const std::string differing = to_text(result);
  EXPECT_TRUE(differing.starts_with("Link emulated: see the column link\n")) << differing;
  EXPECT_NE(differing.find("verified  emulated: 1 us, 1 GB/s\n"), std::string::npos) << differing;
  result.points[0].policies[0].link = "emulated: 1 us, 1 GB/s";
  const std::string same = to_text(result);
  EXPECT_TRUE(same.starts_with("Link emulated: 1 us, 1 GB/s\nSweep e")) << same;
  EXPECT_EQ(same.find("verified  emulated"), std::string::npos);
}

TEST(SweepReport, CsvQuotesWhatNeedsIt) {
  const std::string text = to_csv(sample("none"));
  EXPECT_TRUE(text.starts_with("point,folder,status,a.b,c,policy,schedule,")) << text;
  EXPECT_NE(
      text.find("\n0,point-0000,complete,4,\"[x, \"\"y\"\"]\",q,q,1,none,12,20,0.0,false,100,1.5,"),
      std::string::npos)
      << text;
  EXPECT_NE(text.find("\n1,,pending,8,true,,"), std::string::npos) << text;
  std::size_t lines = 0;
  std::size_t commas_of_last = 0;
  for (const char c : text) {
    lines += c == '\n' ? 1 : 0;
    commas_of_last += lines == 3 && c == ',' ? 1 : 0;
  }
  EXPECT_EQ(lines, 4U);
  EXPECT_EQ(commas_of_last, 5U - 1 + 23) << "as many cells as the header";
}

TEST(SweepReport, JsonReadsBack) {
  const TemporaryFolder folder;
  SweepResult result = sample("emulated: 1 us, 1 GB/s");
  result.points[0].policies[1].speed_up = 4.0 / 3;
  result.points[0].policies[1].one_token_each = true;
  result.points[0].policies[0].step_ns.reset();
  result.points[1].problem = "a \"reason\"";
  result.points[0].policies[1].speed_up_basis = SpeedUpBasis::runs;
  result.points[0].policies[1].counts = false;
  result.points[0].notes = {"p: a note", "another"};
  result.points[0].policies[0].flags = {"drift", "control"};
  write_json(folder.path() / kSweepFileName, to_json(result));
  const SweepResult again = read_sweep_result(folder.path());
  EXPECT_EQ(to_json(again), to_json(result));
  EXPECT_EQ(to_text(again), to_text(result));
  EXPECT_EQ(to_csv(again), to_csv(result));
  EXPECT_EQ(to_json(result).at("points").at(0).at("values").at("a.b"), 4);
  EXPECT_EQ(to_json(result).at("points").at(1).at("values").at("c"), true);
  EXPECT_EQ(to_json(again).at("points").at(0).at("notes"),
            (std::vector<std::string>{"p: a note", "another"}));
  EXPECT_EQ(again.points[0].policies[0].flags, (std::vector<std::string>{"drift", "control"}));
  EXPECT_EQ(again.points[0].policies[1].speed_up_basis, SpeedUpBasis::runs);
  EXPECT_EQ(again.points[0].policies[1].counts, false);
  EXPECT_EQ(again.points[0].policies[0].counts, std::nullopt);
  auto earlier = to_json(result);
  earlier.at("points").at(0).erase("notes");
  earlier.at("points").at(0).at("policies").at(0).erase("flags");
  write_json(folder.path() / kSweepFileName, earlier);
  EXPECT_TRUE(read_sweep_result(folder.path()).points[0].notes.empty()) << "of an earlier version";
  const SweepPolicy timed = again.points[0].policies[1];
  EXPECT_EQ(timed.rounds_began_ns, 1'795'933'595'550'325'193);
  ASSERT_EQ(timed.round_ns.size(), 3U);
  EXPECT_EQ(timed.round_ns[2], 1.6e6);
  EXPECT_TRUE(std::isnan(timed.round_ns[1]));
  ASSERT_TRUE(timed.speed_up_interval);
  EXPECT_EQ(timed.speed_up_interval->low, 1.125);
  EXPECT_EQ(timed.speed_up_interval->high, 1.5);
}

TEST(SweepReport, RefusesValuesTooDeepWithinEachOther) {
  const TemporaryFolder folder;
  auto text = to_json(sample("none")).dump();
  const std::string none = "\"step_times\":null";
  const auto at = text.find(none);
  ASSERT_NE(at, std::string::npos);
  text.replace(
      at, none.size(), "\"step_times\":" + std::string(60'000, '[') + std::string(60'000, ']'));
  std::ofstream(folder.path() / kSweepFileName) << text;
  const auto message = testing::input_error_of([&] { read_sweep_result(folder.path()); });
  EXPECT_NE(message.find("sweep.json: line 1, byte "), std::string::npos) << message;
  EXPECT_NE(message.find("too deep within each other"), std::string::npos) << message;
}

TEST(SweepReport, RefusesWhatIsNoSweep) {
  const TemporaryFolder folder;
  EXPECT_THROW(read_sweep_result(folder.path()), InputError);
  testing::expect_pipe_refused(folder.path() / kSweepFileName,
                               [&] { read_sweep_result(folder.path()); });
  fs::remove(folder.path() / kSweepFileName);
  auto json = to_json(sample("none"));
  for (const auto& change :
       std::vector<std::function<void()>>{[&] { json["version"] = 1; },
                                          [&] { json.erase("keys"); },
                                          [&] { json["points"][0]["status"] = "splendid"; },
                                          [&] { json["points"][0]["values"].erase("c"); },
                                          [&] { json["points"][0]["policies"][0]["tokens"] = 3; },
                                          [&] { json["points"] = 3; }}) {
    json = to_json(sample("none"));
    write_json(folder.path() / kSweepFileName, json);
    EXPECT_NO_THROW(read_sweep_result(folder.path()));
    change();
    write_json(folder.path() / kSweepFileName, json);
    const auto message = testing::input_error_of([&] { read_sweep_result(folder.path()); });
    EXPECT_NE(message.find("sweep.json: "), std::string::npos)
        << json.dump() << " said: " << message;
  }
}

TEST(SweepReport, NamesThePointThatHasMeasuredAPolicy) {
  SweepPolicy own{.name = "dual_batch", .verdict = "verified"};
  SweepPolicy taken{.name = "sequential", .measured_in_point = 3, .verdict = "baseline"};
  const SweepResult result{
      .points = {{.status = SweepPointStatus::complete, .policies = {taken, own}}}};
  EXPECT_NE(to_text(result).find("sequential (point 3) "), std::string::npos);
  EXPECT_NE(to_csv(result).find(",baseline,3\n"), std::string::npos);
  EXPECT_NE(to_csv(result).find(",verified,\n"), std::string::npos);
  const auto json = to_json(result).at("points").at(0).at("policies");
  EXPECT_EQ(read_measured_in_point(json.at(0)), 3U);
  EXPECT_EQ(read_measured_in_point(json.at(1)), std::nullopt);
  EXPECT_EQ(read_measured_in_point({}), std::nullopt) << "of an earlier version";
}

TEST(HowToGoOn, IsTheCommandForWhatIsMissing) {
  SweepResult result;
  result.world_size = 2;
  result.points.resize(1);
  EXPECT_EQ(how_to_go_on(result, "results/a b", "build/bin/dovetail"),
            "0 of 1 point is complete; to go on: mpirun -np 2 build/bin/dovetail run 'results/a "
            "b/experiment.yaml' --out 'results/a b'\n");
  result.world_size = 1;
  result.points.resize(2);
  result.points[1].status = SweepPointStatus::complete;
  EXPECT_EQ(how_to_go_on(result, "out", "dovetail"),
            "1 of 2 points are complete; to go on: dovetail run out/experiment.yaml --out out\n");
  result.points[0].status = SweepPointStatus::mismatch;
  EXPECT_NE(how_to_go_on(result, "out", "dovetail"), "") << "what mismatched runs again";
  result.points[0].status = SweepPointStatus::complete;
  EXPECT_EQ(how_to_go_on(result, "out", "dovetail"), "");
}

}  // namespace
}  // namespace dovetail
