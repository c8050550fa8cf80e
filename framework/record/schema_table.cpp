#include "framework/record/schema_table.hpp"

#include <string>

#include "framework/base/registry.hpp"
#include "framework/record/profile_pass.hpp"
#include "framework/record/rank_clock.hpp"
#include "framework/record/schema.hpp"

namespace dovetail {
namespace {

using Spec = RankFileSpec;
using Value = hdf5::AttributeValue;

/// An attribute of "/" that a field of the spec gives.
template <auto kField>
Value field(const Spec& spec) {
  return spec.*kField;
}

template <std::int64_t kValue>
Value constant(const Spec& /*spec*/) {
  return kValue;
}

Value running(const Spec& /*spec*/) {
  return std::string(to_string(RunStatus::running));
}

Value no_text(const Spec& /*spec*/) {
  return std::string();
}

Value decision_columns(const Spec& /*spec*/) {
  return std::string(kDecisionColumns);
}

Value before_columns(const Spec& /*spec*/) {
  return std::string(kBeforeColumns);
}

Value clock_columns(const Spec& /*spec*/) {
  return std::string(kClockColumns);
}

Value hash_columns(const Spec& /*spec*/) {
  return std::string(kHashColumns);
}

Value eager_reasons(const Spec& /*spec*/) {
  return join_names(names<EagerReason>(), ",");
}

std::vector<AttributeRow> make_file_rows() {
  using enum AttributeKind;
  constexpr bool optional = false;
  // clang-format off
  return {
      {"/", attribute::kStatus, fixed_text,
       "`running` (also what a killed rank leaves), `complete`, `failed`, `invalid`, or `stopped`: "
       "asked to stop before its last timed iteration.",
       running, true, kStatusCapacity},
      {"/", attribute::kFailure, fixed_text,
       "Why the run failed, or after how many iterations it was asked to stop; else empty.",
       no_text, true, kFailureCapacity},
      {"/", attribute::kSchemaVersion, integer, "Version of this table.",
       constant<kSchemaVersion>},
      {"/", attribute::kExperiment, text, "Name of the experiment.", field<&Spec::experiment>},
      {"/", attribute::kPolicy, text, "Name of the policy.", field<&Spec::policy>},
      {"/", attribute::kRank, integer, "The rank in the world.", field<&Spec::rank>},
      {"/", attribute::kWorldSize, integer, "Number of ranks.", field<&Spec::world_size>},
      {"/", attribute::kDpRank, integer, "The replica that the rank belongs to.",
       field<&Spec::dp_rank>},
      {"/", attribute::kEpRank, integer, "The rank in the group that exchanges tokens.",
       field<&Spec::ep_rank>},
      {"/", attribute::kExpertParallel, integer, "Number of ranks of that group.",
       field<&Spec::expert_parallel>},
      {"/", attribute::kHost, text, "The host that the rank ran on.", field<&Spec::host>},
      {"/", attribute::kDevice, text, "`cpu`, or number and name of the rank's GPU.",
       field<&Spec::device>},
      {"/", attribute::kStartedAt, text, "When the policy started; ISO 8601, UTC.",
       field<&Spec::started_at>},
      {"/", attribute::kWeightsDigest, text, "Hexadecimal; equal where the weights are equal.",
       field<&Spec::weights_digest>},
      {"/", attribute::kInputsDigest, text, "Hexadecimal; equal where the inputs are equal.",
       field<&Spec::inputs_digest>},
      {"/", "dtype", text, "Element type of the activations.", nullptr, optional},
      {"/", "numerics", text,
       "`fast` or `batch_invariant`.", nullptr,
       optional},
      {"/", attribute::kLink, text,
       "`none`, or how the link was emulated.", nullptr, optional},
      {"/", attribute::kFault, text,
       "`none`, or the fault that was injected: such a run is no measurement.", nullptr, optional},
      {"/", attribute::kResolvedExecution, text,
       "What `execution` became on these ranks, without `auto`: one line of JSON with device, "
       "exchange and why, graph mode, comm SMs, their partition, graph sizes and the number of "
       "shapes that steps are padded to.",
       nullptr, optional},
      {"/", attribute::kRouting, text,
       "Who chose the experts: `natural`, the router; `replayed`, an earlier run or the baseline; "
       "`synthetic`, `workload.routing`.",
       nullptr, optional},
      {"/", attribute::kExpertGroups, text,
       "Where a token's experts must be of a few groups: number of groups, how many of them, and "
       "what groups are chosen by: `best` score, or `sum_of_two`.",
       nullptr, optional},
      {"/", "git_revision", text, "Revision of the source.", nullptr, optional},
      {"/", attribute::kArgv, text, "The command line.", nullptr, optional},
      {"/", attribute::kEnvironment, text, "The environment variables that matter, a line each.",
       nullptr, optional},
      {"/", attribute::kComputeThreads, integer, "Threads that the rank computes with.", nullptr,
       optional},
      {"/", attribute::kComputeThreadsFrom, text,
       "What decided that: `OMP_NUM_THREADS`, the rank's part of the host's CPUs (`affinity`) or "
       "of a container's CPU time (`quota`), or `SLURM_CPUS_PER_TASK` where that is less.",
       nullptr, optional},
      {"/", attribute::kOverlapHindrances, text,
       "`none`, or the variables that take overlap away from GPU ranks.", nullptr, optional},
  };
  // clang-format on
}

std::vector<AttributeRow> make_object_rows() {
  using enum AttributeKind;
  constexpr bool optional = false;
  // clang-format off
  return {
      {path::kDecision, attribute::kColumns, text, "Names of the columns.",
       decision_columns, optional},
      {path::kBeforeNs, attribute::kColumns, text, "Names of the columns.",
       before_columns, optional},
      {path::kClock, attribute::kColumns, text, "Names of the columns.",
       clock_columns, optional},
      {path::kHash, attribute::kColumns, text, "Names of the columns of its tables.",
       hash_columns, optional},
      {path::kGraphEagerSteps, attribute::kColumns, text, "Names of the reasons.",
       eager_reasons, optional},
      {path::kTiming, attribute::kDeviceClockErrorNs, integer,
       "What aligning a GPU's clock adds to `clock_error_ns`; 0 on the CPU.",
       constant<0>, optional},
      {path::kTiming, attribute::kClockOffsetNs, integer,
       "What to add to the rank's times to get rank 0's clock: of the profiled iterations, else before "
       "the first round. `/timing/clock` has the drift, too.", field<&Spec::clock_offset_ns>},
      {path::kTiming, attribute::kClockErrorNs, integer, "Bound of the error of that.",
       field<&Spec::clock_error_ns>},
      {path::kTiming, attribute::kRoundSeed, integer,
       "What the order of policies in rounds is drawn from, as a signed number.",
       field<&Spec::round_seed>, optional},
      {path::kTiming, attribute::kRoundWarmup, integer,
       "Warm-up iterations at the begin of each round but the first.",
       field<&Spec::round_warmup>, optional},
      {path::kTiming, attribute::kRoundsBeganNs, integer,
       "When the first round began by the host's calendar, ns since 1970. Policies of equal numbers "
       "ran in the same rounds.",
       field<&Spec::rounds_began_ns>, optional},
      {path::kTiming, attribute::kIterationsRun, integer,
       "How many timed iterations have run; -1 before the end. In a complete file fewer than there "
       "are rows where `execution.precision` was reached.",
       constant<-1>, optional},
      {path::kTraffic, attribute::kFirstExpert, integer,
       "Global number of the rank's first expert.", field<&Spec::first_expert>},
      {kScheduleTable, attribute::kName, text, "Name of the schedule."},
      {kScheduleTable, attribute::kNumUbatches, integer, "Number of ubatches."},
      {kScheduleTable, attribute::kDigest, text, "Equal where the schedules are equal."},
  };
  // clang-format on
}

std::vector<AttributeRow> make_attribute_rows() {
  std::vector<AttributeRow> rows = make_file_rows();
  const std::vector<AttributeRow> of_objects = make_object_rows();
  rows.insert(rows.end(), of_objects.begin(), of_objects.end());
  return rows;
}

}  // namespace

std::span<const AttributeRow> attribute_rows() {
  static const std::vector<AttributeRow> rows = make_attribute_rows();
  return rows;
}

std::optional<std::int64_t> fixed_length(Dimension dimension, std::int64_t schema_version) {
  switch (dimension) {
    case Dimension::column:
      return num_decision_columns(schema_version);
    case Dimension::hash_column:
      return kNumHashColumns;
    case Dimension::clock_column:
      return kNumClockColumns;
    case Dimension::before_column:
      return kNumBeforeColumns;
    case Dimension::further_pass:
      return kNumProfilePasses - kNumFirstPasses;
    case Dimension::pass:
    case Dimension::axis:
      return 3;
    case Dimension::start_end:
      return 2;
    default:
      return std::nullopt;
  }
}

std::optional<DType> dtype_of(Element element) {
  switch (element) {
    case Element::int64:
      return DType::int64;
    case Element::int32:
      return DType::int32;
    case Element::float32:
      return DType::float32;
    default:
      return std::nullopt;
  }
}

}  // namespace dovetail
