#include "framework/run/phase_work.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "framework/plan/split.hpp"
#include "framework/run/rank_memory.hpp"

namespace dovetail {
namespace {

std::vector<UbatchSlice> slices_of_step(const CheckedRun& run,
                                        std::size_t policy,
                                        int rank,
                                        std::size_t step) {
  const auto& planned = run.planned_steps[policy];
  const auto number = static_cast<std::int64_t>(step);
  const auto found = std::find_if(planned.begin(), planned.end(), [&](const PlannedSteps& steps) {
    return steps.first <= number && number <= steps.last;
  });
  const auto& resolved = run.policies[policy];
  const auto& batch = run.workloads[static_cast<std::size_t>(rank)].steps.at(step).batch;
  return found != planned.end() && found->is_own
             ? split_batch(batch, resolved.split, resolved.schedules.own.num_ubatches)
             : split_batch(batch, {}, 1);
}

/// The chance that none of the `top_k` experts of a token is among `some` of `all`.
double chance_of_none(int all, int some, int top_k) {
  double chance = 1;
  for (int choice = 0; choice < top_k; ++choice) {
    chance *= std::max(0.0, static_cast<double>(all - some - choice) / (all - choice));
  }
  return chance;
}

/// One ubatch of the ep group, seen by one of its ranks.
struct UbatchTokens {
  const Batch& batch;        ///< the rank's own
  const UbatchSlice& slice;  ///< the rank's own
  double own = 0;
  double of_group = 0;  ///< of all ranks, the own ones included
};

/// What is the same for all ubatches.
class RankWork {
 public:
  RankWork(const CheckedRun& run, int rank)
      : run_(run),
        dims_(run.architecture->dims()),
        element_(static_cast<double>(size_of(run.experiment.execution.dtype))) {
    for (const auto& part : memory_of_weights(run, rank, run.grid.expert_parallel)) {
      if (part.read_by) {
        weights_[static_cast<std::size_t>(*part.read_by)] += static_cast<double>(part.bytes);
      }
    }
    const auto& layers = run.architecture->shape().layers;
    num_layers_ = static_cast<double>(layers.size());
    num_moe_layers_ = static_cast<double>(std::count_if(
        layers.begin(), layers.end(), [](const LayerShape& layer) { return layer.is_moe; }));
  }

  void add_to(WorkByPhase& work, const UbatchTokens& tokens) const {
    const auto of = [&](Phase phase) -> PhaseWork& {
      return work[static_cast<std::size_t>(phase)];
    };
    of(Phase::embed) += embed(tokens);
    of(Phase::attention) += attention(tokens);
    of(Phase::route) += linear(Phase::route, dims_.token_flops.route, tokens);
    of(Phase::shared_experts) +=
        linear(Phase::shared_experts, dims_.token_flops.shared_experts, tokens);
    of(Phase::mlp) += linear(Phase::mlp, dims_.token_flops.mlp, tokens);
    of(Phase::output) += output(tokens);
    if (num_moe_layers_ > 0) {
      of(Phase::experts) += experts(tokens);
      const auto out = dispatch(tokens);
      of(Phase::dispatch) += out;
      of(Phase::combine) += {.sent_bytes = out.received_bytes, .received_bytes = out.sent_bytes};
    }
  }

 private:
  double weights_of(Phase phase) const { return weights_[static_cast<std::size_t>(phase)]; }

  PhaseWork linear(Phase phase, double flops_of_token, const UbatchTokens& tokens) const {
    return {.flops = tokens.own * flops_of_token,
            .weight_bytes = tokens.own > 0 ? weights_of(phase) : 0};
  }

  PhaseWork embed(const UbatchTokens& tokens) const {
    const bool looks_up =
        dims_.is_first_stage && run_.experiment.workload.inputs.kind == InputKind::ids;
    return {.weight_bytes =
                looks_up ? tokens.own * static_cast<double>(dims_.hidden) * element_ : 0};
  }

