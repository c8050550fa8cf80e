// An experiment as plain structs: the whole experiment file, and the only place where its defaults
// live. load.hpp reads it, validate.hpp checks it, dump.hpp writes it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "framework/base/types.hpp"
#include "framework/config/choices.hpp"

namespace dovetail {

/// `weights: {seed: n}`: seeded weights, equal on every grid and device.
struct SeedWeights {
  std::uint64_t seed = 0;

  friend bool operator==(const SeedWeights&, const SeedWeights&) = default;
};

/// `weights: {checkpoint: folder}`: a folder of safetensors.
struct CheckpointWeights {
  std::string folder;

  friend bool operator==(const CheckpointWeights&, const CheckpointWeights&) = default;
};

using WeightsConfig = std::variant<SeedWeights, CheckpointWeights>;

/// Layers [first, last).
struct LayerRange {
  int first = 0;
  int last = 0;

  friend bool operator==(const LayerRange&, const LayerRange&) = default;
};

struct ModelConfig {
  std::string architecture;          ///< required
  std::string config;                ///< required; path of a Hugging Face config.json
  WeightsConfig weights;             ///< default: seed 0
  std::optional<LayerRange> layers;  ///< `layers: [first, last]` or `all` (default)

  friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

struct ParallelConfig {
  int expert_parallel = 1;  ///< ranks of an ep group

  friend bool operator==(const ParallelConfig&, const ParallelConfig&) = default;
};

/// `{count: n, length: t}`: requests of one size, per rank.
struct UniformRequests {
  std::int64_t count = 1;
  std::int64_t length = 1;          ///< tokens computed in a step; decode: may be left out
  std::int64_t context_length = 0;  ///< tokens in the KV cache before the first step

  friend bool operator==(const UniformRequests&, const UniformRequests&) = default;
};

/// `{lengths: [t, ...], context_lengths: [c, ...]}`: requests one by one, per rank. Decode: lengths
/// may be left out where there are context lengths.
struct RequestLengths {
  std::vector<std::int64_t> lengths;
  std::vector<std::int64_t> context_lengths;  ///< as many as lengths, or empty = all 0

  friend bool operator==(const RequestLengths&, const RequestLengths&) = default;
};

/// `{lognormal: {count: n, median: t, sigma: s, max_length: m, context_length: c}}` per rank:
/// lengths with that median and with a standard deviation sigma of their natural logarithm. In the
/// phase decode, where each request computes one token a step, it is the distribution of the
/// context lengths.
struct LognormalRequests {
  std::int64_t count = 1;
  double median = 1.0;
  double sigma = 1.0;
  std::int64_t max_length = 0;      ///< longer draws are cut to it; 0 = no bound
  std::int64_t context_length = 0;  ///< of every request; not in the phase decode

  friend bool operator==(const LognormalRequests&, const LognormalRequests&) = default;
};

/// `requests: {file: trace.jsonl}`, of all ranks together; format:
/// framework/plan/request_trace.hpp.
struct RequestFile {
  std::string path;

  friend bool operator==(const RequestFile&, const RequestFile&) = default;
};

using RequestGroup = std::variant<UniformRequests, RequestLengths, LognormalRequests, RequestFile>;

/// One group, or a list of groups (e.g. requests that decode beside requests that prefill). A file
/// is alone.
using RequestsConfig = std::vector<RequestGroup>;

/// `routing: natural`: by the model's own logits.
struct NaturalRouting {
  friend bool operator==(const NaturalRouting&, const NaturalRouting&) = default;
};

/// `routing: balanced`: every expert gets the same number of tokens.
struct BalancedRouting {
  friend bool operator==(const BalancedRouting&, const BalancedRouting&) = default;
};

/// `routing: {zipf: exponent}`: expert popularity falls with its rank to that power.
struct ZipfRouting {
  double exponent = 1.0;

  friend bool operator==(const ZipfRouting&, const ZipfRouting&) = default;
};

/// `routing: {replay: POLICY_DIR}`: the expert ids that an earlier run recorded.
struct ReplayRouting {
  std::string folder;

  friend bool operator==(const ReplayRouting&, const ReplayRouting&) = default;
};

using RoutingConfig = std::variant<NaturalRouting, BalancedRouting, ZipfRouting, ReplayRouting>;

/// `inputs: ids`, `inputs: embeds` (seeded embeddings instead of ids), or `inputs: {hidden:
/// POLICY_DIR}` (a pipeline stage behind another: the hidden states that the run of the stage
/// before has recorded).
struct InputsConfig {
  InputKind kind = InputKind::ids;
  std::string folder;  ///< for hidden only

  friend bool operator==(const InputsConfig&, const InputsConfig&) = default;
};

struct WorkloadConfig {
  WorkPhase phase = WorkPhase::prefill;
  RequestsConfig requests;  ///< required
  std::uint64_t seed = 0;   ///< input ids where none are given
  InputsConfig inputs;
  PositionKind positions = PositionKind::text;
  std::vector<double> rank_scale;  ///< factor on the number of requests, by rank; 0 = an idle rank;
                                   ///< empty = 1 for all
  RoutingConfig routing;           ///< default: natural
  ContextFill context = ContextFill::prefill;
  int steps = 1;  ///< forward passes of an iteration; each computes the next `length` tokens of
                  ///< every request

