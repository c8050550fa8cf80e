// The table of what exchanges take, by which one is chosen.
#include "framework/plan/exchange_times.hpp"

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/config/comm_sms.hpp"
#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

using testing::input_error_of;

/// The other calls of a layer take a half of the dispatch together.
std::string row(const std::string& exchange,
                int tokens,
                double us,
                const std::string& mode = "eager",
                const std::string& more = R"("routing": "balanced", "wrong_words": 0)") {
  return R"({"exchange": ")" + exchange + R"(", "tokens": )" + std::to_string(tokens) +
         R"(, "comm_sms": 8, "mode": ")" + mode + R"(", "dispatch_us": )" + std::to_string(us) +
         R"(, "combine_us": )" + std::to_string(us / 4) + R"(, "prepare_us": 0, "arrange_us": )" +
         std::to_string(us / 8) + R"(, "reduce_us": )" + std::to_string(us / 16) +
         R"(, "finish_us": )" + std::to_string(us / 16) + ", " + more + "}";
}

std::string table(const std::string& rows, const std::string& version = "2") {
  return R"({"version": )" + version +
         R"(, "device": "H200", "nccl": "2.28.9", "dtype": "bfloat16", "ranks": 2,
  "ranks_per_host": 2, "hidden": 7168, "experts": 256, "top_k": 8, "rows": [)" +
         rows + "]}";
}

ExchangeTimes parse(const std::string& rows) {
  return parse_exchange_times(table(rows), "t.json");
}

const std::string kRows = row("gather", 10, 20) + "," + row("gather", 30, 40) + "," +
                          row("padded", 10, 200) + "," + row("padded", 30, 4, "graph");

ExchangeTimesSetting own_setting() {
  return parse(kRows).setting;
}

TEST(ExchangeTimes, AreReadAtAnySize) {
  const auto times = parse(kRows);
  const auto gather_us = [&](std::int64_t tokens) {
    return exchange_us(times, {.tokens = tokens, .comm_sms = 8}).at("gather");
  };
  EXPECT_DOUBLE_EQ(gather_us(1), 30);
  EXPECT_DOUBLE_EQ(gather_us(10), 30);
  EXPECT_DOUBLE_EQ(gather_us(15), 37.5);
  EXPECT_DOUBLE_EQ(gather_us(30), 60);
  EXPECT_DOUBLE_EQ(gather_us(90), 180);
  const auto graphs = exchange_us(times, {.tokens = 30, .comm_sms = 8, .is_graph = true});
  EXPECT_EQ(graphs, (std::map<std::string, double>{{"padded", 6}}));
  EXPECT_EQ(input_error_of([&] { exchange_us(times, {.tokens = 1, .comm_sms = 4}); }),
            "t.json: the table of exchanges has no row for eager, comm_sms 4; it has: eager, "
            "comm_sms 8; graph, comm_sms 8");
}

/// The faster dispatch is the slower exchange where its other calls take longer.
TEST(ExchangeTimes, AreOfAllCallsOfALayer) {
  for (const std::string call : {"prepare", "arrange", "reduce", "combine", "finish"}) {
    auto slow = row("gather", 10, 16);
    const auto at = slow.find("\"" + call + "_us\": ") + call.size() + 7;
    slow.replace(at, slow.find(',', at) - at, "500");
    const auto us =
        exchange_us(parse(slow + "," + row("ragged", 10, 160)), {.tokens = 10, .comm_sms = 8});
    EXPECT_GT(us.at("gather"), 500) << call;
    EXPECT_DOUBLE_EQ(us.at("ragged"), 240) << call;
  }
}

/// An exchange that nothing bounds is compared by what was measured with most SMs.
TEST(ExchangeTimes, OfAllSmsAreThoseOfMost) {
  auto times = parse(kRows + "," + row("gather", 10, 2) + "," + row("padded", 10, 1, "graph"));
  const ExchangeUse use = {.tokens = 10, .comm_sms = kAllSms};
  times.rows[times.rows.size() - 2].comm_sms = 32;
  times.rows.back().comm_sms = 64;
  EXPECT_EQ(exchange_us(times, use), (std::map<std::string, double>{{"gather", 3}}));
  EXPECT_EQ(input_error_of([&] { exchange_us(parse(row("gather", 1, 1, "graph")), use); }),
            "t.json: the table of exchanges has no row for eager, comm_sms all; it has: graph, "
            "comm_sms 8");
}

