// `fault:`: how an experiment breaks one of its own runs on purpose, to test what happens then.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "framework/config/choices.hpp"

namespace dovetail {

class MapReader;

/// Of FaultConfig::iteration: the forward passes that fill the KV cache up to the contexts.
inline constexpr int kContextIteration = -1;

/// A fault that is injected at one place of a run. It happens in the policy that it names. Where it
/// names none: one that ends a run, in every policy; a data fault (is_data_fault), in every policy
/// but the baseline that the others are compared with, because what is wrong in all of them cannot
/// be seen by comparing them. delay must name one, for the same reason.
struct FaultConfig {
  FaultKind kind = FaultKind::exception;  ///< required
  int rank = 0;                           ///< required; rank in the world
  int ubatch = 0;
  int layer = 0;                  ///< -1 for the phases of no layer (embed, output)
  std::string phase = "experts";  ///< the op at which it happens; without meaning for veto
  int iteration = 0;              ///< from 0, counted over warm-up and timed iterations together;
                                  ///< kContextIteration = before them; without meaning for delay
  int token = 0;                  ///< row of the ubatch
  int choice = -1;                ///< of the token's experts, by weight; -1 = the last
  int element = -1;               ///< of the row; -1 = the largest
  std::string policy;             ///< name of a policy; empty = see above
  int group = 0;                  ///< of dispatch, experts and combine, where experts are cut
  int delay_us = 0;               ///< of delay: how much longer the op takes; else 0

  friend bool operator==(const FaultConfig&, const FaultConfig&) = default;

  static void read_policy(const MapReader& map, FaultConfig& fault);
  static std::string write_policy(const FaultConfig& fault);

  template <class Keys>
  static void list_keys(Keys& keys) {
    using F = FaultConfig;
    keys.one_of("kind", &F::kind, "What happens: see Faults in experiments/README.md.").required();
    keys.whole("rank", &F::rank, 0, Limits::kCount, "The rank in the world.").required();
    keys.whole("ubatch", &F::ubatch, 0, kMaxUbatches - 1, "The op's ubatch.");
    keys.whole("layer",
               &F::layer,
               -1,
               Limits::kCount,
               "The op's layer; -1 for the phases of no layer (`embed`, `output`).");
    keys.text("phase",
              &F::phase,
              "text",
              "The op's phase. It has no meaning for `veto`; a data fault can act in some only.")
        .holds("the name of a phase");
    keys.whole(
        "group",
        &F::group,
        0,
        kMaxGroups - 1,
        "Of `dispatch`, `experts` and `combine` where experts are cut: the op's group of them.");
    keys.whole("iteration",
               &F::iteration,
               kContextIteration,
               2 * Limits::kCount,
               "The iteration, warm-up counted; of a data fault a timed one. Outputs are those of "
               "the last one. -1 is before them: the steps that compute the contexts.")
        .dumped_if(is_of_one_iteration);
    keys.whole("token",
               &F::token,
               0,
               Limits::kTokens,
               "Of a data fault: the token, as a row of the ubatch.")
        .dumped_if(is_of_one_iteration);
    keys.whole("choice",
               &F::choice,
               -1,
               Limits::kCount,
               "Of `wrong_expert` and `dropped_weight`: which of the token's experts, 0 being the "
               "one of the largest weight; -1 is the last.")
        .dumped_if(is_of_one_iteration);
    keys.whole("element",
               &F::element,
               -1,
               Limits::kCount,
               "Of `flipped_element`: which element of the token's row; -1 is the largest.")
        .dumped_if(is_of_one_iteration);
    keys.coded("policy",
               read_policy,
               write_policy,
               "the name of a policy",
               {"some_policy"},
               "The only policy in which it happens.")
        .default_is(
            "every policy; of a data fault: every one but `verify.baseline`; `delay` must name "
            "one");
    keys.whole("delay_us",
               &F::delay_us,
               1,
               1'000'000,
               "Of `delay` alone: how many microseconds longer the op takes in every step.")
        .default_is("required with `delay`")
        .dumped_if([](const F& fault) { return fault.delay_us > 0; });
  }

 private:
  /// What is refused of a delay is not stated by its dump, either.
  static bool is_of_one_iteration(const FaultConfig& fault) {
    return fault.kind != FaultKind::delay;
  }
};

/// Whether a run goes on behind the fault with wrong results.
constexpr bool is_data_fault(FaultKind kind) {
  return kind >= FaultKind::skipped_wait;
}

/// Whether a run goes on behind the fault and says nothing of it while it runs, though its results
/// or its times are not those of the policy: such a fault must be allowed by name on the command
/// line.
constexpr bool is_silent(FaultKind kind) {
  return is_data_fault(kind) || kind == FaultKind::delay;
}

/// Whether no step comes behind the fault.
constexpr bool ends_run(FaultKind kind) {
  return kind == FaultKind::exception || kind == FaultKind::hang || kind == FaultKind::slow ||
         kind == FaultKind::kill;
}

/// The names of all silent faults.
std::vector<std::string> silent_fault_names();

/// The names of the phases in which a data fault can act.
std::vector<std::string> fault_phases(FaultKind kind);

/// "flipped_element at rank 1, ubatch 0, layer 3, phase combine, iteration 2, token 5": of veto
/// only rank and iteration; "delay at rank 0, ubatch 0, layer 3, phase experts, every step, 250
/// us".
std::string describe(const FaultConfig& fault);

/// Whether the fault happens in the policy of that name. `baseline`: the policy that the others are
/// verified against; empty = none.
bool hits(const FaultConfig& fault, std::string_view policy, std::string_view baseline);

}  // namespace dovetail
