#include "framework/plan/step_time_curves.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <set>

#include "framework/base/hash.hpp"

namespace dovetail {
namespace {

/// Mean step time by tokens, of the samples of one kind and context.
using Curve = std::map<std::int64_t, double>;

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
  std::map<std::int64_t, std::vector<double>> times;
  for (const auto& sample : samples) {
    if (sample.load.one_token_each == one_token_each && sample.load.context_tokens == context) {
      times[sample.load.tokens].push_back(sample.step_ms);
    }
  }
  Curve curve;
  for (const auto& [tokens, all] : times) {
    double sum = 0;
    for (const double one : all) {
      sum += one;
    }
    curve[tokens] = sum / static_cast<double>(all.size());
  }
  return curve;
}

/// `tokens` lies within the curve.
double interpolate(const Curve& curve, std::int64_t tokens) {
  const auto above = curve.lower_bound(tokens);
  if (above->first == tokens) {
    return above->second;
  }
  const auto below = std::prev(above);
  const double share =
      static_cast<double>(tokens - below->first) / static_cast<double>(above->first - below->first);
  return below->second + share * (above->second - below->second);
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
  return StepTimeEstimate{interpolate(plain, tokens), interpolate(candidate, tokens), tokens};
}

std::uint64_t curves_digest(const StepTimeCurves& curves) {
  std::uint64_t digest = combine_hash(static_cast<std::uint64_t>(curves.plain_comm_sms),
                                      static_cast<std::uint64_t>(curves.candidate_comm_sms));
  for (const auto* samples : {&curves.plain, &curves.candidate}) {
    digest = combine_hash(digest, samples->size());
    for (const auto& [load, step_ms] : *samples) {
      digest = combine_hash(digest, static_cast<std::uint64_t>(load.tokens));
      digest = combine_hash(digest, std::bit_cast<std::uint64_t>(load.context_tokens));
      digest = combine_hash(digest, load.one_token_each ? 1 : 0);
      digest = combine_hash(digest, std::bit_cast<std::uint64_t>(step_ms));
    }
  }
  return digest;
}

}  // namespace dovetail
