// What a run records of its execution reads back as itself, and nothing else is read.
#include "framework/config/resolved_execution.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "tests/support/input_error.hpp"

namespace dovetail {
namespace {

const ResolvedExecution kOnGpu = {.device = DeviceKind::cuda,
                                  .device_name = "NVIDIA \"H200\", 139 GiB",
                                  .dtype = DType::bfloat16,
                                  .exchange = "padded",
                                  .exchange_reason = "as configured",
                                  .graph = GraphMode::full,
                                  .comm_sms = 8,
                                  .plain_comm_sms = 32,
                                  .sm_partition = SmPartitionKind::hard,
                                  .graph_sizes = {1, 2, 4, 889},
                                  .num_step_shapes = 5};

TEST(ResolvedExecution, ReadsBackAsItself) {
  auto unbounded = kOnGpu;
  unbounded.plain_comm_sms = kAllSms;
  for (const auto& execution : {kOnGpu, unbounded, ResolvedExecution{}}) {
    const auto text = to_json_text(execution);
    EXPECT_EQ(text.find('\n'), std::string::npos);
    EXPECT_TRUE(parse_resolved_execution(text, "here") == execution) << text;
  }
}

TEST(ResolvedExecution, RefusesEverythingElseWithItsPlace) {
  const auto good = nlohmann::json::parse(to_json_text(kOnGpu));
  const auto refused = [](const nlohmann::json& json) {
    return testing::input_error_of([&] { parse_resolved_execution(json.dump(), "here"); })
        .starts_with("here");
  };
  EXPECT_FALSE(refused(good));
  for (const auto& [key, value] : good.items()) {
    auto missing = good;
    missing.erase(key);
    EXPECT_EQ(refused(missing), key != "sm_partition") << key;
    auto other = good;
    other[key] = nullptr;
    EXPECT_TRUE(refused(other)) << key;
  }
  auto unknown = good;
  unknown["more"] = 1;
  EXPECT_TRUE(refused(unknown));
  for (const auto& wrong : {nlohmann::json(-1), nlohmann::json("8"), nlohmann::json("All")}) {
    auto sms = good;
    sms["plain_comm_sms"] = wrong;
    EXPECT_TRUE(refused(sms)) << wrong;
  }
  auto old = good;  // a file of before the key
  old.erase("sm_partition");
  EXPECT_EQ(parse_resolved_execution(old.dump(), "here").sm_partition, SmPartitionKind::soft);
  old["sm_partition"] = "green";
  EXPECT_TRUE(refused(old));
  auto device = good;
  device["device"] = "tpu";
  EXPECT_TRUE(refused(device));
  auto sizes = good;
  sizes["graph_sizes"] = {0};
  EXPECT_TRUE(refused(sizes));
  EXPECT_THROW(parse_resolved_execution("{", "here"), InputError);
}

}  // namespace
}  // namespace dovetail
