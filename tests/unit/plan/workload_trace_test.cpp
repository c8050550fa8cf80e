// Requests of a trace: ids, ranks, rules.
#include <array>
#include <random>
#include <tuple>
#include <utility>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/plan/planned_requests.hpp"
#include "framework/plan/workload.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/unit/plan/workload_world.hpp"

namespace dovetail {
namespace {

RequestTrace trace_of(const std::string& text) {
  return parse_request_trace(text, "trace.jsonl");
}

WorkloadConfig traced(WorkPhase phase = WorkPhase::mixed) {
  WorkloadConfig config;
  config.phase = phase;
  config.requests = {RequestFile{"trace.jsonl"}};
  return config;
}

TEST(Workload, TracesGiveIdsOfTheFirstStepAndRanks) {
  const auto trace = trace_of(
      "{\"length\": 3}\n"
      "{\"input_ids\": [5, 999, 0], \"context_length\": 2, \"rank\": 1}\n"
      "{\"length\": 4, \"rank\": 1}\n"
      "{\"length\": 5}\n");
  auto config = traced();
  config.steps = 2;
  EXPECT_EQ(requests_per_rank(config, &trace, 2), (std::vector<std::int64_t>{2, 2}));
  const auto first = make_workload(config, &trace, kVocabulary, 2, Rank(0));
  EXPECT_EQ(first.steps[0].batch.requests[0].id, 0);
  EXPECT_EQ(first.steps[0].batch.requests[1].id, 3);
  const World world = all_ranks(config, 2, &trace);
  EXPECT_EQ(std::get<1>(world.tokens.at({1, 2})), 5);
  EXPECT_EQ(std::get<1>(world.tokens.at({1, 3})), 999);
  EXPECT_EQ(std::get<1>(world.tokens.at({1, 4})), 0);
  EXPECT_EQ(world.kv_tokens.at(1), 2 + 2 * 3);
  // One rank can hold all of it only if no line names another.
  const auto free_trace = trace_of("{\"length\": 3}\n{\"input_ids\": [5, 7]}\n{\"length\": 1}");
  for (const int world_size : {2, 3, 5}) {
    EXPECT_EQ(all_ranks(config, world_size, &free_trace), all_ranks(config, 1, &free_trace));
  }
  const auto with_context = trace_of("{\"context_ids\": [7, 6], \"input_ids\": [5]}");
  const World contexts = all_ranks(config, 1, &with_context);
  EXPECT_EQ(std::get<1>(contexts.tokens.at({0, 0})), 7);
  EXPECT_EQ(std::get<1>(contexts.tokens.at({0, 1})), 6);
  EXPECT_EQ(std::get<1>(contexts.tokens.at({0, 2})), 5);
  const auto other = trace_of("{\"length\": 3}\n{\"input_ids\": [5, 8]}\n{\"length\": 1}");
  EXPECT_NE(all_ranks(config, 1, &other).digest, all_ranks(config, 1, &free_trace).digest);
}

/// A step computes one token of each; what is not given is seeded.
TEST(Workload, DecodeStepsTakeTheirTokensFromATrace) {
  const auto trace = trace_of(
      "{\"input_ids\": [5, 6, 7], \"context_ids\": [8, 9]}\n{\"input_ids\": [3], "
      "\"context_length\": 1}");
  auto config = traced(WorkPhase::decode);
  config.steps = 3;
  const auto workload = make_workload(config, &trace, kVocabulary, 1, Rank(0));
  ASSERT_EQ(workload.steps.size(), 3U);
  for (int step = 0; step < 3; ++step) {
    const auto& of_step = workload.steps[static_cast<std::size_t>(step)];
    EXPECT_EQ(of_step.batch.requests[0].query_length, 1);
    EXPECT_EQ(of_step.batch.requests[0].context_length, 2 + step);
    EXPECT_EQ(of_step.input_ids.at(0), 5 + step);
    EXPECT_EQ(of_step.input_ids.size(), 2U);
  }
  EXPECT_EQ(workload.steps[0].input_ids.at(1), 3);
  EXPECT_EQ(workload.kv_tokens.at(0), 2 + 3);
  const auto other = trace_of(
      "{\"input_ids\": [5, 6, 8], \"context_ids\": [8, 9]}\n{\"input_ids\": [3], "
      "\"context_length\": 1}");
  EXPECT_NE(make_workload(config, &other, kVocabulary, 1, Rank(0)).digest, workload.digest);
}

TEST(Workload, TracedRequestsGoToTheLeastLoadedRank) {
  std::string lines;
  for (int i = 0; i < 12; ++i) {
    lines += "{\"length\": 1}\n";
  }
  const auto trace = trace_of(lines);
  auto config = traced();
  EXPECT_EQ(requests_per_rank(config, &trace, 5), (std::vector<std::int64_t>{3, 3, 2, 2, 2}));
  config.rank_scale = {1.0, 0.5, 0.0, 1.5};
  EXPECT_EQ(requests_per_rank(config, &trace, 4), (std::vector<std::int64_t>{4, 2, 0, 6}));
  EXPECT_EQ(make_workload(config, &trace, 10, 4, Rank(3)).steps[0].batch.requests[0].id, 0)
      << "1 / 1.5 is the least";
  const auto to_idle = trace_of("{\"length\": 1, \"rank\": 2}\n{\"length\": 1}\n");
  EXPECT_EQ(requests_per_rank(config, &to_idle, 4), (std::vector<std::int64_t>{0, 0, 1, 1}));
  config.rank_scale = {0.0, 0.0};
  EXPECT_THROW(requests_per_rank(config, &trace, 2), InputError);
  // By tokens, not by requests; by contexts where tokens are equal.
  config = traced();
  const auto uneven =
      trace_of("{\"length\": 4000}\n{\"length\": 10}\n{\"length\": 4000}\n{\"length\": 10}\n");
  EXPECT_EQ(make_workload(config, &uneven, 10, 2, Rank(0)).steps[0].batch.num_tokens(), 4010);
  const auto contexts = trace_of(
      "{\"length\": 1, \"context_length\": 500}\n{\"length\": 1, \"context_length\": 20}\n"
      "{\"length\": 1, \"context_length\": 30}\n{\"length\": 1, \"context_length\": 40}\n");
  EXPECT_EQ(make_workload(config, &contexts, 10, 2, Rank(1)).kv_tokens,
            (std::vector<std::int64_t>{21, 31}));
}

/// The plain way, over all ranks for each request.
std::vector<int> plain_ranks(const RequestTrace& trace, const std::vector<double>& scales) {
  std::vector<std::int64_t> step(scales.size());
  std::vector<std::int64_t> context(scales.size());
  std::vector<int> ranks;
  for (const TraceRequest& line : trace.requests) {
    int best = line.rank.value_or(-1);
    std::pair<double, double> least;
    for (std::size_t rank = 0; !line.rank && rank < scales.size(); ++rank) {
      const std::pair load = {
          static_cast<double>(step[rank] + line.length) / scales[rank],
          static_cast<double>(context[rank] + line.context_length) / scales[rank]};
      if (scales[rank] > 0.0 && (best < 0 || load < least)) {
        best = static_cast<int>(rank);
        least = load;
      }
    }
    step[static_cast<std::size_t>(best)] += line.length;
    context[static_cast<std::size_t>(best)] += line.context_length;
    ranks.push_back(best);
  }
  return ranks;
}

TEST(Workload, TracedRequestsGoWhereThePlainWayPutsThem) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; ++round) {
    const auto world_size = 1 + random() % 9;
    auto config = traced();
    for (std::size_t rank = 0; rank < world_size; ++rank) {
      config.rank_scale.push_back(
          std::array<double, 5>{1.0, 1.0, 0.5, 1.0 / 3.0, 0.0}[rank == 0 ? 0 : random() % 5]);
    }
    std::string lines;
    for (auto left = 1 + random() % 60; left > 0; --left) {
      lines += "{\"length\": " + std::to_string(1 + random() % 3) +
               ", \"context_length\": " + std::to_string(random() % 4);
      lines += random() % 5 == 0 ? ", \"rank\": " + std::to_string(random() % world_size) : "";
      lines += "}\n";
    }
    const auto trace = trace_of(lines);
    const auto planned = plan_requests(config, &trace, static_cast<int>(world_size));
    std::vector<int> ranks;
    ranks.reserve(planned.size());
    for (const PlannedRequest& request : planned) {
      ranks.push_back(request.rank);
    }
    ASSERT_EQ(ranks, plain_ranks(trace, config.rank_scale)) << lines;
  }
}

