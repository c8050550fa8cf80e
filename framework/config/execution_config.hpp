// `execution` of an experiment: how a step is executed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "framework/config/choices.hpp"

namespace dovetail {

class MapReader;

/// `link: {latency_us: l, gbytes_per_s: b}`: on CPU ranks an exchange op lasts at least l + bytes /
/// b, so that a policy can be studied without a cluster.
struct LinkConfig {
  double latency_us = 0.0;
  double gbytes_per_s = 1.0;  ///< required; 10^9 bytes a second, in each direction of a rank

  friend bool operator==(const LinkConfig&, const LinkConfig&) = default;

  template <class Keys>
  static void list_keys(Keys& keys) {
    keys.number("latency_us",
                &LinkConfig::latency_us,
                0.0,
                1e6,
                "The latency of each dispatch and each combine.");
    keys.number("gbytes_per_s",
                &LinkConfig::gbytes_per_s,
                1e-3,
                1e4,
                "The link's rate: 10^9 bytes a second, in each direction of a rank.")
        .required();
  }
};

/// The policy that `control` adds; no other may have its name.
inline constexpr const char* kControlPolicy = "control";

inline constexpr int kMostRounds = 1000;

/// `precision` ends no run with fewer rounds: few samples look alike by chance now and then, and
/// each look is another chance. Nor a run of one round: its iterations remember each other, and of
/// 100 intervals that a run was ended by, 61 to 79 held the truth.
inline constexpr int kLeastPreciseRounds = 6;

/// Every field may be overridden in a policy; validate refuses that for a few.
struct ExecutionConfig {
  DeviceKind device = DeviceKind::automatic;
  DType dtype = DType::float32;  ///< of activations and weights: float32, float16 or bfloat16
  Numerics numerics = Numerics::fast;
  int warmup = 2;                ///< untimed iterations first
  int iterations = 10;           ///< timed iterations
  int rounds = 0;                ///< parts that timed iterations are cut into; 0 = as many as
                                 ///< framework/plan/rounds.hpp says
  std::uint64_t round_seed = 1;  ///< of the order of policies in the rounds
  double precision = 0;          ///< of step times, at which a run ends before `iterations`: the
                                 ///< half-width of their 95 % interval, as a share; 0 = none
  bool control = false;          ///< run the baseline a second time, as policy `control`
  GraphMode graph = GraphMode::none;
  /// Tokens of a ubatch that steps on a GPU are padded to, ascending; nothing = `auto`: no padding
  /// where all steps have equal tokens, else the sizes of make_bounds_rule.
  std::optional<std::vector<std::int64_t>> graph_sizes;
  HandOff hand_off = HandOff::threads;
  std::string exchange = "auto";
  std::string exchange_table = "none";  ///< by whose times `auto` chooses, where they are of this
                                        ///< run; "none" = by topology
  /// On a GPU the SMs that the exchange may use; nothing = `auto`: schedule_sms() in
  /// framework/plan.
  std::optional<int> comm_sms;
  SmPartitionKind sm_partition = SmPartitionKind::soft;  ///< on a GPU, in steps whose GEMMs leave
                                                         ///< comm_sms out
  double padded_capacity = 1.0;   ///< of exchanges with blocks of fixed size: one to one peer holds
                                  ///< that share of the largest ubatch's tokens; above 0, at most 1
  int timeout_s = 60;             ///< seconds; bound of every wait
  int page_size = 16;             ///< tokens of a page of the KV cache
  std::int64_t cache_tokens = 0;  ///< capacity of a rank's KV cache, a multiple of page_size; 0 =
                                  ///< as much as the workload needs
  std::optional<LinkConfig> link;  ///< emulated link; `none` = the machine's own

  friend bool operator==(const ExecutionConfig&, const ExecutionConfig&) = default;

  template <class Keys>
  static void list_keys(Keys& keys) {
    using E = ExecutionConfig;
    keys.one_of("device",
                &E::device,
                "`auto`: GPUs where each rank of a host can have its own and no policy needs CPU "
                "ranks (a link, `float16`), else the CPU. `cuda`: one GPU a rank.")
        .same_in_all_policies();
    keys.one_of("dtype",
                &E::dtype,
                {DType::float32, DType::float16, DType::bfloat16},
                "The type of activations and weights. On a GPU `float32` is the slow checking "
                "path. `float16` is for CPU ranks only.")
        .same_in_all_policies();
    keys.one_of(
        "numerics",
        &E::numerics,
        "`batch_invariant`: a row has the same bits in every batch and on every grid; slower.");
    list_measuring(keys);
    keys.one_of("graph",
                &E::graph,
                "`piecewise`: CUDA graphs of the compute between exchanges. `full`: CUDA graphs "
                "of whole steps, not with `ragged`. Graphs need a GPU and `bfloat16`.");
    keys.auto_or_ascending(
            "graph_sizes",
            &E::graph_sizes,
            1,
            Limits::kTokens,
            "On a GPU: the sizes to which the tokens of a ubatch are padded, so that steps share "
            "graphs: see Graphs and exchanges in experiments/README.md.")
        .default_is("`auto`")
        .dumped_if([](const E& execution) { return execution.graph_sizes.has_value(); });
    keys.one_of("hand_off",
                &E::hand_off,
                "`threads`: one thread per ubatch. `inline`: one thread walks the schedule.");
    list_exchange_keys(keys);
  }

