// `workload` of an experiment: the requests, and what the model is fed with.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "framework/config/choices.hpp"

namespace dovetail {

class MapReader;

/// `{count: n, length: t}`: requests of one size, per rank.
struct UniformRequests {
  std::int64_t count = 1;
  std::int64_t length = 1;          ///< tokens computed in a step; decode: may be left out
  std::int64_t context_length = 0;  ///< tokens in the KV cache before the first step

  friend bool operator==(const UniformRequests&, const UniformRequests&) = default;

  /// Outside of the phase decode `length` is required.
  template <class Keys>
  static void list_keys(Keys& keys) {
    using R = UniformRequests;
    keys.whole("count", &R::count, 1, Limits::kCount).required();
    keys.whole("length", &R::length, 1, Limits::kTokens);
    keys.whole("context_length", &R::context_length, 0, Limits::kTokens);
  }
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

  /// In the phase decode there is no `context_length`.
  template <class Keys>
  static void list_keys(Keys& keys) {
    using R = LognormalRequests;
    keys.whole("count", &R::count, 1, Limits::kCount).required();
    keys.number("median", &R::median, 1.0, 1e6).required();
    keys.number("sigma", &R::sigma, 0.0, 10.0).required();
    keys.whole("max_length", &R::max_length, 0, Limits::kTokens);
    keys.whole("context_length", &R::context_length, 0, Limits::kTokens);
  }
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
  int steps = 1;     ///< forward passes of an iteration; each computes the next `length` tokens of
                     ///< every request
  int variants = 1;  ///< batches of one shape that iterations take in turn

  friend bool operator==(const WorkloadConfig&, const WorkloadConfig&) = default;

  static void read_requests(const MapReader& map, WorkloadConfig& workload);
  static std::string write_requests(const WorkloadConfig& workload);
  static void read_inputs(const MapReader& map, WorkloadConfig& workload);
  static std::string write_inputs(const WorkloadConfig& workload);
  static void read_rank_scale(const MapReader& map, WorkloadConfig& workload);
  static std::string write_rank_scale(const WorkloadConfig& workload);
  static void read_routing(const MapReader& map, WorkloadConfig& workload);
  static std::string write_routing(const WorkloadConfig& workload);

  template <class Keys>
  static void list_keys(Keys& keys) {
    using W = WorkloadConfig;
    keys.one_of("phase",
                &W::phase,
                "The kind of work in a step. In `decode` every request computes one token a step.");
    keys.coded("requests",
               read_requests,
               write_requests,
               "a group of requests or a list of groups",
               {"{count: 4, length: 16, context_length: 3}",
                "{lengths: [7, 3], context_lengths: [0, 5]}",
                "{lengths: [7]}",
                "{file: trace.jsonl}",
                "[{count: 1, length: 1, context_length: 9}, {lengths: [30]}]"},
               "The requests of each rank: see Requests in experiments/README.md.")
        .required();
    keys.seed("seed", &W::seed, "The seed of token ids, lengths, contexts and routing.");
    keys.coded("inputs",
               read_inputs,
               write_inputs,
               "`ids`, `embeds` or `{hidden: policy folder}`",
               {"ids", "embeds", "{hidden: results/a/sequential}"},
               "`embeds`: seeded embeddings. `hidden`: what the run of the pipeline stage before "
               "has left.")
        .own_of_a_stage();
    keys.one_of("positions",
                &W::positions,
                "`mrope`: three-dimensional positions of a text with an image.");
    keys.coded("rank_scale",
               read_rank_scale,
               write_rank_scale,
               "list of numbers from 0 to 1000, one a rank",
               {"[]", "[1.0, 0.25, 0.0]"},
               "A factor for each rank's number of requests; 0 is an idle rank, an empty list 1 "
               "for all.")
        .own_of_a_stage();
    keys.coded("routing",
               read_routing,
               write_routing,
               "`natural`, `balanced`, `{zipf: exponent}` or `{replay: policy folder}`",
               {"natural", "balanced", "{zipf: 1.5}", "{replay: results/a/sequential}"},
               "The experts of a token. `natural`: by the router's logits. `balanced`: equally "
               "many tokens for each expert. `zipf`: popularity falls with an expert's rank to "
               "that power. `replay`: those of an earlier run that recorded `routing`.")
        .own_of_a_stage();
    keys.one_of("context",
                &W::context,
                "How contexts come into the KV cache: by forward passes (`prefill`) or as seeded "
                "values (`random`).");
    keys.whole("steps",
               &W::steps,
               1,
               Limits::kCount,
               "Forward passes of an iteration. Each computes the next `length` tokens of every "
               "request.");
    keys.whole("variants",
               &W::variants,
               1,
               Limits::kVariants,
               "Batches of one shape that iterations take in turn: see Requests in "
               "experiments/README.md. Not more than any policy's `iterations`.");
  }
};

}  // namespace dovetail