/// Where experts are cut, an exchange is compared by what was measured so; a table without such
/// rows decides by those without groups.
TEST(ExchangeTimes, GroupsHaveRowsOfTheirOwn) {
  const auto groups = [](int number) {
    return R"("routing": "balanced", "wrong_words": 0, "groups": )" + std::to_string(number);
  };
  const auto times = parse(kRows + "," + row("gather", 10, 2, "eager", groups(1)) + "," +
                           row("symmetric", 10, 100, "eager", groups(2)));
  const auto us = [&](int number) {
    return exchange_us(times, {.tokens = 10, .comm_sms = 8, .num_groups = number});
  };
  using Times = std::map<std::string, double>;
  EXPECT_EQ(us(1), (Times{{"gather", 3}, {"padded", 300}}));
  EXPECT_EQ(us(2), (Times{{"symmetric", 150}}));
  EXPECT_EQ(us(4), us(1));
  EXPECT_EQ(exchange_us(times, {.tokens = 10, .comm_sms = kAllSms, .num_groups = 2}), us(2));
  const auto cut = parse(row("symmetric", 10, 100, "eager", groups(2)));
  EXPECT_EQ(input_error_of([&] { exchange_us(cut, {.tokens = 1, .comm_sms = 8}); }),
            "t.json: the table of exchanges has no row for eager, comm_sms 8; it has: eager, "
            "comm_sms 8, groups 2");
  EXPECT_EQ(
      input_error_of([&] { exchange_us(cut, {.tokens = 1, .comm_sms = 8, .num_groups = 4}); }),
      "t.json: the table of exchanges has no row for eager, comm_sms 8, groups 4 or 1; it "
      "has: eager, comm_sms 8, groups 2");
}

TEST(ExchangeTimes, CeilingsAndOtherRoutingsAreLeftOut) {
  const auto other = row("gather", 20, 1, "eager", R"("routing": "zipf", "wrong_words": 0)");
  auto ceiling = row("(put)", 10, 1);
  ceiling.replace(ceiling.find("0.25"), std::string("0.250000").size(), "null");  // no combine
  EXPECT_EQ(parse(kRows + "," + other + "," + ceiling).rows.size(), parse(kRows).rows.size());
}

TEST(ExchangeTimes, AnotherCardOrTopologyIsRefusedByName) {
  const auto times = parse(kRows);
  EXPECT_NO_THROW(check_exchange_setting(times, own_setting()));
  EXPECT_NO_THROW(check_exchange_setting(times, {}));  // nothing is known
  auto other = own_setting();
  other.device = "H100";
  other.ranks_per_host = 1;
  EXPECT_EQ(input_error_of([&] { check_exchange_setting(times, other); }),
            "t.json: the table of exchanges is of another setting: device: measured with H200, "
            "this run has H100; ranks_per_host: measured with 2, this run has 1; allowed: a table "
            "measured for this run, or exchange auto");
  for (const auto member : {&ExchangeTimesSetting::ranks,
                            &ExchangeTimesSetting::hidden,
                            &ExchangeTimesSetting::experts,
                            &ExchangeTimesSetting::top_k}) {
    auto changed = own_setting();
    changed.*member += 1;
    EXPECT_THROW(check_exchange_setting(times, changed), InputError);
  }
  for (const auto member : {&ExchangeTimesSetting::nccl, &ExchangeTimesSetting::dtype}) {
    auto changed = own_setting();
    changed.*member += "x";
    EXPECT_THROW(check_exchange_setting(times, changed), InputError);
  }
}

TEST(ExchangeTimes, BadTablesAreRefusedWithTheirPlace) {
  const auto error_of = [](const std::string& text) {
    return input_error_of([&] { parse_exchange_times(text, "t.json"); });
  };
  EXPECT_EQ(error_of(table(kRows, "1")), "t.json: version: only version 2 is known to this build");
  const auto wrong = row("gather", 20, 1, "eager", R"("routing": "balanced", "wrong_words": 3)");
  EXPECT_EQ(error_of(table(kRows + "," + wrong)),
            "t.json: rows[4].wrong_words: measured with wrong results; allowed: 0");
  EXPECT_EQ(error_of(table(row("gather", 20, 1, "lazy"))),
            "t.json: rows[0].mode: 'lazy'; allowed: eager, graph");
  for (const std::string bad : {"", "[]", "{}", "{\"version\": 1}"}) {
    EXPECT_EQ(error_of(bad).find("t.json"), 0U) << bad;
  }
  EXPECT_EQ(error_of(table(row("gather", 0, 1))).find("t.json: rows[0].tokens"), 0U);
  const auto none = R"("routing": "balanced", "wrong_words": 0, "groups": 0)";
  EXPECT_EQ(error_of(table(row("gather", 1, 1, "eager", none))).find("t.json: rows[0].groups"), 0U);
}

}  // namespace
}  // namespace dovetail
