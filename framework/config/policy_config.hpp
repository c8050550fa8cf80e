// A policy of an experiment: a schedule, how it cuts the batch, and an execution of its own.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/config/execution_config.hpp"

namespace dovetail {

class MapReader;

/// `split: KIND` or `split: {sizes: [t, ...]}`; same meaning as SplitRule of
/// framework/plan/split.hpp.
struct SplitConfig {
  std::string kind = "token_midpoint";
  std::vector<std::int64_t> sizes;  ///< for kind "sizes" only: tokens of each ubatch; the last
                                    ///< ubatch takes the rest

  friend bool operator==(const SplitConfig&, const SplitConfig&) = default;
};

/// Ubatch only where the least loaded working rank has at least that many tokens; 0 = no threshold.
struct ThresholdsConfig {
  std::int64_t prefill = 0;
  std::int64_t decode = 0;

  friend bool operator==(const ThresholdsConfig&, const ThresholdsConfig&) = default;

  template <class Keys>
  static void list_keys(Keys& keys) {
    keys.whole("prefill",
               &ThresholdsConfig::prefill,
               0,
               Limits::kTokens,
               "A step with fewer tokens on any rank that has work runs `sequential`; 0: no "
               "threshold. `thresholds: none` is 0 for both.");
    keys.whole("decode",
               &ThresholdsConfig::decode,
               0,
               Limits::kTokens,
               "The same for steps in which every request computes one token.");
  }
};

/// A phase in a stage, on a lane. The names are those of framework/plan/phase.hpp.
struct StagePhase {
  std::string phase;  ///< where experts are cut also "experts g1", of one group
  std::string lane;   ///< "compute", "comm", or "" = comm for dispatch and combine, else compute

  friend bool operator==(const StagePhase&, const StagePhase&) = default;
};

using StageList = std::vector<std::vector<StagePhase>>;

/// `stages:` of the policy `staged`: where a layer of each kind is cut. One ubatch enqueues one
/// stage, then the next ubatch has its turn.
struct StagesConfig {
  std::string preset;  ///< a preset's name, or empty: then the lists hold
  StageList moe;       ///< phases that a layer does not have are left out (shared_experts)
  StageList dense;
  int delta = 0;  ///< ubatch u starts u * delta stages late

  friend bool operator==(const StagesConfig&, const StagesConfig&) = default;
};

struct PolicyConfig {
  std::string name;      ///< required; label and result folder, unique
  std::string schedule;  ///< overlap policy, or the path of a schedule file (*.json); default: the
                         ///< name
  int ubatches = 0;      ///< 0 = the overlap policy's (the schedule file's) own number
  int groups = 0;        ///< 0 = the overlap policy's (the schedule file's) own number
  std::optional<StagesConfig>
      stages;  ///< for staged only; default: the preset of the phase of work
  std::string candidate = "dual_batch";  ///< for auto only: what it chooses against sequential
  std::string table;                     ///< for auto only, required: path of a table of step times
  SplitConfig split;
  ThresholdsConfig thresholds;
  ExecutionConfig execution;  ///< the experiment's, with this policy's own fields over it

  friend bool operator==(const PolicyConfig&, const PolicyConfig&) = default;

  static void read_stages(const MapReader& map, PolicyConfig& policy);
  static std::string write_stages(const PolicyConfig& policy);
  static void read_split(const MapReader& map, PolicyConfig& policy);
  static std::string write_split(const PolicyConfig& policy);

  /// Keys of one overlap policy are not dumped in others, where validate refuses them.
  template <class Keys>
  static void list_keys(Keys& keys) {
    using P = PolicyConfig;
    keys.text("name", &P::name, "text", "The policy's label and folder; unique.")
        .required()
        .holds("a name");
    keys.text("schedule",
              &P::schedule,
              "the name of an overlap policy or the path of a schedule file (*.json); stage lists "
              "stand under 'stages' of the policy staged",
              "What is enqueued in which order: for example `sequential`, `shared_expert`, "
              "`dual_batch`, `staged` or `auto`. `dovetail info` lists all overlap policies.")
        .holds("the name of an overlap policy or the path of a schedule file (`*.json`)")
        .default_is("the policy's name");
    keys.whole("ubatches",
               &P::ubatches,
               0,
               kMaxUbatches,
               "The number of ubatches; 0: the overlap policy's (the schedule file's) own.");
    keys.whole("groups",
               &P::groups,
               0,
               kMaxGroups,
               "Of `expert_groups` and `staged`: the number of groups into which the experts of a "
               "rank are cut, at most its experts; 0: the overlap policy's own.");
    keys.coded(
            "stages",
            read_stages,
            write_stages,
            "`prefill`, `decode` or `{moe: [[phase, ...], ...], dense: [[phase, ...], ...], "
            "delta: n}`",
            {"prefill",
             "{moe: [[attention, {route: compute}], [experts]], dense: [[mlp]], delta: 2}"},
            "Of `staged`: where a layer of each kind is cut. A phase is a name or `{name: "
            "lane}`; with `groups: G` also `experts g0` to the last of `dispatch`, `experts` and "
            "`combine`. Ubatch u starts u * delta stages late.")
        .default_is("by the phase of work")
        .dumped_if([](const P& policy) { return policy.stages.has_value(); });
    keys.text("candidate",
              &P::candidate,
              "the name of an overlap policy or the path of a schedule file",
              "Of `auto`: what it chooses against `sequential`.")
        .dumped_if([](const P& policy) {
          return policy.schedule == "auto" || policy.candidate != P().candidate;
        });
    keys.text("table",
              &P::table,
              "the path of a table of step times",
              "Of `auto`: the file by which it chooses (a sweep's `sweep.json`).")
        .default_is("required for `auto`")
        .dumped_if([](const P& policy) { return !policy.table.empty(); });
    keys.coded("split",
               read_split,
               write_split,
               "the name of a split or `{sizes: [tokens of each ubatch]}`",
               {"request", "{sizes: [100, 0]}"},
               "How the batch is cut: `token_midpoint`, `request`, `balanced` (by the cost of "
               "linear layers and attention, a decoding request's keys by their bytes where these "
               "take longer), or by explicit sizes.");
    keys.map_or_none("thresholds", &P::thresholds);
    keys.include(&P::execution);
  }
};

}  // namespace dovetail
