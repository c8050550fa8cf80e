#include "framework/compare/verify_iterations.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/compare/iteration_hashes.hpp"
#include "framework/compare/output_names.hpp"
#include "framework/compare/table.hpp"

namespace dovetail {
namespace {

/// Of one kind: what more there is, is counted.
constexpr std::size_t kMaxNamed = 8;

/// What a hash is of, in words.
constexpr std::array kQuantities = {std::pair("outputs", &StepHash::outputs),
                                    std::pair("keys and values", &StepHash::kv),
                                    std::pair("routing", &StepHash::routing)};

/// "timed iteration 7, step 0"; the poisoned iterations are one a variant.
std::string name_of(const HashedStep& step, const IterationHashes& all) {
  std::string text = std::string(to_string(step.kind)) + " iteration " +
                     std::to_string(step.iteration) + ", step " + std::to_string(step.step);
  return all.num_variants == 1 ? text : text + " (variant " + std::to_string(step.variant) + ")";
}

/// The outputs that enter a hash as far as runs may record other ones: hidden states always do.
std::set<std::string> hashed_outputs(const PolicyFolder& folder) {
  std::set<std::string> names;
  for (const auto& name : folder.rank(0).outputs()) {
    if (name != "hidden" && !is_of_cache(name)) {
      names.insert(name);
    }
  }
  return names;
}

/// What the baseline's iterations have left, by variant and step.
class BaselineBits {
 public:
  BaselineBits(const PolicyFolder& policy, const PolicyFolder& baseline)
      : has_outputs_(hashed_outputs(policy) == hashed_outputs(baseline)) {
    const auto hashes = read_iteration_hashes(baseline);
    for (const auto& step : hashes.steps) {
      all_[{step.variant, step.step}].push_back(step.over_ranks());
    }
    for (const auto& [place, step] : hashes.recorded()) {
      recorded_[place] = step->over_ranks();
    }
  }

  /// Whether an iteration of the baseline has left the same, on whatever grid.
  bool have(const HashedStep& step) const {
    const auto found = all_.find({step.variant, step.step});
    return found != all_.end() &&
           std::any_of(found->second.begin(), found->second.end(), [&](const StepHash& one) {
             return differences(step.over_ranks(), one).empty() && has_outputs_;
           });
  }

  /// What differs from the recorded iteration, in words; empty = nothing.
  std::vector<std::string> differ_from_recorded(const HashedStep& step) const {
    const auto found = recorded_.find({step.variant, step.step});
    return found == recorded_.end() ? std::vector<std::string>{"iterations"}
                                    : differences(step.over_ranks(), found->second);
  }

 private:
  std::vector<std::string> differences(const StepHash& own, const StepHash& other) const {
    std::vector<std::string> names;
    if (has_outputs_ && own.outputs != other.outputs) {
      names.emplace_back("outputs");
    }
    if (own.kv != other.kv) {
      names.emplace_back("keys and values");
    }
    return names;
  }

  bool has_outputs_;
  std::map<std::pair<std::int64_t, std::int64_t>, std::vector<StepHash>> all_;
  std::map<std::pair<std::int64_t, std::int64_t>, StepHash> recorded_;
};

class IterationsJudge {
 public:
  IterationsJudge(const PolicyFolder& policy, const IterationsOptions& options)
      : hashes_(read_iteration_hashes(policy)),
        recorded_(hashes_.recorded()),
        exact_(options.exact) {
    if (options.baseline != nullptr && has_iteration_hashes(*options.baseline)) {
      baseline_.emplace(policy, *options.baseline);
    }
    report_.has_hashes = true;
    report_.num_variants = hashes_.num_variants;
    report_.steps_per_iteration = hashes_.steps_per_iteration;
    report_.hash_share = hashes_.hash_share;
    for (const auto& step : hashes_.steps) {
      ways_[step.way()].push_back(&step);
      report_.num_iterations[static_cast<std::size_t>(step.kind)] += step.step == 0 ? 1 : 0;
      ++report_.num_steps;
    }
  }

  IterationsReport judge() {
    for (const auto& [way, steps] : ways_) {
      judge_alike(steps);
    }
    if (exact_ && baseline_) {
      judge_recorded_exactly();
    }
    for (std::size_t rank = 0; rank < hashes_.untouched_changed.size(); ++rank) {
      if (hashes_.untouched_changed[rank]) {
        different_.push_back(
            "rank " + std::to_string(rank) +
            ": keys and values that no step may write have changed (a context, or a "
            "slot of no request)");
      }
    }
    add_problems(different_);
    add_problems(unjudged_);
    return std::move(report_);
  }

 private:
  const HashedStep* recorded_like(const HashedStep& step) const {
    const auto found = recorded_.find({step.variant, step.step});
    return found != recorded_.end() && found->second->way() == step.way() ? found->second : nullptr;
  }

  /// Most steps decide what is right; of equally many those with the recorded one, or the first.
  std::int64_t usual_hash(const std::vector<const HashedStep*>& steps,
                          std::size_t rank,
                          std::int64_t StepHash::*quantity) const {
    std::map<std::int64_t, std::size_t> counts;
    for (const auto* step : steps) {
      ++counts[step->hashes[rank].*quantity];
    }
    const auto* preferred = recorded_like(*steps.front());
    auto best = (preferred != nullptr ? preferred : steps.front())->hashes[rank].*quantity;
    for (const auto& [hash, count] : counts) {
      best = count > counts[best] ? hash : best;
    }
    return best;
  }

