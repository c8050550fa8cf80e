// Whether the GPUs of an ep group can share memory, from what all ranks see. Without CUDA and
// without ranks.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace dovetail {

/// What a rank says of the way from its GPU to others.
struct RankReach {
  std::string host;
  std::string uuid;                     ///< of its GPU
  std::vector<std::string> reached;     ///< GPUs of its host whose memory it can map
  std::string forbidden;                ///< a variable that keeps NCCL from sharing memory
  std::vector<std::string> apart = {};  ///< GPUs of its host whose memory it cannot map
  std::string unseen = {};              ///< why it cannot tell of others, where it cannot
};

/// Of a group of `expert_parallel` neighbouring ranks that cannot: the first reason, with its
/// ranks. Empty = every group can. Pure.
std::string why_apart(const std::vector<RankReach>& ranks, int expert_parallel);

/// Of a group, those of one host: the first two whose GPUs do not reach each other's memory, as far
/// as can be seen. Empty = all do. Pure.
std::string why_no_way(const std::vector<RankReach>& ranks, int expert_parallel);

/// "NCCL_P2P_DISABLE=1"; empty = nothing keeps NCCL from it. `variable` as std::getenv. Pure.
std::string what_forbids_sharing(const std::function<const char*(const char*)>& variable);

/// RankReach as one text, and back. No text of it has a line end. Pure.
std::string reach_text(const RankReach& reach);
RankReach parse_reach(const std::string& text);

}  // namespace dovetail
