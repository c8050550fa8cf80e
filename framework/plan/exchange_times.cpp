#include "framework/plan/exchange_times.hpp"

#include <algorithm>
#include <iterator>
#include <limits>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/base/json_reader.hpp"
#include "framework/base/registry.hpp"
#include "framework/base/strict_json.hpp"
#include "framework/base/text.hpp"
#include "framework/base/text_file.hpp"
#include "framework/config/comm_sms.hpp"

namespace dovetail {
namespace {

using nlohmann::json;

constexpr std::int64_t kMost = std::int64_t{1} << 40U;

/// Nothing for what the choice does not look at.
void read_row(const json& row, const std::string& place, std::vector<ExchangeTime>& rows) {
  check_json_keys(row,
                  place,
                  {"exchange",
                   "tokens",
                   "comm_sms",
                   "routing",
                   "mode",
                   "prepare_us",
                   "dispatch_us",
                   "arrange_us",
                   "reduce_us",
                   "combine_us",
                   "finish_us",
                   "wrong_words"},
                  {"groups",
                   "first_dispatch_us",
                   "first_combine_us",
                   "host_us",
                   "dispatch_mb",
                   "dispatch_gbs",
                   "combine_gbs",
                   "dispatch_logical_gbs",
                   "combine_logical_gbs",
                   "dispatch_bus_gbs",
                   "combine_bus_gbs",
                   "dispatch_choices_gbs",
                   "combine_choices_gbs"});
  const auto text = [&](const char* key) { return read_json_string(row[key], place + "." + key); };
  const auto whole = [&](const char* key, std::int64_t min) {
    return read_json_int(row[key], place + "." + key, min, kMost);
  };
  const auto us = [&](const char* key) { return read_json_number(row[key], place + "." + key, 0); };
  if (whole("wrong_words", 0) > 0) {
    fail_json(place + ".wrong_words", "measured with wrong results; allowed: 0");
  }
  const auto mode = text("mode");
  if (mode != "eager" && mode != "graph") {
    fail_json(place + ".mode", "'" + printable(mode) + "'; allowed: eager, graph");
  }
  const auto exchange = text("exchange");
  if (exchange.starts_with("(")) {
    return;  // a ceiling has no combine
  }
  ExchangeTime time = {.exchange = exchange,
                       .is_graph = mode == "graph",
                       .comm_sms = whole("comm_sms", 0),
                       .tokens = whole("tokens", 1),
                       .us = us("prepare_us") + us("dispatch_us") + us("arrange_us") +
                             us("reduce_us") + us("combine_us") + us("finish_us"),
                       .num_groups = row.contains("groups") ? whole("groups", 1) : 1};
  if (text("routing") == "balanced") {
    rows.push_back(std::move(time));
  }
}

using TimesBySize = std::map<std::int64_t, double>;

/// Of each exchange, the rows that were measured so.
std::map<std::string, TimesBySize> rows_of(const ExchangeTimes& times, const ExchangeUse& use) {
  const auto fits = [&](const ExchangeTime& row) {
    return row.is_graph == use.is_graph && row.num_groups == use.num_groups;
  };
  std::int64_t comm_sms = use.comm_sms;
  for (const auto& row : times.rows) {
    if (use.comm_sms == kAllSms && fits(row)) {
      comm_sms = std::max(comm_sms, row.comm_sms);
    }
  }
  std::map<std::string, TimesBySize> by_exchange;
  for (const auto& row : times.rows) {
    if (fits(row) && row.comm_sms == comm_sms) {
      by_exchange[row.exchange][row.tokens] = row.us;
    }
  }
  return by_exchange;
}

/// By size, of one exchange; there is one.
double time_at(const TimesBySize& by_tokens, std::int64_t tokens) {
  const auto above = by_tokens.lower_bound(tokens);
  if (above == by_tokens.begin()) {
    return above->second;
  }
  const auto below = std::prev(above);
  const auto at = static_cast<double>(tokens);
  const auto left = static_cast<double>(below->first);
  if (above == by_tokens.end()) {
    return below->second * at / left;
  }
  const double share = (at - left) / (static_cast<double>(above->first) - left);
  return below->second + share * (above->second - below->second);
}

}  // namespace

ExchangeTimes parse_exchange_times(std::string_view text, const std::string& file) {
  const json root = parse_strict_json(text, {.file = file});
  check_json_keys(root,
                  file,
                  {"version",
                   "device",
                   "nccl",
                   "dtype",
                   "ranks",
                   "ranks_per_host",
                   "hidden",
                   "experts",
                   "top_k",
                   "rows"});
  const auto at = [&](const char* key) { return file + ": " + key; };
  if (read_json_int(root["version"], at("version"), 1, std::numeric_limits<int>::max()) !=
      kExchangeTimesVersion) {
    fail_json(at("version"),
              "only version " + std::to_string(kExchangeTimesVersion) + " is known to this build");
  }
  const auto name = [&](const char* key) { return read_json_string(root[key], at(key)); };
  const auto count = [&](const char* key) { return read_json_int(root[key], at(key), 1, kMost); };
  ExchangeTimes times = {.file = file,
                         .setting = {.device = name("device"),
                                     .nccl = name("nccl"),
                                     .dtype = name("dtype"),
                                     .ranks = count("ranks"),
                                     .ranks_per_host = count("ranks_per_host"),
                                     .hidden = count("hidden"),
                                     .experts = count("experts"),
                                     .top_k = count("top_k")},
                         .rows = {}};
  for (std::size_t i = 0; const auto& row : read_json_array(root["rows"], at("rows"))) {
    read_row(row, at("rows") + "[" + std::to_string(i) + "]", times.rows);
    ++i;
  }
  return times;
}

ExchangeTimes read_exchange_times(const std::string& path) {
  return parse_exchange_times(read_text_file(path, kExchangeTimesText), path);
}

void check_exchange_setting(const ExchangeTimes& times, const ExchangeTimesSetting& run) {
  std::string differences;
  const auto add = [&](const char* name, const std::string& has, const std::string& wanted) {
    if (has != wanted) {
      differences += (differences.empty() ? "" : "; ") + std::string(name) + ": measured with " +
                     printable(has) + ", this run has " + printable(wanted);
    }
  };
  const auto text = [&](const char* name, const auto& has, const auto& wanted) {
    if (!wanted.empty()) {
      add(name, has, wanted);
    }
  };
  const auto number = [&](const char* name, std::int64_t has, std::int64_t wanted) {
    if (wanted != 0) {
      add(name, std::to_string(has), std::to_string(wanted));
    }
  };
  text("device", times.setting.device, run.device);
  text("nccl", times.setting.nccl, run.nccl);
  text("dtype", times.setting.dtype, run.dtype);
  number("ranks", times.setting.ranks, run.ranks);
  number("ranks_per_host", times.setting.ranks_per_host, run.ranks_per_host);
  number("hidden", times.setting.hidden, run.hidden);
  number("experts", times.setting.experts, run.experts);
  number("top_k", times.setting.top_k, run.top_k);
  if (!differences.empty()) {
    throw InputError(times.file + ": the table of exchanges is of another setting: " + differences +
                     "; allowed: a table measured for this run, or exchange auto");
  }
}

std::map<std::string, double> exchange_us(const ExchangeTimes& times, const ExchangeUse& use) {
  auto by_exchange = rows_of(times, use);
  if (by_exchange.empty() && use.num_groups > 1) {
    auto uncut = use;
    uncut.num_groups = 1;
    by_exchange = rows_of(times, uncut);
  }
  if (by_exchange.empty()) {
    std::set<std::string> other;
    for (const auto& row : times.rows) {
      other.insert((row.is_graph ? "graph, comm_sms " : "eager, comm_sms ") +
                   std::to_string(row.comm_sms) +
                   (row.num_groups > 1 ? ", groups " + std::to_string(row.num_groups) : ""));
    }
    throw InputError(
        times.file + ": the table of exchanges has no row for " +
        (use.is_graph ? "graph" : "eager") + ", comm_sms " +
        describe_comm_sms(static_cast<int>(use.comm_sms)) +
        (use.num_groups > 1 ? ", groups " + std::to_string(use.num_groups) + " or 1" : "") +
        "; it has: " + (other.empty() ? "none" : join_names(other, "; ")));
  }
  std::map<std::string, double> all;
  for (const auto& [exchange, by_tokens] : by_exchange) {
    all[exchange] = time_at(by_tokens, use.tokens);
  }
  return all;
}

}  // namespace dovetail
