#include "framework/config/validate_policy.hpp"

#include <algorithm>

#include "framework/base/registry.hpp"
#include "framework/base/text.hpp"
#include "framework/config/schedule_rules.hpp"

namespace dovetail {
namespace {

constexpr const char* kOrFile = ", or the path of a schedule file (*.json)";

class PolicyValidator {
 public:
  PolicyValidator(const LoadedExperiment& loaded,
                  const Capabilities& capabilities,
                  std::string path,
                  const PolicyConfig& policy)
      : loaded_(loaded), capabilities_(capabilities), path_(std::move(path)), policy_(policy) {}

  void check_all() const {
    const bool is_auto = policy_.schedule == "auto";
    if (!is_schedule_file(policy_.schedule) && find(policy_.schedule) == nullptr) {
      fail(states("schedule") ? "schedule" : "name",
           "unknown overlap policy '" + printable(policy_.schedule) +
               "'; known: " + join_names(names_of(1)) + kOrFile);
    }
    if (is_auto) {
      check_auto();
    }
    for (const char* key : {"candidate", "table"}) {
      if (!is_auto && states(key)) {
        fail(
            key,
            "the overlap policy is '" + printable(policy_.schedule) + "'; allowed: only with auto");
      }
    }
    const std::string& schedule = is_auto ? policy_.candidate : policy_.schedule;
    check_stages(schedule);
    check_groups(schedule);
    check_split();
    check_ubatches(schedule, is_auto ? 2 : 1);
  }

 private:
  [[noreturn]] void fail(const std::string& key, const std::string& message) const {
    const std::string path = key.empty() ? path_ : path_ + "." + key;
    fail_at(find_mark(loaded_, path), path + ": " + message);
  }

  bool states(const std::string& key) const { return loaded_.marks.count(path_ + "." + key) > 0; }

  const PolicyCapability* find(const std::string& schedule) const {
    for (const PolicyCapability& known : capabilities_.policies) {
      if (known.name == schedule) {
        return &known;
      }
    }
    return nullptr;
  }

  /// Overlap policies that can have that many ubatches.
  std::vector<std::string> names_of(int num_ubatches) const {
    std::vector<std::string> all;
    for (const PolicyCapability& known : capabilities_.policies) {
      if (known.max_ubatches >= num_ubatches) {
        all.push_back(known.name);
      }
    }
    return all;
  }

  void check_auto() const {
    if (policy_.table.empty()) {
      fail("", "auto decides by a table of step times; needed: table: FILE");
    }
    std::vector<std::string> allowed = names_of(2);
    std::erase(allowed, "auto");
    if (!is_schedule_file(policy_.candidate) &&
        std::find(allowed.begin(), allowed.end(), policy_.candidate) == allowed.end()) {
      fail("candidate",
           "auto cannot choose '" + printable(policy_.candidate) +
               "' against sequential; allowed: " + join_names(allowed) + kOrFile);
    }
  }

  void check_stages(const std::string& schedule) const {
    if (!policy_.stages) {
      return;
    }
    if (schedule != "staged") {
      fail("stages",
           "the overlap policy is '" + printable(schedule) + "'; allowed: only with staged");
    }
    if (!capabilities_.find_stages_problem) {
      return;
    }
    if (const auto problem =
            capabilities_.find_stages_problem(*policy_.stages, std::max(1, policy_.groups))) {
      fail(problem->place.empty() ? "stages" : "stages." + problem->place, problem->message);
    }
  }

  /// Whether a rank has that many experts is known once the model is. A schedule file has its own.
  void check_groups(const std::string& schedule) const {
    const PolicyCapability* capability = find(schedule);
    if (policy_.groups == 0 ||
        (capability != nullptr && policy_.groups <= capability->max_groups)) {
      return;
    }
    std::vector<std::string> allowed;
    for (const PolicyCapability& known : capabilities_.policies) {
      if (known.max_groups > 1) {
        allowed.push_back(known.name);
      }
    }
    fail("groups",
         "the overlap policy is '" + printable(schedule) + "'; allowed: only with " +
             join_names(allowed));
  }

  void check_split() const {
    const auto& known = capabilities_.splits;
    if (std::find(known.begin(), known.end(), policy_.split.kind) == known.end()) {
      fail("split",
           "unknown split '" + printable(policy_.split.kind) + "'; known: " + join_names(known));
    }
  }

  /// The number of ubatches of a schedule file is known once it is read.
  void check_ubatches(const std::string& schedule, int least) const {
    const PolicyCapability* capability = find(schedule);
    int count = policy_.ubatches;
    int most = kMaxUbatches;
    if (capability != nullptr) {
      count = num_ubatches(policy_, *capability);
      least = std::max(least, capability->min_ubatches);
      most = std::min(most, capability->max_ubatches);
    } else if (count == 0) {
      return;
    }
    if (count < least || count > most) {
      fail("ubatches",
           counted(count, "ubatch") + " in " + printable(schedule) +
               "; allowed: " + std::to_string(least) + " to " + std::to_string(most));
    }
    check_counts(count);
  }

  void check_counts(int count) const {
    if (policy_.split.kind == "sizes" &&
        policy_.split.sizes.size() != static_cast<std::size_t>(count)) {
      fail("split",
           counted(std::ssize(policy_.split.sizes), "size") + " for " + counted(count, "ubatch") +
               "; allowed: one size an ubatch");
    }
    const auto check_threshold = [&](const std::string& name, std::int64_t threshold) {
      if (threshold < 0 || (threshold > 0 && threshold < count)) {
        fail("thresholds." + name,
             counted(threshold, "token") + " for " + counted(count, "ubatch") +
                 "; allowed: 0 (no threshold), or at least one token an ubatch");
      }
    };
    check_threshold("prefill", policy_.thresholds.prefill);
    check_threshold("decode", policy_.thresholds.decode);
  }

  const LoadedExperiment& loaded_;
  const Capabilities& capabilities_;
  std::string path_;
  const PolicyConfig& policy_;
};

}  // namespace

void check_policy_schedule(const LoadedExperiment& loaded,
                           const Capabilities& capabilities,
                           const std::string& path,
                           const PolicyConfig& policy) {
  PolicyValidator(loaded, capabilities, path, policy).check_all();
}

}  // namespace dovetail
