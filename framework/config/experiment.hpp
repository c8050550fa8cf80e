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

/// `requests: {count: n, length: t}` per rank.
struct UniformRequests {
  std::int64_t count = 1;
  std::int64_t length = 1;          ///< tokens computed in a step; decode: may be left out
  std::int64_t context_length = 0;  ///< tokens in the KV cache before the step

  friend bool operator==(const UniformRequests&, const UniformRequests&) = default;
};

/// `requests: {lengths: [t, ...]}` per rank.
struct RequestLengths {
  std::vector<std::int64_t> lengths;

  friend bool operator==(const RequestLengths&, const RequestLengths&) = default;
};

/// `requests: {lognormal: {count: n, median: t, sigma: s}}` per rank: lengths with that median and
/// with a standard deviation sigma of their natural logarithm.
struct LognormalRequests {
  std::int64_t count = 1;
  double median = 1.0;
  double sigma = 1.0;

  friend bool operator==(const LognormalRequests&, const LognormalRequests&) = default;
};

/// `requests: {file: trace.jsonl}`.
struct RequestFile {
  std::string path;

  friend bool operator==(const RequestFile&, const RequestFile&) = default;
};

using RequestsConfig =
    std::variant<UniformRequests, RequestLengths, LognormalRequests, RequestFile>;

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

struct WorkloadConfig {
  WorkPhase phase = WorkPhase::prefill;
  RequestsConfig requests;  ///< required
  std::uint64_t seed = 0;   ///< input ids where none are given
  InputKind inputs = InputKind::ids;
  PositionKind positions = PositionKind::text;
  std::vector<double> rank_scale;  ///< factor on the number of requests, by rank; 0 = an idle rank;
                                   ///< empty = 1 for all
  RoutingConfig routing;           ///< default: natural
  ContextFill context = ContextFill::none;
  int steps = 1;  ///< forward passes of an iteration

  friend bool operator==(const WorkloadConfig&, const WorkloadConfig&) = default;
};

/// How a step is executed; every field may be overridden in a policy.
struct ExecutionConfig {
  DeviceKind device = DeviceKind::automatic;
  DType dtype = DType::float32;  ///< of activations and weights: float32, float16 or bfloat16
  Numerics numerics = Numerics::fast;
  int warmup = 2;       ///< untimed iterations first
  int iterations = 10;  ///< timed iterations
  GraphMode graph = GraphMode::none;
  HandOff hand_off = HandOff::threads;
  std::string exchange = "auto";
  int comm_sms = 8;    ///< upper bound of the SMs that the exchange may use; no meaning on the CPU
  int timeout_s = 60;  ///< seconds; bound of every wait

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

struct PolicyConfig {
  static constexpr int kMaxUbatches = 8;

  std::string name;      ///< required; label and result folder, unique
  std::string schedule;  ///< overlap policy; default: the name
  int ubatches = 0;      ///< 0 = the overlap policy's default
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

  friend bool operator==(const Experiment&, const Experiment&) = default;
};

}  // namespace dovetail
