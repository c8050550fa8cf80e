// A rank file from recorder to reader: what was written comes back, what was not shows the fill.
#include <cmath>
#include <limits>

#include <gtest/gtest.h>

#include "framework/base/error.hpp"
#include "framework/record/reader.hpp"
#include "framework/record/recorder.hpp"
#include "tests/support/input_error.hpp"
#include "tests/unit/record/record_support.hpp"

namespace dovetail {
namespace {
using hdf5::Shape;
using test::full_spec;
using test::TempFolder;
using testing::input_error_of;

std::span<const std::byte> bytes_of(const auto& values) {
  return std::as_bytes(std::span(values));
}

TEST(RankFile, IdentityConfigAndSchedulesRoundTrip) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00001.h5";
  auto spec = full_spec(1, 2);
  test::write_full_file(path, spec);
  const RankFile file(path);
  EXPECT_EQ(file.status(), RunStatus::complete);
  EXPECT_EQ(file.failure(), "");
  EXPECT_EQ(file.rank(), 1);
  EXPECT_EQ(file.world_size(), 2);
  EXPECT_EQ(file.integer("schema_version"), kSchemaVersion);
  EXPECT_EQ(file.integer("ep_rank"), 1);
  EXPECT_EQ(file.integer("dp_rank"), 0);
  EXPECT_EQ(file.integer("expert_parallel"), 2);
  EXPECT_EQ(file.text("host"), "host-1");
  EXPECT_EQ(file.text("weights_digest"), "00ff");
  EXPECT_EQ(file.text("argv"), "dovetail run x.yaml");
  EXPECT_EQ(file.integer("omp_threads"), 3);
  EXPECT_EQ(file.integer("clock_offset_ns", "/timing"), -17);
  EXPECT_EQ(file.integer("first_expert", "/traffic"), 4);
  EXPECT_EQ(file.text("columns", "/timing/decision"),
            "ubatched,graph,schedule,reason,veto_rank,eager_reason,captured");
  EXPECT_EQ(file.text("columns", "/graph/eager_steps"),
            "none,mode_none,warm_up,capture_failed,pass_not_captured,no_work");
  EXPECT_EQ(file.clock_error_ns(), 5);
  EXPECT_EQ(file.config(), spec.config);
  EXPECT_EQ(file.schedules(), spec.schedules);
  EXPECT_EQ(file.outputs(), (std::vector<std::string>{"hidden", "layer_0", "logits"}));
  EXPECT_NE(input_error_of([&] { file.text("absent"); }).find("'absent' is missing"),
            std::string::npos);
  EXPECT_NE(input_error_of([&] { file.integer("host"); }).find("'host' is not an integer"),
            std::string::npos);
}

TEST(RankFile, EveryDatasetOfTheSpecIsThereWithItsShapeAndType) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  const auto spec = full_spec();
  test::write_full_file(path, spec);
  const RankFile file(path);
  std::vector<std::string> names;
  for (const auto& dataset : rank_file_datasets(spec)) {
    names.push_back(dataset.path);
    EXPECT_EQ(file.shape(dataset.path), dataset.shape) << dataset.path;
    EXPECT_EQ(file.dtype(dataset.path), dataset.dtype) << dataset.path;
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(file.numeric_datasets(), names);
  EXPECT_EQ(file.shape(path::kOps), (Shape{2, 3, 2}));  // as many as the longest schedule
}

TEST(RankFile, StepsAndProfilesLandInTheirRows) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  const auto spec = full_spec();
  {
    RankRecorder recorder(path, spec);
    recorder.write_step(2, 1, 77, {1, 2, 1, 3, 5, 4, 1}, 55);
    recorder.write_step(0, 1, 66, {});
    const std::vector<std::int64_t> start = {10, 20};
    const std::vector<std::int64_t> end = {15, -1};
    recorder.write_profiled_pass(1,
                                 {.pass = ProfilePass::comm_only,
                                  .step_start_ns = 9,
                                  .step_end_ns = 16,
                                  .op_start_ns = start,
                                  .op_end_ns = end});
    recorder.write_profiled_pass(
        1, {.pass = ProfilePass::unrecorded, .step_start_ns = 5, .step_end_ns = 8});
    const std::vector<std::int64_t> gated_start = {11, 21};
    const std::vector<std::int64_t> gated_end = {16, -1};
    recorder.write_profiled_pass(
        1, {.pass = ProfilePass::gated, .op_start_ns = gated_start, .op_end_ns = gated_end});
    recorder.write_before(2, 1, {41, 42, 43});
    const std::vector<std::int64_t> enqueued = {1, 2, 3};
    const std::vector<std::int64_t> waited = {4, 5, 6};
    recorder.write_profiled_host(
        0,
        {.schedule = 1, .enqueued_ns = enqueued, .hand_off_wait_ns = waited, .counts_wait_ns = 8});
    recorder.write_timed_hash(3, 1, {2, 1, {70, 71, 72}}, 79);
    recorder.write_profiled_hash(1, {0, 1, {73, 74, 75}});
    recorder.write_poisoned_hash(2, 0, {2, 0, {76, 77, 78}});
    recorder.write_scalar(path::kDispatchWireBytes, 4096);
    recorder.set_attribute("/timing", {"clock_offset_ns", std::int64_t{123}});
  }
  const RankFile file(path);
  EXPECT_EQ(file.status(), RunStatus::running);  // nobody finished it
  EXPECT_EQ(file.integer("clock_offset_ns", "/timing"), 123);
  const auto expect = [&](const char* dataset, const std::vector<std::int64_t>& values) {
    EXPECT_EQ(file.read<std::int64_t>(dataset).values, values) << dataset;
  };
  expect(path::kStepNs, {-1, 66, -1, -1, -1, 77, -1, -1});
  expect(path::kStepEnqueueNs, {-1, -1, -1, -1, -1, 55, -1, -1});
  std::vector<std::int64_t> decisions(56, -1);
  std::copy_n(std::vector<std::int64_t>{1, 2, 1, 3, 5, 4, 1}.begin(), 7, decisions.begin() + 35);
  std::copy_n(std::vector<std::int64_t>{0, 0, 0, 0, -1, 1, 0}.begin(), 7, decisions.begin() + 7);
  expect(path::kDecision, decisions);
  expect(path::kOpsCommOnly, {-1, -1, -1, -1, -1, -1, 10, 15, 20, -1, -1, -1});
  expect(path::kOps, std::vector<std::int64_t>(12, -1));
  expect(path::kOpsComputeOnly, std::vector<std::int64_t>(12, -1));
  expect(path::kProfiledStepNs, {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 9, 16});
  std::vector<std::int64_t> further(16, -1);  // two steps of four passes
  further[12] = 5;
  further[13] = 8;
  expect(path::kFurtherStepNs, further);
  expect(path::kOpsGated, {-1, -1, -1, -1, -1, -1, 11, 16, 21, -1, -1, -1});
  expect(path::kOpsAllSms, std::vector<std::int64_t>(12, -1));
  std::vector<std::int64_t> before(24, -1);
  std::copy_n(std::vector<std::int64_t>{41, 42, 43}.begin(), 3, before.begin() + 15);
  expect(path::kBeforeNs, before);
  expect(path::kEnqueuedNs, {1, 2, 3, -1, -1, -1});
  expect(path::kHandOffWaitNs, {4, 5, 6, -1, -1, -1});
  expect(path::kCountsWaitNs, {8, -1});
  expect(path::kProfiledSchedule, {1, -1});
  const auto expect_row = [&](const char* dataset,
                              std::size_t rows,
                              std::size_t row,
                              const std::vector<std::int64_t>& values) {
    std::vector<std::int64_t> all(rows * 5, -1);
    std::copy(values.begin(), values.end(), all.begin() + static_cast<std::ptrdiff_t>(row * 5));
    expect(dataset, all);
  };
  expect(path::kHashNs, {-1, -1, -1, -1, -1, -1, -1, 79});
  expect_row(path::kTimedHash, 8, 7, {2, 1, 70, 71, 72});
  expect_row(path::kProfiledHash, 2, 1, {0, 1, 73, 74, 75});
  expect_row(path::kPoisonedHash, 6, 4, {2, 0, 76, 77, 78});
  EXPECT_EQ(file.num_variants(), 3);
  expect(path::kDispatchWireBytes, {4096});
  expect(path::kCombineWireBytes, {-1});
  expect(path::kInputIds, std::vector<std::int64_t>(6, -1));
  for (const auto* output : {"/output/hidden", "/output/layer_0", "/output/logits"}) {
    for (const float value : file.read_floats(output).values) {
      EXPECT_TRUE(std::isnan(value)) << output;
    }
  }
  for (const auto id : file.read<std::int32_t>(path::kExpertIds).values) {
    EXPECT_EQ(id, -1);
  }
}

