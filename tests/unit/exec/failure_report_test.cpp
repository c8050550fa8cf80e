// The report of a failure names the late rank and its op, from what the ranks say of themselves;
// the board on which their threads say it.
#include "framework/exec/failure_report.hpp"

#include <atomic>
#include <chrono>
#include <thread>
#include <utility>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/file_work.hpp"
#include "framework/exec/op_board.hpp"

namespace dovetail::test {
namespace {

constexpr std::int64_t kMillisecond = 1'000'000;

RankState at_rank(int rank) {
  RankState state;
  state.rank = rank;
  state.answered = 1;
  return state;
}

RankState in_op(int rank, Phase phase, int layer, bool waits, int cpu_percent = -1) {
  auto state = at_rank(rank);
  state.num_open_ops = 1;
  state.open_ops[0] = {
      .layer = layer,
      .lane = static_cast<std::int8_t>(is_exchange(phase) ? Lane::comm : Lane::compute),
      .ubatch = 1,
      .phase = static_cast<std::int8_t>(phase),
      .waits = static_cast<std::int8_t>(waits ? 1 : 0),
      .open_ns = 4000 * kMillisecond,
      .cpu_percent = cpu_percent};
  return state;
}

RankState timed_out(RankState state) {
  state.exit_code = 3;
  state.timed_out = 1;
  state.set_message("not done within 4000 ms");
  return state;
}

TEST(FailureReport, AnExceptionIsTheHeadlineAndTheOthersAreListed) {
  auto failed = at_rank(1);
  failed.exit_code = 3;
  failed.set_message("rank 1, ubatch 0, layer 3, phase experts: no luck");
  const std::array states = {
      timed_out(in_op(0, Phase::dispatch, 3, true)), failed, RankState{.rank = 2}};
  const auto report = make_failure_report(states);
  EXPECT_FALSE(report.is_timeout);
  EXPECT_TRUE(report.late.empty());
  EXPECT_EQ(to_text(report, 8),
            "rank 1, ubatch 0, layer 3, phase experts: no luck\n"
            "  rank 0 waits since 4.0 s in ubatch 1, layer 3, phase dispatch (comm lane); not done "
            "within 4000 ms\n"
            "  rank 2 does not answer");
  EXPECT_EQ(to_text(report, 1).substr(to_text(report, 1).rfind('\n')), "\n  and 1 more ranks");
}

/// Rank 0 prints what rank 1 has to say, such as that its GPU has no memory left.
TEST(FailureReport, TheRankIsNamedWhereItsMessageDoesNot) {
  auto failed = at_rank(1);
  failed.exit_code = 3;
  for (const auto& [message, headline] : {
           std::pair{"policy p: out of memory: Tried to allocate 2.00 GiB",
                     "rank 1: policy p: out of memory: Tried to allocate 2.00 GiB"},
           std::pair{"policy p: rank 1, layer 3, expert 2: no room",
                     "policy p: rank 1, layer 3, expert 2: no room"},
           std::pair{"nothing came from rank 11", "rank 1: nothing came from rank 11"},
       }) {
    failed.set_message(message);
    EXPECT_EQ(make_failure_report(std::array{at_rank(0), failed}).headline, headline);
  }
}

TEST(FailureReport, AnOpThatComputesIsToldFromOneThatIsStuck) {
  for (const int percent : {0, 1, 97}) {
    const std::array states = {timed_out(in_op(0, Phase::dispatch, 2, true)),
                               in_op(1, Phase::attention, 2, false, percent),
                               in_op(2, Phase::dispatch, 2, true)};
    const auto report = make_failure_report(states);
    EXPECT_TRUE(report.is_timeout);
    ASSERT_EQ(report.late.size(), 1U);
    EXPECT_EQ(report.late[0].rank, 1);
    EXPECT_EQ(report.late[0].kind, percent == 0 ? LateKind::stuck : LateKind::computes);
    EXPECT_EQ(report.headline,
              percent == 0 ? "rank 1 is late: it is stuck since 4.0 s in ubatch 1, layer 2, phase "
                             "attention (compute lane); its thread uses no core"
                           : "rank 1 is late: it computes since 4.0 s in ubatch 1, layer 2, phase "
                             "attention (compute lane); where that is right, raise "
                             "execution.timeout_s");
  }
}

TEST(FailureReport, ARankThatDoesNotAnswerIsTheFinding) {
  const std::array states = {timed_out(in_op(0, Phase::combine, 2, true)),
                             in_op(1, Phase::experts, 2, false, 90),
                             RankState{.rank = 2}};
  const auto report = make_failure_report(states);
  ASSERT_EQ(report.late.size(), 1U);
  EXPECT_EQ(report.late[0].rank, 2);
  EXPECT_EQ(
      report.headline,
      "rank 2 does not answer: it is stopped or dead, or its host is lost; the others wait for "
      "it in ubatch 1, layer 2, phase combine");
}

TEST(FailureReport, AnErrorIsNamedWithWhatItsRankDid) {
  auto failed = at_rank(1);
  failed.exit_code = 3;
  failed.set_message("rank 1, ubatch 0, layer 3, phase experts: no luck");
  std::string_view("the context's fill").copy(failed.activity.data(), failed.activity.size());
  failed.iteration = -1;
  EXPECT_EQ(make_failure_report(std::array{at_rank(0), failed}).headline,
            "rank 1, ubatch 0, layer 3, phase experts: no luck (at the context's fill)");
}

// Where the experts of a rank are cut, the same phase of a layer is there once for each group.
TEST(FailureReport, AnOpOfAGroupIsNamedWithTheGroup) {
  OpBoard board;
  board.begin({.layer = 2, .phase = Phase::dispatch, .lane = Lane::comm, .waits = {}, .group = 3});
  OpBoard::note_wait();
  auto waits = board.look();
  waits.rank = 0;
  waits.open_ops[0].open_ns = 4000 * kMillisecond;
  auto stuck = in_op(1, Phase::experts, 2, false, 0);
  stuck.open_ops[0].group = 1;
  const std::array states = {timed_out(waits), stuck};
  const auto report = make_failure_report(states);
  EXPECT_EQ(report.headline,
            "rank 1 is late: it is stuck since 4.0 s in ubatch 1, layer 2, phase experts, group 1 "
            "(compute lane); its thread uses no core");
  EXPECT_EQ(report.ranks.at(0),
            "rank 0 waits since 4.0 s in ubatch 0, layer 2, phase dispatch, group 3 (comm lane); "
            "not done within 4000 ms");
  const auto document = nlohmann::json::parse(to_json_text(report, states));
  EXPECT_EQ(document["late"][0]["op"]["group"], 1);
  EXPECT_EQ(document["ranks"][0]["open_ops"][0]["group"], 3);
  board.end({.layer = 2, .phase = Phase::dispatch, .lane = Lane::comm, .waits = {}, .group = 3});
  board.begin({.layer = 2, .phase = Phase::route, .waits = {}});
  EXPECT_EQ(make_failure_report(std::array{timed_out(board.look())}).ranks.at(0).find("group"),
            std::string::npos);
}

// What began just now is not what the others have waited for.
TEST(FailureReport, AnOpThatWasJustBegunIsNotLate) {
  auto quick = in_op(2, Phase::experts, 0, false);
  quick.open_ops[0].open_ns = kMillisecond;
  const std::array states = {
      timed_out(in_op(0, Phase::dispatch, 2, true)), in_op(1, Phase::dispatch, 2, false, 0), quick};
  const auto report = make_failure_report(states);
  ASSERT_EQ(report.late.size(), 1U);
  EXPECT_EQ(report.late[0].rank, 1);
  EXPECT_EQ(report.late[0].op.phase, static_cast<int>(Phase::dispatch));
}

TEST(FailureReport, ARankThatIsGoneIsTheFindingWhateverTheOthersSay) {
  auto interrupted = in_op(0, Phase::dispatch, 3, true);
  interrupted.exit_code = 3;
  interrupted.set_message("interrupted by SIGTERM");
  RankState gone{.rank = 1, .gone = 1};
  gone.set_host("node7");
  const std::array states = {interrupted, gone, timed_out(at_rank(2))};
  const auto report = make_failure_report(states);
  EXPECT_TRUE(report.is_gone);
  EXPECT_EQ(
      to_text(report, 8),
      "rank 1 on host node7 is gone: killed, perhaps by the out-of-memory killer, or crashed\n"
      "  rank 0 waits since 4.0 s in ubatch 1, layer 3, phase dispatch (comm lane)\n"
      "  rank 2 is outside of ops since 0.0 s, at the start");
  const auto json = nlohmann::json::parse(to_json_text(report, states));
  EXPECT_EQ(json.at("cause"), "gone");
  EXPECT_EQ(json.at("late").at(0).at("kind"), "gone");
}

TEST(FailureReport, RanksInCallsOnFilesAreNamedWithTheFiles) {
  std::array states = {timed_out(at_rank(0)), timed_out(at_rank(1))};
  for (auto& state : states) {
    state.file_ns = 5000 * kMillisecond;
    state.file = {"/disk/rank.h5"};
  }
  const std::string stand =
      " is late: it is in a call on the file /disk/rank.h5 since 5.0 s, at the start; the file "
      "system does not answer";
  EXPECT_EQ(make_failure_report(states).headline, "rank 0" + stand + "; rank 1" + stand);
  states[0].file_ns = 10 * kMillisecond;  // as any call is for a while
  EXPECT_EQ(make_failure_report(states).headline, "rank 1" + stand);
}

TEST(FailureReport, ARankOutsideOfOpsIsLateWhereTheOthersWait) {
  auto writes = at_rank(1);
  writes.main_ns = 9000 * kMillisecond;
  writes.iteration = 7;
  std::string_view("a timed step").copy(writes.activity.data(), writes.activity.size());
  auto waits = timed_out(at_rank(0));
  waits.main_waits = 1;
  const auto report = make_failure_report(std::array{waits, writes});
  ASSERT_EQ(report.late.size(), 1U);
  EXPECT_EQ(report.late[0].rank, 1);
  EXPECT_EQ(report.headline,
            "rank 1 is late: it is outside of ops since 9.0 s, at a timed step, iteration 7");
}

TEST(FailureReport, NobodyIsLateWhereAllWaitForOneAnother) {
  const std::array states = {timed_out(in_op(0, Phase::dispatch, 2, true)),
                             timed_out(in_op(1, Phase::combine, 1, true))};
  const auto report = make_failure_report(states);
  EXPECT_TRUE(report.is_timeout);
  EXPECT_TRUE(report.late.empty());
  EXPECT_EQ(report.headline, "the ranks wait for one another in vain");
}

TEST(FailureReport, JsonHoldsEveryRank) {
  const std::array states = {timed_out(in_op(0, Phase::dispatch, 2, true)),
                             in_op(1, Phase::attention, 2, false, 0)};
  const auto document = nlohmann::json::parse(to_json_text(make_failure_report(states), states));
  EXPECT_EQ(document["cause"], "timeout");
  EXPECT_EQ(document["late"][0]["rank"], 1);
  EXPECT_EQ(document["late"][0]["kind"], "stuck");
  EXPECT_EQ(document["late"][0]["op"]["phase"], "attention");
  EXPECT_EQ(document["ranks"].size(), 2U);
  EXPECT_EQ(document["ranks"][0]["open_ops"][0]["waits"], true);
}

TEST(FailureReport, AMessageThatIsTooLongIsCut) {
  RankState state;
  state.set_message(std::string(5000, 'x'));
  EXPECT_EQ(std::string(state.message.data()), std::string(state.message.size() - 1, 'x'));
}

TEST(OpBoard, ShowsOpsThatWereBegunAndNotEnded) {
  OpBoard board;
  const Op first = {.layer = 0, .ubatch = 0, .phase = Phase::attention, .waits = {}};
  const Op second = {
      .layer = 1, .ubatch = 3, .phase = Phase::dispatch, .lane = Lane::comm, .waits = {}};
  EXPECT_EQ(board.look().num_open_ops, 0);
  board.begin(first);
  board.end(first);
  board.begin(second);
  auto state = board.look();
  ASSERT_EQ(state.num_open_ops, 1);
  EXPECT_EQ(state.open_ops[0].ubatch, 3);
  EXPECT_EQ(state.open_ops[0].layer, 1);
  EXPECT_EQ(state.open_ops[0].phase, static_cast<int>(Phase::dispatch));
  EXPECT_EQ(state.open_ops[0].lane, static_cast<int>(Lane::comm));
  EXPECT_EQ(state.open_ops[0].group, kNoGroup);
  EXPECT_EQ(state.open_ops[0].waits, 0);
  OpBoard::note_wait();
  EXPECT_EQ(board.look().open_ops[0].waits, 1);
  board.end(second);
  EXPECT_EQ(board.look().num_open_ops, 0);
}

// Who waits outside of ops is the main thread, and a new activity has not waited yet.
TEST(OpBoard, ShowsTheFileCallThatIsOpenForLongest) {
  OpBoard board;
  EXPECT_EQ(board.look().file_ns, 0);
  const std::string first = "/disk/first";
  const std::string second = "/disk/second";
  {
    const FileWork outer(first);
    const FileWork inner(second);
    EXPECT_EQ(std::string(board.look().file.data()), first);
    EXPECT_GT(board.look().file_ns, 0);
  }
  EXPECT_EQ(board.look().file_ns, 0);
  const FileWork later(second);
  EXPECT_EQ(std::string(board.look().file.data()), second);
}

TEST(OpBoard, KnowsItsLastActivity) {
  OpBoard board;
  EXPECT_EQ(board.last_activity_ns(), 0);
  const Op op{.layer = 1, .ubatch = 0, .phase = Phase::experts, .lane = Lane::compute};
  auto is_later = [&, last = std::int64_t{0}]() mutable {
    const auto before = std::exchange(last, board.last_activity_ns());
    return last > before;
  };
  board.set_activity("a timed step", 0, 0);
  EXPECT_TRUE(is_later());
  board.begin(op);
  EXPECT_TRUE(is_later());
  EXPECT_FALSE(is_later());
  OpBoard::note_wait();
  EXPECT_TRUE(is_later());
  board.end(op);
  EXPECT_TRUE(is_later());
}

TEST(OpBoard, WaitsOfTheMainThread) {
  OpBoard board;
  board.set_activity("a timed step", 4, 1);
  EXPECT_EQ(board.look().main_waits, 0);
  OpBoard::note_wait();
  auto state = board.look();
  EXPECT_EQ(state.main_waits, 1);
  EXPECT_EQ(state.iteration, 4);
  EXPECT_EQ(std::string(state.activity.data()), "a timed step");
  board.set_activity("a profiled step");
  EXPECT_EQ(board.look().main_waits, 0);
}

TEST(OpBoard, MeasuresTheCoreThatAThreadUses) {
  OpBoard board;
  const Op asleep = {.layer = 0, .ubatch = 0, .phase = Phase::attention, .waits = {}};
  const Op busy = {.layer = 0, .ubatch = 1, .phase = Phase::attention, .waits = {}};
  std::atomic<bool> stop{false};
  std::atomic<int> started{0};
  std::thread sleeper([&] {
    board.begin(asleep);
    for (++started; !stop;) {
      std::this_thread::sleep_for(std::chrono::milliseconds(700));
    }
  });
  std::thread worker([&] {
    board.begin(busy);
    for (++started; !stop;) {
    }
  });
  while (started < 2) {
    std::this_thread::yield();
  }
  auto state = board.look();
  board.measure_cpu_use(state);  // open for too short a time
  EXPECT_EQ(state.open_ops[1].cpu_percent, -1);
  for (int i = 0; i < 2; ++i) {
    state.open_ops[static_cast<std::size_t>(i)].open_ns = 2000 * kMillisecond;
  }
  board.measure_cpu_use(state);
  stop = true;
  sleeper.join();
  worker.join();
  ASSERT_EQ(state.num_open_ops, 2);
  EXPECT_GT(state.open_ops[1].cpu_percent, 0);
  EXPECT_LE(state.open_ops[0].cpu_percent, 1);
  EXPECT_GE(state.open_ops[0].cpu_percent, 0);
}

}  // namespace
}  // namespace dovetail::test
