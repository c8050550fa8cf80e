// `numerics: batch_invariant` on the CPU: each product and each operation between the products
// gives a row the same bits in every company, with any number of threads, and the right values. The
// check itself must notice operations that do not.
#include <cmath>
#include <random>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/repeat_interleave.h>
#include <ATen/ops/silu.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "models/layers/experts.hpp"
#include "models/layers/mlp.hpp"
#include "models/layers/products.hpp"
#include "models/layers/rms_norm.hpp"
#include "models/layers/rotary.hpp"
#include "models/layers/router.hpp"
#include "models/layers/row_dots.hpp"
#include "models/layers/times_sigmoid.hpp"
#include "tests/unit/models/row_check.hpp"

namespace dovetail {
namespace {

constexpr auto kInvariant = Numerics::batch_invariant;

/// Of a result of that type and of operands around 1.
double tolerance(at::ScalarType type) {
  return type == at::kFloat ? 3e-6 : type == at::kHalf ? 4e-3 : 3e-2;
}

/// max|a - b| / max(1, max|b|); NaN where either holds one.
double error_of(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor wanted = b.to(at::kDouble);
  const double largest = wanted.abs().max().item<double>();
  return (a.to(at::kDouble) - wanted).abs().max().item<double>() / std::max(1.0, largest);
}

class BatchInvariant : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  BatchInvariant() : seed_(std::random_device{}()), random_(seed_) { at::manual_seed(seed_); }

  at::Tensor random_rows(at::IntArrayRef sizes) const { return at::randn(sizes).to(GetParam()); }

  void expect_invariant(const RowOperation& operation, const at::Tensor& rows, const char* what) {
    EXPECT_EQ(count_changed_bits(operation, rows, random_), 0) << what << ", seed " << seed_;
  }

