// Schedules from files: what is written is what is read, and everything that could go wrong in a
// run is refused with the file's name and the reason.
#include "framework/plan/schedule_file.hpp"

#include <algorithm>
#include <fstream>
#include <functional>
#include <random>

#include <gtest/gtest.h>

#include "framework/base/scratch_folder.hpp"
#include "framework/config/schedule_rules.hpp"
#include "framework/plan/policy.hpp"
#include "framework/plan/schedule_check.hpp"
#include "framework/plan/schedule_json.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/pipe_file.hpp"
#include "tests/unit/plan/random_schedule.hpp"

namespace dovetail {
namespace {

using testing::kDense;
using testing::kMoe;
using testing::kShared;

class ScheduleFile : public ::testing::Test {
 protected:
  std::string write(const std::string& text) {
    const auto path = (folder_.path() / "own.json").string();
    std::ofstream(path) << text;
    return path;
  }

  /// what() of the InputError, which must begin with the file's name; that is left out.
  std::string refusal(const std::string& text, const ModelShape& model, int num_ubatches = 0) {
    const auto path = write(text);
    const auto what =
        testing::input_error_of([&] { read_schedule_file(path, model, num_ubatches); });
    EXPECT_TRUE(what.empty() || what.starts_with(path + ": ")) << what;
    return what.substr(std::min(what.size(), path.size() + 2));
  }

  std::string refusal(const Schedule& schedule) {
    return refusal(schedule_to_json(schedule), {schedule.layers});
  }

  static Schedule dual_batch(std::vector<LayerShape> layers) {
    return policies().at("dual_batch").make_schedule({{std::move(layers)}, WorkPhase::prefill, 2});
  }

