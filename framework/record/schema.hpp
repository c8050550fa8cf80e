// The layout of a rank file: names, element types, shapes and units, in one place for the recorder,
// the readers and the view. A change that a reader could notice raises kSchemaVersion.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/record/hdf5.hpp"

namespace dovetail {

/// 3 added to 2: the last two columns of /timing/decision, /timing/enqueue_ns,
/// device_clock_error_ns, /graph and /memory. Files of version 2 are still read: theirs are not
/// known (-1).
inline constexpr std::int64_t kSchemaVersion = 3;
inline constexpr std::int64_t kOldestSchemaVersion = 2;

/// Attributes of "/" that every rank file has.
namespace attribute {
inline constexpr const char* kSchemaVersion = "schema_version";    // int64
inline constexpr const char* kStatus = "status";                   // text, at most 16 bytes
inline constexpr const char* kFailure = "failure";                 // text, at most 1024 bytes
inline constexpr const char* kExperiment = "experiment";           // text
inline constexpr const char* kPolicy = "policy";                   // text
inline constexpr const char* kRank = "rank";                       // int64
inline constexpr const char* kWorldSize = "world_size";            // int64
inline constexpr const char* kDpRank = "dp_rank";                  // int64
inline constexpr const char* kEpRank = "ep_rank";                  // int64
inline constexpr const char* kExpertParallel = "expert_parallel";  // int64
inline constexpr const char* kHost = "host";                       // text
inline constexpr const char* kDevice = "device";                   // text
inline constexpr const char* kStartedAt = "started_at";            // text, ISO 8601, UTC
inline constexpr const char* kWeightsDigest = "weights_digest";    // text, hexadecimal
inline constexpr const char* kInputsDigest = "inputs_digest";      // text, hexadecimal
// "none", or that and how the link is emulated; a file without it had none.
inline constexpr const char* kLink = "link";  // text
// How the policy's execution was resolved: one line of JSON (config/resolved_execution.hpp).
inline constexpr const char* kResolvedExecution = "resolved_execution";  // text
// On /timing: what to add to this rank's clock to get rank 0's, and the bound of its error.
inline constexpr const char* kClockOffsetNs = "clock_offset_ns";  // int64
inline constexpr const char* kClockErrorNs = "clock_error_ns";    // int64
// What aligning the device's clock with the host's adds to that bound; 0 on the CPU.
inline constexpr const char* kDeviceClockErrorNs = "device_clock_error_ns";  // int64
// Text, on /timing/decision and /graph/eager_steps.
inline constexpr const char* kColumns = "columns";
inline constexpr const char* kFirstExpert = "first_expert";  // int64, on /traffic
// On /schedule/<k>.
inline constexpr const char* kName = "name";                 // text
inline constexpr const char* kNumUbatches = "num_ubatches";  // int64
inline constexpr const char* kDigest = "digest";             // text
}  // namespace attribute

/// The link of a run over the machine's own wires.
inline constexpr const char* kNoLink = "none";

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

/// Paths in a rank file.
namespace path {
inline constexpr const char* kConfig = "/config";
inline constexpr const char* kSchedule = "/schedule";  // group of tables "0", "1", ...
inline constexpr const char* kTiming = "/timing";
inline constexpr const char* kStepNs = "/timing/step_ns";
inline constexpr const char* kDecision = "/timing/decision";
inline constexpr const char* kStepEnqueueNs = "/timing/enqueue_ns";
inline constexpr const char* kOps = "/timing/ops";
inline constexpr const char* kOpsComputeOnly = "/timing/ops_compute_only";
inline constexpr const char* kOpsCommOnly = "/timing/ops_comm_only";
inline constexpr const char* kProfiledStepNs = "/timing/profiled_step_ns";
inline constexpr const char* kProfiledSchedule = "/timing/profiled_schedule";
inline constexpr const char* kEnqueuedNs = "/timing/host/enqueued_ns";
inline constexpr const char* kHandOffWaitNs = "/timing/host/hand_off_wait_ns";
inline constexpr const char* kCountsWaitNs = "/timing/host/counts_wait_ns";
inline constexpr const char* kInputIds = "/input/input_ids";
inline constexpr const char* kRequestId = "/input/request_id";
inline constexpr const char* kPositions = "/input/positions";
inline constexpr const char* kMropePositions = "/input/mrope_positions";
inline constexpr const char* kRequests = "/input/requests";
inline constexpr const char* kRequestPosition = "/input/request_position";
inline constexpr const char* kOutput = "/output";  // group of tensors
inline constexpr const char* kExpertIds = "/route/expert_ids";
inline constexpr const char* kMargin = "/route/margin";
inline constexpr const char* kGraph = "/graph";  // group; of the whole policy, warm-up included
inline constexpr const char* kGraphCaptures = "/graph/captures";
inline constexpr const char* kGraphReplays = "/graph/replays";
inline constexpr const char* kGraphEvictions = "/graph/evictions";
inline constexpr const char* kGraphFailures = "/graph/failures";
inline constexpr const char* kGraphEagerSteps = "/graph/eager_steps";  // [reasons]
inline constexpr const char* kMemory = "/memory";  // group of scalars, bytes of this rank's device
inline constexpr const char* kPeakReservedBytes = "/memory/peak_reserved_bytes";
inline constexpr const char* kPeakAllocatedBytes = "/memory/peak_allocated_bytes";
inline constexpr const char* kWeightsBytes = "/memory/weights_bytes";
inline constexpr const char* kCacheBytes = "/memory/cache_bytes";
inline constexpr const char* kExchangeBytes = "/memory/exchange_bytes";
inline constexpr const char* kTraffic = "/traffic";
inline constexpr const char* kDispatchWireBytes = "/traffic/dispatch_wire_bytes";
inline constexpr const char* kCombineWireBytes = "/traffic/combine_wire_bytes";
inline constexpr const char* kDispatchLogicalBytes = "/traffic/dispatch_logical_bytes";
inline constexpr const char* kCombineLogicalBytes = "/traffic/combine_logical_bytes";
inline constexpr const char* kTrafficCountsWaitNs = "/traffic/counts_wait_ns";
// [layers, experts_per_rank], steps and ubatches added up; a dense layer has zeros.
inline constexpr const char* kTokensPerExpert = "/traffic/tokens_per_expert";
}  // namespace path

/// The columns of /timing/decision, in order.
inline constexpr const char* kDecisionColumns =
    "ubatched,graph,schedule,reason,veto_rank,eager_reason,captured";
inline constexpr int kNumDecisionColumns = 7;

/// Of a file of that schema version: version 2 had the first five.
constexpr int num_decision_columns(std::int64_t schema_version) {
  return schema_version < 3 ? 5 : kNumDecisionColumns;
}

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

/// Bytes of a rank's device; -1 = not known.
struct MemoryRecord {
  std::int64_t peak_reserved = -1;   ///< most that the allocator held of the device
  std::int64_t peak_allocated = -1;  ///< most of it that tensors held
  std::int64_t weights = -1;
  std::int64_t cache = -1;     ///< of keys and values
  std::int64_t exchange = -1;  ///< buffers of the exchange

