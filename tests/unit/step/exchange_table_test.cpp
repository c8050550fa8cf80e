// The table of exchanges, and what is read from it by name.
#include "framework/comm/exchange/exchange_table.hpp"

#include <algorithm>
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/comm/exchange/exchanges.hpp"
#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

using testing::input_error_of;

/// What is built, in order: rows may be added behind those that are named here.
bool begins_and_ends(const std::string& text, const std::string& begin, const std::string& end) {
  return text.size() >= begin.size() + end.size() && text.compare(0, begin.size(), begin) == 0 &&
         text.compare(text.size() - end.size(), end.size(), end) == 0;
}

TEST(ExchangeTable, RowsAreWhole) {
  std::set<std::string> names;
  for (const auto& row : exchange_table()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name << " twice";
    EXPECT_NE(row.name, "auto");
    EXPECT_NE(row.summary, "") << row.name;
    for (const auto* side : {&row.on_host, &row.on_gpu}) {
      EXPECT_TRUE(!*side || ((*side)->make && (*side)->buffer_bytes)) << row.name;
    }
    EXPECT_TRUE(row.on_gpu || row.max_graph == GraphMode::none) << row.name;
    EXPECT_TRUE(row.on_host || row.auto_on_host.empty()) << row.name;
    EXPECT_TRUE(row.on_gpu || row.auto_on_gpu.empty()) << row.name;
  }
  for (const auto* name : {"gather", "ragged", "padded", "symmetric", "copy_engine"}) {
    EXPECT_EQ(names.count(name), 1U) << name;
  }
}

TEST(ExchangeTable, TheFastestOfThoseThatFit) {
  const std::map<std::string, double> us = {
      {"gather", 40}, {"padded", 30}, {"ragged", 20.4}, {"symmetric", 10}, {"unheard-of", 1}};
  const auto fastest =
      [&](bool on_gpu, GraphMode graph, const std::string& apart = "", int num_groups = 1) {
        return fastest_exchange(us, "t.json, 5 tokens", on_gpu, graph, num_groups, apart);
      };
  EXPECT_EQ(fastest(true, GraphMode::full).name, "symmetric");
  EXPECT_EQ(fastest(true, GraphMode::full, "far apart").name, "padded");
  EXPECT_EQ(fastest(true, GraphMode::none, "far apart").name, "ragged");
  EXPECT_EQ(fastest(false, GraphMode::none, "no matter").name, "ragged");
  EXPECT_EQ(fastest(false, GraphMode::none, "", 2).name, "ragged");
  // The others there take the experts of a rank as one.
  EXPECT_EQ(fastest(true, GraphMode::none, "", 2).reason,
            "auto by t.json, 5 tokens: symmetric 10 us");
  EXPECT_EQ(input_error_of([&] {
              fastest(true, GraphMode::none, "far apart", 2);
            }).find("t.json, 5 tokens: no exchange that can run here (far apart)"),
            0U);
  EXPECT_EQ(fastest(false, GraphMode::none).reason,
            "auto by t.json, 5 tokens: ragged 20 us; gather 40 us");
  EXPECT_EQ(input_error_of([] {
              fastest_exchange({{"symmetric", 1}}, "t.json", true, GraphMode::full, 1, "far apart");
            }),
            "t.json: no exchange that can run here (far apart); measured: symmetric");
}

TEST(ExchangeTable, AutoTakesOneOnEachKindOfDevice) {
  const auto& table = exchange_table();
  const auto count = [&](auto has_reason) {
    return std::count_if(table.begin(), table.end(), has_reason);
  };
  EXPECT_EQ(count([](const ExchangeRow& row) { return !row.auto_on_host.empty(); }), 1);
  EXPECT_EQ(
      count([](const ExchangeRow& row) { return !row.auto_on_gpu.empty() && !row.shares_memory; }),
      1);
  EXPECT_EQ(choose_exchange("auto").name, "ragged");
  EXPECT_EQ(choose_exchange("auto").reason,
            "auto: on host ranks ragged sends the fewest rows, gather is only its oracle");
  EXPECT_EQ(choose_exchange("auto", true).name, "symmetric");
  EXPECT_EQ(choose_exchange("auto", true).reason.find("auto: GPUs that reach each other"), 0U);
  const auto apart = choose_exchange("auto", true, "ranks 0 and 1 are on hosts a and b");
  EXPECT_EQ(apart.name, "gather");
  EXPECT_EQ(apart.reason.find("auto: not symmetric, because ranks 0 and 1 are on hosts a and b; on "
                              "GPUs gather never waits"),
            0U)
      << apart.reason;
  EXPECT_EQ(choose_exchange("auto", false, "no matter what").name, "ragged");
}

TEST(ExchangeTable, WhatIsBuiltIsTakenAsConfigured) {
  for (const bool on_gpu : {false, true}) {
    for (const auto& row : exchange_table()) {
      if (on_gpu ? row.on_gpu : row.on_host) {
        EXPECT_EQ(choose_exchange(row.name, on_gpu).name, row.name);
        EXPECT_EQ(choose_exchange(row.name, on_gpu).reason, "as configured");
      }
    }
  }
  for (const auto* name : {"gather", "ragged", "padded", "symmetric", "copy_engine"}) {
    EXPECT_EQ(choose_exchange(name, true).name, name);
  }
  EXPECT_EQ(max_graph_mode("gather"), GraphMode::full);
  EXPECT_EQ(max_graph_mode("padded"), GraphMode::full);
  EXPECT_EQ(max_graph_mode("symmetric"), GraphMode::full);
  EXPECT_EQ(max_graph_mode("copy_engine"), GraphMode::full);
  EXPECT_EQ(max_graph_mode("ragged"), GraphMode::piecewise);
}

