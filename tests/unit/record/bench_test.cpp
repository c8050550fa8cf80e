// The recording benchmark measures something, prints it, and leaves nothing behind.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/record/record_bench.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {

TEST(RecordBench, MeasuresAndCleansUp) {
  test::TempFolder folder;
  const auto bench = bench_record({folder.path(), 100});
  EXPECT_EQ(bench.iterations, 100);
  EXPECT_GT(bench.step_median_ns, 0);
  EXPECT_LE(bench.step_median_ns, bench.step_p99_ns.value());
  EXPECT_LE(bench.step_p99_ns.value(), bench.step_max_ns);
  EXPECT_FALSE(bench_record({folder.path(), 99}).step_p99_ns);
  const nlohmann::json document = bench;
  EXPECT_EQ(document.at("step_median_ns"), bench.step_median_ns);
  EXPECT_GT(document.at("share_of_10_ms_step"), 0.0);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_THROW(bench_record({folder.path() / "absent", 50}), InputError);
  EXPECT_THROW(bench_record({folder.path(), 0}), InputError);
}

}  // namespace
}  // namespace dovetail
