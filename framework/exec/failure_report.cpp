#include "framework/exec/failure_report.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>

#include "framework/base/error.hpp"
#include "framework/plan/phase.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

namespace {

std::string seconds(std::int64_t ns) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f s", static_cast<double>(ns) / 1e9);
  return text.data();
}

std::span<const OpenOp> open_ops(const RankState& state) {
  return {state.open_ops.data(), static_cast<std::size_t>(state.num_open_ops)};
}

std::string_view text_of(std::span<const char> text) {
  return text.data();
}

std::string_view message_of(const RankState& state) {
  return text_of(state.message);
}

bool has_failed(const RankState& state) {
  return state.answered != 0 && state.exit_code != 0 && !message_of(state).empty();
}

Phase phase_of(const OpenOp& op) {
  return static_cast<Phase>(op.phase);
}

/// "ubatch 0, layer 3, phase experts", with ", group 2" where experts are cut.
std::string place_of(const OpenOp& op) {
  return FailurePlace{-1, op.ubatch, op.layer, std::string(to_string(phase_of(op))), op.group}
      .describe();
}

std::string lane_of(const OpenOp& op) {
  return "(" + std::string(to_string(static_cast<Lane>(op.lane))) + " lane)";
}

std::string activity_of(const RankState& state) {
  std::string text(text_of(state.activity));
  if (text.empty()) {
    text = "the start";
  }
  if (state.iteration >= 0) {
    text += ", iteration " + std::to_string(state.iteration);
  }
  return state.step > 0 ? text + ", step " + std::to_string(state.step) : text;
}

/// The open op that waits for nobody and is open for longest; null = none.
const OpenOp* busy_op(const RankState& state) {
  const OpenOp* longest = nullptr;
  for (const auto& op : open_ops(state)) {
    if (op.waits == 0 && (longest == nullptr || op.open_ns > longest->open_ns)) {
      longest = &op;
    }
  }
  return longest;
}

const OpenOp* waiting_op(const RankState& state) {
  for (const auto& op : open_ops(state)) {
    if (op.waits != 0) {
      return &op;
    }
  }
  return nullptr;
}

/// Neither in an op nor waiting.
bool is_outside_of_ops(const RankState& state) {
  return state.num_open_ops == 0 && state.main_waits == 0;
}

std::string how_it_is_busy(const OpenOp& op) {
  const std::string where = " in " + place_of(op) + " " + lane_of(op);
  return op.cpu_percent == 0 ? "is stuck since " + seconds(op.open_ns) + where
                             : "computes since " + seconds(op.open_ns) + where;
}

/// It waits for a call on a file, and for nothing else.
bool is_in_file(const RankState& state) {
  return state.file_ns > 0 && state.main_waits == 0;
}

std::string stand_of(const RankState& state) {
  if (state.gone != 0) {
    return "is gone";
  }
  if (state.answered == 0) {
    return "does not answer";
  }
  if (const auto* op = busy_op(state)) {
    return how_it_is_busy(*op);
  }
  if (const auto* op = waiting_op(state)) {
    return "waits since " + seconds(op->open_ns) + " in " + place_of(*op) + " " + lane_of(*op);
  }
  if (is_in_file(state)) {
    return "is in a call on the file " + std::string(text_of(state.file)) + " since " +
           seconds(state.file_ns) + ", at " + activity_of(state);
  }
  return state.main_waits != 0
             ? "waits for the others since " + seconds(state.main_ns) + ", at " + activity_of(state)
             : "is outside of ops since " + seconds(state.main_ns) + ", at " + activity_of(state);
}

/// Where the others wait for ranks that say nothing.
const OpenOp* where_others_wait(std::span<const RankState> states) {
  for (const auto& state : states) {
    if (const auto* op = state.answered != 0 ? waiting_op(state) : nullptr) {
      return op;
    }
  }
  return nullptr;
}

std::vector<LateRank> find_late(std::span<const RankState> states) {
  std::vector<LateRank> late;
  const auto* others = where_others_wait(states);
  std::int64_t longest = 0;
  for (const auto& state : states) {
    if (state.answered == 0) {
      late.push_back({.rank = state.rank,
                      .kind = LateKind::no_answer,
                      .op = others != nullptr ? *others : OpenOp{},
                      .has_op = others != nullptr});
    } else if (const auto* op = busy_op(state)) {
      longest = std::max(longest, op->open_ns);
    }
  }
  if (!late.empty()) {
    return late;
  }
  for (const auto& state : states) {
    const auto* op = busy_op(state);
    // An op that was begun just now is not what the others have waited for.
    if (op != nullptr && op->open_ns >= longest / 2) {
      const auto kind = op->cpu_percent == 0 ? LateKind::stuck : LateKind::computes;
      late.push_back({.rank = state.rank, .kind = kind, .op = *op, .has_op = true});
    }
  }
  if (!late.empty()) {
    return late;
  }
  constexpr std::int64_t long_call_ns = 1'000'000'000;
  for (const auto& state : states) {
    if (is_in_file(state) && state.file_ns > long_call_ns) {
      late.push_back({.rank = state.rank, .kind = LateKind::in_file, .op = {}});
    }
  }
  if (!late.empty()) {
    return late;
  }
  for (const auto& state : states) {
    if (is_outside_of_ops(state)) {
      late.push_back({.rank = state.rank, .kind = LateKind::outside_of_ops, .op = {}});
    }
  }
  // Ranks that are all there, and none of them waits: nobody is late.
  return late.size() == states.size() && states.size() > 1 ? std::vector<LateRank>() : late;
}