/// In the plain way this takes an hour.
TEST(Workload, ATraceOfAMillionRequestsOnManyRanks) {
  RequestTrace trace;
  trace.file = "long.jsonl";
  constexpr std::int64_t num_requests = testing::kSanitized ? 100'000 : 1'000'000;
  trace.requests.assign(num_requests, {.length = 2, .context_length = 1});
  const auto counts = requests_per_rank(traced(), &trace, 1000);
  EXPECT_EQ(counts, std::vector<std::int64_t>(1000, num_requests / 1000));
}

TEST(Workload, RulesOfATrace) {
  const auto error = [](const WorkloadConfig& config, const std::string& text, int world_size) {
    const auto trace = trace_of(text);
    return testing::input_error_of(
        [&] { make_workload(config, &trace, kVocabulary, world_size, Rank(0)); });
  };
  const std::string good = "{\"length\": 1}\n";
  EXPECT_EQ(error(traced(), good + "{\"length\": 2, \"rank\": 1}", 2), "");
  EXPECT_EQ(error(traced(), good + "{\"length\": 2, \"rank\": 2}", 2),
            "trace.jsonl:2: rank 2 in a world of 2; allowed: 0 to 1");
  EXPECT_EQ(error(traced(), good + "{\"input_ids\": [3, 1000]}", 2),
            "trace.jsonl:2: input_ids[1] is 1000, outside of the vocabulary; allowed: 0 to 999");
  EXPECT_EQ(error(traced(), good + "{\"length\": 1, \"context_ids\": [1000]}", 2),
            "trace.jsonl:2: context_ids[0] is 1000, outside of the vocabulary; allowed: 0 to 999");
  auto random = traced();
  random.context = ContextFill::random;
  EXPECT_EQ(error(random, "{\"length\": 1, \"context_ids\": [1]}", 2),
            "trace.jsonl:1: context_ids without forward passes from tokens to a context; allowed: "
            "context_length, or workload.inputs ids and workload.context prefill");
  EXPECT_EQ(error(traced(), good + "{\"context_length\": 2}", 2),
            "trace.jsonl:2: neither length nor input_ids; allowed in the phase mixed: one of them");
  const auto decode = traced(WorkPhase::decode);
  EXPECT_EQ(error(decode, good + "{\"context_length\": 2}\n{}\n{\"input_ids\": [4]}", 2), "");
  EXPECT_EQ(error(decode, good + "{\"length\": 2}", 2),
            "trace.jsonl:2: 2 tokens in the phase decode; allowed: a length of 1, or none, or "
            "input_ids of at most workload.steps = 1");
  EXPECT_NE(error(decode, good + "{\"input_ids\": [4, 4]}", 2), "");
  auto steps = decode;
  steps.steps = 2;
  EXPECT_EQ(error(steps, good + "{\"input_ids\": [4, 4]}", 2), "");
  EXPECT_NE(error(steps, good + "{\"input_ids\": [4, 4, 4]}", 2), "");
  EXPECT_NE(error(steps, good + "{\"length\": 2}", 2), "");
  auto embeds = traced();
  embeds.inputs.kind = InputKind::embeds;
  EXPECT_EQ(error(embeds, good, 2), "");
  EXPECT_EQ(error(embeds, "{\"input_ids\": [4]}", 2),
            "trace.jsonl:1: input_ids with workload.inputs embeds; allowed: length");
  EXPECT_NE(error(embeds, "{\"length\": 1, \"context_ids\": [4]}", 2), "");
  auto hidden = traced();
  hidden.inputs.kind = InputKind::hidden;
  EXPECT_EQ(error(hidden, "{\"length\": 1, \"context_length\": 3}", 2),
            "trace.jsonl:1: a context_length with workload.inputs hidden; allowed: 0, or "
            "workload.context random");
  hidden.context = ContextFill::random;
  EXPECT_EQ(error(hidden, "{\"length\": 1, \"context_length\": 3}", 2), "");
  EXPECT_NE(error(hidden, "{\"input_ids\": [4]}", 2), "");
}

}  // namespace
}  // namespace dovetail
