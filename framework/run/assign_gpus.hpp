// Which GPU each rank takes, from what all ranks see. Without CUDA and without ranks.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace dovetail {

/// What a rank says of itself.
struct RankGpus {
  std::string host;
  std::vector<std::string> uuids;  ///< of the GPUs that it sees, in its order
  std::string slice;     ///< the name of a part of a card (MIG) that it sees; empty = whole cards
  std::string why_none;  ///< where it sees no GPU: what is known of that
};

/// The GPU of each rank, by rank, as a number in the rank's own order.
struct GpuAssignment {
  std::vector<int> ordinals;
  std::string problem;  ///< empty = every rank has one
};

/// Ranks of a host that all see the same GPUs take them one by one in the order of the ranks; ranks
/// that see different ones (a launcher gives each its own) take the first that no earlier rank of
/// the host has, and an earlier rank gives way where it sees another one that is free. Where a rank
/// finds none the problem names it, and the ranks that hold what it sees. Parts of cards are
/// refused: NCCL joins whole ones. Pure.
GpuAssignment assign_gpus(const std::vector<RankGpus>& ranks);

/// Why this process sees no GPU, for people: "CUDA_VISIBLE_DEVICES is ''", or what CUDA says.
/// `visible_devices`: that variable's value, null = not set. Pure.
std::string why_no_gpu(const char* visible_devices, const std::string& cuda_problem);

/// What the ranks of an automatic choice know when they end on CPUs.
struct CpuChoice {
  std::string needs_cpu;     ///< what of the experiment only CPUs can do; empty = nothing
  std::string problem;       ///< of the assignment
  bool any_visible = false;  ///< some rank sees a GPU
  int num_installed = 0;     ///< GPUs of rank 0's host that the driver knows, seen or not
};

/// One line for people where GPUs stay idle; nothing where there are none. Pure.
std::optional<std::string> why_on_cpu(const CpuChoice& choice);

}  // namespace dovetail