std::string describe_late(const LateRank& late, std::span<const RankState> states) {
  const std::string name = "rank " + std::to_string(late.rank);
  const auto& state = states[static_cast<std::size_t>(late.rank)];
  switch (late.kind) {
    case LateKind::gone:
      return name + " on host " + std::string(text_of(state.host)) +
             " is gone: killed, perhaps by the out-of-memory killer, or crashed";
    case LateKind::in_file:
      return name + " is late: it " + stand_of(state) + "; the file system does not answer";
    case LateKind::no_answer:
      return name + " does not answer: it is stopped or dead, or its host is lost" +
             (late.has_op ? "; the others wait for it in " + place_of(late.op) : std::string());
    case LateKind::computes:
      return name + " is late: it " + how_it_is_busy(late.op) +
             "; where that is right, raise execution.timeout_s";
    case LateKind::stuck:
      return name + " is late: it " + how_it_is_busy(late.op) + "; its thread uses no core";
    case LateKind::outside_of_ops:
      break;
  }
  return name + " is late: it " + stand_of(state);
}

std::string describe_late(const FailureReport& report, std::span<const RankState> states) {
  if (report.late.empty()) {
    return "the ranks wait for one another in vain";
  }
  std::string text;
  constexpr std::size_t most = 4;
  for (std::size_t i = 0; i < std::min(report.late.size(), most); ++i) {
    text += (i == 0 ? "" : "; ") + describe_late(report.late[i], states);
  }
  return report.late.size() <= most
             ? text
             : text + "; and " + std::to_string(report.late.size() - most) + " more ranks";
}

/// The rank in front, where the message does not have it: rank 0 prints that of any rank.
std::string whose_message(const RankState& state) {
  const auto name = "rank " + std::to_string(state.rank);
  const auto message = message_of(state);
  const auto at = message.find(name);
  const auto end = at + name.size();
  const bool has_it = at != std::string_view::npos &&
                      (end == message.size() || message[end] < '0' || message[end] > '9');
  return has_it ? std::string(message) : name + ": " + std::string(message);
}

/// Whatever the others say is a consequence of that: they are ended with it.
FailureReport report_of_gone(std::span<const RankState> states) {
  FailureReport report;
  for (const auto& state : states) {
    if (state.gone != 0) {
      report.late.push_back({.rank = state.rank, .kind = LateKind::gone, .op = {}});
    } else {
      report.ranks.push_back("rank " + std::to_string(state.rank) + " " + stand_of(state));
    }
  }
  report.is_gone = !report.late.empty();
  report.headline = describe_late(report, states);
  return report;
}

}  // namespace

FailureReport make_failure_report(std::span<const RankState> states) {
  auto report = report_of_gone(states);
  if (report.is_gone) {
    return report;
  }
  report = {};
  const RankState* cause = nullptr;
  for (const auto& state : states) {
    const bool is_better = cause == nullptr || (cause->timed_out != 0 && state.timed_out == 0);
    if (has_failed(state) && is_better) {
      cause = &state;
    }
  }
  report.is_timeout = cause != nullptr && cause->timed_out != 0;
  if (report.is_timeout) {
    report.late = find_late(states);
    report.headline = describe_late(report, states);
  } else {
    report.headline = cause == nullptr ? "a rank has failed" : whose_message(*cause);
    if (cause != nullptr && !text_of(cause->activity).empty()) {
      report.headline += " (at " + activity_of(*cause) + ")";
    }
  }
  for (const auto& state : states) {
    if (&state == cause && !report.is_timeout) {
      continue;
    }
    std::string line = "rank " + std::to_string(state.rank) + " " + stand_of(state);
    if (has_failed(state)) {
      line += "; " + std::string(message_of(state));
    }
    report.ranks.push_back(std::move(line));
  }
  return report;
}

std::string to_text(const FailureReport& report, std::size_t max_ranks) {
  std::string text = report.headline;
  for (std::size_t i = 0; i < std::min(report.ranks.size(), max_ranks); ++i) {
    text += "\n  " + report.ranks[i];
  }
  if (report.ranks.size() > max_ranks) {
    text += "\n  and " + std::to_string(report.ranks.size() - max_ranks) + " more ranks";
  }
  return text;
}

}  // namespace dovetail
