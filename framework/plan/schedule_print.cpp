#include "framework/plan/schedule_print.hpp"

#include <algorithm>
#include <array>
#include <iomanip>
#include <sstream>

#include "framework/base/text.hpp"

namespace dovetail {
namespace {

std::string layer_text(const Op& op) {
  return op.layer == kNoLayer ? "-" : std::to_string(op.layer);
}

/// "experts", or "experts g2" of a group of experts.
std::string phase_text(const Op& op) {
  return std::string(to_string(op.phase)) +
         (op.group == kNoGroup ? "" : " g" + std::to_string(op.group));
}

std::string waits_text(const Op& op) {
  std::string text;
  for (const int wait : op.waits) {
    text += (text.empty() ? "" : " ") + std::to_string(wait);
  }
  return text;
}

/// A graphviz string: quotes and backslashes escaped, control characters left out.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
    }
    if (static_cast<unsigned char>(c) >= 0x20) {
      out += c;
    }
  }
  return out + "\"";
}

void add_lane(std::ostringstream& out, const Schedule& schedule, Lane lane) {
  static constexpr std::array<const char*, 8> colors = {"lightblue",
                                                        "lightsalmon",
                                                        "palegreen",
                                                        "khaki",
                                                        "plum",
                                                        "lightgray",
                                                        "lightcyan",
                                                        "mistyrose"};
  out << "  subgraph cluster_" << to_string(lane) << " {\n    label=\"" << to_string(lane)
      << " lane\";\n";
  std::string order;
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    const Op& op = schedule.ops[i];
    if (op.lane != lane) {
      continue;
    }
    const auto color = static_cast<std::size_t>(std::max(op.ubatch, 0)) % colors.size();
    out << "    op" << i << " [label=\"" << i << " " << phase_text(op) << "\\nlayer "
        << layer_text(op) << ", ubatch " << op.ubatch << "\", fillcolor=" << colors.at(color)
        << "];\n";
    order += (order.empty() ? "op" : " -> op") + std::to_string(i);
  }
  if (!order.empty()) {
    out << "    " << order << ";\n";
  }
  out << "  }\n";
}

}  // namespace

std::string schedule_to_table(const Schedule& schedule) {
  std::ostringstream out;
  out << "schedule " << schedule.name << ": " << counted(schedule.num_ubatches, "ubatch") << ", "
      << (schedule.num_groups == 1 ? ""
                                   : "experts in " + counted(schedule.num_groups, "group") + ", ")
      << counted(std::ssize(schedule.layers), "layer") << ", "
      << counted(std::ssize(schedule.ops), "op") << "\n";
  out << std::left << std::setw(7) << "op" << std::setw(8) << "ubatch" << std::setw(7) << "layer"
      << std::setw(16) << "compute lane" << std::setw(16) << "comm lane"
      << "waits for\n";
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    const Op& op = schedule.ops[i];
    if (i > 0 && op.ubatch != schedule.ops[i - 1].ubatch) {
      out << "       -- ubatch " << schedule.ops[i - 1].ubatch << " hands over to ubatch "
          << op.ubatch << "\n";
    }
    const std::string phase = phase_text(op);
    std::ostringstream line;
    line << std::left << std::setw(7) << i << std::setw(8) << op.ubatch << std::setw(7)
         << layer_text(op) << std::setw(16) << (op.lane == Lane::compute ? phase : "")
         << std::setw(16) << (op.lane == Lane::comm ? phase : "") << waits_text(op);
    std::string text = line.str();
    text.erase(text.find_last_not_of(' ') + 1);
    out << text << "\n";
  }
  return out.str();
}

std::string schedule_to_dot(const Schedule& schedule) {
  std::ostringstream out;
  out << "digraph " << quoted(schedule.name) << " {\n"
      << "  node [shape=box, style=filled];\n";
  add_lane(out, schedule, Lane::compute);
  add_lane(out, schedule, Lane::comm);
  for (std::size_t i = 0; i < schedule.ops.size(); ++i) {
    for (const int wait : schedule.ops[i].waits) {
      out << "  op" << wait << " -> op" << i << " [style=dashed, constraint=false];\n";
    }
  }
  out << "}\n";
  return out.str();
}

}  // namespace dovetail