  /// Steps that ran alike.
  void judge_alike(const std::vector<const HashedStep*>& steps) {
    const auto num_ranks = steps.front()->hashes.size();
    std::map<const HashedStep*, std::map<std::string, std::vector<std::string>>> found;
    for (const auto& [name, quantity] : kQuantities) {
      for (std::size_t rank = 0; rank < num_ranks; ++rank) {
        const auto usual = usual_hash(steps, rank, quantity);
        for (const auto* step : steps) {
          if (step->hashes[rank].*quantity != usual) {
            found[step][name].push_back(std::to_string(rank));
          }
        }
      }
    }
    const auto* recorded = recorded_like(*steps.front());
    for (const auto* step : steps) {
      const auto different = found.find(step);
      if (different != found.end()) {
        ++report_.num_different;
        note_different(*step, different->second, steps.size() - 1, step == recorded);
      } else if (recorded != nullptr) {
        ++report_.num_as_recorded;
      } else if (baseline_ && baseline_->have(*step)) {
        ++report_.num_as_baseline;
      } else {
        ++report_.num_unjudged;
        unjudged_.push_back(name_of(*step, hashes_) +
                            " ran otherwise than the recorded iteration, and nothing says whether "
                            "what it left is right" +
                            (baseline_ ? ": no iteration of the baseline has left the same" : ""));
      }
    }
  }

  void note_different(const HashedStep& step,
                      const std::map<std::string, std::vector<std::string>>& ranks_of,
                      std::size_t num_others,
                      bool is_recorded) {
    std::string text = name_of(step, hashes_);
    if (is_recorded) {
      text += ", which is recorded";
    }
    const char* separator = ": ";
    for (const auto& [quantity, ranks] : ranks_of) {
      text +=
          separator + quantity + " on rank" + (ranks.size() == 1 ? " " : "s ") + join_names(ranks);
      separator = "; ";
    }
    different_.push_back(text + " differ from those of most of the " +
                         counted(static_cast<std::int64_t>(num_others), "other") +
                         " that ran alike");
  }

  void judge_recorded_exactly() {
    for (const auto& [place, step] : recorded_) {
      const auto names = baseline_->differ_from_recorded(*step);
      if (!names.empty()) {
        different_.push_back(name_of(*step, hashes_) + ": " + join_names(names, " and ") +
                             " differ from the baseline's, all ranks together");
      }
    }
  }

  void add_problems(const std::vector<std::string>& problems) {
    for (std::size_t i = 0; i < std::min(problems.size(), kMaxNamed); ++i) {
      report_.problems.push_back(problems[i]);
    }
    if (problems.size() > kMaxNamed) {
      report_.problems.push_back("and " + std::to_string(problems.size() - kMaxNamed) +
                                 " more like these");
    }
  }

  const IterationHashes hashes_;
  const std::map<std::pair<std::int64_t, std::int64_t>, const HashedStep*> recorded_;
  bool exact_;
  std::optional<BaselineBits> baseline_;
  std::map<decltype(std::declval<HashedStep>().way()), std::vector<const HashedStep*>> ways_;
  std::vector<std::string> different_;
  std::vector<std::string> unjudged_;
  IterationsReport report_;
};

std::string count_of(std::int64_t count, const std::string& what) {
  return std::to_string(count) + " " + what;
}

}  // namespace

IterationsReport judge_iterations(const PolicyFolder& policy, const IterationsOptions& options) {
  return has_iteration_hashes(policy) ? IterationsJudge(policy, options).judge()
                                      : IterationsReport{};
}

std::string to_text(const IterationsReport& report) {
  if (!report.has_hashes) {
    return "iterations: only the last one is judged; files of before schema version 4 hold no "
           "hashes\n";
  }
  std::string text = "iterations: ";
  for (const auto kind : {IterationKind::timed, IterationKind::profiled, IterationKind::poisoned}) {
    const auto count = report.num_iterations[static_cast<std::size_t>(kind)];
    if (count > 0) {
      text += (kind == IterationKind::timed ? "" : ", ") +
              count_of(count, std::string(to_string(kind)));
    }
  }
  if (report.num_variants > 1) {
    text += ", of " + count_of(report.num_variants, "variants");
  }
  text += "; " + count_of(report.num_as_recorded, "of ") + counted(report.num_steps, "step") +
          " left the recorded bits";
  if (report.num_as_baseline > 0) {
    text += ", " + count_of(report.num_as_baseline, "ran otherwise and left the baseline's");
  }
  if (report.num_different > 0) {
    text += ", " + count_of(report.num_different, "left other bits");
  }
  if (report.num_unjudged > 0) {
    text += ", " + count_of(report.num_unjudged, "NOT JUDGED");
  }
  if (report.hash_share >= 0) {
    text += "; hashing one took " + format_percent(report.hash_share) + " of its time";
  }
  return text + "\n";
}

nlohmann::json to_json(const IterationsReport& report) {
  if (!report.has_hashes) {
    return nullptr;
  }
  nlohmann::json json = {
      {"variants", report.num_variants},
      {"steps_per_iteration", report.steps_per_iteration},
      {"steps", report.num_steps},
      {"as_recorded", report.num_as_recorded},
      {"as_baseline", report.num_as_baseline},
      {"different", report.num_different},
      {"unjudged", report.num_unjudged},
      {"hash_share",
       report.hash_share < 0 ? nlohmann::json(nullptr) : nlohmann::json(report.hash_share)},
      {"passed", report.problems.empty()},
      {"problems", report.problems}};
  for (const auto kind : {IterationKind::timed, IterationKind::profiled, IterationKind::poisoned}) {
    json[std::string(to_string(kind))] = report.num_iterations[static_cast<std::size_t>(kind)];
  }
  return json;
}

}  // namespace dovetail
