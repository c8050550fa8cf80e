#include "tests/unit/models/oracle.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

namespace dovetail {
namespace {

/// A parameter as doubles: m(row, column).
struct Matrix {
  explicit Matrix(const at::Tensor& tensor)
      : columns(static_cast<std::size_t>(tensor.size(-1))),
        values(tensor.const_data_ptr<float>(), tensor.const_data_ptr<float>() + tensor.numel()) {}

  double operator()(std::size_t row, std::size_t column) const {
    return values[row * columns + column];
  }

  std::size_t rows() const { return values.size() / columns; }

  std::size_t columns;
  std::vector<double> values;
};

class Forward {
 public:
  Forward(const MoeDecoderConfig& config, const MemorySource& source)
      : config_(config), source_(source) {}

  OracleResult run(const std::vector<std::int64_t>& input_ids) {
    const Matrix embedding = weight("model.embed_tokens.weight");
    Rows hidden;
    for (const auto id : input_ids) {
      Row row;
      for (std::size_t i = 0; i < embedding.columns; ++i) {
        row.push_back(embedding(static_cast<std::size_t>(id), i));
      }
      hidden.push_back(row);
    }
    for (std::size_t layer = 0; layer < config_.is_moe_layer.size(); ++layer) {
      run_layer(layer, hidden);
    }
    const Matrix head = config_.tie_word_embeddings ? embedding : weight("lm_head.weight");
    for (const Row& row : hidden) {
      result_.hidden.push_back(norm(row, "model.norm.weight"));
      result_.logits.push_back(multiply(head, result_.hidden.back()));
    }
    return result_;
  }

 private:
  Matrix weight(const std::string& name) const { return Matrix(source_.at(name)); }

  static Row multiply(const Matrix& matrix, const Row& x) {
    Row y(matrix.rows(), 0.0);
    for (std::size_t row = 0; row < matrix.rows(); ++row) {
      for (std::size_t column = 0; column < matrix.columns; ++column) {
        y[row] += matrix(row, column) * x[column];
      }
    }
    return y;
  }

  static void add(Row& to, const Row& what, double factor = 1) {
    for (std::size_t i = 0; i < to.size(); ++i) {
      to[i] += factor * what[i];
    }
  }

  Row norm(const Row& x, const std::string& name) const {
    const Matrix scale = weight(name);
    double squares = 0;
    for (const double value : x) {
      squares += value * value;
    }
    const double root = std::sqrt(squares / static_cast<double>(x.size()) + config_.rms_norm_eps);
    Row y;
    for (std::size_t i = 0; i < x.size(); ++i) {
      y.push_back(x[i] / root * scale(0, i));
    }
    return y;
  }

  Row linear(const std::string& name, const Row& x) const {
    Row y = multiply(weight(name + ".weight"), x);
    const bool is_attention = name.find("self_attn") != std::string::npos;
    const bool is_output = name.ends_with("o_proj");
    if (is_attention && (is_output ? config_.output_bias : config_.qkv_bias)) {
      const Matrix bias = weight(name + ".bias");
      for (std::size_t i = 0; i < y.size(); ++i) {
        y[i] += bias(0, i);
      }
    }
    return y;
  }

  Row feed_forward(const std::string& prefix, const Row& x) const {
    Row inner = linear(prefix + ".gate_proj", x);
    const Row up = linear(prefix + ".up_proj", x);
    for (std::size_t i = 0; i < inner.size(); ++i) {
      inner[i] = inner[i] / (1 + std::exp(-inner[i])) * up[i];
    }
    return linear(prefix + ".down_proj", inner);
  }

  /// The heads of one token. Those of queries and keys, whose norm's name is given, are normed
  /// where the model norms them, and turned to the token's position.
  Rows heads(const Row& flat, std::size_t position, const std::string& norm_name) const {
    const auto size = static_cast<std::size_t>(config_.head_dim);
    Rows all;
    for (std::size_t begin = 0; begin < flat.size(); begin += size) {
      Row head(flat.begin() + static_cast<std::ptrdiff_t>(begin),
               flat.begin() + static_cast<std::ptrdiff_t>(begin + size));
      if (!norm_name.empty()) {
        head = config_.has_qk_norm ? norm(head, norm_name) : head;
        for (std::size_t i = 0; i < size / 2; ++i) {
          const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(size);
          const double angle =
              static_cast<double>(position) / std::pow(config_.rope.theta, exponent);
          const double real = head[i];
          const double imaginary = head[i + size / 2];
          head[i] = real * std::cos(angle) - imaginary * std::sin(angle);
          head[i + size / 2] = real * std::sin(angle) + imaginary * std::cos(angle);
        }
      }
      all.push_back(head);
    }
    return all;
  }

