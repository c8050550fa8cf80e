// Prefill with keys of 192 and values of 128 dims against double precision.
#include <algorithm>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/einsum.h>
#include <ATen/ops/full.h>
#include <ATen/ops/softmax.h>
#include <gtest/gtest.h>

#include "tests/gpu/latent_attention_case.hpp"

namespace dovetail::test {
using namespace gpu;  // NOLINT(google-build-using-namespace)

namespace {

/// softmax(scale q k^T) v, causal, aligned to the last key: [n, heads, dim], double.
at::Tensor exact(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values) {
  const std::int64_t n = queries.size(0);
  const std::int64_t m = keys.size(0);
  at::Tensor scores =
      at::einsum("qhd,khd->hqk", {queries.to(at::kDouble), keys.to(at::kDouble)}) * double{kScale};
  const at::Tensor seen = at::arange(m, scores.options().dtype(at::kLong)).unsqueeze(0) <=
                          at::arange(m - n, m, scores.options().dtype(at::kLong)).unsqueeze(1);
  scores.masked_fill_(~seen, -std::numeric_limits<double>::infinity());
  return at::einsum("hqk,khd->qhd", {at::softmax(scores, -1), values.to(at::kDouble)});
}

struct PrefillCase {
  at::Tensor queries;                    // [rows, heads, 192]
  at::Tensor keys, shared_keys, values;  // [keys, heads, 128], [keys, 64], as keys; NaN behind the
                                         // segments
  std::vector<std::int64_t> query_starts, key_starts;
};

at::Tensor run_prefill(const PrefillCase& x) {
  at::Tensor result =
      at::full({x.queries.size(0), x.queries.size(1), kPrefillValueDim}, kNan, x.queries.options());
  const auto rows = [](const at::Tensor& heads) {
    return AttentionRows{.data = heads.const_data_ptr(),
                         .token_stride = heads.stride(0),
                         .head_stride = heads.dim() == 3 ? heads.stride(1) : 0};
  };
  const at::Tensor query_starts = int32_on_gpu(x.query_starts);
  const at::Tensor key_starts = int32_on_gpu(x.key_starts);
  std::int64_t longest = 0;
  for (std::size_t i = 1; i < x.query_starts.size(); ++i) {
    longest = std::max(longest, x.query_starts[i] - x.query_starts[i - 1]);
  }
  launch_prefill_attention({.queries = rows(x.queries),
                            .keys = rows(x.keys),
                            .shared_keys = rows(x.shared_keys),
                            .values = rows(x.values),
                            .result = result.mutable_data_ptr(),
                            .heads = x.queries.size(1),
                            .kv_heads = x.keys.size(1),
                            .query_starts = query_starts.const_data_ptr<std::int32_t>(),
                            .key_starts = key_starts.const_data_ptr<std::int32_t>(),
                            .segments = static_cast<std::int64_t>(x.query_starts.size()) - 1,
                            .max_query_length = longest + 40,  // a bound of other steps
                            .scale = kScale},
                           stream());
  check_gpu();
  return result;
}

/// Keys and values lie beside one another, as a projection writes them.
PrefillCase make_prefill_case(const std::vector<std::int64_t>& queries,
                              const std::vector<std::int64_t>& contexts,
                              std::int64_t heads,
                              std::mt19937_64& random) {
  std::vector<std::int64_t> lengths;
  for (std::size_t i = 0; i < queries.size(); ++i) {
    lengths.push_back(queries[i] == 0 ? 0 : queries[i] + contexts[i]);
  }
  PrefillCase result;
  result.query_starts = starts_of(queries);
  result.key_starts = starts_of(lengths);
  const std::int64_t rows = result.query_starts.back() + 3;
  const std::int64_t keys = result.key_starts.back();
  const at::Tensor both = random_bf16_values({keys + 5, heads, 256}, random);
  const at::Tensor shared = random_bf16_values({keys + 5, 64}, random);
  both.narrow(0, keys, 5).fill_(kNan);
  shared.narrow(0, keys, 5).fill_(kNan);
  result.queries = to_gpu(random_bf16_values({rows, heads, 192}, random));
  const at::Tensor on_gpu = to_gpu(both);
  result.keys = on_gpu.narrow(2, 0, 128);
  result.values = on_gpu.narrow(2, 128, 128);
  result.shared_keys = to_gpu(shared);
  return result;
}

TEST(LatentPrefill, IsThatOfDoublePrecision) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  const std::vector<std::int64_t> queries = {1, 200, 128, 129, 5, 0, 300, 64, 127};
  const std::vector<std::int64_t> contexts = {0, 0, 0, 7, 1000, 0, 131, 500, 1};
  const PrefillCase x = make_prefill_case(queries, contexts, 5, random);
  const at::Tensor got = run_prefill(x);
  for (std::size_t i = 0; i < queries.size(); ++i) {
    if (queries[i] == 0) {
      continue;
    }
    const auto own = [](const at::Tensor& rows, std::int64_t begin, std::int64_t end) {
      return rows.narrow(0, begin, end - begin);
    };
    const at::Tensor own_keys = own(x.keys, x.key_starts[i], x.key_starts[i + 1]);
    const at::Tensor shared = own(x.shared_keys, x.key_starts[i], x.key_starts[i + 1]);
    const at::Tensor keys =
        at::cat({own_keys, shared.unsqueeze(1).expand({-1, own_keys.size(1), -1})}, 2);
    const at::Tensor values = own(x.values, x.key_starts[i], x.key_starts[i + 1]);
    const at::Tensor q = own(x.queries, x.query_starts[i], x.query_starts[i + 1]);
    const at::Tensor rows = own(got, x.query_starts[i], x.query_starts[i + 1]);
    EXPECT_LE(row_error(rows, exact(q, keys, values)), kBound) << "segment " << i;
    if (keys.size(0) > q.size(0)) {  // what a mask that is off by one key would give
      EXPECT_GT(
          row_error(
              rows,
              exact(q, keys.narrow(0, 0, keys.size(0) - 1), values.narrow(0, 0, keys.size(0) - 1))),
          kBound)
          << "segment " << i;
    }
  }
  EXPECT_TRUE(got.narrow(0, x.query_starts.back(), 3).isnan().all().item<bool>())
      << "rows behind the segments must be left alone";
}

TEST(LatentPrefill, ARowHasTheSameBitsHoweverItsRequestIsCut) {
  DOVETAIL_REQUIRE_GPU();
  std::mt19937_64 random(next_seed());
  const PrefillCase whole = make_prefill_case({700}, {0}, 3, random);
  const at::Tensor wanted = run_prefill(whole).narrow(0, 0, 700);
  for (const std::int64_t cut : {1, 64, 129, 500, 699}) {
    PrefillCase part = whole;
    part.queries = whole.queries.narrow(0, cut, 700 - cut);
    part.query_starts = {0, 700 - cut};
    EXPECT_EQ(bitwise_difference(run_prefill(part), wanted.narrow(0, cut, 700 - cut)), "")
        << "from row " << cut;
  }
}

}  // namespace
}  // namespace dovetail::test
