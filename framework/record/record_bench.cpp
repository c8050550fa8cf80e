#include "framework/record/record_bench.hpp"

#include <algorithm>
#include <numeric>
#include <string>
#include <system_error>
#include <vector>

#include <nlohmann/json.hpp>

#include "framework/base/clock.hpp"
#include "framework/base/error.hpp"
#include "framework/base/file_system.hpp"
#include "framework/base/order_statistics.hpp"
#include "framework/base/scratch_folder.hpp"
#include "framework/record/recorder.hpp"

namespace dovetail {
namespace {

namespace fs = std::filesystem;

template <class Work>
std::int64_t duration_ns(Work&& work) {
  const std::int64_t start = now_ns();
  work();
  return now_ns() - start;
}

}  // namespace

RecordBench bench_record(const RecordBenchOptions& options) {
  if (!is_folder(options.folder)) {
    throw InputError(options.folder.string() + ": no such folder");
  }
  if (options.iterations < 1) {
    throw InputError("bench record: iterations must be at least 1");
  }
  const ScratchFolder scratch(options.folder);
  RankFileSpec spec;
  spec.experiment = "bench";
  spec.policy = "record";
  spec.iterations = options.iterations;
  spec.tokens = 1024;
  spec.requests = 8;
  spec.outputs = {{"hidden", DType::float32, {1024, 512}}};
  RecordBench bench;
  bench.iterations = options.iterations;
  std::optional<RankRecorder> recorder;
  bench.create_ns = duration_ns([&] { recorder.emplace(scratch.path() / "rank-00000.h5", spec); });
  std::vector<std::int64_t> steps_ns;
  for (std::int64_t i = 0; i < options.iterations; ++i) {
    steps_ns.push_back(duration_ns([&] { recorder->write_step(i, 0, i, {}); }));
  }
  bench.finish_ns = duration_ns([&] { recorder->finish(RunStatus::complete); });
  const double mean_ns =
      std::accumulate(steps_ns.begin(), steps_ns.end(), 0.0) / static_cast<double>(steps_ns.size());
  bench.share_of_10_ms_step = mean_ns / 10e6;
  std::sort(steps_ns.begin(), steps_ns.end());
  bench.step_median_ns = steps_ns[steps_ns.size() / 2];
  if (has_percentile(std::ssize(steps_ns), 99)) {
    bench.step_p99_ns = steps_ns[steps_ns.size() * 99 / 100];
  }
  bench.step_max_ns = steps_ns.back();
  return bench;
}

void to_json(nlohmann::json& document, const RecordBench& bench) {
  document = {{"iterations", bench.iterations},
              {"create_ns", bench.create_ns},
              {"step_median_ns", bench.step_median_ns},
              {"step_p99_ns",
               bench.step_p99_ns ? nlohmann::json(*bench.step_p99_ns) : nlohmann::json(nullptr)},
              {"step_max_ns", bench.step_max_ns},
              {"finish_ns", bench.finish_ns},
              {"share_of_10_ms_step", bench.share_of_10_ms_step}};
}

}  // namespace dovetail