TEST(RankFile, RowsOfEveryFloatTypeComeBackAsFloat) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  const auto spec = full_spec();
  const std::vector<std::uint16_t> bf16 = {0x3f80, 0xc000, 0x4049, 0x7f80, 0x0001};
  const std::vector<std::uint16_t> fp16 = {0x3c00, 0xc000, 0x4248, 0x7c00, 0x0001};
  {
    RankRecorder recorder(path, spec);
    recorder.write_rows("/output/hidden", DType::bfloat16, 2, bytes_of(bf16));
    recorder.write_rows("/output/layer_0", DType::float16, 5, bytes_of(fp16));
    recorder.finish(RunStatus::invalid);
  }
  const RankFile file(path);
  EXPECT_EQ(file.status(), RunStatus::invalid);
  const auto infinity = std::numeric_limits<float>::infinity();
  const auto hidden = file.read_floats("/output/hidden", 2, 1);
  EXPECT_EQ(hidden.shape, (Shape{1, 5}));
  EXPECT_EQ(hidden.values, (std::vector<float>{1, -2, 3.140625F, infinity, 0x1p-133F}));
  EXPECT_EQ(file.read_floats("/output/layer_0", 5, 1).values,
            (std::vector<float>{1, -2, 3.140625F, infinity, 0x1p-24F}));
  const auto all = file.read_floats("/output/hidden");
  EXPECT_EQ(all.shape, (Shape{6, 5}));
  EXPECT_TRUE(std::isnan(all.values[9]));
  EXPECT_EQ(all.values[10], 1);
  EXPECT_TRUE(std::isnan(all.values[15]));
  EXPECT_EQ(file.read_bytes("/output/hidden").size(), 60U);
  EXPECT_NE(
      input_error_of([&] { file.read_floats(path::kStepNs); }).find("int64 instead of float32"),
      std::string::npos);
  EXPECT_NE(input_error_of([&] {
              file.read<float>("/output/hidden");
            }).find("bfloat16 instead of float32"),
            std::string::npos);
  EXPECT_NE(input_error_of([&] {
              file.read<float>("/output/none");
            }).find("/output/none: no such dataset"),
            std::string::npos);
  EXPECT_NE(input_error_of([&] { file.shape("/output"); }).find("is a group"), std::string::npos);
}

