// `numerics: batch_invariant` on a GPU: a row has the same bits in batches of every size, at every
// place, and with SMs left to an exchange, in each product and each operation between them.
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <gtest/gtest.h>

#include "framework/cuda/green_partition.hpp"
#include "framework/cuda/sm_partition.hpp"
#include "models/layers/experts.hpp"
#include "models/layers/products.hpp"
#include "models/layers/rms_norm.hpp"
#include "models/layers/rotary.hpp"
#include "models/layers/router.hpp"
#include "models/layers/swiglu.hpp"
#include "tests/gpu/gpu_test.hpp"
#include "tests/gpu/layers_support.hpp"

namespace dovetail::test {
namespace {

constexpr auto kInvariant = Numerics::batch_invariant;
constexpr std::int64_t kRows = 1100;

const std::vector<std::int64_t> kCounts = {
    1, 2, 3, 7, 8, 16, 31, 32, 61, 64, 65, 100, 128, 200, 256, 512, 1000};

using RowOperation = std::function<at::Tensor(const at::Tensor& rows)>;

at::Tensor random_rows(at::IntArrayRef sizes, at::ScalarType type) {
  return at::randn(sizes, at::TensorOptions().device(at::kCUDA)).to(type);
}

std::int64_t count_different_bits(const at::Tensor& a, const at::Tensor& b) {
  const auto bits = a.element_size() == 2   ? at::kShort
                    : a.element_size() == 4 ? at::kInt
                                            : at::kLong;
  return (a.contiguous().view(bits) != b.contiguous().view(bits)).sum().item<std::int64_t>();
}

/// Elements of operation(rows) that change when the first or the last rows are a batch of their
/// own, or follow others in it.
std::int64_t count_changed_bits(const RowOperation& operation, const at::Tensor& rows) {
  const at::Tensor expected = operation(rows);
  std::int64_t changed = 0;
  for (const std::int64_t count : kCounts) {
    const std::int64_t last = rows.size(0) - count;
    const at::Tensor of_last = expected.narrow(0, last, count);
    changed +=
        count_different_bits(operation(rows.narrow(0, 0, count)), expected.narrow(0, 0, count));
    changed += count_different_bits(operation(rows.narrow(0, last, count)), of_last);
    const at::Tensor behind = at::cat({rows.narrow(0, 5, 37), rows.narrow(0, last, count)});
    changed += count_different_bits(operation(behind).narrow(0, 37, count), of_last);
  }
  return changed;
}

struct ProductSize {
  std::int64_t in;
  std::int64_t out;
};

// Projections, routers and heads of Qwen3-30B-A3B and DeepSeek-V3-wide models, whole or a rank's.
const std::vector<ProductSize> kProducts = {{2048, 5120},
                                            {4096, 2048},
                                            {2048, 128},
                                            {7168, 256},
                                            {7168, 4096},
                                            {2048, 7168},
                                            {512, 1024},
                                            {6144, 2048},
                                            {2048, 151936}};

at::Tensor random_weight(const ProductSize& size, at::ScalarType type) {
  return (random_rows({size.out, size.in}, at::kFloat) / std::sqrt(static_cast<double>(size.in)))
      .to(type);
}

/// What the comparison must notice: sums that are split where there are few rows.
TEST(BatchInvariantGpu, SplitSumsAreNoticed) {
  DOVETAIL_REQUIRE_GPU();
  at::globalContext().setBlasPreferredBackend(at::BlasBackend::Cublaslt);
  const at::Tensor weight = random_weight({4096, 2048}, at::kBFloat16);
  const at::Tensor x = random_rows({kRows, 4096}, at::kBFloat16);
  const RowOperation split = [&](const at::Tensor& rows) {
    const auto part = [&](std::int64_t first, std::int64_t count) {
      return at::mm(rows.narrow(1, first, count).to(at::kFloat),
                    weight.narrow(1, first, count).to(at::kFloat).t());
    };
    return (rows.size(0) > 64 ? part(0, 4096) : part(0, 2048) + part(2048, 2048)).to(at::kBFloat16);
  };
  EXPECT_GT(count_changed_bits(split, x), 0);
  const RowOperation fast = [&](const at::Tensor& rows) {
    return project(rows, weight, {}, Numerics::fast);
  };
  std::printf("4096 -> 2048 where sums may be split: %lld elements differ\n",
              static_cast<long long>(count_changed_bits(fast, x)));
}

TEST(BatchInvariantGpu, Products) {
  DOVETAIL_REQUIRE_GPU();
  for (const ProductSize& size : kProducts) {
    const at::Tensor weight = random_weight(size, at::kBFloat16);
    const at::Tensor bias = random_rows({size.out}, at::kBFloat16);
    const at::Tensor x = random_rows({kRows, size.in}, at::kBFloat16);
    const at::Tensor exact = at::mm(x.to(at::kDouble), weight.to(at::kDouble).t());
    for (const at::Tensor& added : {at::Tensor(), bias}) {
      SCOPED_TRACE(testing::Message()
                   << size.in << " -> " << size.out << ", bias " << added.defined());
      const RowOperation operation = [&](const at::Tensor& rows) {
        return project(rows, weight, added, kInvariant);
      };
      EXPECT_EQ(count_changed_bits(operation, x), 0);
      const at::Tensor all_sms = operation(x);
      EXPECT_EQ(
          difference(all_sms, added.defined() ? exact + added.to(at::kDouble) : exact, 2e-2, 2e-2),
          "");
      for (const int comm_sms : {8, 32}) {
        const SmPartition partition(comm_sms);
        EXPECT_EQ(count_different_bits(operation(x), all_sms), 0) << comm_sms << " SMs left out";
        EXPECT_EQ(count_changed_bits(operation, x), 0) << comm_sms << " SMs left out";
      }
    }
  }
}

// Routers of DeepSeek V2 and V3, Kimi and GLM-4.5, and one whose rows are no whole number of 16
// bytes.
const std::vector<ProductSize> kRouters = {
    {2048, 64}, {5120, 160}, {7168, 256}, {7168, 384}, {4096, 128}, {100, 36}};

TEST(BatchInvariantGpu, Float32Routers) {
  DOVETAIL_REQUIRE_GPU();
  for (const ProductSize& size : kRouters) {
    SCOPED_TRACE(testing::Message() << size.in << " -> " << size.out);
    const at::Tensor weight = random_weight(size, at::kBFloat16);
    const at::Tensor x = random_rows({kRows, size.in}, at::kBFloat16);
    const RowOperation operation = [&](const at::Tensor& rows) {
      return project_to_float32(rows, weight, kInvariant);
    };
    EXPECT_EQ(count_changed_bits(operation, x), 0);
    const at::Tensor all_sms = operation(x);
    const at::Tensor exact = at::mm(x.to(at::kDouble), weight.to(at::kDouble).t());
    EXPECT_EQ(difference(all_sms, exact, 1e-4, 1e-4), "");
    for (const int comm_sms : {8, 32}) {
      const SmPartition partition(comm_sms);
      EXPECT_EQ(count_different_bits(operation(x), all_sms), 0) << comm_sms << " SMs left out";
    }
    // The kernel that chooses by such logits has a warp for each of them.
    const auto routed = [](const at::Tensor& logits) {
      const at::Tensor slots = at::full({logits.size(0)}, 1, logits.options().dtype(at::kLong));
      return route_tokens(logits,
                          {},
                          at::Tensor(),
                          slots,
                          {.top_k = 6, .normalize = true},
                          kInvariant,
                          at::kBFloat16);
    };
    EXPECT_EQ(
        count_changed_bits([&](const at::Tensor& rows) { return routed(rows).weights; }, all_sms),
        0);
    EXPECT_EQ(count_changed_bits([&](const at::Tensor& rows) { return routed(rows).expert_ids; },
                                 all_sms),
              0);
  }
}

/// On SMs that the stream has for itself.
at::Tensor on_compute_stream(const GreenPartition& partition,
                             const std::function<at::Tensor()>& run) {
  c10::cuda::device_synchronize();  // what `run` reads is there
  at::Tensor result;
  {
    const c10::cuda::CUDAStreamGuard guard(partition.compute_stream());
    result = run();
  }
  partition.wait("products on a part of the device");
  return result.clone();
}

// Rows of 200 and of 2002 bytes are no whole number of 16.
const std::vector<ProductSize> kAlignedAndNot = {
    {2048, 5120}, {7168, 4096}, {512, 1024}, {7168, 256}, {100, 36}, {1001, 333}};

/// A library that looks at the SMs of its stream to choose a kernel would sum in another order
/// where lanes have SMs of their own.
TEST(BatchInvariantGpu, ProductsOnAPartOfTheDevice) {
  DOVETAIL_REQUIRE_GPU();
  for (const int comm_sms : {8, 32}) {
    const GreenPartition green(comm_sms);
    for (const ProductSize& size : kAlignedAndNot) {
      const at::Tensor weight = random_weight(size, at::kBFloat16);
      const at::Tensor x = random_rows({kRows, size.in}, at::kBFloat16);
      for (const at::Tensor& bias : {at::Tensor(), random_rows({size.out}, at::kBFloat16)}) {
        for (const std::int64_t count :
             {std::int64_t{1}, std::int64_t{7}, std::int64_t{64}, kRows}) {
          SCOPED_TRACE(testing::Message()
                       << size.in << " -> " << size.out << ", bias " << bias.defined() << ", "
                       << count << " rows, " << comm_sms << " SMs left out");
          const auto product = [&] {
            return project(x.narrow(0, 0, count), weight, bias, kInvariant);
          };
          const at::Tensor all_sms = product();
          EXPECT_EQ(count_different_bits(on_compute_stream(green, product), all_sms), 0);
          const SmPartition soft(comm_sms);
          EXPECT_EQ(count_different_bits(product(), all_sms), 0);
          EXPECT_EQ(count_different_bits(on_compute_stream(green, product), all_sms), 0)
              << "as lanes of a hard partition run";
        }
      }
    }
  }
}

TEST(BatchInvariantGpu, Float32RoutersOnAPartOfTheDevice) {
  DOVETAIL_REQUIRE_GPU();
  for (const int comm_sms : {8, 32}) {
    const GreenPartition green(comm_sms);
    for (const ProductSize& size : kRouters) {
      const at::Tensor weight = random_weight(size, at::kBFloat16);
      const at::Tensor x = random_rows({kRows, size.in}, at::kBFloat16);
      const auto product = [&] { return project_to_float32(x, weight, kInvariant); };
      const at::Tensor all_sms = product();
      EXPECT_EQ(count_different_bits(on_compute_stream(green, product), all_sms), 0)
          << size.in << " -> " << size.out << ", " << comm_sms << " SMs left out";
    }
  }
}

/// Rows whose last element tells their expert, through the experts and back in order.
RowOperation through_experts(const ExpertWeights& weights, std::int64_t experts) {
  return [&weights, experts](const at::Tensor& rows) {
    const at::Tensor of_row = rows.select(1, rows.size(1) - 1).to(at::kLong);
    const at::Tensor order = of_row.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/false);
    const at::Tensor ends = of_row.bincount({}, experts).cumsum(0).to(at::kInt);
    const at::Tensor result =
        run_experts(weights, {.rows = rows.index_select(0, order), .offsets = ends}, kInvariant);
    at::Tensor back = result.clone();
    return back.index_copy_(0, order, result);
  };
}

TEST(BatchInvariantGpu, Experts) {
  DOVETAIL_REQUIRE_GPU();

  struct Size {
    std::int64_t experts;
    std::int64_t hidden;
    std::int64_t inner;
    at::ScalarType type;
  };

  for (const Size& size : {Size{32, 2048, 768, at::kBFloat16},
                           Size{8, 7168, 2048, at::kBFloat16},
                           Size{4, 64, 32, at::kBFloat16},
                           Size{4, 256, 96, at::kFloat}}) {
    const ExpertWeights weights = {
        .gate_up = random_rows({size.experts, 2 * size.inner, size.hidden}, size.type) / 32,
        .down = random_rows({size.experts, size.hidden, size.inner}, size.type) / 32};
    const at::Tensor x = random_rows({kRows, size.hidden}, size.type);
    // Half of the rows belong to one expert.
    const at::Tensor of_row = at::randint(2 * size.experts, {kRows}, x.options().dtype(at::kLong));
    x.select(1, size.hidden - 1).copy_(of_row.masked_fill(of_row >= size.experts, 1));
    EXPECT_EQ(count_changed_bits(through_experts(weights, size.experts), x), 0)
        << size.experts << " experts, " << size.hidden << ", " << at::toString(size.type);
  }
}

TEST(BatchInvariantGpu, BetweenTheProducts) {
  DOVETAIL_REQUIRE_GPU();
  for (const auto type : {at::kBFloat16, at::kFloat}) {
    SCOPED_TRACE(at::toString(type));
    for (const std::int64_t size : {128, 2048, 7168}) {
      const at::Tensor weight = random_rows({size}, type);
      const at::Tensor x = random_rows({kRows, size}, type);
      EXPECT_EQ(
          count_changed_bits(
              [&](const at::Tensor& rows) { return rms_norm(rows, weight, 1e-6, kInvariant); }, x),
          0);
      EXPECT_EQ(
          count_changed_bits([](const at::Tensor& rows) { return swiglu(rows, kInvariant); }, x),
          0);
    }
    for (const std::int64_t experts : {8, 128, 256}) {
      const at::Tensor logits = random_rows({kRows, experts}, type);
      const auto routed = [](const at::Tensor& rows) {
        const at::Tensor slots = at::full({rows.size(0)}, 1, rows.options().dtype(at::kLong));
        return route_tokens(
            rows, {}, at::Tensor(), slots, {.top_k = 8, .normalize = true}, kInvariant);
      };
      EXPECT_EQ(
          count_changed_bits([&](const at::Tensor& rows) { return routed(rows).weights; }, logits),
          0);
      EXPECT_EQ(count_changed_bits([&](const at::Tensor& rows) { return routed(rows).expert_ids; },
                                   logits),
                0);
    }
    const Rotary rotary(128, {.theta = 1e6, .mrope = {.section = {24, 20, 20}}}, at::kCUDA);
    const at::Tensor positions =
        at::randint(40'000, {kRows}, at::TensorOptions().dtype(at::kLong).device(at::kCUDA));
    EXPECT_EQ(count_changed_bits(
                  [&](const at::Tensor& rows) {
                    return rotary.table(rows, type, kInvariant).transpose(0, 1).contiguous();
                  },
                  positions),
              0);
    const at::Tensor x = random_rows({kRows, 4, 128}, type);
    EXPECT_EQ(count_changed_bits(
                  [&](const at::Tensor& rows) {
                    const at::Tensor own =
                        rows.select(1, 0).select(1, 0).abs().mul(500).to(at::kLong);
                    return rotate(rows, rotary.table(own, type, kInvariant), kInvariant);
                  },
                  x),
              0);
  }
}

/// Float32 is the slow checking path: tiles of fixed size.
TEST(BatchInvariantGpu, Float32Products) {
  DOVETAIL_REQUIRE_GPU();
  at::globalContext().setAllowTF32CuBLAS(false);
  for (const ProductSize& size : {ProductSize{512, 640}, {4096, 128}, {100, 36}}) {
    const at::Tensor weight = random_weight(size, at::kFloat);
    const at::Tensor x = random_rows({kRows, size.in}, at::kFloat);
    const RowOperation operation = [&](const at::Tensor& rows) {
      return project(rows, weight, {}, kInvariant);
    };
    EXPECT_EQ(count_changed_bits(operation, x), 0) << size.in << " -> " << size.out;
    const at::Tensor exact = at::mm(x.to(at::kDouble), weight.to(at::kDouble).t());
    EXPECT_EQ(difference(operation(x), exact, 1e-5, 1e-5), "");
  }
}

/// Both kinds of partition, apart and together, for which a library may choose other kernels.
TEST(BatchInvariantGpu, Float32ProductsOnAPartOfTheDevice) {
  DOVETAIL_REQUIRE_GPU();
  at::globalContext().setAllowTF32CuBLAS(false);
  for (const int comm_sms : {8, 32}) {
    const GreenPartition green(comm_sms);
    for (const ProductSize& size : kAlignedAndNot) {
      SCOPED_TRACE(testing::Message()
                   << size.in << " -> " << size.out << ", " << comm_sms << " SMs left out");
      const at::Tensor weight = random_weight(size, at::kFloat);
      const at::Tensor x = random_rows({kRows, size.in}, at::kFloat);
      const auto product = [&] { return project(x, weight, {}, kInvariant); };
      const at::Tensor all_sms = product();
      EXPECT_EQ(count_different_bits(on_compute_stream(green, product), all_sms), 0);
      const SmPartition soft(comm_sms);
      EXPECT_EQ(count_different_bits(product(), all_sms), 0);
      EXPECT_EQ(count_different_bits(on_compute_stream(green, product), all_sms), 0);
      EXPECT_EQ(SmPartition::left_out(), comm_sms) << "behind the products";
    }
  }
}

}  // namespace
}  // namespace dovetail::test