  /// A request's only token in a ubatch attends as in a decode step.
  PhaseWork attention(const UbatchTokens& tokens) const {
    auto work = linear(Phase::attention, dims_.token_flops.attention, tokens);
    const auto bytes_of_key = static_cast<double>(dims_.cached_elements()) * num_layers_ * element_;
    for (const auto& segment : tokens.slice.segments) {
      const auto& request = tokens.batch.requests.at(static_cast<std::size_t>(segment.request));
      const auto before = static_cast<double>(request.context_length + segment.query_start);
      const auto queries = static_cast<double>(segment.query_length);
      const double pairs = queries * before + queries * (queries + 1) / 2;
      work.flops += segment.query_length == 1
                        ? pairs * dims_.flops_per_decode_key
                        : pairs * dims_.flops_per_key + before * dims_.flops_per_expanded_key;
      work.cache_read_bytes += (before + queries) * bytes_of_key;
      work.cache_written_bytes += queries * bytes_of_key;
    }
    return work;
  }

  PhaseWork dispatch(const UbatchTokens& tokens) const {
    const int ranks = run_.grid.expert_parallel;
    const double is_needed =
        1 - chance_of_none(dims_.num_experts, dims_.num_experts / ranks, dims_.top_k);
    const double row = static_cast<double>(dims_.hidden) * element_ * num_moe_layers_;
    return {.sent_bytes = tokens.own * (ranks - 1) * is_needed * row,
            .received_bytes = (tokens.of_group - tokens.own) * is_needed * row};
  }

  PhaseWork experts(const UbatchTokens& tokens) const {
    const double is_chosen = static_cast<double>(dims_.top_k) / dims_.num_experts;
    return {.flops = tokens.of_group / run_.grid.expert_parallel * dims_.token_flops.experts,
            .weight_bytes =
                weights_of(Phase::experts) * (1 - std::pow(1 - is_chosen, tokens.of_group))};
  }

  /// Logits of what is recorded.
  PhaseWork output(const UbatchTokens& tokens) const {
    const auto& record = run_.experiment.record;
    double rows = 0;
    if (record.has(RecordedOutput::logits)) {
      rows += static_cast<double>(std::count_if(
          tokens.slice.segments.begin(), tokens.slice.segments.end(), [&](const auto& segment) {
            const auto& request =
                tokens.batch.requests.at(static_cast<std::size_t>(segment.request));
            return segment.query_start + segment.query_length == request.query_length;
          }));
    }
    if (record.has(RecordedOutput::logits_all)) {
      rows += tokens.own;
    }
    const double products =
        static_cast<double>(dims_.vocabulary) * static_cast<double>(dims_.hidden);
    return {.flops = 2 * rows * products, .weight_bytes = rows > 0 ? products * element_ : 0};
  }

  const CheckedRun& run_;
  const ModelDims& dims_;
  double element_;
  std::array<double, kNumPhases> weights_{};
  double num_layers_ = 0;
  double num_moe_layers_ = 0;
};

}  // namespace

PhaseWork& PhaseWork::operator+=(const PhaseWork& other) {
  flops += other.flops;
  weight_bytes += other.weight_bytes;
  cache_read_bytes += other.cache_read_bytes;
  cache_written_bytes += other.cache_written_bytes;
  sent_bytes += other.sent_bytes;
  received_bytes += other.received_bytes;
  return *this;
}

WorkByPhase work_of_step(const CheckedRun& run, std::size_t policy, int rank, std::size_t step) {
  const int ranks = run.grid.expert_parallel;
  const int first_of_group = rank / ranks * ranks;
  std::vector<std::vector<UbatchSlice>> of_group;
  for (int peer = first_of_group; peer < first_of_group + ranks; ++peer) {
    of_group.push_back(slices_of_step(run, policy, peer, step));
  }
  const auto& own = of_group[static_cast<std::size_t>(rank - first_of_group)];
  const auto& batch = run.workloads[static_cast<std::size_t>(rank)].steps[step].batch;
  const RankWork rank_work(run, rank);
  WorkByPhase work;
  for (std::size_t u = 0; u < own.size(); ++u) {
    double tokens = 0;
    for (const auto& slices : of_group) {
      tokens += static_cast<double>(slices[u].num_tokens);
    }
    rank_work.add_to(work,
                     {.batch = batch,
                      .slice = own[u],
                      .own = static_cast<double>(own[u].num_tokens),
                      .of_group = tokens});
  }
  return work;
}

std::vector<std::int64_t> tokens_of_step(const CheckedRun& run,
                                         std::size_t policy,
                                         int rank,
                                         std::size_t step) {
  std::vector<std::int64_t> tokens;
  for (const auto& slice : slices_of_step(run, policy, rank, step)) {
    tokens.push_back(slice.num_tokens);
  }
  return tokens;
}

}  // namespace dovetail
