// What only CPU ranks can do.
#include "framework/run/choose_device.hpp"

#include <gtest/gtest.h>

#include "framework/config/load.hpp"

namespace dovetail {
namespace {

TEST(WhatNeedsCpu, ALinkOrFloat16OfAnyPolicy) {
  const auto with = [](const std::string& policy) {
    return parse_experiment(
               "experiment: e\nmodel: {architecture: m, config: c.json}\n"
               "workload: {requests: {count: 1, length: 1}}\n"
               "policies: [{name: sequential}, {name: other, schedule: sequential" +
                   policy + "}]\n",
               "e.yaml")
        .experiment;
  };
  EXPECT_EQ(what_needs_cpu(with("")), "");
  EXPECT_EQ(what_needs_cpu(with(", link: {latency_us: 1, gbytes_per_s: 1}")),
            "policy other emulates a link, which only CPU ranks can");
  EXPECT_EQ(what_needs_cpu(with(", dtype: float16")),
            "policy other computes in float16, which only CPU ranks can");
  EXPECT_EQ(what_needs_cpu(with(", numerics: batch_invariant")), "");
}

}  // namespace
}  // namespace dovetail