  static Row attend(const Row& query,
                    const std::vector<Rows>& keys,
                    const std::vector<Rows>& values,
                    std::size_t kv_head) {
    Row scores;
    for (const Rows& key : keys) {
      scores.push_back(std::inner_product(query.begin(), query.end(), key[kv_head].begin(), 0.0) /
                       std::sqrt(static_cast<double>(query.size())));
    }
    const double largest = *std::max_element(scores.begin(), scores.end());
    double total = 0;
    for (double& score : scores) {
      score = std::exp(score - largest);
      total += score;
    }
    Row y(query.size(), 0.0);
    for (std::size_t t = 0; t < scores.size(); ++t) {
      add(y, values[t][kv_head], scores[t] / total);
    }
    return y;
  }

  Row moe(std::size_t layer, const std::string& prefix, const Row& x) {
    const Row logits = multiply(weight(prefix + ".gate.weight"), x);
    std::vector<int> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int a, int b) {
      const double left = logits[static_cast<std::size_t>(a)];
      const double right = logits[static_cast<std::size_t>(b)];
      return left != right ? left > right : a < b;
    });
    const auto k = static_cast<std::size_t>(config_.router.top_k);
    const auto logit = [&](std::size_t rank) {
      return logits[static_cast<std::size_t>(order[rank])];
    };
    result_.router_logits[layer].push_back(logits);
    double total = 0;
    for (std::size_t rank = 0; rank < (config_.router.normalize ? k : order.size()); ++rank) {
      total += std::exp(logit(rank) - logit(0));
    }
    Row y(x.size(), 0.0);
    for (std::size_t rank = 0; rank < k; ++rank) {
      add(y,
          feed_forward(prefix + ".experts." + std::to_string(order[rank]), x),
          std::exp(logit(rank) - logit(0)) / total);
    }
    if (config_.shared_intermediate_size > 0) {
      const double gate = config_.has_shared_expert_gate
                              ? multiply(weight(prefix + ".shared_expert_gate.weight"), x)[0]
                              : std::numeric_limits<double>::infinity();
      add(y,
          feed_forward(prefix + "." + config_.shared_experts_name, x),
          1 / (1 + std::exp(-gate)));
    }
    order.resize(k);
    result_.expert_ids[layer].push_back(order);
    return y;
  }

  void run_layer(std::size_t layer, Rows& hidden) {
    const std::string prefix = "model.layers." + std::to_string(layer);
    const std::string attention = prefix + ".self_attn";
    result_.expert_ids.emplace_back();
    result_.router_logits.emplace_back();
    std::vector<Rows> keys;
    std::vector<Rows> values;
    for (std::size_t t = 0; t < hidden.size(); ++t) {
      const Row x = norm(hidden[t], prefix + ".input_layernorm.weight");
      keys.push_back(heads(linear(attention + ".k_proj", x), t, attention + ".k_norm.weight"));
      values.push_back(heads(linear(attention + ".v_proj", x), t, ""));
      const Rows queries = heads(linear(attention + ".q_proj", x), t, attention + ".q_norm.weight");
      Row joined;
      for (std::size_t h = 0; h < queries.size(); ++h) {
        const Row y = attend(queries[h], keys, values, h / (queries.size() / keys[t].size()));
        joined.insert(joined.end(), y.begin(), y.end());
      }
      add(hidden[t], linear(attention + ".o_proj", joined));
    }
    for (Row& row : hidden) {
      const Row x = norm(row, prefix + ".post_attention_layernorm.weight");
      add(row,
          config_.is_moe_layer[layer] ? moe(layer, prefix + ".mlp", x)
                                      : feed_forward(prefix + ".mlp", x));
    }
  }

  const MoeDecoderConfig& config_;
  const MemorySource& source_;
  OracleResult result_;
};

}  // namespace

OracleResult oracle_forward(const MoeDecoderConfig& config,
                            const MemorySource& source,
                            const std::vector<std::int64_t>& input_ids) {
  return Forward(config, source).run(input_ids);
}

}  // namespace dovetail
