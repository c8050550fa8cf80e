#include "framework/plan/workload.hpp"

#include <algorithm>
#include <iterator>
#include <span>

#include "framework/base/check.hpp"
#include "framework/base/hash.hpp"
#include "framework/plan/mrope_positions.hpp"
#include "framework/plan/planned_requests.hpp"

namespace dovetail {
namespace {

std::uint64_t token_hash(std::uint64_t seed, std::int64_t request, std::int64_t position) {
  const auto with_request = combine_hash(mix_bits(seed), static_cast<std::uint64_t>(request));
  return combine_hash(with_request, static_cast<std::uint64_t>(position));
}

/// A request of the own rank, and what lies before it.
struct OwnRequest {
  PlannedRequest planned;
  std::int64_t step_tokens_before = 0;     ///< tokens of a step, of all lower ids of all ranks
  std::int64_t context_tokens_before = 0;  ///< context tokens of all lower ids of all ranks
  MropeLayout layout;
};

/// Tokens [first, last) of a request, by position.
struct TokenRange {
  std::int64_t first = 0;
  std::int64_t last = 0;
};

/// The requests of all variants, in order of id: each variant repeats those that were planned. The
/// ids that a trace states are those of variant 0; the others' are drawn.
std::vector<PlannedRequest> plan_variants(const WorkloadConfig& config,
                                          const RequestTrace* trace,
                                          int world_size) {
  auto requests = plan_requests(config, trace, world_size);
  const auto count = std::ssize(requests);
  if (count > kMaxRequests / config.variants) {
    throw InputError(
        "workload.variants: more requests than fit over all ranks and variants; allowed: " +
        std::to_string(kMaxRequests));
  }
  for (std::int64_t copy = 1; copy < config.variants; ++copy) {
    for (std::int64_t i = 0; i < count; ++i) {
      PlannedRequest request = requests[static_cast<std::size_t>(i)];
      request.id += copy * count;
      request.trace = nullptr;
      requests.push_back(request);
    }
  }
  return requests;
}

/// The hash of what makes a request one of a kind, beside its tokens.
std::uint64_t request_digest(const WorkloadConfig& config, const PlannedRequest& request) {
  const bool has_context = request.context_length > 0;
  const bool has_random_context = has_context && config.context == ContextFill::random;
  const bool has_seeded_values = has_random_context || config.inputs.kind == InputKind::embeds;
  std::uint64_t hash = mix_bits(static_cast<std::uint64_t>(request.id));
  for (const auto value : {static_cast<std::uint64_t>(request.length),
                           static_cast<std::uint64_t>(request.context_length),
                           static_cast<std::uint64_t>(config.steps),
                           static_cast<std::uint64_t>(config.inputs.kind),
                           static_cast<std::uint64_t>(config.positions),
                           static_cast<std::uint64_t>(has_random_context ? 1 : 0),
                           has_seeded_values ? config.seed : 0}) {
    hash = combine_hash(hash, value);
  }
  return hash;
}

class WorkloadMaker {
 public:
  WorkloadMaker(const WorkloadConfig& config,
                const RequestTrace* trace,
                std::int64_t vocabulary,
                int world_size,
                Rank rank)
      : config_(config), vocabulary_(vocabulary) {
    DOVETAIL_CHECK(vocabulary > 0, "empty vocabulary");
    DOVETAIL_CHECK(rank.value >= 0 && rank.value < world_size, "a rank outside of the world");
    if (trace != nullptr) {
      check_token_ids(*trace, vocabulary_);
    }
    const auto planned = plan_variants(config, trace, world_size);
    count_tokens(planned, world_size);
    collect_own(planned, rank);
  }

  RankWorkload make() {
    RankWorkload workload;
    workload.num_variants = config_.variants;
    for (const OwnRequest& own : own_) {
      workload.kv_tokens.push_back(num_tokens(own.planned));
      workload.digest += request_digest(config_, own.planned);
    }
    for (std::int64_t chunk = 0; chunk < num_context_steps_; ++chunk) {
      workload.context_steps.push_back(make_context_step(chunk));
      add_digest(workload.context_steps.back(), workload.digest);
    }
    for (int variant = 0; variant < config_.variants; ++variant) {
      for (int step = 0; step < config_.steps; ++step) {
        workload.steps.push_back(make_step(variant, step));
        add_digest(workload.steps.back(), workload.digest);
      }
    }
    return workload;
  }