  const std::uint64_t seed_;
  std::mt19937_64 random_;
};

TEST_P(BatchInvariant, Products) {
  struct Size {
    std::int64_t in;
    std::int64_t out;
  };

  // Odd ones, narrow ones with long sums, one of several column blocks, one of one column.
  for (const Size size : {Size{48, 24}, {100, 37}, {3000, 8}, {512, 600}, {129, 257}, {64, 1}}) {
    const at::Tensor x = random_rows({150, size.in});
    const at::Tensor weight =
        (at::randn({size.out, size.in}) / std::sqrt(static_cast<double>(size.in))).to(GetParam());
    const at::Tensor bias = random_rows({size.out});
    for (const at::Tensor& added : {at::Tensor(), bias}) {
      SCOPED_TRACE(testing::Message() << size.in << " -> " << size.out << ", bias "
                                      << added.defined() << ", seed " << seed_);
      const RowOperation operation = [&](const at::Tensor& rows) {
        return project(rows, weight, added, kInvariant);
      };
      expect_invariant(operation, x, "product");
      at::Tensor exact = at::mm(x.to(at::kDouble), weight.to(at::kDouble).t());
      if (added.defined()) {
        exact += added.to(at::kDouble);
      }
      EXPECT_LT(error_of(operation(x), exact), tolerance(GetParam()));
      EXPECT_EQ(operation(x.narrow(0, 0, 0)).size(0), 0);
    }
    // A weight that does not lie as a new tensor does, as of one expert of several of an odd size.
    const at::Tensor shifted = at::zeros({size.out * size.in + 1}, weight.options())
                                   .narrow(0, 1, size.out * size.in)
                                   .view(weight.sizes());
    shifted.copy_(weight);
    EXPECT_EQ(count_different_bits(project(x, shifted, {}, kInvariant),
                                   project(x, weight, {}, kInvariant)),
              0);
  }
}

TEST(RowDots, HaveTheBitsOfOneOrderOfAdditions) {
  for (const std::int64_t length : {0, 1, 7, 8, 9, 64, 131, 2048}) {
    const at::Tensor x = at::randn({11, length});
    const at::Tensor w = at::randn({13, length});
    const auto rows_of = [](const at::Tensor& t) {
      return FloatRows{t.const_data_ptr<float>(), t.size(0), t.size(1)};
    };
    at::Tensor found = at::full({11, 13}, NAN);
    dot_rows(rows_of(x), rows_of(w), found.mutable_data_ptr<float>());
    at::Tensor portable = at::full({11, 13}, NAN);
    dot_rows_portable(rows_of(x), rows_of(w), portable.mutable_data_ptr<float>());
    EXPECT_EQ(count_different_bits(found, portable), 0) << length;
    EXPECT_LT(error_of(found, at::mm(x.to(at::kDouble), w.to(at::kDouble).t())), 3e-6) << length;
  }
}

TEST_P(BatchInvariant, Experts) {
  constexpr std::int64_t experts = 5;
  constexpr std::int64_t hidden = 72;
  constexpr std::int64_t inner = 40;
  const ExpertWeights weights = {
      .gate_up = (at::randn({experts, 2 * inner, hidden}) / 8).to(GetParam()),
      .down = (at::randn({experts, hidden, inner}) / 6).to(GetParam())};
  // The expert of a row is told by its last element.
  const at::Tensor x = random_rows({130, hidden});
  x.select(1, hidden - 1).copy_(at::randint(experts, {130}).to(GetParam()));
  const auto run = [&](Numerics numerics) {
    return [&, numerics](const at::Tensor& rows) {
      const at::Tensor order =
          rows.select(1, hidden - 1).argsort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
      const at::Tensor of_row = rows.select(1, hidden - 1).to(at::kLong);
      const at::Tensor ends = of_row.bincount({}, experts).cumsum(0).to(at::kInt);
      const at::Tensor result =
          run_experts(weights, {.rows = rows.index_select(0, order), .offsets = ends}, numerics);
      at::Tensor back = result.clone();
      return back.index_copy_(0, order, result);
    };
  };
  expect_invariant(run(kInvariant), x, "experts");
  EXPECT_LT(error_of(run(kInvariant)(x), run(Numerics::fast)(x)), tolerance(GetParam()));
}

TEST_P(BatchInvariant, NormRotationAndGates) {
  for (const std::int64_t size : {48, 100, 2048}) {
    const at::Tensor weight = at::randn({size}).to(GetParam());
    const RowOperation norm = [&](const at::Tensor& rows) {
      return rms_norm(rows, weight, 1e-6, kInvariant);
    };
    const RowOperation gate = [&](const at::Tensor& rows) { return swiglu(rows, kInvariant); };
    // A row's first element is its logit.
    const RowOperation times = [&](const at::Tensor& rows) {
      return times_sigmoid(rows, rows.narrow(1, 0, 1), kInvariant);
    };
    const at::Tensor x = random_rows({90, size});
    expect_invariant(times, x, "times sigmoid");
    EXPECT_LT(error_of(times(x), times_sigmoid(x, x.narrow(1, 0, 1), Numerics::fast)),
              tolerance(GetParam()));
    expect_invariant(norm, x, "norm");
    expect_invariant(gate, x, "swiglu");
    EXPECT_LT(error_of(norm(x), rms_norm(x, weight, 1e-6)), tolerance(GetParam()));
    EXPECT_LT(error_of(gate(x), swiglu(x)), tolerance(GetParam()));
  }
  // Heads within a row that holds more, as queries and keys lie.
  const at::Tensor heads = random_rows({60, 5, 24});
  const at::Tensor weight = random_rows({24});
  const Rotary rotary(24, {.theta = 1e4, .mrope = {.section = {4, 4, 4}}}, at::kCPU);
  const RowOperation turn = [&](const at::Tensor& rows) {
    // A row's first element of the last head gives its position.
    const at::Tensor positions =
        rows.select(1, 4).select(1, 0).to(at::kFloat).mul(500).to(at::kLong);
    return rotate(rms_norm(rows.narrow(1, 1, 3), weight, 1e-6, kInvariant),
                  rotary.table(positions, GetParam(), kInvariant),
                  kInvariant);
  };
  expect_invariant(turn, heads, "rotation");
  const at::Tensor positions = at::randint(3000, {60}, at::kLong);
  const at::Tensor table = rotary.table(positions, GetParam(), kInvariant);
  EXPECT_LT(error_of(table, rotary.table(positions, GetParam())), tolerance(GetParam()));
  EXPECT_LT(error_of(rotate(heads, table, kInvariant), rotate(heads, table)),
            tolerance(GetParam()));
}

TEST_P(BatchInvariant, ProductsInFloat32RoundNothing) {
  for (const auto& [in, out] :
       {std::pair<std::int64_t, std::int64_t>{48, 24}, {3000, 8}, {129, 257}}) {
    SCOPED_TRACE(testing::Message() << in << " -> " << out << ", seed " << seed_);
    const at::Tensor x = random_rows({150, in});
    const at::Tensor weight =
        (at::randn({out, in}) / std::sqrt(static_cast<double>(in))).to(GetParam());
    const RowOperation operation = [&](const at::Tensor& rows) {
      return project_to_float32(rows, weight, kInvariant);
    };
    expect_invariant(operation, x, "product in float32");
    const at::Tensor exact = at::mm(x.to(at::kDouble), weight.to(at::kDouble).t());
    for (const Numerics numerics : {Numerics::fast, kInvariant}) {
      const at::Tensor got = project_to_float32(x, weight, numerics);
      EXPECT_EQ(got.scalar_type(), at::kFloat);
      EXPECT_LT(error_of(got, exact), tolerance(at::kFloat));
      const at::Tensor rounded = project(x, weight, {}, numerics);
      EXPECT_EQ(count_different_bits(rounded.to(at::kFloat), got) == 0, GetParam() == at::kFloat);
    }
  }
}

TEST_P(BatchInvariant, Router) {
  for (const std::int64_t experts : {8, 37, 128}) {
    const at::Tensor logits = random_rows({120, experts});
    for (const bool normalize : {false, true}) {
      const RowOperation weights = [&](const at::Tensor& rows) {
        return route_top_k(rows, {}, {.top_k = 5, .normalize = normalize}, kInvariant).weights;
      };
      const RowOperation replayed = [&](const at::Tensor& rows) {
        const at::Tensor ids = at::full({rows.size(0), 2}, 3, at::kLong);
        return route_replayed(rows, {}, ids, {.normalize = normalize}, kInvariant).weights;
      };
      expect_invariant(weights, logits, "weights of the router");
      expect_invariant(replayed, logits, "weights of replayed experts");
      const Routing fast = route_top_k(logits, {}, {.top_k = 5, .normalize = normalize});
      const Routing own = route_top_k(logits, {}, {.top_k = 5, .normalize = normalize}, kInvariant);
      EXPECT_EQ(count_different_bits(own.expert_ids, fast.expert_ids), 0);
      EXPECT_LT(error_of(own.weights, fast.weights), 1e-6);
    }
    expect_invariant(
        [](const at::Tensor& rows) {
          return route_top_k(rows, {}, {.top_k = 3, .normalize = true}, kInvariant).expert_ids;
        },
        logits,
        "choices");
  }
}

TEST_P(BatchInvariant, DenseLayers) {
  const MlpWeights weights = {.gate_up = (at::randn({std::int64_t{2} * 56, 44}) / 6).to(GetParam()),
                              .down = (at::randn({44, 56}) / 7).to(GetParam())};
  const at::Tensor x = random_rows({77, 44});
  const RowOperation mlp = [&](const at::Tensor& rows) {
    return gated_mlp(weights, rows, kInvariant);
  };
  expect_invariant(mlp, x, "dense layer");
  EXPECT_LT(error_of(mlp(x), gated_mlp(weights, x, Numerics::fast)), tolerance(GetParam()));
}

INSTANTIATE_TEST_SUITE_P(Dtypes,
                         BatchInvariant,
                         ::testing::Values(at::kFloat, at::kBFloat16, at::kHalf),
                         [](const auto& of) { return at::toString(of.param); });

/// What the check is there for: faults planted into operations on rows.
TEST(RowCheck, NoticesWhatDependsOnTheBatch) {
  std::mt19937_64 random(7);
  at::manual_seed(7);
  const at::Tensor x = at::randn({90, 64});
  const at::Tensor weight = at::randn({24, 64});
  const auto changed = [&](const RowOperation& operation) {
    return count_changed_bits(operation, x, random);
  };
  EXPECT_EQ(changed([](const at::Tensor& rows) { return rows * 3; }), 0);
  // A sum that is split where there are few rows.
  EXPECT_GT(changed([&](const at::Tensor& rows) {
              if (rows.size(0) > 16) {
                return project(rows, weight, {}, kInvariant);
              }
              const auto half = [&](std::int64_t first) {
                return project(rows.narrow(1, first, 32).contiguous(),
                               weight.narrow(1, first, 32).contiguous(),
                               {},
                               kInvariant);
              };
              return half(0) + half(32);
            }),
            0);
  // A row that sees its neighbour, its place, or the number of threads.
  EXPECT_GT(changed([](const at::Tensor& rows) { return rows + 1e-3 * rows.roll(1, 0); }), 0);
  EXPECT_GT(changed([](const at::Tensor& rows) {
              at::Tensor result = rows.clone();
              result.select(0, 0) += 1e-3;
              return result;
            }),
            0);
  EXPECT_GT(changed([](const at::Tensor& rows) { return rows + 1e-3 * at::get_num_threads(); }), 0);
}

}  // namespace
}  // namespace dovetail
