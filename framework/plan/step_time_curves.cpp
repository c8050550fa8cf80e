#include "framework/plan/step_time_curves.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <set>

#include "framework/base/hash.hpp"

namespace dovetail {
namespace {

struct CurvePoint {
  double step_ms = 0;
  double error_ms = 0;
};

/// Mean step time by tokens, of the samples of one kind and context.
using Curve = std::map<std::int64_t, CurvePoint>;

std::set<double> contexts_of(const std::vector<StepTimeSample>& samples, bool one_token_each) {
  std::set<double> contexts;
  for (const auto& sample : samples) {
    if (sample.load.one_token_each == one_token_each) {
      contexts.insert(sample.load.context_tokens);
    }
  }
  return contexts;
}

Curve curve_at(const std::vector<StepTimeSample>& samples, bool one_token_each, double context) {
  std::map<std::int64_t, std::vector<CurvePoint>> times;
  for (const auto& sample : samples) {
    if (sample.load.one_token_each == one_token_each && sample.load.context_tokens == context) {
      times[sample.load.tokens].push_back({sample.step_ms, sample.error_ms});
    }
  }
  Curve curve;
  for (const auto& [tokens, all] : times) {
    CurvePoint sum;
    for (const auto& one : all) {
      sum = {sum.step_ms + one.step_ms, std::hypot(sum.error_ms, one.error_ms)};
    }
    const auto count = static_cast<double>(all.size());
    curve[tokens] = {sum.step_ms / count, sum.error_ms / count};
  }
  return curve;
}

/// `tokens` lies within the curve.
CurvePoint interpolate(const Curve& curve, std::int64_t tokens) {
  const auto above = curve.lower_bound(tokens);
  if (above->first == tokens) {
    return above->second;
  }
  const auto below = std::prev(above);
  const double share =
      static_cast<double>(tokens - below->first) / static_cast<double>(above->first - below->first);
  const auto& [first_ms, first_error] = below->second;
  const auto& [last_ms, last_error] = above->second;
  return {first_ms + share * (last_ms - first_ms),
          std::hypot((1 - share) * first_error, share * last_error)};
}

std::optional<double> nearest_common(const std::set<double>& a,
                                     const std::set<double>& b,
                                     double value) {
  std::optional<double> best;
  for (const double context : a) {
    if (b.count(context) > 0 && (!best || std::abs(context - value) < std::abs(*best - value))) {
      best = context;
    }
  }
  return best;
}

}  // namespace

std::optional<StepTimeEstimate> estimate_step_times(const StepTimeCurves& curves,
                                                    const StepLoad& load) {
  const auto context = nearest_common(contexts_of(curves.plain, load.one_token_each),
                                      contexts_of(curves.candidate, load.one_token_each),
                                      load.context_tokens);
  if (!context) {
    return std::nullopt;
  }
  const Curve plain = curve_at(curves.plain, load.one_token_each, *context);
  const Curve candidate = curve_at(curves.candidate, load.one_token_each, *context);
  const auto first = std::max(plain.begin()->first, candidate.begin()->first);
  const auto last = std::min(plain.rbegin()->first, candidate.rbegin()->first);
  if (first > last) {
    return std::nullopt;
  }
  const auto tokens = std::clamp(load.tokens, first, last);
  const auto without = interpolate(plain, tokens);
  const auto with = interpolate(candidate, tokens);
  return StepTimeEstimate{.plain_ms = without.step_ms,
                          .candidate_ms = with.step_ms,
                          .tokens = tokens,
                          .margin_ms = std::hypot(without.error_ms, with.error_ms)};
}

std::uint64_t curves_digest(const StepTimeCurves& curves) {
  std::uint64_t digest = combine_hash(static_cast<std::uint64_t>(curves.plain_comm_sms),
                                      static_cast<std::uint64_t>(curves.candidate_comm_sms));
  for (const auto* samples : {&curves.plain, &curves.candidate}) {
    digest = combine_hash(digest, samples->size());
    for (const auto& [load, step_ms, error_ms] : *samples) {
      digest = combine_hash(digest, static_cast<std::uint64_t>(load.tokens));
      digest = combine_hash(digest, std::bit_cast<std::uint64_t>(load.context_tokens));
      digest = combine_hash(digest, load.one_token_each ? 1 : 0);
      digest = combine_hash(digest, std::bit_cast<std::uint64_t>(step_ms));
      if (error_ms > 0) {  // tables without errors keep the number that they had
        digest = combine_hash(digest, std::bit_cast<std::uint64_t>(error_ms));
      }
    }
  }
  return digest;
}

}  // namespace dovetail