 private:
  bool fills_by_prefill() const { return config_.context == ContextFill::prefill; }

  /// Of a request, contexts and all steps counted.
  std::int64_t num_tokens(const PlannedRequest& request) const {
    return request.context_length + config_.steps * request.length;
  }

  /// Bounds the memory of every rank, and finds how many context steps the longest context takes.
  void count_tokens(const std::vector<PlannedRequest>& requests, int world_size) {
    std::vector<std::int64_t> tokens(static_cast<std::size_t>(world_size), 0);
    std::vector<std::int64_t> context_tokens(tokens);
    for (const PlannedRequest& request : requests) {
      const auto rank = static_cast<std::size_t>(request.rank);
      const std::int64_t context = fills_by_prefill() ? request.context_length : 0;
      context_tokens[rank] += context;
      tokens[rank] += context + config_.steps * request.length;
      if (tokens[rank] > kMaxRankTokens) {
        throw InputError(
            "workload.requests: more tokens on rank " + std::to_string(rank) +
            " than fit over all steps and contexts; allowed: " + std::to_string(kMaxRankTokens));
      }
    }
    const std::int64_t most = *std::max_element(context_tokens.begin(), context_tokens.end());
    num_context_steps_ = (most + kMaxContextStepTokens - 1) / kMaxContextStepTokens;
  }

  void collect_own(const std::vector<PlannedRequest>& requests, Rank rank) {
    std::int64_t step_tokens = 0;
    std::int64_t context_tokens = 0;
    const std::int64_t of_a_variant = std::ssize(requests) / config_.variants;
    for (const PlannedRequest& request : requests) {
      if (request.id % of_a_variant == 0) {
        step_tokens = 0;
      }
      if (request.rank == rank.value) {
        own_.push_back({request, step_tokens, context_tokens, {}});
        if (config_.positions == PositionKind::mrope) {
          own_.back().layout = mrope_layout(config_.seed, request.id, num_tokens(request));
        }
      }
      step_tokens += request.length;
      context_tokens += request.context_length;
    }
  }

  std::int64_t token_id(const PlannedRequest& request, std::int64_t position) const {
    if (request.trace != nullptr) {
      const bool is_context = position < request.context_length;
      const auto& ids = is_context ? request.trace->context_ids : request.trace->input_ids;
      const std::int64_t index = is_context ? position : position - request.context_length;
      if (index < std::ssize(ids)) {
        return ids[static_cast<std::size_t>(index)];
      }
    }
    return static_cast<std::int64_t>(token_hash(config_.seed, request.id, position) %
                                     static_cast<std::uint64_t>(vocabulary_));
  }

  /// Adds a request with the tokens of `range`; `first_index` is the global index of its first.
  void add_tokens(const OwnRequest& own,
                  TokenRange range,
                  std::int64_t first_index,
                  StepWorkload& step) const {
    const PlannedRequest& request = own.planned;
    step.batch.requests.push_back({.id = request.id,
                                   .query_length = range.last - range.first,
                                   .context_length = range.first});
    for (std::int64_t position = range.first; position < range.last; ++position) {
      step.input_ids.push_back(token_id(request, position));
      step.positions.push_back(position);
      step.request_ids.push_back(request.id);
      step.global_index.push_back(first_index + position - range.first);
    }
  }

  /// The rank's requests of one variant.
  std::span<const OwnRequest> own_of(int variant) const {
    const std::size_t count = own_.size() / static_cast<std::size_t>(config_.variants);
    return std::span(own_).subspan(static_cast<std::size_t>(variant) * count, count);
  }

