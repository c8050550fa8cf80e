// What must be known of a rank's part of a run to lay out its file (schema_table.hpp has the table
// of what is in it), and the records that are written to it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/record/hdf5.hpp"
#include "framework/record/profile_pass.hpp"
#include "framework/record/scalar_records.hpp"
#include "framework/record/schema_table.hpp"

namespace dovetail {

/// What a reader takes memory and time for: a file that claims more is refused.
inline constexpr std::int64_t kMaxWorldSize = std::int64_t{1} << 17;
inline constexpr std::int64_t kMaxRecordedUbatches = 1024;
inline constexpr std::int64_t kMaxRecordedGroups = 1024;
inline constexpr std::int64_t kMaxRecordedLayers = 100'000;
inline constexpr std::int64_t kMaxRecordedOps = std::int64_t{1} << 22;  ///< of all schedules

/// The link of a run over the machine's own wires.
inline constexpr const char* kNoLink = "none";

/// Where no fault was injected.
inline constexpr const char* kNoFault = "none";

inline constexpr std::size_t kStatusCapacity = 16;
inline constexpr std::size_t kFailureCapacity = 1024;

/// How a rank's part of a run ended; `running` is also what a killed rank leaves, `stopped` one
/// that was asked to stop before its last iteration.
enum class RunStatus { running, complete, failed, invalid, stopped };

template <>
struct EnumNames<RunStatus> {
  static constexpr std::array<std::string_view, 5> kTable = {
      "running", "complete", "failed", "invalid", "stopped"};
};

/// InputError naming `file` where the text is no status.
RunStatus parse_run_status(const std::string& text, const std::string& file);

/// One row of /timing/decision: what the ranks agreed on for a step, and how it ran.
struct DecisionRow {
  std::int64_t ubatched = 0;    ///< 1 = cut into ubatches
  std::int64_t graph = 0;       ///< GraphMode, as a number, that ran the step; none = eager
  std::int64_t schedule = 0;    ///< index into /schedule
  std::int64_t reason = 0;      ///< VetoReason as a number; 0 = no veto
  std::int64_t veto_rank = -1;  ///< lowest rank that vetoed; -1 = none
  std::int64_t eager_reason = static_cast<std::int64_t>(EagerReason::mode_none);
  std::int64_t captured = 0;  ///< 1 = its graph was captured just before this step

  friend bool operator==(const DecisionRow&, const DecisionRow&) = default;
};

/// What a step took before it began, on one rank: row of /timing/before_ns.
struct BeforeStep {
  std::int64_t agreement_ns = -1;    ///< of the ranks on how the step is run
  std::int64_t preparation_ns = -1;  ///< inputs put in place, plans and graphs made ready
  std::int64_t meeting_ns = -1;      ///< wait until all ranks are ready; 0 on the CPU

  friend bool operator==(const BeforeStep&, const BeforeStep&) = default;
};

/// Hashes of what a step has left, from 0 on; equal bits have equal hashes.
struct StepHash {
  std::int64_t outputs = -1;
  std::int64_t kv = -1;       ///< the keys and values that it wrote
  std::int64_t routing = -1;  ///< experts, and the router's logits

  friend bool operator==(const StepHash&, const StepHash&) = default;
};

/// One row of a table of /hash.
struct HashRow {
  std::int64_t variant = 0;
  std::int64_t schedule = 0;  ///< index into /schedule
  StepHash hash;

  friend bool operator==(const HashRow&, const HashRow&) = default;
};

/// One row of a schedule table. `layer` is -1 where the op belongs to no layer, `group` where it is
/// of no group of experts.
struct OpRecord {
  std::int32_t layer = -1;
  std::int32_t ubatch = 0;
  std::string phase;                ///< "attention", "dispatch", ...
  std::string lane;                 ///< "compute" or "comm"
  std::vector<std::int32_t> waits;  ///< indices of ops of the same table; stored as "12,14"
  std::int32_t group = -1;

  friend bool operator==(const OpRecord&, const OpRecord&) = default;
};

/// A schedule as it is recorded: /schedule/<k>.
struct ScheduleRecord {
  std::string name;
  std::int64_t num_ubatches = 1;
  std::string digest;
  std::vector<OpRecord> ops;

  friend bool operator==(const ScheduleRecord&, const ScheduleRecord&) = default;
};

/// A tensor under /output: rows in order of steps, then requests, then tokens.
struct OutputSpec {
  std::string name;  ///< hidden, logits, logits_all, layer_<n>, key_<n>, value_<n>, latent_<n>
  DType dtype = DType::float32;
  hdf5::Shape shape;  ///< [token rows or request rows, width]
};

/// All that must be known of a rank's part of a run before it starts, so that every dataset has its
/// final size from then on.
struct RankFileSpec {
  // Identity; every field becomes the attribute of "/" with its name.
  std::string experiment;
  std::string policy;
  std::int64_t rank = 0;
  std::int64_t world_size = 1;
  std::int64_t dp_rank = 0;
  std::int64_t ep_rank = 0;
  std::int64_t expert_parallel = 1;
  std::string host;
  std::string device;
  std::string started_at;  ///< ISO 8601, UTC
  std::string weights_digest;
  std::string inputs_digest;
  /// More attributes of "/": versions, git revision, argv, environment, ...
  std::vector<hdf5::Attribute> attributes;

  std::string config;  ///< the resolved experiment
  std::vector<ScheduleRecord> schedules;

  std::int64_t iterations = 0;  ///< timed iterations
  std::int64_t steps = 1;       ///< steps of an iteration
  std::int64_t rounds = 1;      ///< parts of the timed iterations
  std::int64_t round_seed = 0;  ///< of the order of policies; the bits of an unsigned number
  std::int64_t round_warmup = 0;
  std::int64_t rounds_began_ns = 0;  ///< since 1970; equal in policies of the same rounds
  std::int64_t variants = 1;         ///< batches that iterations take in turn
  std::int64_t profiled = 0;         ///< profiled steps: profiled iterations x steps
  std::int64_t max_ops = 0;          ///< most ops of a schedule; 0 = taken from `schedules`
  std::int64_t clock_offset_ns = 0;
  std::int64_t clock_error_ns = 0;

  std::int64_t tokens = 0;           ///< token rows: the tokens of all steps of all variants
  std::int64_t requests = 0;         ///< request rows: the requests of all steps of all variants
  bool has_mrope_positions = false;  ///< /input/mrope_positions [3, tokens] is there
  std::vector<OutputSpec> outputs;

  std::int64_t route_layers = 0;  ///< MoE layers whose routing is recorded; 0 = no /route
  std::int64_t route_top_k = 0;
  std::int64_t route_experts = 0;      ///< logits of a token
  DType route_dtype = DType::float32;  ///< of the logits
  bool has_router_scores = false;      ///< routers choose by scores, recorded beside the logits
  bool has_given_routing = false;      ///< the natural experts are recorded beside the given ones
  std::int64_t context_tokens = 0;     ///< whose routing is recorded; 0 = no /context_route
  bool has_given_context_routing = false;

  std::int64_t traffic_layers = 1;  ///< rows of tokens_per_expert: layers of the model (stage)
  std::int64_t experts_per_rank = 0;
  std::int64_t first_expert = 0;  ///< global index of this rank's first expert
};

/// A dataset of a rank file.
struct DatasetSpec {
  std::string path;
  DType dtype = DType::int64;
  hdf5::Shape shape;
};

/// All datasets of a rank file in order of creation, but /config and the schedule tables.
std::vector<DatasetSpec> rank_file_datasets(const RankFileSpec& spec);

}  // namespace dovetail
