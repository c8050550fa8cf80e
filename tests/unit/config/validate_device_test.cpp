// Rules of the device: what builds with and without CUDA can run, leniently until it is known.
#include <gtest/gtest.h>

#include "framework/config/validate.hpp"
#include "framework/config/validate_execution.hpp"
#include "tests/unit/config/validate_cases.hpp"

namespace dovetail {
namespace {
using testing::error_of;
using testing::executed;
using testing::expect_errors;
using testing::host_capabilities;

TEST(Validate, WhatABuildWithoutCudaCanRun) {
  expect_errors({
      {"iterations: 10",
       "device: cuda",
       "11:21",
       "execution.device: cuda in a build without CUDA; allowed: auto, cpu"},
      {"iterations: 10",
       "graph: piecewise",
       "11:20",
       "execution.graph: graph piecewise on device cpu (this build has no CUDA); allowed: none, or "
       "device cuda"},
      {"ubatches: 2",
       "graph: full",
       "14:31",
       "policies[1].graph: graph full on device cpu (this build has no CUDA)"},
      {"iterations: 10",
       "exchange: padded",
       "11:23",
       "execution.exchange: exchange 'padded' on device cpu (this build has no CUDA); allowed: "
       "auto, gather, ragged, or device cuda"},
  });
  for (const char* good : {"device: cpu, dtype: float16", "device: auto", "exchange: ragged"}) {
    EXPECT_EQ(error_of(executed(good)), "") << good;
  }
}

TEST(Validate, WhatDevicesOfABuildWithCudaCanRun) {
  Capabilities cuda = host_capabilities();
  cuda.cuda = true;
  for (const char* good : {
           "device: cuda",
           "device: cuda, dtype: bfloat16, graph: full",
           "device: cuda, dtype: bfloat16, graph: full, exchange: padded",
           "device: cuda, dtype: bfloat16, graph: full, exchange: gather",
           "device: cuda, dtype: bfloat16, graph: piecewise, exchange: ragged",
           "device: cuda, exchange: padded, padded_capacity: 0.25",
           "device: cuda, comm_sms: 64",
           "device: cuda, comm_sms: auto",
           "device: cuda, dtype: bfloat16, sm_partition: hard",
           "device: cuda, dtype: bfloat16, sm_partition: hard, comm_sms: 8",
           "device: cuda, sm_partition: hard",
           "device: cuda, sm_partition: soft, comm_sms: 4",
           "device: cpu, sm_partition: soft",
           "dtype: bfloat16, sm_partition: hard",
           "device: cpu, comm_sms: 12",
           // auto: what one of the devices can run
           "device: auto, dtype: bfloat16, graph: full, exchange: padded",
           "device: cuda, numerics: batch_invariant",
           "dtype: float16",
           "link: {gbytes_per_s: 1}",
           "exchange: padded",
       }) {
    EXPECT_EQ(error_of(executed(good), 2, cuda), "") << good;
  }
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"device: cpu, graph: full",
       "execution.graph: graph full on device cpu; allowed: none, or device cuda"},
      {"device: cpu, exchange: padded",
       "execution.exchange: exchange 'padded' on device cpu; allowed: auto, gather, ragged, or "
       "device cuda"},
      {"device: cuda, dtype: float16",
       "execution.dtype: float16 on device cuda is not built yet; allowed: bfloat16, float32"},
      {"device: cuda, comm_sms: 12", "execution.comm_sms: 12 on device cuda; allowed: auto, 1, 2"},
      {"device: cuda, comm_sms: 128", "execution.comm_sms: 128 on device cuda; allowed: auto, 1"},
      {"device: cpu, sm_partition: hard",
       "execution.sm_partition: hard on device cpu; allowed: soft, or device cuda"},
      {"device: cuda, dtype: bfloat16, sm_partition: hard, comm_sms: 4",
       "execution.sm_partition: hard with comm_sms 4; allowed: soft, or comm_sms auto, 8, 16"},
      {"dtype: bfloat16, sm_partition: hard, comm_sms: 2",
       "execution.sm_partition: hard with comm"},
      {"device: cuda, sm_partition: hard, comm_sms: 12", "execution.comm_sms: 12 on device cuda"},
      {"sm_partition: hard, link: {gbytes_per_s: 1}", "execution.link: an emulated link on device"},
      {"device: cuda, graph: piecewise",
       "execution.graph: graph piecewise with dtype float32; allowed: none, or dtype bfloat16"},
      {"device: cuda, dtype: bfloat16, graph: full, exchange: ragged",
       "execution.graph: graph full with exchange ragged; allowed: graph up to piecewise, or "
       "another exchange"},
      {"graph: full", "execution.graph: graph full with dtype float32"},
      {"dtype: bfloat16, graph: full, exchange: ragged", "execution.graph: graph full with exchan"},
      {"dtype: float16, exchange: padded", "execution.dtype: float16 on device cuda"},
      {"exchange: padded, link: {gbytes_per_s: 1}", "execution.link: an emulated link on device"},
  };
  for (const auto& [text, fragment] : bad) {
    const std::string what = error_of(executed(text), 2, cuda);
    EXPECT_NE(what.find(fragment), std::string::npos) << text << "\n" << what;
  }
}

/// Once a run knows its device, nothing is lenient any more.
TEST(Validate, TheResolvedDeviceIsCheckedStrictly) {
  Capabilities cuda = host_capabilities();
  cuda.cuda = true;
  const auto error_on = [&](DeviceKind device, const std::string& text) {
    const auto experiment = parse_experiment(executed(text), "x").experiment;
    return testing::input_error_of(
        [&] { check_execution_on(device, experiment.execution, cuda, "policies[1]"); });
  };
  const std::string graph = "dtype: bfloat16, graph: full";
  EXPECT_EQ(error_on(DeviceKind::cuda, graph), "");
  EXPECT_EQ(error_on(DeviceKind::cpu, graph),
            "policies[1].graph: graph full on device cpu; allowed: none, or device cuda");
  EXPECT_EQ(error_on(DeviceKind::cpu, "sm_partition: hard"),
            "policies[1].sm_partition: hard on device cpu; allowed: soft, or device cuda");
  EXPECT_EQ(error_on(DeviceKind::cuda, "dtype: bfloat16, sm_partition: hard"), "");
  EXPECT_EQ(error_on(DeviceKind::cpu, "dtype: float16"), "");
  EXPECT_EQ(error_on(DeviceKind::cuda, "dtype: float16"),
            "policies[1].dtype: float16 on device cuda is not built yet; allowed: bfloat16, "
            "float32");
  EXPECT_EQ(error_on(DeviceKind::cpu, "link: {gbytes_per_s: 1}"), "");
  EXPECT_NE(error_on(DeviceKind::cuda, "link: {gbytes_per_s: 1}"), "");
  Capabilities no_gpu_ragged = cuda;
  no_gpu_ragged.exchanges[1].on_gpu = false;
  const auto experiment = parse_experiment(executed("exchange: ragged"), "x").experiment;
  EXPECT_EQ(
      testing::input_error_of([&] {
        check_execution_on(DeviceKind::cuda, experiment.execution, no_gpu_ragged, "execution");
      }),
      "execution.exchange: exchange 'ragged' on device cuda is not built yet; allowed: device "
      "cpu");
  EXPECT_THROW(check_execution_on(DeviceKind::automatic, experiment.execution, cuda, "execution"),
               ContractError);
}

}  // namespace
}  // namespace dovetail
