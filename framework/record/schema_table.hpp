// What a rank file records: a row for every dataset and attribute. From the rows follow the
// creation of the file, the reader's check, the scalars of summary.json and the tables in
// results/README.md.
//
// A new scalar: its path and its row here, `since` a new kSchemaVersion (raise it once a release);
// RankRecorder::write_scalar where it is measured (what a driver measures: a field of MemoryRecord
// or GraphCounters); then results/README.md, which `DOVETAIL_UPDATE_README=1 test_record_schema`
// writes.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "framework/base/types.hpp"
#include "framework/record/schema_columns.hpp"
#include "framework/record/schema_row.hpp"

namespace dovetail {

/// 3: the last two columns of /timing/decision, /timing/enqueue_ns, device_clock_error_ns, /graph,
/// /memory. 4: /route/logits and /route/natural_expert_ids for /route/margin, /context_route,
/// /hash. 5: /rounding, `group` of schedules, rounds (/timing/start_ns, /timing/round,
/// /timing/round_place). 6: /timing/clock. 7: /timing/before_ns, passes all_sms, gated and
/// unrecorded. Files of older versions are still read: what theirs lack is not known (-1).
inline constexpr std::int64_t kSchemaVersion = 7;
inline constexpr std::int64_t kOldestSchemaVersion = 2;

/// Names of attributes; attribute_rows() says where they are and what they mean.
namespace attribute {
inline constexpr const char* kSchemaVersion = "schema_version";
inline constexpr const char* kStatus = "status";
inline constexpr const char* kFailure = "failure";
inline constexpr const char* kExperiment = "experiment";
inline constexpr const char* kPolicy = "policy";
inline constexpr const char* kRank = "rank";
inline constexpr const char* kWorldSize = "world_size";
inline constexpr const char* kDpRank = "dp_rank";
inline constexpr const char* kEpRank = "ep_rank";
inline constexpr const char* kExpertParallel = "expert_parallel";
inline constexpr const char* kHost = "host";
inline constexpr const char* kDevice = "device";
inline constexpr const char* kStartedAt = "started_at";
inline constexpr const char* kWeightsDigest = "weights_digest";
inline constexpr const char* kInputsDigest = "inputs_digest";
inline constexpr const char* kArgv = "argv";
inline constexpr const char* kEnvironment = "environment";
inline constexpr const char* kComputeThreads = "compute_threads";
inline constexpr const char* kComputeThreadsFrom = "compute_threads_from";
inline constexpr const char* kOverlapHindrances = "overlap_hindrances";
inline constexpr const char* kLink = "link";
inline constexpr const char* kFault = "fault";
inline constexpr const char* kResolvedExecution = "resolved_execution";
inline constexpr const char* kRouting = "routing";
inline constexpr const char* kExpertGroups = "expert_groups";
inline constexpr const char* kClockOffsetNs = "clock_offset_ns";
inline constexpr const char* kClockErrorNs = "clock_error_ns";
inline constexpr const char* kDeviceClockErrorNs = "device_clock_error_ns";
inline constexpr const char* kRoundSeed = "round_seed";
inline constexpr const char* kRoundWarmup = "round_warmup";
inline constexpr const char* kRoundsBeganNs = "rounds_began_ns";
inline constexpr const char* kIterationsRun = "iterations_run";
inline constexpr const char* kColumns = "columns";
inline constexpr const char* kFirstExpert = "first_expert";
inline constexpr const char* kName = "name";
inline constexpr const char* kNumUbatches = "num_ubatches";
inline constexpr const char* kDigest = "digest";
}  // namespace attribute

/// Paths of groups and datasets; kDatasetRows says what they hold.
namespace path {
inline constexpr const char* kConfig = "/config";
inline constexpr const char* kSchedule = "/schedule";  // group of tables "0", "1", ...
inline constexpr const char* kTiming = "/timing";
inline constexpr const char* kStepNs = "/timing/step_ns";
inline constexpr const char* kStepStartNs = "/timing/start_ns";
inline constexpr const char* kRound = "/timing/round";
inline constexpr const char* kRoundPlace = "/timing/round_place";
inline constexpr const char* kClock = "/timing/clock";
inline constexpr const char* kDecision = "/timing/decision";
inline constexpr const char* kStepEnqueueNs = "/timing/enqueue_ns";
inline constexpr const char* kOps = "/timing/ops";
inline constexpr const char* kOpsComputeOnly = "/timing/ops_compute_only";
inline constexpr const char* kOpsCommOnly = "/timing/ops_comm_only";
inline constexpr const char* kOpsAllSms = "/timing/ops_all_sms";
inline constexpr const char* kOpsGated = "/timing/ops_gated";
inline constexpr const char* kOpsFullGated = "/timing/ops_full_gated";
inline constexpr const char* kBeforeNs = "/timing/before_ns";
inline constexpr const char* kProfiledStepNs = "/timing/profiled_step_ns";
inline constexpr const char* kFurtherStepNs = "/timing/further_step_ns";
inline constexpr const char* kProfiledSchedule = "/timing/profiled_schedule";
inline constexpr const char* kEnqueuedNs = "/timing/host/enqueued_ns";
inline constexpr const char* kHandOffWaitNs = "/timing/host/hand_off_wait_ns";
inline constexpr const char* kCountsWaitNs = "/timing/host/counts_wait_ns";
inline constexpr const char* kHash = "/hash";
inline constexpr const char* kTimedHash = "/hash/timed";
inline constexpr const char* kHashNs = "/hash/duration_ns";
inline constexpr const char* kProfiledHash = "/hash/profiled";
inline constexpr const char* kPoisonedHash = "/hash/poisoned";
inline constexpr const char* kUntouchedBefore = "/hash/untouched_before";
inline constexpr const char* kUntouchedAfter = "/hash/untouched_after";
inline constexpr const char* kInputIds = "/input/input_ids";
inline constexpr const char* kRequestId = "/input/request_id";
inline constexpr const char* kPositions = "/input/positions";
inline constexpr const char* kMropePositions = "/input/mrope_positions";
inline constexpr const char* kRequests = "/input/requests";
inline constexpr const char* kRequestPosition = "/input/request_position";
inline constexpr const char* kOutput = "/output";  // group of tensors
inline constexpr const char* kExpertIds = "/route/expert_ids";
inline constexpr const char* kNaturalExpertIds = "/route/natural_expert_ids";
inline constexpr const char* kRouterLogits = "/route/logits";
inline constexpr const char* kRouterScores = "/route/scores";
inline constexpr const char* kContextRequestId = "/context_route/request_id";
inline constexpr const char* kContextPositions = "/context_route/positions";
inline constexpr const char* kContextExpertIds = "/context_route/expert_ids";
inline constexpr const char* kContextNaturalExpertIds = "/context_route/natural_expert_ids";
inline constexpr const char* kContextRouterLogits = "/context_route/logits";
inline constexpr const char* kContextRouterScores = "/context_route/scores";
inline constexpr const char* kGraph = "/graph";
inline constexpr const char* kGraphCaptures = "/graph/captures";
inline constexpr const char* kGraphReplays = "/graph/replays";
inline constexpr const char* kGraphEvictions = "/graph/evictions";
inline constexpr const char* kGraphFailures = "/graph/failures";
inline constexpr const char* kGraphEagerSteps = "/graph/eager_steps";
inline constexpr const char* kMemory = "/memory";
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
inline constexpr const char* kTokensPerExpert = "/traffic/tokens_per_expert";
inline constexpr const char* kMostRoundings = "/rounding/most";
}  // namespace path

/// The path of each schedule's table, as a pattern.
inline constexpr const char* kScheduleTable = "/schedule/<k>";

/// The datasets, in the order in which they are created.
inline constexpr auto kDatasetRows = [] {
  using enum Dimension;
  using enum Element;
  using enum OverRanks;
  using enum Presence;
  // clang-format off
  return std::to_array<DatasetRow>({
      {path::kConfig, text, {}, "", 2, "The resolved experiment."},
      {kScheduleTable, table, {op}, "", 2,
       "Layer, ubatch, phase, lane, waits and group of experts (-1 = of none) of each op; a table for "
       "each schedule that a step may use."},
      {path::kStepNs, int64, {iteration, step}, "ns", 2,
       "The timed iterations. Nothing is recorded inside of them."},
      {path::kDecision, int64, {iteration, step, column}, "", 2,
       "What the ranks agreed on for a step, and how it ran: ubatched, graph (0 = eager, 1 = "
       "piecewise, 2 = full), schedule, veto reason, veto rank, eager reason (as in "
       "`/graph/eager_steps`), captured (1 = just before this step)."},
      {path::kStepEnqueueNs, int64, {iteration, step}, "ns", 3,
       "On a GPU: host time until everything was enqueued."},
      {path::kBeforeNs, int64, {iteration, step, before_column}, "ns", 7,
       "What each timed step took before it began and is no part of it: agreement of the ranks; "
       "preparation, such as inputs; on a GPU the wait until all ranks are ready."},
      {path::kStepStartNs, int64, {iteration, step}, "ns", 5, "When each timed step began."},
      {path::kRound, int64, {iteration}, "", 5,
       "The round of each timed iteration, from 0: part of the iterations, in which other policies "
       "ran before and behind it."},
      {path::kRoundPlace, int64, {round}, "", 5,
       "The policy's place in the order of each round, from 0."},
      {path::kClock, int64, {clock_point, clock_column}, "", 6,
       "How the rank's clock stood to rank 0's before and after each round of the policy, and before "
       "and after its profiled iterations, in ns: when, on the rank's clock; what to add to get rank "
       "0's; the bound of the error of that. Between two of them the offset is the line within the "
       "bounds that drifts least. -1: not estimated."},
      {path::kOps, int64, {profiled_step, op, start_end}, "ns", 2,
       "Start and end of each op as scheduled, in iterations run behind timed ones. A profiled "
       "step = profiled iteration x steps + step."},
      {path::kOpsComputeOnly, int64, {profiled_step, op, start_end}, "ns", 2,
       "The same in a pass without the exchange."},
      {path::kOpsCommOnly, int64, {profiled_step, op, start_end}, "ns", 2,
       "The same in a pass of the exchange alone."},
      {path::kProfiledStepNs, int64, {profiled_step, pass, start_end}, "ns", 2,
       "Start and end of the step in each of these three passes."},
      {path::kFurtherStepNs, int64, {profiled_step, further_pass, start_end}, "ns", 7,
       "The same with all SMs, gated, in full without times of ops, and in full gated; -1: not run."},
      {path::kOpsAllSms, int64, {profiled_step, op, start_end}, "ns", 7,
       "Where a policy leaves SMs to the exchange: as `/timing/ops_compute_only`, with all SMs."},
      {path::kOpsGated, int64, {profiled_step, op, start_end}, "ns", 7,
       "Where the host enqueues ops of a GPU kernel by kernel: as `/timing/ops_compute_only`, each "
       "held back until all of it is enqueued. -1: not so long."},
      {path::kOpsFullGated, int64, {profiled_step, op, start_end}, "ns", 7,
       "Likewise: as `/timing/ops`, those that are no exchange held back."},
      {path::kProfiledSchedule, int64, {profiled_step}, "", 2,
       "Which schedule ran: k of `/schedule/<k>`."},
      {path::kEnqueuedNs, int64, {profiled_step, op}, "ns", 2,
       "When a thread got the baton for an op."},
      {path::kHandOffWaitNs, int64, {profiled_step, op}, "ns", 2,
       "How long it had waited for the baton."},
      {path::kCountsWaitNs, int64, {profiled_step}, "ns", 2, "Time blocked on row counts."},
      {path::kTimedHash, int64, {iteration, step, hash_column}, "", 4,
       "Of each step its variant, its schedule, and hashes of the bits of its outputs, of the keys "
       "and values that it wrote, and of its recorded routing. A row counts by its request and "
       "position; the hashes of all ranks add up, mod 2^63, to one that no grid changes."},
      {path::kHashNs, int64, {iteration, step}, "ns", 4,
       "How long the host took for that; no part of `/timing/step_ns`."},
      {path::kProfiledHash, int64, {profiled_step, hash_column}, "", 4,
       "The same of the full pass of each profiled step."},
      {path::kPoisonedHash, int64, {variant, step, hash_column}, "", 4,
       "With `verify`, the same of one more iteration of each variant, in which the exchange's "
       "buffers are NaN between uses."},
      {path::kUntouchedBefore, int64, {}, "", 4,
       "A hash of the keys and values that no step may write, before the first iteration."},
      {path::kUntouchedAfter, int64, {}, "", 4, "The same behind the last one."},
      {path::kInputIds, int64, {token}, "", 2,
       "The tokens of all steps of an iteration, one variant after the other."},
      {path::kRequestId, int64, {token}, "", 2,
       "The request of each token, by an id that is the same on every grid."},
      {path::kPositions, int64, {token}, "", 2,
       "Where each token stands within its request, the request's context included."},
      {path::kRequests, int64, {request_row}, "", 2, "The request of each row of `logits`."},
      {path::kRequestPosition, int64, {request_row}, "", 2,
       "The position of the token of each row of `logits`."},
      {path::kDispatchWireBytes, int64, {}, "bytes", 2,
       "Bytes that dispatch put on the wire in the last timed iteration, all its steps.", sum},
      {path::kCombineWireBytes, int64, {}, "bytes", 2, "The same of combine.", sum},
      {path::kDispatchLogicalBytes, int64, {}, "bytes", 2,
       "Logical bytes of dispatch in the last timed iteration, all its steps.", sum},
      {path::kCombineLogicalBytes, int64, {}, "bytes", 2, "The same of combine.", sum},
      {path::kTrafficCountsWaitNs, int64, {}, "ns", 2,
       "Time blocked on row counts in the last timed iteration, all its steps."},
      {path::kTokensPerExpert, int64, {layer, expert}, "", 2,
       "Rows that each expert computed in the last timed iteration; a dense layer has zeros."},
      {path::kMostRoundings, float32, {layer}, "", 5,
       "The most of n in [What `verified` means](#what-verified-means) of a row, by layer."},
      {path::kGraphCaptures, int64, {}, "", 3,
       "CUDA graphs captured in all steps of the policy, warm-up included.", first},
      {path::kGraphReplays, int64, {}, "", 3, "Steps that ran as a replay.", first},
      {path::kGraphEvictions, int64, {}, "", 3, "Graphs dropped to make room.", first},
      {path::kGraphFailures, int64, {}, "", 3, "Captures that failed on at least one rank.", first},
      {path::kGraphEagerSteps, int64, {reason}, "", 3,
       "Steps that ran eagerly, by reason; the attribute `columns` names the reasons."},
      {path::kPeakReservedBytes, int64, {}, "bytes", 3,
       "The most that the allocator held of the rank's device.", largest},
      {path::kPeakAllocatedBytes, int64, {}, "bytes", 3,
       "The most of it that tensors held.", largest},
      {path::kWeightsBytes, int64, {}, "bytes", 3, "The rank's weights.", largest},
      {path::kCacheBytes, int64, {}, "bytes", 3, "The cache of keys and values.", largest},
      {path::kExchangeBytes, int64, {}, "bytes", 3, "The buffers of the exchange.", largest},
      {path::kMropePositions, int64, {axis, token}, "", 2,
       "With `positions: mrope`: temporal, height, width.", left_out, with_mrope_positions},
      {"/output/hidden", own, {token, hidden}, "", 2,
       "Hidden states after the final norm. All outputs are of the last timed iteration of each "
       "variant.",
       left_out, with_output},
      {"/output/key_<n>", own, {token, kv_width}, "", 4,
       "Keys that the steps wrote into the cache in layer n, as they are behind the last step.",
       left_out, with_output},
      {"/output/value_<n>", own, {token, kv_width}, "", 4,
       "Values, likewise.", left_out, with_output},
      {"/output/latent_<n>", own, {token, kv_width}, "", 4,
       "In models that cache latents, these in place of keys and values.", left_out, with_output},
      {"/output/layer_<n>", own, {token, hidden}, "", 2,
       "Hidden states after layer n.", left_out, with_output},
      {"/output/logits", own, {request_row, vocabulary}, "", 2,
       "Logits of each request's last token, in every step.", left_out, with_output},
      {"/output/logits_all", own, {token, vocabulary}, "", 2,
       "Logits of all tokens.", left_out, with_output},
      {path::kExpertIds, int32, {route_layer, token, top_k}, "", 2,
       "The experts of each token.", left_out, with_routing},
      {path::kRouterLogits, own, {route_layer, token, route_expert}, "", 4,
       "The router's logits of all experts: float32 where it computes in that, else of the activations' "
       "dtype.",
       left_out, with_routing},
      {path::kRouterScores, float32, {route_layer, token, route_expert}, "", 4,
       "Where the router does not choose by its logits: what it chooses by, the sigmoid of each and "
       "the expert's bias.",
       left_out, with_router_scores},
      {path::kNaturalExpertIds, int32, {route_layer, token, top_k}, "", 4,
       "Where the experts were given (`routing`): those that the router would have chosen.",
       left_out, with_given_routing},
      {path::kContextRequestId, int64, {context_token}, "", 4,
       "The request of each token of the contexts, in the order in which the KV cache was filled.",
       left_out, with_context_routing},
      {path::kContextPositions, int64, {context_token}, "", 4,
       "Where each of them stands within its request.", left_out, with_context_routing},
      {path::kContextExpertIds, int32, {route_layer, context_token, top_k}, "", 4,
       "The experts of each of them.", left_out, with_context_routing},
      {path::kContextRouterLogits, own, {route_layer, context_token, route_expert}, "", 4,
       "The router's logits of them.", left_out, with_context_routing},
      {path::kContextRouterScores, float32, {route_layer, context_token, route_expert}, "", 4,
       "What it chooses by, likewise.", left_out, with_context_router_scores},
      {path::kContextNaturalExpertIds, int32, {route_layer, context_token, top_k}, "", 4,
       "Where their experts were given: those that the router would have chosen.", left_out,
       with_given_context_routing},
  });
  // clang-format on
}();

static_assert(std::all_of(kDatasetRows.begin(),
                          kDatasetRows.end(),
                          [](const DatasetRow& row) { return row.since <= kSchemaVersion; }),
              "a dataset that files of this version do not have");

/// The attributes, in the order in which they are created. RankFileSpec::attributes go behind those
/// of "/".
std::span<const AttributeRow> attribute_rows();

/// The length of a dimension that is the same in all files of a schema version; nothing for others.
std::optional<std::int64_t> fixed_length(Dimension dimension, std::int64_t schema_version);

/// The element type in the file; nothing for `own`, `text` and `table`.
std::optional<DType> dtype_of(Element element);

}  // namespace dovetail
