// Plain loops only; shares no code with framework/comm/exchange.
#include "tests/mpi/exchange_data.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <numeric>
#include <random>
#include <set>
#include <sstream>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include "framework/comm/exchange/expert_tree.hpp"
#include "tests/support/tree_sum.hpp"

namespace dovetail::test {
namespace {

constexpr std::size_t kMaxProblems = 4;

std::size_t at_row(std::int64_t row, std::int64_t width) {
  return static_cast<std::size_t>(row * width);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : engine_(seed) {}

  int below(int end) { return static_cast<int>(engine_() % static_cast<std::uint64_t>(end)); }

  double unit() { return static_cast<double>(engine_() >> 11) * 0x1p-53; }

 private:
  std::mt19937_64 engine_;
};

std::vector<std::int64_t> choose_experts(const ExchangeShape& shape,
                                         Routing routing,
                                         Random& random) {
  const int num_experts = shape.num_experts;
  std::vector<double> key(static_cast<std::size_t>(num_experts));
  for (int e = 0; e < num_experts; ++e) {
    const int block = shape.experts_per_rank();
    const bool on_last_rank = e / block == shape.ep_size - 1;
    double bias = 0;
    if (routing == Routing::skewed) {
      bias = 3.0 * e / num_experts;
    } else if (routing == Routing::one_rank) {
      bias = on_last_rank ? 0 : 2;
    }
    key[static_cast<std::size_t>(e)] =
        routing == Routing::one_expert ? (num_experts - 1 - e) : random.unit() + bias;
  }
  std::vector<std::int64_t> order(static_cast<std::size_t>(num_experts));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return key[static_cast<std::size_t>(a)] < key[static_cast<std::size_t>(b)];
  });
  order.resize(static_cast<std::size_t>(shape.top_k));
  if (routing == Routing::all_padding || (routing == Routing::padding && random.below(3) == 0)) {
    std::fill(order.begin(), order.end(), -1);
  } else if (routing == Routing::padding) {
    for (auto& expert : order) {
      expert = random.below(4) == 0 ? -1 : expert;
    }
  }
  return order;
}

float choose_weight(Weights kind, int j, Random& random) {
  if (kind == Weights::random) {
    return static_cast<float>(random.unit() * 2 - 0.5);
  }
  return j == 0 ? 0x1p-20F : j == 1 ? 256.0F : j == 2 ? -256.0F : 0.0F;
}

float hidden_value(int rank, std::int64_t token, std::int64_t h, std::uint64_t batch_code) {
  const auto page = token / 251;
  switch (h) {
    case 0:
      return static_cast<float>(rank + 1);
    case 1:
      return static_cast<float>(token % 251 + 1);
    case 2:
      return static_cast<float>(page + 1);
    case 3:
      return static_cast<float>(batch_code % 251 + 1);
    default:
      return static_cast<float>(
          (static_cast<std::uint64_t>(token * 31 + h * 7 + std::int64_t{57} * rank) + batch_code) %
              126 +
          1);
  }
}

float rounded(float value, at::ScalarType dtype) {
  if (dtype == at::kBFloat16) {
    return static_cast<float>(static_cast<c10::BFloat16>(value));
  }
  return dtype == at::kHalf ? static_cast<float>(static_cast<c10::Half>(value)) : value;
}

// Relative size of one rounding.
double unit_roundoff(at::ScalarType dtype) {
  return dtype == at::kFloat ? 0x1p-24 : dtype == at::kBFloat16 ? 0x1p-8 : 0x1p-11;
}

struct ExpectedElement {
  float ordered = 0;
  double exact = 0;
  double bound = 0;
};

