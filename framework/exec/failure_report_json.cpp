// The report of a failure as JSON.
#include <array>
#include <string_view>

#include <nlohmann/json.hpp>

#include "framework/exec/failure_report.hpp"
#include "framework/plan/phase.hpp"
#include "framework/plan/schedule.hpp"

namespace dovetail {

template <>
struct EnumNames<LateKind> {
  static constexpr std::array<std::string_view, 6> kTable = {
      "gone", "no_answer", "computes", "stuck", "in_file", "outside_of_ops"};
};

namespace {

nlohmann::json op_to_json(const OpenOp& op) {
  return {{"lane", to_string(static_cast<Lane>(op.lane))},
          {"ubatch", op.ubatch},
          {"layer", op.layer},
          {"phase", to_string(static_cast<Phase>(op.phase))},
          {"group", op.group},
          {"open_s", static_cast<double>(op.open_ns) / 1e9},
          {"waits", op.waits != 0},
          {"cpu_percent", op.cpu_percent}};
}

}  // namespace

std::string to_json_text(const FailureReport& report, std::span<const RankState> states) {
  auto late = nlohmann::json::array();
  for (const auto& one : report.late) {
    late.push_back({{"rank", one.rank},
                    {"kind", to_string(one.kind)},
                    {"op", one.has_op ? op_to_json(one.op) : nlohmann::json()}});
  }
  auto ranks = nlohmann::json::array();
  for (const auto& state : states) {
    auto ops = nlohmann::json::array();
    for (int i = 0; i < state.num_open_ops; ++i) {
      ops.push_back(op_to_json(state.open_ops.at(static_cast<std::size_t>(i))));
    }
    ranks.push_back({{"rank", state.rank},
                     {"answered", state.answered != 0},
                     {"exit_code", state.exit_code},
                     {"message", std::string_view(state.message.data())},
                     {"activity", std::string_view(state.activity.data())},
                     {"iteration", state.iteration},
                     {"step", state.step},
                     {"waits", state.main_waits != 0},
                     {"file", std::string_view(state.file.data())},
                     {"file_s", static_cast<double>(state.file_ns) / 1e9},
                     {"open_ops", std::move(ops)}});
  }
  const nlohmann::json document = {
      {"cause", report.is_gone ? "gone" : (report.is_timeout ? "timeout" : "error")},
      {"headline", report.headline},
      {"late", std::move(late)},
      {"ranks", std::move(ranks)}};
  // A message may have been cut inside of a letter.
  return document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace dovetail