  friend bool operator==(const WorkloadConfig&, const WorkloadConfig&) = default;
};

/// `link: {latency_us: l, gbytes_per_s: b}`: on CPU ranks an exchange op lasts at least l + bytes /
/// b, so that a policy can be studied without a cluster.
struct LinkConfig {
  double latency_us = 0.0;
  double gbytes_per_s = 1.0;  ///< 10^9 bytes a second, in each direction of a rank

  friend bool operator==(const LinkConfig&, const LinkConfig&) = default;
};

/// How a step is executed; every field may be overridden in a policy.
struct ExecutionConfig {
  DeviceKind device = DeviceKind::automatic;
  DType dtype = DType::float32;  ///< of activations and weights: float32, float16 or bfloat16
  Numerics numerics = Numerics::fast;
  int warmup = 2;       ///< untimed iterations first
  int iterations = 10;  ///< timed iterations
  GraphMode graph = GraphMode::none;
  /// On a GPU the tokens of a ubatch are padded to the next of these; nothing = `auto`: no padding
  /// where all steps have equal tokens, else the sizes of make_bounds_rule; empty = `[]`, none.
  std::optional<std::vector<std::int64_t>> graph_sizes;
  HandOff hand_off = HandOff::threads;
  std::string exchange = "auto";
  int comm_sms = 8;  ///< upper bound of the SMs that the exchange may use; no meaning on the CPU
  double padded_capacity = 1.0;    ///< of `padded`: a block to one peer holds that share of the
                                   ///< largest ubatch's tokens; above 0, at most 1
  int timeout_s = 60;              ///< seconds; bound of every wait
  int page_size = 16;              ///< tokens of a page of the KV cache
  std::int64_t cache_tokens = 0;   ///< capacity of a rank's KV cache, a multiple of page_size; 0 =
                                   ///< as much as the workload needs
  std::optional<LinkConfig> link;  ///< emulated link; `none` = the machine's own

  friend bool operator==(const ExecutionConfig&, const ExecutionConfig&) = default;
};

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
};

/// A phase in a stage, on a lane. The names are those of framework/plan/phase.hpp.
struct StagePhase {
  std::string phase;
  std::string lane;  ///< "compute", "comm", or "" = comm for dispatch and combine, else compute

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
  static constexpr int kMaxUbatches = dovetail::kMaxUbatches;

  std::string name;      ///< required; label and result folder, unique
  std::string schedule;  ///< overlap policy, or the path of a schedule file (*.json); default: the
                         ///< name
  int ubatches = 0;      ///< 0 = the overlap policy's (the schedule file's) own number
  std::optional<StagesConfig>
      stages;  ///< for staged only; default: the preset of the phase of work
  std::string candidate = "dual_batch";  ///< for auto only: what it chooses against sequential
  std::string table;                     ///< for auto only, required: path of a table of step times
  SplitConfig split;
  ThresholdsConfig thresholds;
  ExecutionConfig execution;  ///< the experiment's, with this policy's own fields over it

  friend bool operator==(const PolicyConfig&, const PolicyConfig&) = default;
};

struct VerifyConfig {
  std::string baseline;  ///< name of a policy; required unless mode is none
  VerifyMode mode = VerifyMode::none;
  VerifyRouting routing = VerifyRouting::natural;

  friend bool operator==(const VerifyConfig&, const VerifyConfig&) = default;
};

struct RecordConfig {
  std::vector<RecordedOutput> outputs = {RecordedOutput::hidden, RecordedOutput::logits};
  TimingDetail timing = TimingDetail::steps;
  int profiled_iterations = 3;  ///< with timing ops: iterations after the timed ones

  /// True if `output` is among the outputs.
  bool has(RecordedOutput output) const {
    for (const RecordedOutput one : outputs) {
      if (one == output) {
        return true;
      }
    }
    return false;
  }

  friend bool operator==(const RecordConfig&, const RecordConfig&) = default;
};

/// `fault:` breaks a run on purpose, in every policy, to test what happens then; a run with a fault
/// is no measurement and says so.
struct FaultConfig {
  FaultKind kind = FaultKind::exception;  ///< required
  int rank = 0;                           ///< required; rank in the world
  int ubatch = 0;
  int layer = 0;                  ///< -1 for the phases of no layer (embed, output)
  std::string phase = "experts";  ///< the op at whose start it happens; without meaning for veto
  int iteration = 0;              ///< from 0, counted over warm-up and timed iterations together

  friend bool operator==(const FaultConfig&, const FaultConfig&) = default;
};

/// `sweep: {KEY: [value, ...]}`: one axis. The values are YAML, as --set takes them; under the key
/// `policies` each value is the name of a policy of the experiment, or a list of names.
struct SweepAxis {
  std::string key;
  std::vector<std::string> values;

  friend bool operator==(const SweepAxis&, const SweepAxis&) = default;
};

struct Experiment {
  std::string experiment;  ///< required; name, part of the result folder's name
  ModelConfig model;       ///< required
  ParallelConfig parallel;
  WorkloadConfig workload;  ///< required
  ExecutionConfig execution;
  std::vector<PolicyConfig> policies;  ///< required, at least one
  VerifyConfig verify;
  RecordConfig record;
  std::optional<FaultConfig> fault;  ///< `fault: none` (default) or a map
  std::vector<SweepAxis> sweep;      ///< every combination of the axes is a run; empty = one run

  friend bool operator==(const Experiment&, const Experiment&) = default;
};

}  // namespace dovetail
