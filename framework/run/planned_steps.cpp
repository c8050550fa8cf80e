#include "framework/run/planned_steps.hpp"

#include <algorithm>

#include "framework/base/text.hpp"
#include "framework/compare/table.hpp"

namespace dovetail {
namespace {

/// Steps of a policy without a table of step times differ in what they run only.
bool is_alike(const PlannedSteps& a, const PlannedSteps& b) {
  return a.schedule == b.schedule && a.reason == b.reason && (!b.estimate || a.load == b.load);
}

}  // namespace

std::string PlannedSteps::describe() const {
  std::string text = first == last ? "step " + std::to_string(first) + " runs " + schedule
                                   : "steps " + std::to_string(first) + " to " +
                                         std::to_string(last) + " run " + schedule;
  if (reason != VetoReason::none) {
    text += " (" + std::string(to_string(reason)) + ")";
  }
  if (estimate) {
    text += ": the table says " + format_fixed(estimate->candidate_ms, 3) +
            " ms with ubatches and " + format_fixed(estimate->plain_ms, 3) + " ms without, at " +
            counted(load.tokens, "token") + " and " + format_fixed(load.context_tokens, 1) +
            " tokens of context";
    if (estimate->margin_ms > 0) {
      text += " (ubatches must gain more than " + format_fixed(estimate->margin_ms, 3) + " ms)";
    }
    if (estimate->tokens != load.tokens) {
      text += (estimate->tokens < load.tokens ? " (the table ends at " : " (the table starts at ") +
              counted(estimate->tokens, "token") + ": it says no more than the times there)";
    }
  }
  return text;
}

std::vector<PlannedSteps> plan_steps(const PolicyConfig& policy,
                                     const ResolvedPolicy& resolved,
                                     WorkPhase phase,
                                     std::span<const AgreementMessage> reduced) {
  const auto& schedules = resolved.schedules;
  const auto rule = agreement_rule(policy, schedules, phase, resolved.bounds);
  std::vector<PlannedSteps> planned;
  for (std::size_t step = 0; step < reduced.size(); ++step) {
    const auto decision = decide(reduced[step], rule);
    const bool is_own = decision.ubatched || rule.num_ubatches == 1;
    PlannedSteps own = {.first = static_cast<std::int64_t>(step),
                        .last = static_cast<std::int64_t>(step),
                        .schedule = is_own ? schedules.own.name : schedules.plain.name,
                        .is_own = is_own,
                        .reason = decision.reason,
                        .load = load_of(reduced[step]),
                        .estimate = std::nullopt};
    if (schedules.step_times) {
      own.estimate = estimate_step_times(*schedules.step_times, own.load);
    }
    if (planned.empty() || !is_alike(planned.back(), own)) {
      planned.push_back(own);
    }
    planned.back().last = own.last;
  }
  return planned;
}

std::vector<StepSize> step_sizes(const PolicyConfig& policy,
                                 const ResolvedPolicy& resolved,
                                 WorkPhase phase,
                                 std::span<const AgreementMessage> reduced,
                                 bool may_be_vetoed) {
  const auto rule = agreement_rule(policy, resolved.schedules, phase, resolved.bounds);
  std::vector<StepSize> sizes;
  const auto add = [&](const AgreementMessage& message) {
    const auto decision = decide(message, rule);
    const auto& tokens = decision.bounds.tokens;
    const StepSize size = {
        .is_own = decision.ubatched || rule.num_ubatches == 1,
        .tokens = {tokens.begin(), tokens.begin() + decision.bounds.num_ubatches}};
    if (std::find(sizes.begin(), sizes.end(), size) == sizes.end()) {
      sizes.push_back(size);
    }
  };
  for (auto message : reduced) {
    add(message);
    if (may_be_vetoed) {
      message.vetoes = 1;
      add(message);
    }
  }
  return sizes;
}

}  // namespace dovetail