ExpectedElement expected_element(const GroupBatch& batch,
                                 const RankBatch& mine,
                                 std::int64_t token,
                                 std::int64_t h) {
  const auto& shape = batch.shape;
  const float x = mine.hidden[at_row(token, shape.hidden) + static_cast<std::size_t>(h)];
  ExpectedElement expected;
  double magnitude = 0;
  bool any_part = false;
  std::map<int, float> terms;
  // by_choice: one sum over all choices, whichever rank they are on.
  const bool by_rank = shape.sum_order == SumOrder::by_rank;
  const int num_parts = by_rank ? shape.ep_size : 1;
  for (int rank = 0; rank < num_parts; ++rank) {
    float part = 0;
    bool in_part = false;
    for (int j = 0; j < shape.top_k; ++j) {
      const auto choice = at_row(token, shape.top_k) + static_cast<std::size_t>(j);
      const auto expert = mine.expert_ids[choice];
      if (expert < 0 || (by_rank && expert / shape.experts_per_rank() != rank)) {
        continue;
      }
      const float y = expert_output(static_cast<int>(expert), x, h);
      const float term = mine.weights[choice] * y;
      terms[static_cast<int>(expert)] = term;
      part = in_part ? part + term : term;
      in_part = true;
      expected.exact += static_cast<double>(mine.weights[choice]) * y;
      magnitude += std::abs(static_cast<double>(mine.weights[choice]) * y);
    }
    if (in_part) {
      part = rounded(part, shape.dtype);
      expected.ordered = any_part ? expected.ordered + part : part;
      any_part = true;
    }
  }
  expected.ordered = rounded(expected.ordered, shape.dtype);
  // Float32 sums of k terms, then roundings to the dtype: of the parts and their sum, of the one
  // sum, or wherever two meet; float16 is absolute below 2^-14.
  double roundings = by_rank ? 2.1 : 1.05;
  int absolute = num_parts;
  if (shape.sum_order == SumOrder::by_expert) {
    const int blocks = num_tree_blocks(shape.num_experts);
    expected.ordered = tree_sum(terms, 0, blocks, shape.num_experts / blocks, [&](float value) {
                         return rounded(value, shape.dtype);
                       }).value_or(0.0F);
    roundings = 1.05 * shape.top_k;
    absolute = shape.top_k;
  }
  expected.bound = magnitude * ((shape.top_k + num_parts + 1) * 0x1p-23 +
                                roundings * unit_roundoff(shape.dtype)) +
                   (shape.dtype == at::kHalf ? absolute * 0x1p-24 : 0.0);
  return expected;
}

std::uint32_t bits(float value) {
  std::uint32_t word = 0;
  std::memcpy(&word, &value, sizeof word);
  return word;
}

struct Origin {
  int expert;
  int source;
  std::int64_t token;
};

std::vector<Origin> expected_origins(const GroupBatch& batch, int rank, int first, int count) {
  std::vector<Origin> origins;
  const int block = batch.shape.experts_per_rank();
  for (int expert = rank * block + first; expert < rank * block + first + count; ++expert) {
    for (int source = 0; source < batch.shape.ep_size; ++source) {
      const auto& theirs = batch.ranks[static_cast<std::size_t>(source)];
      for (std::int64_t token = 0; token < theirs.num_tokens; ++token) {
        const auto* ids = theirs.expert_ids.data() + token * batch.shape.top_k;
        if (std::find(ids, ids + batch.shape.top_k, expert) != ids + batch.shape.top_k) {
          origins.push_back({expert, source, token});
        }
      }
    }
  }
  return origins;
}

}  // namespace

std::vector<std::int64_t> tokens_per_rank(int num_ranks, std::uint64_t variant, std::int64_t most) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(num_ranks), most);
  for (std::size_t r = 0; r < counts.size(); ++r) {
    const bool chosen = r == variant / 5 % counts.size();
    switch (variant % 5) {
      case 0:
        break;
      case 1:
        counts[r] = static_cast<std::int64_t>(variant / 5 + r * 5) % (most + 1);
        break;
      case 2:
        counts[r] = chosen ? 0 : (most + 1) / 2;
        break;
      case 3:
        counts[r] = chosen ? most : 0;
        break;
      default:
        counts[r] = 0;
    }
  }
  return counts;
}

