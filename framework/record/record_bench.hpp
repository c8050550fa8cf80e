// What recording costs: `dovetail bench record`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include <nlohmann/json_fwd.hpp>

namespace dovetail {

struct RecordBenchOptions {
  std::filesystem::path folder;    ///< where the file is written (its file system is measured)
  std::int64_t iterations = 5000;  ///< recorded steps
};

/// Times in ns.
struct RecordBench {
  std::int64_t iterations = 0;
  std::int64_t create_ns = 0;  ///< making the file
  std::int64_t step_median_ns = 0;
  std::optional<std::int64_t> step_p99_ns;  ///< nothing with too few samples: has_percentile
  std::int64_t step_max_ns = 0;
  std::int64_t finish_ns = 0;
  double share_of_10_ms_step = 0;  ///< mean cost of a recorded step over 10 ms
};

/// Records `iterations` steps into a file of its own in `folder` and removes it. InputError where
/// the folder does not exist.
RecordBench bench_record(const RecordBenchOptions& options);

void to_json(nlohmann::json& document, const RecordBench& bench);

}  // namespace dovetail
