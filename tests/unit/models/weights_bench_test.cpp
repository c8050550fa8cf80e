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

class LoadBenchTest : public ::testing::TestWithParam<bool> {};

INSTANTIATE_TEST_SUITE_P(Stored, LoadBenchTest, ::testing::Bool(), [](const auto& stored) {
  return stored.param ? "float8" : "bfloat16";
});

TEST_P(LoadBenchTest, EachOwnedByteIsReadOnceInLittleMoreThanTheOwnedMemory) {
  const ScratchFolder scratch;
  LoadBenchOptions options;
  options.block_scaled = GetParam();
  options.checkpoint_bytes = GetParam() ? 160 << 20 : 320 << 20;
  options.ep_rank = 1;
  options.scratch = scratch.path();
  const LoadBench bench = bench_load(options);
  EXPECT_EQ(bench.stored, GetParam() ? "F8_E4M3" : "BF16");
  EXPECT_EQ(bench.bytes_read, bench.owned_file_bytes);
  EXPECT_EQ(bench.read_ratio, 1.0);
  EXPECT_GT(bench.owned_file_bytes, bench.checkpoint_bytes / 2);
  EXPECT_LT(bench.owned_file_bytes, bench.checkpoint_bytes * 6 / 10);
  const double growth =
      static_cast<double>(bench.owned_bytes) / static_cast<double>(bench.owned_file_bytes);
  EXPECT_NEAR(growth, GetParam() ? 2 : 1, 0.01) << "factors and routers are small";
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
