#include "framework/compare/iteration_hashes.hpp"

#include <algorithm>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>

#include "framework/base/error.hpp"
#include "framework/base/order_statistics.hpp"

namespace dovetail {
namespace {

constexpr std::uint64_t kHashMask = (std::uint64_t{1} << 63U) - 1;

std::int64_t add(std::int64_t a, std::int64_t b) {
  return static_cast<std::int64_t>((static_cast<std::uint64_t>(a) + static_cast<std::uint64_t>(b)) &
                                   kHashMask);
}

/// A table of /hash on one rank, as rows of [iterations, steps].
struct HashTable {
  std::int64_t num_iterations = 0;
  std::int64_t num_steps = 1;
  std::vector<HashRow> rows;

  /// Whether the step has run; rows of steps that have not hold -1.
  bool has_run(std::size_t row) const { return rows[row].hash.outputs >= 0; }
};

HashTable read_table(const RankFile& file, const char* dataset, std::int64_t steps) {
  const auto numbers = file.read<std::int64_t>(dataset);
  HashTable table;
  table.num_steps = steps;
  for (std::size_t i = 0; i + kNumHashColumns <= numbers.values.size(); i += kNumHashColumns) {
    const auto* row = numbers.values.data() + i;
    table.rows.push_back({row[0], row[1], {row[2], row[3], row[4]}});
  }
  if (dataset == std::string_view(path::kTimedHash)) {
    table.rows.resize(static_cast<std::size_t>(file.timed_iterations() * steps));
  }
  table.num_iterations = std::ssize(table.rows) / std::max<std::int64_t>(1, steps);
  return table;
}

[[noreturn]] void refuse(const RankFile& file, const char* dataset, const std::string& what) {
  throw InputError(file.path().string() + ": " + dataset + ": " + what);
}

std::string place_of(std::int64_t iteration, std::int64_t step) {
  return "iteration " + std::to_string(iteration) + ", step " + std::to_string(step);
}

/// Adds the steps of one kind.
void add_steps(const PolicyFolder& folder,
               IterationKind kind,
               const char* dataset,
               IterationHashes& all) {
  const auto steps = all.steps_per_iteration;
  std::vector<HashTable> ranks;
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    const auto& file = folder.rank(rank);
    ranks.push_back(read_table(file, dataset, steps));
    if (ranks.back().rows.size() != ranks.front().rows.size()) {
      refuse(file, dataset, "another number of steps than on rank 0");
    }
  }
  const auto& first = ranks.front();
  for (std::size_t row = 0; row < first.rows.size(); ++row) {
    const auto iteration = static_cast<std::int64_t>(row) / steps;
    const auto step = static_cast<std::int64_t>(row) % steps;
    HashedStep hashed = {
        .kind = kind, .iteration = iteration, .step = step, .variant = first.rows[row].variant};
    for (auto i = row - static_cast<std::size_t>(step); i <= row; ++i) {
      hashed.schedules.push_back(first.rows[i].schedule);
    }
    for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
      const auto& file = folder.rank(static_cast<std::int64_t>(rank));
      const auto& own = ranks[rank].rows[row];
      if (ranks[rank].has_run(row) != first.has_run(row) ||
          (kind == IterationKind::timed && !first.has_run(row))) {
        refuse(file, dataset, "nothing of " + place_of(iteration, step));
      }
      if (own.variant != first.rows[row].variant || own.schedule != first.rows[row].schedule) {
        refuse(file, dataset, place_of(iteration, step) + " ran otherwise than on rank 0");
      }
      hashed.hashes.push_back(own.hash);
    }
    if (first.has_run(row)) {
      all.steps.push_back(std::move(hashed));
    }
  }
}

double hash_share_of(const PolicyFolder& folder) {
  std::vector<double> hash_ns;
  std::vector<double> step_ns;
  const auto append = [](std::vector<double>& to, const std::vector<std::int64_t>& from) {
    std::copy_if(from.begin(), from.end(), std::back_inserter(to), [](auto ns) { return ns >= 0; });
  };
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    append(hash_ns, folder.rank(rank).read<std::int64_t>(path::kHashNs).values);
    append(step_ns, folder.rank(rank).read<std::int64_t>(path::kStepNs).values);
  }
  if (hash_ns.empty() || step_ns.empty()) {
    return -1;
  }
  const double step = median(step_ns);
  return step > 0 ? median(hash_ns) / step : -1;
}

}  // namespace

StepHash HashedStep::over_ranks() const {
  StepHash sum = {0, 0, 0};
  for (const auto& hash : hashes) {
    sum = {add(sum.outputs, hash.outputs), add(sum.kv, hash.kv), add(sum.routing, hash.routing)};
  }
  return sum;
}

std::map<std::pair<std::int64_t, std::int64_t>, const HashedStep*> IterationHashes::recorded()
    const {
  std::map<std::pair<std::int64_t, std::int64_t>, const HashedStep*> last;
  for (const auto& step : steps) {
    if (step.kind == IterationKind::timed) {
      last[{step.variant, step.step}] = &step;
    }
  }
  return last;
}

bool has_iteration_hashes(const PolicyFolder& folder) {
  return std::all_of(folder.ranks().begin(), folder.ranks().end(), [](const RankEntry& entry) {
    return entry.file && entry.file->has(path::kTimedHash);
  });
}

IterationHashes read_iteration_hashes(const PolicyFolder& folder) {
  const auto& first = folder.rank(0);
  IterationHashes all;
  all.steps_per_iteration = first.shape(path::kTimedHash).at(1);
  all.num_variants = first.num_variants();
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    const auto& file = folder.rank(rank);
    if (file.shape(path::kTimedHash).at(1) != all.steps_per_iteration ||
        file.num_variants() != all.num_variants) {
      refuse(file, path::kTimedHash, "another number of steps or variants than on rank 0");
    }
    const auto before = file.scalar(path::kUntouchedBefore);
    const auto after = file.scalar(path::kUntouchedAfter);
    if (before < 0 || after < 0) {
      refuse(file, path::kUntouchedAfter, "not written");
    }
    all.untouched_changed.push_back(before != after);
  }
  all.hash_share = hash_share_of(folder);
  add_steps(folder, IterationKind::timed, path::kTimedHash, all);
  add_steps(folder, IterationKind::profiled, path::kProfiledHash, all);
  add_steps(folder, IterationKind::poisoned, path::kPoisonedHash, all);
  return all;
}

}  // namespace dovetail
