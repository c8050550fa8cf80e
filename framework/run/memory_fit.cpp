#include "framework/run/memory_fit.hpp"

#include <algorithm>

#include "framework/base/host_memory.hpp"
#include "framework/compare/table.hpp"
#include "framework/cuda/devices.hpp"
#include "framework/run/rank_memory.hpp"

namespace dovetail {
namespace {

std::int64_t bytes_of(const CheckedRun& run, int rank, const MemoryQuestion& question) {
  std::int64_t bytes = 0;
  for (const auto& part : rank_memory(run, rank, question)) {
    bytes += part.bytes;
  }
  return bytes;
}

/// Of all ranks: the most, or on CPU ranks the sum.
std::int64_t needed_bytes(const CheckedRun& run, const MemoryQuestion& question) {
  const bool share_the_host = run.place.device == DeviceKind::cpu;
  std::int64_t needed = 0;
  for (int rank = 0; rank < run.grid.world_size; ++rank) {
    const auto own = bytes_of(run, rank, question);
    needed = share_the_host ? needed + own : std::max(needed, own);
  }
  return needed;
}

void find_larger_grid(const CheckedRun& run,
                      std::size_t policy,
                      std::int64_t available_bytes,
                      MemoryFit& fit) {
  const int num_experts = run.architecture->dims().num_experts;
  const int num_groups = run.policies[policy].schedules.own.num_groups;
  for (int size = 1; size <= num_experts && !fit.larger; size *= 2) {
    if (size <= run.grid.expert_parallel || num_experts % size != 0 ||
        num_experts / size < num_groups) {
      continue;
    }
    fit.tried_expert_parallel = size;
    const auto needed = needed_bytes(run, {.policy = policy, .expert_parallel = size});
    if (needed <= available_bytes) {
      fit.larger = MemoryFit::Grid{size, needed};
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
  std::vector<MemoryFit> fits;
  for (std::size_t i = 0; i < run.policies.size(); ++i) {
    auto& own = fits.emplace_back();
    own.policy = run.experiment.policies[i].name;
    own.needed_bytes = needed_bytes(run, {.policy = i});
    own.fits = own.needed_bytes <= available_bytes;
    if (!own.fits && run.place.device != DeviceKind::cpu) {
      find_larger_grid(run, i, available_bytes, own);
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
  } else if (fit.larger) {
    text += "; would fit with expert_parallel " + std::to_string(fit.larger->expert_parallel) +
            " (" + gib(fit.larger->needed_bytes) + " GiB)";
  } else if (fit.tried_expert_parallel > 0) {
    text +=
        ", and would not with expert_parallel up to " + std::to_string(fit.tried_expert_parallel);
  }
  return text;
}

}  // namespace dovetail
