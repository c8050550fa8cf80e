// What a policy has of its own while it runs: outputs, its rank file, its engine; and the caches
// that policies share.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "framework/record/recorder.hpp"
#include "framework/run/policy_loop.hpp"
#include "framework/run/policy_run.hpp"
#include "framework/run/progress.hpp"

namespace dovetail {

/// Which policy, and what decides its steps. Everything outlives the policy's run.
struct PolicyChoice {
  const RunContext& run;
  const PolicyConfig& policy;
  const ResolvedPolicy& resolved;
  std::filesystem::path folder;  ///< of its rank files
  std::string title;             ///< for people
  std::shared_ptr<const GivenInputs> given;
};

/// The rounds of a run, for its files.
struct RecordedRounds {
  int count = 1;
  std::int64_t began_ns = 0;  ///< since 1970
};

struct ActivePolicy {
  std::shared_ptr<const GivenInputs> given;
  Iteration* iteration = nullptr;
  std::vector<StepOutputs> outputs;
  std::optional<RankRecorder> recorder;
  std::optional<PolicyRun> run;
};

/// Makes policies ready to run, and owns the KV caches that they share. Outlives them.
class PolicyMaker {
 public:
  /// `setup` outlives it.
  explicit PolicyMaker(const PolicyLoopSetup& setup)
      : setup_(setup), progress_(setup.run.is_first_rank()) {}

  /// Says whether routing has to do with what is in the caches. Collective over the world; once,
  /// before the first policy.
  void agree_on_contexts();

  /// Makes cache, outputs and file of a policy; its engine comes with PolicyRun::begin. A cache
  /// that an earlier policy has is taken where both need the same. Collective over the world: where
  /// a rank cannot make its file, as on a full disk, no policy is run. Throws AgreedError.
  std::unique_ptr<ActivePolicy> make(const PolicyChoice& choice, const RecordedRounds& rounds);

  /// Called where a policy fails, before the process ends; see PolicyRunSetup.
  std::function<void(const std::string& problem)> on_failure;

  /// Frees the caches. No policy is active.
  void drop_caches() { caches_.clear(); }

  RankFileSpec spec_of(const PolicyChoice& choice) const;

 private:
  struct Cache {
    std::shared_ptr<const GivenInputs> given;
    Iteration iteration;
  };

  Iteration& cache_for(const PolicyChoice& choice, bool is_alone);
  void make_recorder(const PolicyChoice& choice,
                     const RecordedRounds& rounds,
                     std::optional<RankRecorder>& recorder);

  const PolicyLoopSetup& setup_;
  Progress progress_;
  bool has_contexts_ = false;  ///< on any rank: forward passes fill a part of the cache
  std::list<Cache> caches_;
};

}  // namespace dovetail