 private:
  /// Of the exchange, of waits and of the cache.
  template <class Keys>
  static void list_exchange_keys(Keys& keys) {
    using E = ExecutionConfig;
    keys.text("exchange",
              &E::exchange,
              "text",
              "How rows travel between ranks: for example `ragged`, `gather`, or on GPUs `padded` "
              "and `symmetric`. `dovetail info` lists all exchanges. A file of `dovetail bench "
              "exchange`: the fastest of those that `auto` may take, by what was measured.")
        .holds("`auto`, the name of an exchange or the path of a table of times (`*.json`)");
    keys.text("exchange_table",
              &E::exchange_table,
              "text",
              "The table by which `exchange: auto` chooses, as `dovetail bench exchange` has "
              "printed it. Where it is of another machine, model or number of ranks, or has no "
              "row for the policy, `auto` chooses by topology and says so.")
        .holds("`none` or the path of a table of times (`*.json`)")
        .default_is("`none`")
        .dumped_if([](const E& execution) { return execution.exchange_table != "none"; });
    keys.coded(
        "comm_sms",
        read_comm_sms,
        write_comm_sms,
        "`auto` or a whole number from 1 to 1024",
        {"1", "1024"},
        "On a GPU: the SMs that the exchange may use; the matrix products leave them out. A GPU "
        "takes 1, 2, 4, ... 64. `auto`: 8 in steps whose exchange may run beside compute, no bound "
        "in others. See SMs of the exchange in experiments/README.md.");
    keys.one_of(
        "sm_partition",
        &E::sm_partition,
        "On a GPU, in steps whose exchange may run beside compute: `soft`: the exchange has "
        "the higher priority on SMs that all share. `hard`: `comm_sms` SMs are the "
        "exchange's alone, 8 at least. See SMs of the exchange in experiments/README.md.");
    keys.number(
        "padded_capacity",
        &E::padded_capacity,
        1e-3,
        1.0,
        "Of `padded`, `symmetric` and `copy_engine`: the share of the largest ubatch's tokens "
        "that a block to one peer holds. More tokens for one peer are an error.");
    keys.whole("timeout_s", &E::timeout_s, 1, 86'400, "The bound of every wait, in seconds.");
    keys.whole("page_size", &E::page_size, 1, 65'536, "Tokens of a page of the KV cache.");
    keys.whole("cache_tokens",
               &E::cache_tokens,
               0,
               Limits::kTokens,
               "The tokens of a rank's KV cache, a multiple of `page_size`; 0: as many as needed. "
               "What does not fit is refused.");
    keys.map("link",
             &E::link,
             "An emulated link, on CPU ranks only: dispatch and combine last at least latency + "
             "bytes / rate, where bytes are the larger of what the rank sends and receives.");
  }

  static void read_comm_sms(const MapReader& map, ExecutionConfig& execution);
  static std::string write_comm_sms(const ExecutionConfig& execution);

  /// What is timed, and in which order.
  template <class Keys>
  static void list_measuring(Keys& keys) {
    using E = ExecutionConfig;
    keys.whole(
        "warmup", &E::warmup, 0, Limits::kCount, "Untimed iterations before the timed ones.");
    keys.whole("iterations",
               &E::iterations,
               1,
               Limits::kCount,
               "Timed iterations, of `workload.steps` forward passes each.");
    keys.whole("rounds",
               &E::rounds,
               0,
               kMostRounds,
               "Parts that the timed iterations are cut into; in each the policies run in an order "
               "drawn anew. 0: one for each 2 iterations of each variant, at most 5. See Rounds in "
               "experiments/README.md.")
        .same_in_all_policies();
    keys.seed("round_seed", &E::round_seed, "What the order of policies in rounds is drawn from.")
        .same_in_all_policies();
    keys.number("precision",
                &E::precision,
                0.0,
                1.0,
                "Above 0: `iterations` are the most. The run ends where the 95 % intervals of all "
                "step times lie within that share of them, after 6 rounds at least. `rounds: 0` "
                "then takes up to 20.")
        .same_in_all_policies();
    keys.truth("control",
               &E::control,
               "`true`: the baseline (without `verify` the first policy) runs a second time, as "
               "policy `control`.")
        .same_in_all_policies();
  }
};

}  // namespace dovetail