  friend bool operator==(const MemoryRecord&, const MemoryRecord&) = default;
};

/// One row of a schedule table. `layer` is -1 where the op belongs to no layer.
struct OpRecord {
  std::int32_t layer = -1;
  std::int32_t ubatch = 0;
  std::string phase;                ///< "attention", "dispatch", ...
  std::string lane;                 ///< "compute" or "comm"
  std::vector<std::int32_t> waits;  ///< indices of ops of the same table; stored as "12,14"

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
  std::string name;  ///< hidden, logits, logits_all, layer_<n>
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
  std::int64_t profiled = 0;    ///< profiled steps: profiled iterations x steps
  std::int64_t max_ops = 0;     ///< most ops of a schedule; 0 = taken from `schedules`
  std::int64_t clock_offset_ns = 0;
  std::int64_t clock_error_ns = 0;

  std::int64_t tokens = 0;           ///< token rows: the tokens of all steps of an iteration
  std::int64_t requests = 0;         ///< request rows: the requests of all steps of an iteration
  bool has_mrope_positions = false;  ///< /input/mrope_positions [3, tokens] is there
  std::vector<OutputSpec> outputs;

  std::int64_t route_layers = 0;  ///< MoE layers whose routing is recorded; 0 = no /route
  std::int64_t route_top_k = 0;

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

/// All datasets of a rank file, but /config and the schedule tables.
std::vector<DatasetSpec> rank_file_datasets(const RankFileSpec& spec);

/// What a reader may rely on for a dataset with a fixed path.
struct DatasetRule {
  const char* path;
  DType dtype;
  int min_dimensions;
  int max_dimensions;
  bool required;
  std::int64_t since = kOldestSchemaVersion;  ///< required from that schema version on
};

/// The rules of every dataset whose path is fixed (all but those under /output).
const std::vector<DatasetRule>& dataset_rules();

}  // namespace dovetail
