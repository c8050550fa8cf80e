#include "framework/run/peer_reach.hpp"

#include <algorithm>
#include <sstream>

#include "framework/base/registry.hpp"

namespace dovetail {
namespace {

std::string apart(const std::vector<RankReach>& ranks, std::size_t a, std::size_t b) {
  const auto& from = ranks[a];
  const auto& to = ranks[b];
  const auto pair = "ranks " + std::to_string(a) + " and " + std::to_string(b);
  if (from.host != to.host) {
    return pair + " are on hosts " + from.host + " and " + to.host;
  }
  if (std::find(from.reached.begin(), from.reached.end(), to.uuid) == from.reached.end()) {
    return "rank " + std::to_string(a) + " does not see a way to the GPU of rank " +
           std::to_string(b);
  }
  return "";
}

}  // namespace

std::string why_apart(const std::vector<RankReach>& ranks, int expert_parallel) {
  const auto size = static_cast<std::size_t>(expert_parallel);
  for (std::size_t a = 0; size > 1 && a < ranks.size(); ++a) {
    if (!ranks[a].forbidden.empty()) {
      return ranks[a].forbidden + " on rank " + std::to_string(a);
    }
    const auto first = a / size * size;
    for (std::size_t b = first; b < std::min(first + size, ranks.size()); ++b) {
      auto why = a == b ? std::string() : apart(ranks, a, b);
      if (!why.empty()) {
        return why;
      }
    }
  }
  return "";
}

std::string what_forbids_sharing(const std::function<const char*(const char*)>& variable) {
  const std::pair<const char*, const char*> allowed[] = {
      {"NCCL_P2P_DISABLE", "0"}, {"NCCL_CUMEM_ENABLE", "1"}, {"NCCL_WIN_ENABLE", "1"}};
  for (const auto& [name, value] : allowed) {
    const char* is = variable(name);
    if (is != nullptr && *is != '\0' && std::string(is) != value) {
      return std::string(name) + "=" + printable(is);
    }
  }
  // A level may leave out the way between two of the GPUs.
  const char* level = variable("NCCL_P2P_LEVEL");
  return level != nullptr && *level != '\0' ? "NCCL_P2P_LEVEL=" + printable(level) : "";
}

std::string reach_text(const RankReach& reach) {
  std::string text = reach.host + "\n" + reach.uuid + "\n" + reach.forbidden;
  for (const auto& uuid : reach.reached) {
    text += "\n" + uuid;
  }
  return text;
}

RankReach parse_reach(const std::string& text) {
  std::istringstream lines(text);
  RankReach reach;
  std::getline(lines, reach.host);
  std::getline(lines, reach.uuid);
  std::getline(lines, reach.forbidden);
  for (std::string uuid; std::getline(lines, uuid);) {
    reach.reached.push_back(uuid);
  }
  return reach;
}

}  // namespace dovetail
