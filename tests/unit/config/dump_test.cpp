// The dump states every key, and reads back as what it was made from.
#include "framework/config/dump.hpp"

#include <random>

#include <gtest/gtest.h>

#include "framework/config/load.hpp"
#include "tests/unit/config/config_samples.hpp"

namespace dovetail {
namespace {

TEST(Dump, RandomExperimentsReadBackEqual) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 500; ++i) {
    const Experiment experiment = testing::random_experiment(random);
    const std::string text = dump(experiment);
    LoadedExperiment loaded;
    ASSERT_NO_THROW(loaded = parse_experiment(text, "dump")) << text;
    ASSERT_EQ(loaded.experiment, experiment) << text;
    ASSERT_EQ(dump(loaded.experiment), text);
  }
}

/// The dump must tell experiments apart: equal text means equal experiments.
TEST(Dump, DifferentExperimentsDiffer) {
  const auto seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 200; ++i) {
    const Experiment a = testing::random_experiment(random);
    Experiment b = a;
    b.workload.seed ^= 1U;
    EXPECT_NE(dump(a), dump(b));
    b = a;
    b.policies.back().execution.timeout_s = a.policies.back().execution.timeout_s == 1 ? 2 : 1;
    EXPECT_NE(a, b);
    EXPECT_NE(dump(a), dump(b));
  }
}

TEST(Dump, LinksAreNamed) {
  EXPECT_EQ(describe_link(std::nullopt, 2), "none");
  EXPECT_EQ(describe_link(LinkConfig{}, 1), "none");
  EXPECT_EQ(describe_link(LinkConfig{.latency_us = 20.0, .gbytes_per_s = 1.0}, 2),
            "emulated: 20 us, 1 GB/s");
  EXPECT_EQ(describe_link(LinkConfig{.latency_us = 2.5, .gbytes_per_s = 0.125}, 2),
            "emulated: 2.5 us, 0.125 GB/s");
}

TEST(Dump, OverridesShow) {
  const auto loaded = parse_experiment(
      testing::kSmall, "small", {"execution.iterations=77", "policies.dual_batch.warmup=5"});
  const std::string text = dump(loaded.experiment);
  EXPECT_NE(text.find("iterations: 77"), std::string::npos);
  EXPECT_NE(text.find("warmup: 5"), std::string::npos);
  EXPECT_EQ(parse_experiment(text, "dump").experiment, loaded.experiment);
}

}  // namespace
}  // namespace dovetail
