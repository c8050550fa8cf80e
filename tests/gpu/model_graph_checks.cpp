#include "tests/gpu/model_graph_checks.hpp"

#include <cstdint>
#include <exception>
#include <utility>

#include <ATen/TensorOperators.h>

#include "tests/gpu/gpu_test.hpp"

namespace dovetail::test {
namespace {

/// Empty where both hold the same bits.
std::string bits_that_differ(const at::Tensor& got, const at::Tensor& wanted) {
  if (got.sizes() != wanted.sizes() || got.scalar_type() != wanted.scalar_type()) {
    return "shapes or types differ";
  }
  const auto a = got.cpu().flatten().view(at::kShort);
  const auto b = wanted.cpu().flatten().view(at::kShort);
  const auto differs = a.ne(b).nonzero();
  if (differs.size(0) == 0) {
    return "";
  }
  const auto first = differs[0][0].item<std::int64_t>();
  const auto value = [first](const at::Tensor& x) {
    return std::to_string(x.cpu().flatten()[first].item<float>());
  };
  const auto row = got.size(-1);
  return std::to_string(differs.size(0)) + " of " + std::to_string(got.numel()) +
         " elements differ; first in row " + std::to_string(first / row) + ", column " +
         std::to_string(first % row) + ": wanted " + value(wanted) + ", got " + value(got);
}

}  // namespace

void expect_same(const StepOutputs& got, const StepOutputs& wanted, const std::string& what) {
  EXPECT_EQ(bits_that_differ(got.hidden, wanted.hidden), "") << "hidden, " << what;
  EXPECT_EQ(bits_that_differ(got.logits, wanted.logits), "") << "logits, " << what;
  EXPECT_TRUE(got.expert_ids.equal(wanted.expert_ids)) << "experts, " << what;
}

std::unique_ptr<CapturedStep> capture_on_all_ranks(ModelGraphCase& made, bool instrumented) {
  std::unique_ptr<CapturedStep> step;
  try {
    step = made.capture(instrumented);
  } catch (const std::exception& error) {
    ADD_FAILURE() << "capture: " << error.what();
  }
  return on_any_rank(step == nullptr) ? nullptr : std::move(step);
}

EagerOutputs warm_up(ModelGraphCase& made) {
  EagerOutputs eager;
  eager[0] = made.run_eager(0);
  expect_same(made.run_eager(0), eager[0], "the second eager step");
  eager[1] = made.run_eager(1);
  for (const auto& outputs : eager) {
    EXPECT_TRUE(outputs.hidden.isfinite().all().item<bool>()) << "an eager step";
  }
  return eager;
}

void expect_replays(ModelGraphCase& made, CapturedStep& step, const EagerOutputs& eager) {
  for (const int batch : {0, 1, 0}) {
    expect_same(made.replay(step, batch),
                eager.at(static_cast<std::size_t>(batch)),
                "replay of batch " + std::to_string(batch));
  }
}

}  // namespace dovetail::test
