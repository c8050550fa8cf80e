// What tests of captured steps of a model share: outputs that are the same to the bit.
#pragma once

#include <array>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "tests/gpu/model_graph_case.hpp"

namespace dovetail::test {

/// Instantiated in model_graph_test.cpp.
class ModelGraph : public ::testing::TestWithParam<ModelGraphSetting> {};

using EagerOutputs = std::array<StepOutputs, ModelGraphCase::kNumBatches>;

void expect_same(const StepOutputs& got, const StepOutputs& wanted, const std::string& what);

/// Null on all ranks where a rank has failed.
std::unique_ptr<CapturedStep> capture_on_all_ranks(ModelGraphCase& made, bool instrumented = false);

/// Two eager steps of batch 0, which a capture needs, then one of batch 1.
EagerOutputs warm_up(ModelGraphCase& made);

void expect_replays(ModelGraphCase& made, CapturedStep& step, const EagerOutputs& eager);

}  // namespace dovetail::test
