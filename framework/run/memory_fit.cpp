#include "framework/run/memory_fit.hpp"

#include <algorithm>
#include <map>
#include <numeric>

#include "framework/base/host_memory.hpp"
#include "framework/comm/exchange/expert_tree.hpp"
#include "framework/comm/exchange/sum_order.hpp"
#include "framework/compare/table.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/run/rank_memory.hpp"

namespace dovetail {
namespace {

std::int64_t sum_of(const std::vector<MemoryPart>& parts) {
  return std::accumulate(
      parts.begin(), parts.end(), std::int64_t{0}, [](std::int64_t sum, const MemoryPart& part) {
        return sum + part.bytes;
      });
}

/// Of grids of one run. The weights of a grid are counted once: every rank has as many, and they
/// take long to count.
class GridMemory {
 public:
  explicit GridMemory(const CheckedRun& run) : run_(run) {}

  /// Of all ranks: the most, or on CPU ranks the sum.
  std::int64_t needed_bytes(std::size_t policy, int expert_parallel) {
    const bool share_the_host = run_.place.device == DeviceKind::cpu;
    const auto weights = weight_bytes(expert_parallel);
    std::int64_t needed = 0;
    for (int rank = 0; rank < run_.grid.world_size; ++rank) {
      const auto own =
          weights + sum_of(memory_of_steps(
                        run_, rank, {.policy = policy, .expert_parallel = expert_parallel}));
      needed = share_the_host ? needed + own : std::max(needed, own);
    }
    return needed;
  }

 private:
  std::int64_t weight_bytes(int expert_parallel) {
    const auto found = weights_.find(expert_parallel);
    return found != weights_.end()
               ? found->second
               : weights_
                     .emplace(expert_parallel, sum_of(memory_of_weights(run_, 0, expert_parallel)))
                     .first->second;
  }

  const CheckedRun& run_;
  std::map<int, std::int64_t> weights_;
};

/// Whether a run of the policy with so many ranks in a group would not be refused.
bool can_have(const CheckedRun& run, std::size_t policy, int expert_parallel) {
  const int num_experts = run.architecture->dims().num_experts;
  const auto& own = run.policies[policy];
  const auto order =
      sum_order(run.experiment.policies[policy].execution.numerics, own.execution.on_gpu());
  return num_experts % expert_parallel == 0 &&
         num_experts / expert_parallel >= own.schedules.own.num_groups &&
         (order != SumOrder::by_expert || hold_subtrees(expert_parallel, num_experts));
}

void find_smallest_grid(const CheckedRun& run,
                        std::size_t policy,
                        std::int64_t available_bytes,
                        GridMemory& memory,
                        MemoryFit& fit) {
  const int num_experts = run.architecture->dims().num_experts;
  for (int size = 1; size <= num_experts && !fit.smallest; ++size) {
    if (!can_have(run, policy, size)) {
      continue;
    }
    fit.tried_expert_parallel = size;
    const auto needed = memory.needed_bytes(policy, size);
    if (needed <= available_bytes) {
      fit.smallest = MemoryFit::Grid{size, needed};
    }
  }
}

std::string gib(std::int64_t bytes) {
  return format_fixed(static_cast<double>(bytes) / (1LL << 30), 2);
}

}  // namespace

std::optional<AvailableMemory> available_memory(const CheckedRun& run,
                                                std::optional<std::int64_t> gpu_bytes) {
  if (run.place.device == DeviceKind::cpu) {
    const auto host = host_memory();
    return host ? std::optional(AvailableMemory{host->bytes, host->source}) : std::nullopt;
  }
  if (gpu_bytes) {
    return AvailableMemory{*gpu_bytes, "--gpu-memory-gib"};
  }
  const auto gpus = visible_gpus();
  const auto least = std::min_element(gpus.begin(), gpus.end(), [](const auto& a, const auto& b) {
    return a.memory_bytes < b.memory_bytes;
  });
  return least == gpus.end()
             ? std::nullopt
             : std::optional(AvailableMemory{least->memory_bytes, least->description});
}

std::vector<MemoryFit> fit_memory(const CheckedRun& run, std::int64_t available_bytes) {
  GridMemory memory(run);
  std::vector<MemoryFit> fits;
  for (std::size_t i = 0; i < run.policies.size(); ++i) {
    auto& own = fits.emplace_back();
    own.policy = run.experiment.policies[i].name;
    own.needed_bytes = memory.needed_bytes(i, run.grid.expert_parallel);
    own.fits = own.needed_bytes <= available_bytes;
    if (run.place.device != DeviceKind::cpu) {
      find_smallest_grid(run, i, available_bytes, memory, own);
    }
  }
  return fits;
}

std::string describe(const MemoryFit& fit, std::int64_t available_bytes) {
  std::string text = "policy " + fit.policy +
                     (fit.fits ? ": what is counted fits" : ": does not fit") + ", needs " +
                     gib(fit.needed_bytes) + " of " + gib(available_bytes) + " GiB";
  if (fit.fits) {
    text += "; " + gib(available_bytes - fit.needed_bytes) + " GiB are left for what is not";
  }
  if (fit.smallest) {
    text += "; the smallest expert_parallel that fits is " +
            std::to_string(fit.smallest->expert_parallel) + " (" + gib(fit.smallest->needed_bytes) +
            " GiB)";
  } else if (fit.tried_expert_parallel > 0) {
    text +=
        ", and would not with expert_parallel up to " + std::to_string(fit.tried_expert_parallel);
  }
  return text;
}

}  // namespace dovetail