  /// From the positions, once all tokens of the requests are there.
  void set_mrope_positions(std::span<const OwnRequest> requests, StepWorkload& step) const {
    if (config_.positions != PositionKind::mrope) {
      return;
    }
    const std::size_t tokens = step.positions.size();
    step.mrope_positions.resize(3 * tokens);
    std::size_t token = 0;
    for (std::size_t i = 0; i < requests.size(); ++i) {
      for (std::int64_t left = step.batch.requests[i].query_length; left > 0; --left, ++token) {
        const auto position = requests[i].layout.at(step.positions[token]);
        for (std::size_t component = 0; component < 3; ++component) {
          step.mrope_positions[component * tokens + token] = position[component];
        }
      }
    }
  }

  StepWorkload make_step(int variant, int index) const {
    StepWorkload step;
    step.variant = variant;
    const auto requests = own_of(variant);
    for (const OwnRequest& own : requests) {
      const std::int64_t first = own.planned.context_length + index * own.planned.length;
      add_tokens(own, {first, first + own.planned.length}, own.step_tokens_before, step);
    }
    set_mrope_positions(requests, step);
    return step;
  }

  /// The rank's context tokens, all requests after one another, are cut every
  /// kMaxContextStepTokens.
  StepWorkload make_context_step(std::int64_t chunk) const {
    const std::int64_t chunk_first = chunk * kMaxContextStepTokens;
    const std::int64_t chunk_last = chunk_first + kMaxContextStepTokens;
    StepWorkload step;
    std::int64_t request_first = 0;  // place of the request's first token among the rank's contexts
    for (const OwnRequest& own : own_) {
      const std::int64_t length = own.planned.context_length;
      const TokenRange range = {std::clamp<std::int64_t>(chunk_first - request_first, 0, length),
                                std::clamp<std::int64_t>(chunk_last - request_first, 0, length)};
      add_tokens(own, range, own.context_tokens_before + range.first, step);
      request_first += length;
    }
    set_mrope_positions(own_, step);
    return step;
  }

  static void add_digest(const StepWorkload& step, std::uint64_t& digest) {
    const std::size_t tokens = step.input_ids.size();
    for (std::size_t i = 0; i < tokens; ++i) {
      std::uint64_t hash = combine_hash(token_hash(0, step.request_ids[i], step.positions[i]),
                                        static_cast<std::uint64_t>(step.input_ids[i]));
      for (std::size_t place = i; place < step.mrope_positions.size(); place += tokens) {
        hash = combine_hash(hash, static_cast<std::uint64_t>(step.mrope_positions[place]));
      }
      digest += hash;
    }
  }

  const WorkloadConfig& config_;
  std::int64_t vocabulary_;
  std::vector<OwnRequest> own_;  ///< of all variants, in order of id
  std::int64_t num_context_steps_ = 0;
};

}  // namespace

std::vector<std::int64_t> requests_per_rank(const WorkloadConfig& config,
                                            const RequestTrace* trace,
                                            int world_size) {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(world_size), 0);
  for (const PlannedRequest& request : plan_requests(config, trace, world_size)) {
    ++counts[static_cast<std::size_t>(request.rank)];
  }
  return counts;
}

void check_positions(const RankWorkload& workload, std::int64_t max_positions) {
  std::int64_t largest = 0;
  for (const auto* const steps : {&workload.context_steps, &workload.steps}) {
    for (const StepWorkload& step : *steps) {
      const auto& positions = step.mrope_positions.empty() ? step.positions : step.mrope_positions;
      for (const std::int64_t position : positions) {
        largest = std::max(largest, position);
      }
    }
  }
  if (max_positions > 0 && largest >= max_positions) {
    throw InputError(
        "workload: a token has position " + std::to_string(largest) +
        ", and the rotary embedding of this model.config is built for positions below " +
        std::to_string(max_positions) +
        " only (max_position_embeddings, as its rope_type is dynamic)");
  }
}

RankWorkload make_workload(const WorkloadConfig& config,
                           const RequestTrace* trace,
                           std::int64_t vocabulary,
                           int world_size,
                           Rank rank) {
  return WorkloadMaker(config, trace, vocabulary, world_size, rank).make();
}

}  // namespace dovetail