Weights weights_of(std::uint64_t variant) {
  return variant % 3 == 2 ? Weights::order_shows : Weights::random;
}

GroupBatch make_batch(const ExchangeShape& shape,
                      const std::vector<std::int64_t>& tokens,
                      Routing routing,
                      Weights weights,
                      std::uint64_t seed) {
  Random random(seed);
  GroupBatch batch{.shape = shape, .ranks = {}};
  for (int rank = 0; rank < shape.ep_size; ++rank) {
    RankBatch mine;
    mine.num_tokens = tokens.at(static_cast<std::size_t>(rank));
    for (std::int64_t token = 0; token < mine.num_tokens; ++token) {
      const auto ids = choose_experts(shape, routing, random);
      mine.expert_ids.insert(mine.expert_ids.end(), ids.begin(), ids.end());
      for (int j = 0; j < shape.top_k; ++j) {
        mine.weights.push_back(choose_weight(weights, j, random));
      }
      for (std::int64_t h = 0; h < shape.hidden; ++h) {
        mine.hidden.push_back(hidden_value(rank, token, h, seed % 251));
      }
    }
    batch.ranks.push_back(std::move(mine));
  }
  return batch;
}

RoutedTokens to_tensors(const GroupBatch& batch, int rank) {
  auto mine = batch.ranks.at(static_cast<std::size_t>(rank));
  const auto view = [&](void* data, std::int64_t width, at::ScalarType dtype) {
    return at::from_blob(data, {mine.num_tokens, width}, at::TensorOptions().dtype(dtype));
  };
  return {.hidden = view(mine.hidden.data(), batch.shape.hidden, at::kFloat)
                        .to(batch.shape.dtype, /*non_blocking=*/false, /*copy=*/true),
          .expert_ids = view(mine.expert_ids.data(), batch.shape.top_k, at::kLong).clone(),
          .weights = view(mine.weights.data(), batch.shape.top_k, at::kFloat).clone()};
}

float expert_output(int expert, float x, std::int64_t h) {
  switch (h % 3) {
    case 0:
      return static_cast<float>((static_cast<int>(x) + 5 * expert) % 127);
    case 1:
      return x;
    default:
      return static_cast<float>(expert + 1);
  }
}

at::Tensor apply_experts(const ExchangeShape& shape, int rank, const ExpertRows& rows) {
  const auto in = rows.rows.to(at::kFloat);
  auto out = at::empty(rows.rows.sizes(), at::TensorOptions().dtype(at::kFloat));
  const auto* offsets = rows.offsets.const_data_ptr<std::int32_t>();
  int local = 0;
  for (std::int64_t row = 0; row < in.size(0); ++row) {
    while (local + 1 < rows.offsets.numel() && row >= offsets[local]) {
      ++local;
    }
    for (std::int64_t h = 0; h < shape.hidden; ++h) {
      const auto i = row * shape.hidden + h;
      out.mutable_data_ptr<float>()[i] =
          expert_output(rank * shape.experts_per_rank() + rows.first_expert + local,
                        in.const_data_ptr<float>()[i],
                        h);
    }
  }
  return out.to(shape.dtype);
}

