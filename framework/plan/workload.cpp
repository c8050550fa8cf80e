#include "framework/plan/workload.hpp"

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "framework/base/check.hpp"
#include "framework/base/hash.hpp"
#include "framework/plan/planned_requests.hpp"
#include "framework/plan/workload_plan.hpp"

namespace dovetail {
namespace {

std::uint64_t token_hash(std::uint64_t seed, std::int64_t request, std::int64_t position) {
  const auto with_request = combine_hash(mix_bits(seed), static_cast<std::uint64_t>(request));
  return combine_hash(with_request, static_cast<std::uint64_t>(position));
}

/// Tokens [first, last) of a request, by position.
struct TokenRange {
  std::int64_t first = 0;
  std::int64_t last = 0;
};

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

/// The forward passes of one rank.
class WorkloadMaker {
 public:
  WorkloadMaker(const WorkloadConfig& config,
                std::int64_t vocabulary,
                std::int64_t num_context_steps,
                std::vector<OwnRequest> own)
      : config_(config),
        vocabulary_(vocabulary),
        own_(std::move(own)),
        num_context_steps_(num_context_steps) {}

  RankWorkload make() {
    RankWorkload workload;
    workload.num_variants = config_.variants;
    for (const OwnRequest& own : own_) {
      workload.kv_tokens.push_back(num_cache_tokens(config_, own.planned));
      workload.digest += request_digest(config_, own.planned);
    }
    ContextPlace place;
    for (std::int64_t chunk = 0; chunk < num_context_steps_; ++chunk) {
      workload.context_steps.push_back(make_context_step(place));
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
  /// Where the contexts that are not in any step yet begin: a request, and how many of its tokens
  /// are.
  struct ContextPlace {
    std::size_t request = 0;
    std::int64_t tokens = 0;
  };

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
  /// kMaxContextStepTokens. A step has the requests from the first to the last that have tokens in
  /// it; `place` moves behind these.
  StepWorkload make_context_step(ContextPlace& place) const {
    StepWorkload step;
    const auto left_of = [&] { return own_[place.request].planned.context_length - place.tokens; };
    while (place.request < own_.size() && left_of() == 0) {
      place = {place.request + 1, 0};
    }
    step.first_request = place.request;
    for (auto room = kMaxContextStepTokens; place.request < own_.size() && room > 0;) {
      const OwnRequest& own = own_[place.request];
      const TokenRange range = {place.tokens, place.tokens + std::min(room, left_of())};
      add_tokens(own, range, own.context_tokens_before + range.first, step);
      room -= range.last - range.first;
      place.tokens = range.last;
      if (left_of() == 0) {
        place = {place.request + 1, 0};
      }
    }
    while (!step.batch.requests.empty() && step.batch.requests.back().query_length == 0) {
      step.batch.requests.pop_back();  // has no context
    }
    set_mrope_positions(std::span(own_).subspan(step.first_request, step.batch.requests.size()),
                        step);
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
  DOVETAIL_CHECK(rank.value >= 0 && rank.value < world_size, "a rank outside of the world");
  const WorkloadPlan plan(config, trace, vocabulary, world_size);
  auto own = std::move(plan.by_rank(rank)[static_cast<std::size_t>(rank.value)]);
  return WorkloadMaker(config, vocabulary, plan.num_context_steps(), std::move(own)).make();
}

std::vector<RankWorkload> make_workloads(const WorkloadConfig& config,
                                         const RequestTrace* trace,
                                         std::int64_t vocabulary,
                                         int world_size) {
  const WorkloadPlan plan(config, trace, vocabulary, world_size);
  std::vector<RankWorkload> workloads;
  workloads.reserve(static_cast<std::size_t>(world_size));
  for (auto& own : plan.by_rank()) {
    workloads.push_back(
        WorkloadMaker(config, vocabulary, plan.num_context_steps(), std::move(own)).make());
  }
  return workloads;
}

}  // namespace dovetail