TEST(RankFile, IdleRankWithoutTokensIsLegal) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  auto spec = full_spec();
  spec.tokens = 0;
  spec.requests = 0;
  spec.profiled = 0;
  spec.has_mrope_positions = true;
  spec.outputs = {{"hidden", DType::bfloat16, {0, 5}}};
  {
    RankRecorder recorder(path, spec);
    recorder.write("/output/hidden", DType::bfloat16, {});
    recorder.write_rows("/output/hidden", DType::bfloat16, 0, {});
    recorder.finish(RunStatus::complete);
  }
  const RankFile file(path);
  EXPECT_EQ(file.read_floats("/output/hidden").shape, (Shape{0, 5}));
  EXPECT_EQ(file.shape(path::kMropePositions), (Shape{3, 0}));
}

TEST(RankFile, FailureTextIsKeptAndCut) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  {
    RankRecorder recorder(path, full_spec());
    recorder.finish(RunStatus::failed, "rank 0, phase experts: " + std::string(2000, 'x'));
    EXPECT_THROW(recorder.write_step(0, 0, 1, {}), ContractError);
    EXPECT_THROW(recorder.finish(RunStatus::complete), ContractError);
  }
  const RankFile file(path);
  EXPECT_EQ(file.status(), RunStatus::failed);
  EXPECT_EQ(file.failure().substr(0, 30), "rank 0, phase experts: xxxxxxx");
  EXPECT_EQ(file.failure().size(), 1024U);
}

