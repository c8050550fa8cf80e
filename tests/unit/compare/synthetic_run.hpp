// Small policy folders for tests, written through the recorder. Every value is a function of
// (request, position, column, tensor), so that a row names its origin and any grid gives the same.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "framework/base/graph_counters.hpp"
#include "framework/base/scratch_folder.hpp"
#include "framework/record/rank_clock.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {

struct SyntheticTensor {
  DType dtype = DType::float32;
  std::int64_t columns = 0;
  std::vector<float> values;     ///< row-major; used for float32
  std::vector<std::byte> bytes;  ///< used instead where not empty (other dtypes)
};

/// Times of one pass: (start, end) of each op, and of the step.
struct SyntheticPass {
  std::int64_t start_ns = -1;
  std::int64_t end_ns = -1;
  std::vector<std::int64_t> op_start_ns;
  std::vector<std::int64_t> op_end_ns;
};

struct SyntheticProfile {
  std::int64_t schedule = 0;
  std::vector<SyntheticPass> passes;  ///< by ProfilePass; later ones may be left out
  std::vector<std::int64_t> enqueued_ns;
  std::vector<std::int64_t> hand_off_wait_ns;
};

struct SyntheticRank {
  std::vector<std::int64_t> request_id;        ///< per token
  std::vector<std::int64_t> position;          ///< per token
  std::vector<std::int64_t> input_ids;         ///< per token
  std::vector<std::int64_t> requests;          ///< rows of logits: request
  std::vector<std::int64_t> request_position;  ///< rows of logits: position of the token
  std::map<std::string, SyntheticTensor> outputs;
  std::vector<std::int32_t> expert_ids;          ///< [layers, tokens, k]
  std::vector<std::int32_t> natural_ids;         ///< the same; empty: expert_ids were not given
  std::vector<float> router_logits;              ///< [layers, tokens, experts]
  std::vector<std::int64_t> context_request_id;  ///< per token of a context
  std::vector<std::int64_t> context_position;
  std::vector<std::int32_t> context_expert_ids;  ///< [layers, context tokens, k]
  std::vector<float> context_router_logits;      ///< [layers, context tokens, experts]
  std::string weights_digest = "weights";
  std::string inputs_digest = "inputs";
  std::string dtype = "float32";
  std::string device = "cpu";
  std::string link;       ///< empty: the file says nothing of a link
  std::string execution;  ///< what `execution` has become, as JSON; empty: the file does not say
  std::string routing;    ///< who chose the experts; empty: the file says nothing of it
  RunStatus status = RunStatus::complete;
  std::string failure;
  bool is_missing = false;
  std::vector<std::int64_t> step_ns = {
      1000, 2000, 3000};                 ///< [iterations x steps]; -1: not finished
  DecisionRow decision;                  ///< of every step
  std::vector<DecisionRow> decisions;    ///< of each instead; empty: `decision`
  std::vector<std::int64_t> enqueue_ns;  ///< of each step; empty: not known
  std::vector<BeforeStep> before;        ///< of each step; empty: not known
  GraphCounters graphs;
  MemoryRecord memory;
  std::int64_t clock_offset_ns = 0;
  std::int64_t clock_error_ns = 0;
  std::int64_t device_clock_error_ns = 0;
  std::vector<ClockPoint> clock;  ///< rows of /timing/clock; empty: not estimated
  std::vector<SyntheticProfile> profiles;
  /// [iteration or variant][step]; made alike for all, by the requests of the rank.
  std::vector<std::vector<HashRow>> timed_hashes;
  std::vector<std::vector<HashRow>> profiled_hashes;
  std::vector<std::vector<HashRow>> poisoned_hashes;
  std::int64_t untouched_before = 7;
  std::int64_t untouched_after = 7;
  std::vector<std::int64_t> tokens_per_expert = {1, 3};  ///< [traffic layers, 2]
  std::vector<float> most_roundings;                     ///< [traffic layers]; empty: not written

  /// Index of the row of a token.
  std::size_t row_of(std::int64_t request, std::int64_t at_position) const;
};

struct SyntheticRun {
  static constexpr std::int64_t kLayers = 3;
  static constexpr std::int64_t kTopK = 2;
  static constexpr std::int64_t kExperts = 10;
  static constexpr std::int64_t kHidden = 8;
  static constexpr std::int64_t kExpertsPerRank = 2;

  std::string policy = "sequential";
  std::string started_at = "2025-01-01T00:00:00Z";
  std::int64_t expert_parallel = 1;
  bool with_route = true;
  std::int64_t rounds = 1;  ///< equal parts of the timed iterations
  std::int64_t rounds_began_ns = 0;
  std::int64_t iterations_run = -1;  ///< -1: the file does not say
  ScheduleRecord schedule;
  std::vector<SyntheticRank> ranks;

  /// Writes <parent>/<policy>/rank-*.h5 and returns the folder.
  std::filesystem::path write(const std::filesystem::path& parent) const;

  /// The rank that holds a token.
  SyntheticRank& rank_of(std::int64_t request);
};

/// Six requests of lengths 4, 1, 7, 3, 5, 6 in order over the ranks (1, 2 or 3), with routing of 3
/// layers and the outputs layer_0, layer_2, hidden and logits. Logits of routers are 3 and 2 of the
/// chosen experts, just below 2 of expert 7, and small of the others. Request 5 has a context,
/// whose two tokens have the positions -2 and -1.
SyntheticRun make_synthetic_run(int num_ranks, const std::string& policy);

/// Gives a run so many timed and profiled iterations of `steps` steps, that take the variants in
/// turn, and a poisoned one of each variant, all with hashes that are right.
void add_synthetic_iterations(
    SyntheticRun& run, int timed, int profiled, int variants, std::size_t steps);

/// Gives a run of two ranks a schedule of two ubatches and one profiled iteration whose metrics are
/// counted out by hand in compare_test.cpp. Times of rank 1 are written on a clock that is 1 s
/// behind.
void add_synthetic_profile(SyntheticRun& run);

using TemporaryFolder = ScratchFolder;

}  // namespace dovetail
