// A fuzz target without libFuzzer: its seeds and inputs damaged at random, the same ones each time.
// Arguments: how many inputs, and a seed for others than always; or files to read instead.
#include <cstdlib>
#include <ctime>
#include <exception>
#include <iostream>
#include <string>
#include <sys/resource.h>
#include <vector>

#include "framework/base/text_file.hpp"
#include "tests/fuzz/inputs.hpp"
#include "tests/fuzz/mutate.hpp"
#include "tests/fuzz/target.hpp"

namespace dovetail::fuzz {
namespace {

constexpr std::uint64_t kSeed = 20'261'129;
/// Of one input, and of the process. Far above what is needed, also under a sanitizer.
constexpr double kMaxSeconds = 10;
constexpr long kMaxMebibytes = 2048;

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

long peak_mebibytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

bool accepts_in_time(const std::string& bytes) {
  const double began = cpu_seconds();
  const bool accepted = target().accepts(bytes);
  const double took = cpu_seconds() - began;
  require(took < kMaxSeconds, "took " + std::to_string(took) + " s");
  require(peak_mebibytes() < kMaxMebibytes,
          "takes " + std::to_string(peak_mebibytes()) + " MiB of memory");
  return accepted;
}

int replay_files(const std::vector<std::string>& paths) {
  for (const auto& path : paths) {
    const auto bytes = read_text_file(path, {64 * kMebibyte, "an input"});
    std::cout << path << ": " << (accepts_in_time(bytes) ? "accepted" : "refused") << std::endl;
  }
  return 0;
}

int replay(int num_inputs, std::uint64_t seed) {
  for (std::size_t i = 0; const auto& good : target().seeds()) {
    require(accepts_in_time(good), "seed " + std::to_string(i) + " is refused");
    ++i;
  }
  Mutator mutator(target().seeds(), target().tokens(), seed);
  int num_accepted = 0;
  for (int i = 0; i < num_inputs; ++i) {
    const auto bytes = mutator.next();
    try {
      num_accepted += accepts_in_time(bytes) ? 1 : 0;
    } catch (const BrokenContract& broken) {
      write_input("broken-input", bytes);
      throw BrokenContract("input " + std::to_string(i) +
                           " (written to broken-input): " + broken.what());
    }
  }
  std::cout << num_inputs << " inputs, " << num_accepted << " accepted, " << peak_mebibytes()
            << " MiB" << std::endl;
  // Both outcomes are common, or the inputs test nothing.
  require(num_accepted > num_inputs / 200 && num_accepted < num_inputs - num_inputs / 20,
          "nearly all inputs have the same outcome");
  return 0;
}

}  // namespace
}  // namespace dovetail::fuzz

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  try {
    const int num_inputs = argc == 2 || argc == 3 ? std::atoi(argv[1]) : 0;
    const auto seed = argc == 3 ? std::strtoull(argv[2], nullptr, 10) : dovetail::fuzz::kSeed;
    return num_inputs > 0 ? dovetail::fuzz::replay(num_inputs, seed)
                          : dovetail::fuzz::replay_files(arguments);
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return 1;
  }
}
