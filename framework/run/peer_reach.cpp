#include "framework/run/peer_reach.hpp"

#include <algorithm>
#include <sstream>

#include "framework/base/registry.hpp"

namespace dovetail {
namespace {

bool has(const std::vector<std::string>& uuids, const std::string& uuid) {
  return std::find(uuids.begin(), uuids.end(), uuid) != uuids.end();
}

std::string no_way(const std::vector<RankReach>& ranks, std::size_t a, std::size_t b) {
  const auto& from = ranks[a];
  const auto& to = ranks[b];
  if (from.host != to.host || has(from.reached, to.uuid)) {
    return "";
  }
  if (has(from.apart, to.uuid)) {
    return "the GPU of rank " + std::to_string(a) + " does not reach the memory of that of rank " +
           std::to_string(b);
  }
  return "rank " + std::to_string(a) + " cannot see whether its GPU reaches that of rank " +
         std::to_string(b) + ": " + from.unseen;
}

std::string apart(const std::vector<RankReach>& ranks, std::size_t a, std::size_t b) {
  return ranks[a].host == ranks[b].host
             ? no_way(ranks, a, b)
             : "ranks " + std::to_string(a) + " and " + std::to_string(b) + " are on hosts " +
                   ranks[a].host + " and " + ranks[b].host;
}

/// What is wrong with a rank, or with two of a group; the first one that is found.
std::string first_problem(const std::vector<RankReach>& ranks,
                          int expert_parallel,
                          const std::function<std::string(std::size_t)>& of_rank,
                          const std::function<std::string(std::size_t, std::size_t)>& of_pair) {
  const auto size = static_cast<std::size_t>(expert_parallel);
  for (std::size_t a = 0; size > 1 && a < ranks.size(); ++a) {
    if (auto why = of_rank(a); !why.empty()) {
      return why;
    }
    const auto first = a / size * size;
    for (std::size_t b = first; b < std::min(first + size, ranks.size()); ++b) {
      auto why = a == b ? std::string() : of_pair(a, b);
      if (!why.empty()) {
        return why;
      }
    }
  }
  return "";
}

}  // namespace

std::string why_apart(const std::vector<RankReach>& ranks, int expert_parallel) {
  return first_problem(
      ranks,
      expert_parallel,
      [&](std::size_t a) {
        const auto& forbidden = ranks[a].forbidden;
        return forbidden.empty() ? "" : forbidden + " on rank " + std::to_string(a);
      },
      [&](std::size_t a, std::size_t b) { return apart(ranks, a, b); });
}

std::string why_no_way(const std::vector<RankReach>& ranks, int expert_parallel) {
  return first_problem(
      ranks,
      expert_parallel,
      [](std::size_t) { return std::string(); },
      [&](std::size_t a, std::size_t b) { return no_way(ranks, a, b); });
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
  std::string text = reach.host + "\n" + reach.uuid + "\n" + reach.forbidden + "\n" + reach.unseen;
  for (const auto& uuid : reach.reached) {
    text += "\n+" + uuid;
  }
  for (const auto& uuid : reach.apart) {
    text += "\n-" + uuid;
  }
  return text;
}

RankReach parse_reach(const std::string& text) {
  std::istringstream lines(text);
  RankReach reach;
  std::getline(lines, reach.host);
  std::getline(lines, reach.uuid);
  std::getline(lines, reach.forbidden);
  std::getline(lines, reach.unseen);
  for (std::string line; std::getline(lines, line);) {
    (line.front() == '+' ? reach.reached : reach.apart).push_back(line.substr(1));
  }
  return reach;
}

}  // namespace dovetail
