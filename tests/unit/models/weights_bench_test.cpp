// The load benchmark's counts (not its times).
#include <filesystem>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "models/weights/load_bench.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/models/weights_files.hpp"

namespace dovetail {
namespace {

using ::dovetail::testing::input_error_of;
using ::dovetail::testing::ScratchFolder;

TEST(LoadBench, EachOwnedByteIsReadOnceInLittleMoreThanTheOwnedMemory) {
  const ScratchFolder scratch;
  LoadBenchOptions options;
  options.checkpoint_bytes = 320 << 20;
  options.ep_rank = 1;
  options.scratch = scratch.path();
  const LoadBench bench = bench_load(options);
  EXPECT_EQ(bench.bytes_read, bench.owned_bytes);
  EXPECT_EQ(bench.read_ratio, 1.0);
  EXPECT_GT(bench.owned_bytes, bench.checkpoint_bytes / 2);
  EXPECT_LT(bench.owned_bytes, bench.checkpoint_bytes * 6 / 10);
  EXPECT_EQ(bench.num_mapped_files, bench.num_files);
  EXPECT_GT(bench.peak_ratio, 0.9);
  EXPECT_LE(bench.peak_ratio, 1.3);
  EXPECT_GT(bench.gigabytes_per_second, 0.0);
  EXPECT_TRUE(std::filesystem::is_empty(scratch.path()));
  const auto json = nlohmann::json::parse(bench.to_json());
  EXPECT_EQ(json["owned_bytes"], bench.owned_bytes);
  EXPECT_EQ(json["peak_ratio"], bench.peak_ratio);
}

TEST(LoadBench, BadOptionsAreNamed) {
  EXPECT_NE(input_error_of([] { bench_load({.checkpoint_bytes = 1}); }).find("at least one layer"),
            std::string::npos);
  EXPECT_NE(input_error_of([] { bench_load({.ep_size = 3}); }).find("a divisor of 16"),
            std::string::npos);
  EXPECT_NE(input_error_of([] { bench_load({.ep_rank = 2}); }).find("rank 2 of 2"),
            std::string::npos);
}

}  // namespace
}  // namespace dovetail