std::vector<std::string> check_expert_rows(const GroupBatch& batch,
                                           int rank,
                                           const ExpertRows& rows) {
  const auto& shape = batch.shape;
  const auto num_experts = static_cast<int>(rows.offsets.numel());
  const auto origins = expected_origins(batch, rank, rows.first_expert, num_experts);
  const auto num_rows = static_cast<std::int64_t>(origins.size());
  if (rows.rows.sizes() != at::IntArrayRef({num_rows, shape.hidden}) ||
      rows.rows.scalar_type() != shape.dtype || !rows.rows.is_contiguous() ||
      rows.offsets.dim() != 1 || rows.first_expert + num_experts > shape.experts_per_rank() ||
      rows.offsets.scalar_type() != at::kInt) {
    return {"expert rows have the wrong shape or dtype; rows: " +
            std::to_string(rows.rows.size(0)) + " expected: " + std::to_string(num_rows)};
  }
  std::vector<std::string> problems;
  for (int local = 0; local < num_experts; ++local) {
    const auto end = std::count_if(origins.begin(), origins.end(), [&](const Origin& origin) {
      return origin.expert <= rank * shape.experts_per_rank() + rows.first_expert + local;
    });
    if (rows.offsets.const_data_ptr<std::int32_t>()[local] != end) {
      problems.push_back("offsets[" + std::to_string(local) + "]");
    }
  }
  const auto values = rows.rows.to(at::kFloat);
  for (std::size_t row = 0; row < origins.size() && problems.size() < kMaxProblems; ++row) {
    const auto& theirs = batch.ranks[static_cast<std::size_t>(origins[row].source)];
    const auto* got =
        values.const_data_ptr<float>() + static_cast<std::int64_t>(row) * shape.hidden;
    const auto* expected = theirs.hidden.data() + origins[row].token * shape.hidden;
    if (!std::equal(expected, expected + shape.hidden, got)) {
      std::ostringstream text;
      text << "expert row " << row << " must be rank " << origins[row].source << " token "
           << origins[row].token << " for expert " << origins[row].expert << "; it names rank "
           << got[0] - 1;
      problems.push_back(text.str());
    }
  }
  return problems;
}

std::vector<std::string> check_output(const GroupBatch& batch, int rank, const at::Tensor& output) {
  const auto& shape = batch.shape;
  const auto& mine = batch.ranks.at(static_cast<std::size_t>(rank));
  if (output.sizes() != at::IntArrayRef({mine.num_tokens, shape.hidden}) ||
      output.scalar_type() != shape.dtype || !output.is_contiguous()) {
    return {"output has the wrong shape or dtype"};
  }
  std::vector<std::string> problems;
  const auto values = output.to(at::kFloat);
  for (std::int64_t token = 0; token < mine.num_tokens; ++token) {
    for (std::int64_t h = 0; h < shape.hidden && problems.size() < kMaxProblems; ++h) {
      const float got = values.const_data_ptr<float>()[token * shape.hidden + h];
      const auto expected = expected_element(batch, mine, token, h);
      const bool near = std::abs(got - expected.exact) <= expected.bound;
      if (!near || bits(got) != bits(expected.ordered)) {
        std::ostringstream text;
        text.precision(9);
        text << "output of token " << token << " element " << h << " is " << got << ", in order "
             << expected.ordered << ", exact " << expected.exact << " +- " << expected.bound;
        problems.push_back(text.str());
      }
    }
  }
  return problems;
}

std::int64_t count_remote_choices(const GroupBatch& batch, int source) {
  std::int64_t choices = 0;
  for (const auto expert : batch.ranks.at(static_cast<std::size_t>(source)).expert_ids) {
    choices += expert >= 0 && expert / batch.shape.experts_per_rank() != source ? 1 : 0;
  }
  return choices;
}

std::int64_t count_remote_rows(const GroupBatch& batch, int source) {
  const auto& mine = batch.ranks.at(static_cast<std::size_t>(source));
  std::int64_t rows = 0;
  for (std::int64_t token = 0; token < mine.num_tokens; ++token) {
    std::set<std::int64_t> targets;
    for (int j = 0; j < batch.shape.top_k; ++j) {
      const auto expert =
          mine.expert_ids[at_row(token, batch.shape.top_k) + static_cast<std::size_t>(j)];
      if (expert >= 0) {
        targets.insert(expert / batch.shape.experts_per_rank());
      }
    }
    rows += static_cast<std::int64_t>(targets.size()) -
            static_cast<std::int64_t>(targets.count(source));
  }
  return rows;
}

}  // namespace dovetail::test
