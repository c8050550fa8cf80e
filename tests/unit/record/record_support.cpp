#include "tests/unit/record/record_support.hpp"

#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <iostream>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sstream>
#include <stdexcept>
#include <sys/wait.h>
#include <unistd.h>

#include "framework/record/reader.hpp"

extern char** environ;

namespace dovetail::test {

namespace fs = std::filesystem;

std::uint64_t fresh_seed(const char* test) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): read before any thread starts
  const char* given = std::getenv("DOVETAIL_TEST_SEED");
  const std::uint64_t seed =
      given == nullptr ? std::random_device{}() : std::strtoull(given, nullptr, 10);
  std::cout << test << ": DOVETAIL_TEST_SEED=" << seed << "\n";
  return seed;
}

std::int64_t origin(std::int64_t kind, std::int64_t i, std::int64_t j) {
  return kind * 1'000'000'000'000 + i * 1'000'000 + j;
}

DecisionRow decision_of(std::int64_t iteration, std::int64_t step) {
  return {.ubatched = (iteration + step) % 2,
          .graph = 0,
          .schedule = iteration % 2,
          .reason = iteration % 4,
          .veto_rank = origin(7, iteration, step),
          .eager_reason = iteration % 3,
          .captured = step};
}

RankFileSpec full_spec(std::int64_t rank, std::int64_t world_size) {
  RankFileSpec spec;
  spec.experiment = "unit";
  spec.policy = "dual_batch";
  spec.rank = rank;
  spec.world_size = world_size;
  spec.dp_rank = rank / 2;
  spec.ep_rank = rank % 2;
  spec.expert_parallel = 2;
  spec.host = "host-" + std::to_string(rank);
  spec.device = "cpu";
  spec.started_at = "2025-11-22T15:45:29Z";
  spec.weights_digest = "00ff";
  spec.inputs_digest = "a1";
  spec.attributes = {{"argv", std::string("dovetail run x.yaml")},
                     {"omp_threads", std::int64_t{3}},
                     {"load_average", 0.25}};
  spec.config = "experiment: unit\n# \xc3\xbc\n";
  spec.schedules = {{"sequential", 1, "01", {{-1, 0, "embed", "compute", {}}}},
                    {"dual_batch",
                     2,
                     "02",
                     {{-1, 0, "embed", "compute", {}},
                      {0, 1, "dispatch", "comm", {0}},
                      {0, 1, "shared_experts", "compute", {0, 1}}}}};
  spec.iterations = 4;
  spec.steps = 2;
  spec.variants = 3;
  spec.profiled = 2;
  spec.clock_offset_ns = -17;
  spec.clock_error_ns = 5;
  spec.tokens = 6;
  spec.requests = 2;
  spec.outputs = {{"hidden", DType::bfloat16, {6, 5}},
                  {"logits", DType::float32, {2, 7}},
                  {"layer_0", DType::float16, {6, 5}}};
  spec.route_layers = 2;
  spec.route_top_k = 3;
  spec.route_experts = 5;
  spec.route_dtype = DType::bfloat16;
  spec.has_router_scores = true;
  spec.has_given_routing = true;
  spec.context_tokens = 4;
  spec.has_given_context_routing = true;
  spec.experts_per_rank = 4;
  spec.first_expert = 4 * rank;
  return spec;
}

void write_full_file(const fs::path& path, const RankFileSpec& spec) {
  RankRecorder recorder(path, spec);
  for (std::int64_t i = 0; i < spec.iterations; ++i) {
    for (std::int64_t step = 0; step < spec.steps; ++step) {
      recorder.write_step(i, step, origin(1, i, step), decision_of(i, step));
    }
  }
  std::int64_t kind = 10;
  for (const auto& dataset : rank_file_datasets(spec)) {
    if (dataset.path == path::kStepNs || dataset.path == path::kDecision ||
        dataset.path == path::kClock) {
      continue;
    }
    ++kind;
    const auto count = static_cast<std::size_t>(hdf5::num_elements(dataset.shape));
    std::vector<std::byte> bytes;
    const auto append = [&bytes](const auto& value) {
      const auto* begin = reinterpret_cast<const std::byte*>(&value);
      bytes.insert(bytes.end(), begin, begin + sizeof(value));
    };
    for (std::size_t i = 0; i < count; ++i) {
      const auto number = origin(kind, spec.rank, static_cast<std::int64_t>(i));
      switch (dataset.dtype) {
        case DType::int64:
          append(number);
          break;
        case DType::int32:
          append(static_cast<std::int32_t>(kind * 1000 + static_cast<std::int64_t>(i)));
          break;
        case DType::float32:
          append(static_cast<float>(kind) + static_cast<float>(i) / 64);
          break;
        default:
          // Any positive normal number of either 16-bit type.
          append(static_cast<std::uint16_t>(0x3c00 + 16 * spec.rank + static_cast<int>(i)));
      }
    }
    recorder.write(dataset.path, dataset.dtype, bytes);
  }
  recorder.finish(RunStatus::complete);
}

std::string read_file(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  return bytes.str();
}

void write_file(const fs::path& path, const std::string& bytes) {
  std::ofstream stream(path, std::ios::binary | std::ios::trunc);
  stream << bytes;
  stream.close();
  if (!stream) {
    throw std::runtime_error("cannot write " + path.string());
  }
}

int run_program(const std::vector<std::string>& arguments, std::string& output) {
  output.clear();
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    throw std::runtime_error("pipe");
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO);
  std::vector<char*> pointers;
  pointers.reserve(arguments.size() + 1);
  for (const auto& argument : arguments) {
    pointers.push_back(const_cast<char*>(argument.c_str()));
  }
  pointers.push_back(nullptr);
  pid_t child = -1;
  const int failed = posix_spawnp(&child, pointers[0], &actions, nullptr, pointers.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  if (failed != 0) {
    close(ends[0]);
    return -1;
  }
  char buffer[4096];
  for (;;) {
    pollfd ready{ends[0], POLLIN, 0};
    if (poll(&ready, 1, 100'000) <= 0) {
      kill(child, SIGKILL);
      break;
    }
    const ssize_t got = read(ends[0], buffer, sizeof(buffer));
    if (got <= 0) {
      break;
    }
    output.append(buffer, static_cast<std::size_t>(got));
  }
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

nlohmann::json h5py_dump(const std::vector<fs::path>& files) {
  std::string output;
  for (const std::string python : {"python3", "/usr/bin/python3"}) {
    if (run_program({python, "-c", "import h5py"}, output) != 0) {
      continue;
    }
    std::vector<std::string> arguments = {python,
                                          DOVETAIL_SOURCE_DIR "/tests/unit/record/h5py_dump.py"};
    for (const auto& file : files) {
      arguments.push_back(file.string());
    }
    if (run_program(arguments, output) != 0) {
      throw std::runtime_error("h5py: " + output);
    }
    return nlohmann::json::parse(output);
  }
  throw std::runtime_error("no h5py: install python3-h5py (" + output + ")");
}

}  // namespace dovetail::test