  ScratchFolder folder_;
};

int find_op(const Schedule& schedule, Phase phase, int layer, int ubatch) {
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    const Op& op = schedule.ops[i];
    if (op.phase == phase && op.layer == layer && op.ubatch == ubatch) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

Op& op_at(Schedule& schedule, Phase phase, int layer, int ubatch) {
  return schedule.ops.at(static_cast<std::size_t>(find_op(schedule, phase, layer, ubatch)));
}

/// Moves an op to another place and renumbers the waits.
void move_op(Schedule& schedule, int from, int to) {
  std::vector<int> order(schedule.ops.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    order[i] = static_cast<int>(i);
  }
  order.erase(order.begin() + from);
  order.insert(order.begin() + to, from);
  std::vector<int> place(order.size());
  std::vector<Op> ops;
  for (std::size_t i = 0; i < order.size(); ++i) {
    place[static_cast<std::size_t>(order[i])] = static_cast<int>(i);
    ops.push_back(schedule.ops[static_cast<std::size_t>(order[i])]);
  }
  for (auto& op : ops) {
    for (auto& wait : op.waits) {
      wait = place[static_cast<std::size_t>(wait)];
    }
    std::sort(op.waits.begin(), op.waits.end());
  }
  schedule.ops = ops;
}

/// Removes an op and renumbers the waits.
void drop_op(Schedule& schedule, int index) {
  schedule.ops.erase(schedule.ops.begin() + index);
  for (auto& op : schedule.ops) {
    std::erase(op.waits, index);
    for (auto& wait : op.waits) {
      wait -= wait > index ? 1 : 0;
    }
  }
}

TEST_F(ScheduleFile, ReadsWhatWasWritten) {
  EXPECT_TRUE(is_schedule_file("folder/own.json"));
  EXPECT_FALSE(is_schedule_file("dual_batch"));
  std::mt19937_64 random(testing::fresh_seed());
  for (int i = 0; i < 100; ++i) {
    const auto schedule = testing::random_schedule(random);
    const auto path = write(schedule_to_json(schedule));
    EXPECT_EQ(read_schedule_file(path, {schedule.layers}, 0), schedule);
    EXPECT_EQ(read_schedule_file(path, {schedule.layers}, schedule.num_ubatches), schedule);
  }
}

TEST_F(ScheduleFile, MustFitTheModel) {
  const auto text = schedule_to_json(dual_batch({kMoe, kDense, kShared}));
  EXPECT_EQ(refusal(text, {{kMoe, kDense, kShared}}), "");
  EXPECT_EQ(refusal(text, {{kMoe, kMoe, kShared}}),
            "layers[1] is dense, layer 1 of the model is MoE");
  EXPECT_EQ(refusal(text, {{kMoe, kDense, kMoe}}),
            "layers[2] is MoE with shared experts, layer 2 of the model is MoE");
  EXPECT_EQ(refusal(text, {{kMoe, kDense}}), "a schedule of 3 layers for a model of 2 layers");
  EXPECT_EQ(refusal(text, {{kMoe, kDense, kShared, kShared}}),
            "a schedule of 3 layers for a model of 4 layers");
  EXPECT_EQ(refusal(text, {{kMoe, kDense, kShared}}, 3),
            "a schedule of 2 ubatches, the policy states 3; allowed: the same number, or none");
}

TEST_F(ScheduleFile, MustNotSkipAnOp) {
  auto schedule = dual_batch({kMoe, kMoe});
  drop_op(schedule, find_op(schedule, Phase::combine, 1, 0));
  EXPECT_EQ(refusal(schedule),
            "schedule 'dual_batch' is wrong: combine of layer 1 of ubatch 0 is missing");
}

TEST_F(ScheduleFile, MustNotDoAnOpTwice) {
  auto schedule = dual_batch({kMoe});
  schedule.ops.push_back(schedule.ops[3]);
  EXPECT_EQ(refusal(schedule),
            "schedule 'dual_batch' is wrong: op 14 (dispatch, layer 0, ubatch 0) is there already "
            "as op 3");
}

TEST_F(ScheduleFile, MustNotExchangeInOrdersThatCouldDifferBetweenRanks) {
  auto schedule = dual_batch({kMoe});
  auto& dispatch = op_at(schedule, Phase::dispatch, 0, 1);
  dispatch.lane = Lane::compute;  // beside the dispatch of ubatch 0 on the comm lane
  dispatch.waits.clear();
  op_at(schedule, Phase::experts, 0, 1).waits.clear();
  EXPECT_NE(refusal(schedule).find("op 7 (dispatch, layer 0, ubatch 1) can start before op 3 "
                                   "(dispatch, layer 0, ubatch 0) is done, so ranks could exchange "
                                   "in different orders"),
            std::string::npos)
      << refusal(schedule);
  dispatch.waits = {3};
  EXPECT_EQ(refusal(schedule), "");
}

TEST_F(ScheduleFile, MustNotReadKeysBeforeTheyAreWritten) {
  auto schedule = dual_batch({kMoe, kMoe});
  // attention, route and dispatch of ubatch 1 in front of those of ubatch 0, each legal by itself
  const int to = find_op(schedule, Phase::attention, 1, 0);
  const int from = find_op(schedule, Phase::attention, 1, 1);
  for (int i = 0; i < 3; ++i) {
    move_op(schedule, from + i, to + i);
  }
  EXPECT_NE(refusal(schedule).find("(attention, layer 1, ubatch 1) can start before op 15 "
                                   "(attention, layer 1, ubatch 0) is done, whose keys and values "
                                   "it may read"),
            std::string::npos)
      << refusal(schedule);
}

TEST_F(ScheduleFile, MustNotWaitForItselfOrLaterOps) {
  auto schedule = dual_batch({kMoe});
  const int combine = find_op(schedule, Phase::combine, 0, 0);
  op_at(schedule, Phase::dispatch, 0, 0).waits = {2, combine};  // a cycle through the experts
  EXPECT_EQ(refusal(schedule),
            "schedule 'dual_batch' is wrong: op 3 (dispatch, layer 0, ubatch 0) waits for op " +
                std::to_string(combine) + "; an op waits for ops before it only");
  op_at(schedule, Phase::dispatch, 0, 0).waits = {2, 3};
  EXPECT_NE(refusal(schedule).find("waits for op 3; an op waits"), std::string::npos);
}

TEST_F(ScheduleFile, MustWaitForWhatItNeeds) {
  auto schedule = dual_batch({kMoe});
  op_at(schedule, Phase::experts, 0, 0).waits.clear();
  EXPECT_NE(refusal(schedule).find("op 8 (experts, layer 0, ubatch 0) can start before op 3 "
                                   "(dispatch, layer 0, ubatch 0) is done, whose result it needs"),
            std::string::npos)
      << refusal(schedule);
}

TEST_F(ScheduleFile, MustKeepComputeOffTheCommLane) {
  auto schedule = dual_batch({kMoe});
  op_at(schedule, Phase::experts, 0, 0).lane = Lane::comm;
  EXPECT_NE(refusal(schedule).find("op 8 (experts, layer 0, ubatch 0) is on the comm lane; only "
                                   "dispatch and combine may be"),
            std::string::npos)
      << refusal(schedule);
}

TEST_F(ScheduleFile, NamesThePlaceOfWhatIsNoSchedule) {
  const auto text = schedule_to_json(dual_batch({kMoe}));
  const ModelShape model{{kMoe}};
  const auto with = [&](const std::string& from, const std::string& to) {
    auto changed = text;
    const auto at = changed.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return refusal(changed.replace(at, from.size(), to), model);
  };
  EXPECT_EQ(with("\"ubatch\": 0, \"lane\": \"compute\"", "\"ubatch\": 0, \"lane\": \"gpu\""),
            "ops[0].lane: unknown lane 'gpu'; allowed: compute, comm");
  EXPECT_TRUE(with("\"route\"", "\"rout\"").starts_with("ops[2].phase: unknown phase 'rout'; "));
  EXPECT_EQ(with("\"ubatch\": 1", "\"ubatch\": -1"),
            "ops[4].ubatch: an integer from 0 to 2147483647 is needed, not -1");
  EXPECT_EQ(with("{\"op\": 5", "{\"op\": 6"),
            "ops[5].op: ops are numbered from 0 in order; 5 is due");
  EXPECT_EQ(with("\"waits\": [2]", "\"waits\": [\"2\"]"),
            "ops[3].waits: an integer from 0 to 2147483647 is needed, not \"2\"");
  EXPECT_EQ(with("\"op\": 1,", "\"op\": 1, \"op\": 1,"),
            "line 7, byte 224: key 'op' is there twice in one object");
  EXPECT_TRUE(with("\"layers\": [", "\"layers\": ").starts_with("not JSON: "));
  EXPECT_NE(with("\"layers\": [", "\"layers\": ").find("at line 4, column"), std::string::npos)
      << with("\"layers\": [", "\"layers\": ");
  EXPECT_EQ(with("\"num_ubatches\": 2,", ""), "key 'num_ubatches' is missing");
  EXPECT_EQ(with("\"num_ubatches\": 2", "\"num_ubatches\": 9"),
            "schedule 'dual_batch' is wrong: the schedule has 9 ubatches; allowed: 1 to 8");
  EXPECT_TRUE(refusal("", model).starts_with("not JSON: "));
  EXPECT_EQ(refusal(std::string(60'000, '[') + std::string(60'000, ']'), model),
            "line 1, byte 16: values too deep within each other; allowed: at most 16 arrays and "
            "objects");
  EXPECT_EQ(refusal(std::string(16, '[') + std::string(16, ']'), model),
            "an object is needed, not array");
  EXPECT_EQ(refusal("\"\\\"" + std::string(60, '[') + "\"", model),
            "an object is needed, not string")
      << "brackets in a string open nothing";
  EXPECT_EQ(refusal("[]", model), "an object is needed, not array");
}

TEST_F(ScheduleFile, MustBeAFile) {
  for (const auto& [path, reason] :
       {std::pair(folder_.path() / "absent.json", "No such file or directory"),
        std::pair(folder_.path(), "not a regular file")}) {
    const auto file = path.string();
    EXPECT_EQ(testing::input_error_of([&] { read_schedule_file(file, {{kMoe}}, 0); }),
              file + ": cannot be opened or read: " + reason + "; allowed: a schedule in JSON");
  }
  const auto pipe = (folder_.path() / "pipe").string();
  testing::expect_pipe_refused(pipe, [&] { read_schedule_file(pipe, {{kMoe}}, 0); });
}

/// Random edits of a good file: it is refused, or it holds a schedule that is proven.
TEST_F(ScheduleFile, MutationsAreRefusedOrProven) {
  std::mt19937_64 random(testing::fresh_seed());
  int refused = 0;
  int changed = 0;
  for (int round = 0; round < 1500; ++round) {
    const auto original = dual_batch({kMoe, kShared});
    auto schedule = original;
    const auto size = static_cast<int>(schedule.ops.size());
    const int a = static_cast<int>(random() % schedule.ops.size());
    const int b = static_cast<int>(random() % schedule.ops.size());
    switch (random() % 5) {
      case 0:
        drop_op(schedule, a);
        break;
      case 1:
        move_op(schedule, a, b);
        break;
      case 2:
        schedule.ops[static_cast<std::size_t>(a)].waits.clear();
        break;
      case 3:
        schedule.ops[static_cast<std::size_t>(a)].waits = {b % size};
        break;
      default:
        auto& lane = schedule.ops[static_cast<std::size_t>(a)].lane;
        lane = lane == Lane::comm ? Lane::compute : Lane::comm;
    }
    const auto what = refusal(schedule);
    EXPECT_EQ(what.empty(), schedule_errors(schedule).empty());
    refused += what.empty() ? 0 : 1;
    changed += schedule == original ? 0 : 1;
  }
  EXPECT_GT(refused, changed / 2) << "most edits break a schedule";
  EXPECT_LT(refused, changed);
}

}  // namespace
}  // namespace dovetail