TEST(RankRecorder, RefusesWhatContradictsTheSpec) {
  TempFolder folder;
  RankRecorder recorder(folder.path() / "rank-00000.h5", full_spec());
  const std::vector<std::int64_t> wrong_length(7);
  const std::vector<float> wrong_type(6);
  EXPECT_THROW(recorder.write_step(4, 0, 1, {}), ContractError);
  EXPECT_THROW(recorder.write_step(0, 2, 1, {}), ContractError);
  EXPECT_THROW(recorder.write(path::kInputIds, wrong_length), ContractError);
  EXPECT_THROW(recorder.write(path::kInputIds, wrong_type), ContractError);
  EXPECT_THROW(recorder.write("/output/none", wrong_type), hdf5::Hdf5Error);
  EXPECT_THROW(recorder.write_rows("/output/logits", DType::float32, 0, bytes_of(wrong_type)),
               ContractError);
  const std::vector<std::int64_t> too_many(4);
  EXPECT_THROW(recorder.write_profiled_pass(0, {.op_start_ns = too_many, .op_end_ns = too_many}),
               ContractError);
  EXPECT_THROW(recorder.finish(RunStatus::running), ContractError);
  EXPECT_THROW(recorder.set_attribute("/", {"policy", std::string("x")}), ContractError);
  auto twice = full_spec();
  twice.attributes.push_back({"rank", std::int64_t{3}});
  EXPECT_THROW(RankRecorder(folder.path() / "rank-00001.h5", twice), ContractError);
  // Nothing is left of a file that could not be made.
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()),
                          std::filesystem::directory_iterator()),
            1);
}

TEST(RankRecorder, NeverReplacesAFile) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  test::write_file(path, "precious");
  const auto message = input_error_of([&] { RankRecorder recorder(path, full_spec()); });
  EXPECT_EQ(message, path.string() + ": exists; results are never overwritten");
  EXPECT_EQ(test::read_file(path), "precious");
  EXPECT_THROW(RankRecorder(folder.path() / "absent" / "rank-00000.h5", full_spec()), RunError);
}

/// A file of version 2 lacks what version 3 added, and reads as "not known".
TEST(RankFile, TheOlderVersionIsRead) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  test::write_full_file(path, full_spec());
  {
    auto file = hdf5::File::open(path.string(), hdf5::Access::read_write);
    file.update_attribute("/", {"schema_version", std::int64_t{2}});
    for (const char* added : {path::kDecision, path::kStepEnqueueNs, path::kGraph, path::kMemory}) {
      file.remove(added);
    }
    file.create_dataset(path::kDecision, DType::int64, {4, 2, 5});
  }
  const RankFile file(path);
  EXPECT_EQ(file.schema_version(), 2);
  EXPECT_EQ(file.scalar(path::kPeakReservedBytes), -1);
  EXPECT_EQ(file.scalar(path::kDispatchWireBytes),
            file.read<std::int64_t>(path::kDispatchWireBytes).values.at(0));
}

TEST(RankFile, GraphsMemoryAndTheClockOfTheDevice) {
  TempFolder folder;
  const auto path = folder.path() / "rank-00000.h5";
  GraphCounters counters;
  counters.captures = 1;
  counters.replays = 20;
  counters.evictions = 3;
  counters.failures = 4;
  counters.eager(EagerReason::warm_up) = 5;
  counters.eager(EagerReason::no_work) = 6;
  {
    RankRecorder recorder(path, full_spec());
    recorder.write_graph_counters(counters);
    recorder.write_memory(
        {.peak_reserved = 50, .peak_allocated = 40, .weights = 30, .cache = 20, .exchange = 10});
    recorder.set_attribute(path::kTiming, {attribute::kDeviceClockErrorNs, std::int64_t{700}});
  }
  const RankFile file(path);
  EXPECT_EQ(file.clock_error_ns(), 705);
  EXPECT_EQ(file.scalar(path::kGraphCaptures), 1);
  EXPECT_EQ(file.scalar(path::kGraphReplays), 20);
  EXPECT_EQ(file.scalar(path::kGraphEvictions), 3);
  EXPECT_EQ(file.scalar(path::kGraphFailures), 4);
  EXPECT_EQ(file.read<std::int64_t>(path::kGraphEagerSteps).values,
            (std::vector<std::int64_t>{0, 0, 5, 0, 0, 6}));
  EXPECT_EQ(file.scalar(path::kPeakReservedBytes), 50);
  EXPECT_EQ(file.scalar(path::kPeakAllocatedBytes), 40);
  EXPECT_EQ(file.scalar(path::kWeightsBytes), 30);
  EXPECT_EQ(file.scalar(path::kCacheBytes), 20);
  EXPECT_EQ(file.scalar(path::kExchangeBytes), 10);
}

}  // namespace
}  // namespace dovetail