TEST(ExchangeTable, WhatIsNotThereIsRefusedByName) {
  const ExchangeShape shape = {.num_experts = 1, .top_k = 1, .hidden = 1};
  const std::string built =
      "gather, ragged, padded (GPUs only), symmetric (GPUs only), copy_engine (GPUs only)";
  for (const auto& row : exchange_table()) {
    for (const bool on_gpu : {false, true}) {
      if (on_gpu ? row.on_gpu : row.on_host) {
        continue;
      }
      const auto text = input_error_of([&] { choose_exchange(row.name, on_gpu); });
      const auto start = "exchange '" + row.name + "' ";
      if (!row.is_built()) {
        EXPECT_TRUE(
            begins_and_ends(text, start + "is not built yet; built: " + built, ", and auto"))
            << text;
      } else if (on_gpu) {
        EXPECT_TRUE(begins_and_ends(
            text,
            start + "needs host ranks; on GPUs: gather, ragged, padded, symmetric, copy_engine",
            ", and auto"))
            << text;
      } else {
        EXPECT_TRUE(begins_and_ends(
            text, start + "needs GPUs; on host ranks: gather, ragged", ", and auto"))
            << text;
      }
      EXPECT_EQ(input_error_of([&] { make_exchange(row.name, on_gpu, shape, {}); }), text);
      EXPECT_EQ(input_error_of([&] { exchange_buffer_bytes(row.name, on_gpu, shape, 1, 1.0); }),
                text);
      if (on_gpu) {
        EXPECT_EQ(input_error_of([&] { max_graph_mode(row.name); }), text);
      }
    }
  }
  EXPECT_EQ(input_error_of([] { choose_exchange("padded"); }).find("exchange 'padded' needs GPUs"),
            0U);
  EXPECT_EQ(input_error_of([] {
              choose_exchange("raged");
            }).find("unknown exchange 'raged'; known: gather, ragged, padded"),
            0U);
}

TEST(ExchangeTable, TokensWithTooManyExpertsAreRefused) {
  for (const auto& row : exchange_table()) {
    for (const bool on_gpu : {false, true}) {
      const auto& side = on_gpu ? row.on_gpu : row.on_host;
      if (!side) {
        continue;
      }
      EXPECT_NO_THROW(check_top_k(row.name, on_gpu, side->max_top_k));
      if (side->max_top_k < std::numeric_limits<int>::max()) {
        EXPECT_EQ(input_error_of([&] { check_top_k(row.name, on_gpu, side->max_top_k + 1); }),
                  "exchange '" + row.name + "' on " + (on_gpu ? "GPUs" : "host ranks") +
                      " takes at most " + std::to_string(side->max_top_k) +
                      " experts a token; the model has " + std::to_string(side->max_top_k + 1));
      }
    }
  }
  EXPECT_NO_THROW(check_top_k("gather", true, 64));
  EXPECT_THROW(check_top_k("gather", true, 65), InputError);
  EXPECT_NO_THROW(check_top_k("ragged", false, 65));
}

TEST(ExchangeTable, PeopleReadWhereEachOneRuns) {
  const auto described = describe_exchanges();
  const auto& table = exchange_table();
  ASSERT_EQ(described.size(), table.size());
  const auto end_of = [&](const std::string& name) -> std::string {
    for (const auto& entry : described) {
      if (entry.name == name) {
        return entry.summary.substr(entry.summary.rfind('('));
      }
    }
    return "not listed";
  };
  EXPECT_EQ(end_of("gather"), "(CPU; GPU, graphs: full)");
  EXPECT_EQ(end_of("ragged"), "(CPU; GPU, graphs: piecewise)");
  EXPECT_EQ(end_of("padded"), "(GPU only, graphs: full)");
  EXPECT_EQ(end_of("symmetric"), "(GPU only, graphs: full)");
  EXPECT_EQ(end_of("copy_engine"), "(GPU only, graphs: full)");
}

TEST(ExchangeTable, BufferBytesGrowWithTokensAndCapacity) {
  const ExchangeShape shape = {
      .ep_size = 4, .num_experts = 8, .top_k = 2, .hidden = 16, .num_ubatches = 2};
  for (const auto& row : exchange_table()) {
    for (const auto* side : {&row.on_host, &row.on_gpu}) {
      if (*side) {
        const auto bytes = [&](std::int64_t tokens, double capacity) {
          return (*side)->buffer_bytes(shape, tokens, capacity);
        };
        EXPECT_GE(bytes(0, 1.0), 0) << row.name;
        EXPECT_LT(bytes(100, 1.0), bytes(200, 1.0)) << row.name;
        EXPECT_LE(bytes(100, 0.25), bytes(100, 1.0)) << row.name;
      }
    }
  }
  // A build without CUDA plans for GPUs, too.
  EXPECT_LT(exchange_buffer_bytes("padded", true, shape, 100, 0.25),
            exchange_buffer_bytes("padded", true, shape, 100, 1.0));
}

}  // namespace
}  // namespace dovetail
