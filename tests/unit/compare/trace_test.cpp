#include "framework/record/trace.hpp"

#include <fstream>
#include <map>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/record/profile.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/compare/synthetic_run.hpp"

namespace dovetail {
namespace {

using Json = nlohmann::json;

SyntheticRun traced_run() {
  SyntheticRun run = make_synthetic_run(2, "dual_batch");
  add_synthetic_profile(run);
  return run;
}

Json trace_of(const SyntheticRun& run) {
  const TemporaryFolder folder;
  const auto file = folder.path() / "trace.json";
  write_chrome_trace(run.write(folder.path()), file);
  std::ifstream stream(file);
  return Json::parse(stream);
}

std::vector<Json> complete_events(const Json& trace) {
  std::vector<Json> events;
  for (const Json& event : trace.at("traceEvents")) {
    if (event.at("ph") == "X") {
      events.push_back(event);
    }
  }
  return events;
}

TEST(ChromeTrace, EventsAreSortedNonNegativeAndComplete) {
  const std::vector<Json> events = complete_events(trace_of(traced_run()));
  // Each rank: one step, five ops, four hand-offs.
  ASSERT_EQ(events.size(), 2U * (1 + 5 + 4));
  double last = 0;
  for (const Json& event : events) {
    EXPECT_GE(event.at("ts").get<double>(), last);
    EXPECT_GE(event.at("dur").get<double>(), 0);
    last = event.at("ts").get<double>();
  }
  EXPECT_EQ(events.front().at("ts"), 0) << "times count from the earliest event";
}

TEST(ChromeTrace, OpsAreNamedPlacedAndOnOneClock) {
  const Json trace = trace_of(traced_run());
  std::map<std::string, Json> by_name;
  for (const Json& event : complete_events(trace)) {
    by_name[event.at("name").get<std::string>() + " of rank " + event.at("pid").dump()] = event;
  }
  const Json& dispatch = by_name.at("dispatch l0 u0 of rank 1");
  EXPECT_EQ(dispatch.at("ts"), 30.0) << "rank 1's clock is 1 s behind";
  EXPECT_EQ(dispatch.at("dur"), 12.0);
  EXPECT_EQ(dispatch.at("tid"), 2);
  EXPECT_EQ(dispatch.at("args").at("phase"), "dispatch");
  EXPECT_EQ(dispatch.at("args").at("ubatch"), 0);
  EXPECT_EQ(dispatch.at("args").at("layer"), 0);
  EXPECT_EQ(by_name.at("experts l0 u0 of rank 0").at("tid"), 1);
  EXPECT_EQ(by_name.at("step 0 dual_batch of rank 0").at("dur"), 100.0);
  const Json& wait = by_name.at("hand-off to attention l0 u1 of rank 0");
  EXPECT_EQ(wait.at("ts"), 22.0);
  EXPECT_EQ(wait.at("dur"), 1.0);
  EXPECT_EQ(wait.at("tid"), 4);
}

TEST(ChromeTrace, ProcessesAndThreadsAreNamed) {
  std::map<std::string, std::string> names;
  const Json trace = trace_of(traced_run());
  for (const Json& event : trace.at("traceEvents")) {
    const std::string kind = event.at("name");
    if (kind == "process_name" || kind == "thread_name") {
      names[kind + event.at("pid").dump() + "." + event.at("tid").dump()] =
          event.at("args").at("name");
    }
  }
  EXPECT_EQ(names.at("process_name1.0"), "rank 1 on node7");
  EXPECT_EQ(names.at("thread_name0.1"), "compute lane");
  EXPECT_EQ(names.at("thread_name0.2"), "comm lane");
  EXPECT_EQ(names.at("thread_name0.4"), "hand-off waits of ubatch 1");
}

TEST(ChromeTrace, GpusAndTheErrorOfTheOneClockAreNamed) {
  SyntheticRun run = traced_run();
  run.ranks[0].clock_error_ns = 10;
  run.ranks[1].clock_error_ns = 20;
  EXPECT_EQ(trace_of(run).at("otherData").at("clock_error_ns"),
            Json::parse(R"({"rank 0": 10, "rank 1": 20})"));
  run.ranks[1].device = "cuda:1 NVIDIA H200";
  run.ranks[1].device_clock_error_ns = 1500;
  const Json trace = trace_of(run);
  EXPECT_EQ(trace.at("otherData").at("clock_error_ns").at("rank 1"), 1520) << "host and device";
  std::map<std::string, std::string> names;
  for (const Json& event : trace.at("traceEvents")) {
    if (event.at("ph") == "M" && event.at("args").contains("name")) {
      names[event.at("name").get<std::string>() + event.at("pid").dump() + "." +
            event.at("tid").dump()] = event.at("args").at("name");
    }
  }
  EXPECT_EQ(names.at("process_name0.0"), "rank 0 on node7");
  EXPECT_EQ(names.at("process_name1.0"), "rank 1 on node7 (cuda:1 NVIDIA H200)");
  EXPECT_EQ(names.at("thread_name0.2"), "comm lane");
  EXPECT_EQ(names.at("thread_name1.1"), "compute stream");
  EXPECT_EQ(names.at("thread_name1.2"), "comm stream");
}

TEST(ChromeTrace, AnEmulatedLinkIsNamed) {
  SyntheticRun run = traced_run();
  EXPECT_EQ(trace_of(run).at("otherData").at("link"), "none");
  for (SyntheticRank& rank : run.ranks) {
    rank.link = "emulated: 20 us, 1 GB/s";
  }
  const Json trace = trace_of(run);
  EXPECT_EQ(trace.at("otherData").at("link"), "emulated: 20 us, 1 GB/s");
  int named = 0;
  for (const Json& event : trace.at("traceEvents")) {
    named += event.at("name") == "process_name" &&
                     event.at("args").at("name").get<std::string>().ends_with(
                         " (link emulated: 20 us, 1 GB/s)")
                 ? 1
                 : 0;
  }
  EXPECT_EQ(named, 2);
}

TEST(ChromeTrace, OpsThatDidNotRunAndMissingRanksAreLeftOut) {
  SyntheticRun run = traced_run();
  run.ranks[1].is_missing = true;
  run.ranks[0].profiles[0].passes[0].op_end_ns[4] = -1;
  EXPECT_EQ(complete_events(trace_of(run)).size(), 1U + 4 + 4);
}

TEST(ChromeTrace, WithoutProfiledIterationsItIsEmptyButValid) {
  EXPECT_TRUE(complete_events(trace_of(make_synthetic_run(1, "sequential"))).empty());
}

TEST(ChromeTrace, RefusesAnEndBeforeItsStartAndAnUnknownSchedule) {
  SyntheticRun run = traced_run();
  run.ranks[1].profiles[0].passes[0].op_end_ns[2] -= 100'000;
  const auto message = testing::input_error_of([&] { trace_of(run); });
  EXPECT_NE(message.find("rank-00001.h5: /timing/ops: entry 2 ends"), std::string::npos) << message;
  run = traced_run();
  run.ranks[0].profiles[0].schedule = 3;
  EXPECT_THROW(trace_of(run), InputError);
}

TEST(ChromeTrace, RefusesAFileThatCannotBeWritten) {
  const TemporaryFolder folder;
  const auto policy = traced_run().write(folder.path());
  EXPECT_THROW(write_chrome_trace(policy, folder.path() / "none" / "trace.json"), RunError);
}

TEST(Profile, KeepsTheOrderOfIterationsThatDidNotRun) {
  SyntheticRun run = traced_run();
  SyntheticRank& rank = run.ranks[0];
  rank.profiles.push_back(rank.profiles[0]);
  rank.profiles[0].passes.clear();
  const TemporaryFolder folder;
  const PolicyFolder files(run.write(folder.path()));
  const auto profiles = read_profiles(files.rank(0));
  ASSERT_EQ(profiles.size(), 2U);
  EXPECT_FALSE(profiles[0].ran());
  EXPECT_TRUE(profiles[1].ran());
  EXPECT_EQ(profiles[1].pass(ProfilePass::compute_only).ops[1], RecordedSpan{});
}

}  // namespace
}  // namespace dovetail
