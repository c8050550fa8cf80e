// What tests of captures share.
#pragma once

#include <random>
#include <string>

#include <gtest/gtest.h>

#include "framework/step/cuda/step_runner.hpp"
#include "tests/gpu/marker_step.hpp"

namespace dovetail::test {

/// The two eager steps that must come before a capture.
inline void warm_up(CudaStepRunner& runner,
                    const Schedule& schedule,
                    StepBody& body,
                    PassKind pass = PassKind::full) {
  for (int i = 0; i < 2; ++i) {
    runner.run_eager(schedule, body, pass, nullptr);
  }
}

/// Replays with fresh seeds; the numbers must be those of an eager step.
inline void expect_right(CudaStepRunner& runner,
                         MarkerStep& body,
                         CapturedStep& step,
                         std::mt19937_64& random,
                         const std::string& what,
                         PassKind pass = PassKind::full) {
  for (int repeat = 0; repeat < 2; ++repeat) {
    const auto seed = random();
    body.reset(seed);
    runner.run_eager(step.schedule(), body, pass, nullptr);
    const auto eager = body.numbers();
    body.reset(seed);
    runner.replay(step, nullptr);
    const auto errors = body.errors(seed, pass);
    ASSERT_TRUE(errors.empty()) << what << ": " << first_of(errors);
    ASSERT_EQ(body.numbers(), eager) << what;
    EXPECT_GT(runner.last_enqueue_ns(), 0);
  }
}

}  // namespace dovetail::test
