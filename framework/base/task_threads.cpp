#include "framework/base/task_threads.hpp"

#include <charconv>
#include <string_view>

#include "framework/base/text.hpp"

namespace dovetail {
namespace {

std::string_view text_of(const char* value) {
  return value == nullptr ? "" : value;
}

}  // namespace

ComputeThreads threads_of_task(const VariableReader& variable, const CpuShare& share) {
  const char* chosen = variable("OMP_NUM_THREADS");
  auto threads = compute_threads(chosen, share);
  if (!text_of(chosen).empty()) {
    return threads;
  }
  const auto text = text_of(variable("SLURM_CPUS_PER_TASK"));
  int of_task = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), of_task);
  const bool is_number = error == std::errc() && end == text.data() + text.size();
  if (is_number && of_task >= 1 && of_task < threads.count) {
    return {of_task, "SLURM_CPUS_PER_TASK"};
  }
  return threads;
}

std::string ignored_threads(const VariableReader& variable, const ComputeThreads& threads) {
  const auto text = text_of(variable("MKL_NUM_THREADS"));
  if (text.empty() || text == std::to_string(threads.count)) {
    return "";
  }
  return "MKL_NUM_THREADS=" + printable(text) + " is ignored: a rank computes with " +
         counted(threads.count, "thread") + " (" + threads.from +
         "), those of MKL among them; OMP_NUM_THREADS sets both";
}

}  // namespace dovetail
