// What a sweep leaves, what `check` and `plan` print, and what the pictures show.
#include "framework/compare/quantity_rows.hpp"

namespace dovetail {

// clang-format off
std::vector<Quantity> sweep_quantities() {
  std::vector<Quantity> rows;
  const auto add = [&rows](Report report, std::vector<Quantity> more) {
    for (Quantity& row : more) {
      row.report = report;
      rows.push_back(std::move(row));
    }
  };
  constexpr auto in = Report::sweep_table;
  constexpr const char* step = "slowest rank of each timed step";
  add(Report::sweep_table, {
      {in, "point", "points.point", "number", "", "The point, from 0; the last axis varies fastest. Behind it a column for each axis.", ""},
      {in, "tokens", "", "count", "rank that has most", "The tokens of a step.", ""},
      {in, "policy", "", "text", "", "The label of the policy; behind it the point in which it was measured, where that is another.", ""},
      {in, "p50 [ms]", "", "ms", step, "The median step time.", ""},
      {in, "speed-up", "", "factor", "", "Over `--baseline`, else the baseline of the point, else its first policy.", "as in compare; fewer than 3 rounds: p50 of the baseline / own p50"},
      {in, "95 %", "", "factor", "", "The interval of the speed-up, as in compare. `-`: the baseline itself, or fewer than 3 rounds. Of a policy that was measured in another point than its baseline it claims nothing: see `other_runs` below the table.", ""},
      {in, "hidden", "", "%", "all, profiled steps", "As in compare.", "hidden moving / moving"},
      {in, "verdict", "", "text", "", "`baseline`, `verified`, `mismatch`, `not_comparable`, `not_finite` or `not_verified`; of a point that is not complete its status.", ""},
      {in, "link", "", "text", "", "How the link was emulated; shown where links differ.", ""},
  });
  add(Report::sweep_csv, {
      {in, "point", "", "number", "", "As above. Behind `status` comes a column for each axis.", ""},
      {in, "folder", "points.folder", "text", "", "The point's folder within that of the sweep.", ""},
      {in, "status", "points.status", "text", "", "`pending`, `running` (also what a killed sweep leaves), `complete`, `mismatch` or `incomplete`.", ""},
      {in, "policy", "points.policies.policy", "text", "", "The label of the policy.", ""},
      {in, "schedule", "points.policies.schedule", "text", "", "The name of the schedule that ran.", ""},
      {in, "ubatches", "points.policies.ubatches", "count", "", "Its number of ubatches.", ""},
      {in, "link", "points.policies.link", "text", "", "`none`, or how the link was emulated.", ""},
      {in, "max_tokens", "points.policies.tokens", "count", "rank that has most", "The tokens of a step. In sweep.json: this and total_tokens.", ""},
      {in, "total_tokens", "", "count", "all", "The tokens of a step.", ""},
      {in, "context_tokens", "points.policies.context_tokens", "count", "all", "The mean length of the contexts over requests and steps.", ""},
      {in, "one_token_each", "points.policies.one_token_each", "true, false", "all", "Whether every request computed one token a step (decode).", ""},
      {in, "iterations", "points.policies.step_ns.count", "count", step, "The timed iterations.", ""},
      {in, "p50_ms", "points.policies.step_ns.p50", "ms", step, "As `p50 [ms]` of compare. Fields of sweep.json that end in `_ns` hold ns.", ""},
      {in, "p95_ms", "points.policies.step_ns.p95", "ms", step, "As in compare.", ""},
      {in, "p99_ms", "points.policies.step_ns.p99", "ms", step, "As in compare.", ""},
      {in, "min_ms", "points.policies.step_ns.min", "ms", step, "As in compare.", ""},
      {in, "max_ms", "points.policies.step_ns.max", "ms", step, "As in compare.", ""},
      {in, "speed_up", "points.policies.speed_up", "factor", "", "Over the baseline of the point, else its first policy.", "as in compare; fewer than 3 rounds: p50 of the baseline / own p50"},
      {in, "speed_up_low", "points.policies.speed_up_interval", "factor", "", "The interval of the speed-up, as `95 %` of the table. In sweep.json: both ends, or null.", ""},
      {in, "speed_up_high", "", "factor", "", "Its other end.", ""},
      {in, "speed_up_counts", "points.policies.speed_up_counts", "true, false", "", "As in compare. Empty, or null: nothing can be said.", ""},
      {in, "hidden_share", "points.policies.hidden_share", "fraction", "all, profiled steps", "As `hidden` of compare.", ""},
      {in, "split_tax", "points.policies.split_tax", "factor", "all, profiled steps", "As `split tax [x]` of compare.", ""},
      {in, "hand_off_p50_us", "points.policies.hand_off_p50_ns", "us", "all, profiled steps", "As `hand-off p50 [us]` of compare.", ""},
      {in, "verdict", "points.policies.verdict", "text", "", "As above.", ""},
      {in, "measured_in_point", "points.policies.measured_in_point", "number", "", "The point in which the policy was measured; null or empty: this one.", ""},
  });
  add(Report::sweep_json, {
      {in, "", "version", "number", "", "The version of the file.", ""},
      {in, "", "experiment", "text", "", "The name of the experiment.", ""},
      {in, "", "world_size", "count", "", "The ranks of every point.", ""},
      {in, "", "keys", "text", "", "The keys of the axes.", ""},
      {in, "", "points.values", "", "", "Of no axis.", ""},
      {in, "", "points.values.*", "", "", "The point's value of this axis.", ""},
      {in, "", "points.problem", "text", "", "Why the point is incomplete; else empty.", ""},
      {in, "", "points.notes", "text", "", "What compare says of the point below its tables, a sentence each: as `notes` of the summary.json of its policies.", ""},
      {in, "", "points.policies", "", "", "Empty: the point has no results.", ""},
      {in, "", "points.policies.speed_up_basis", "text", "", "As in compare. `runs`: policy and baseline were measured in two points.", ""},
      {in, "", "points.policies.flags", "text", "", "As `flags` of compare. The sweep's table has a line below it for each that a point has.", ""},
      {in, "", "points.policies.schedule_digest", "text", "", "Equal where the schedules are equal.", ""},
      {in, "", "points.policies.vetoed_steps", "count", "", "The timed steps that ran plain.", ""},
      {in, "", "points.policies.step_ns", "", "", "Null: no valid times.", ""},
      {in, "", "points.policies.step_ns.mean", "ns", step, "The mean step time.", ""},
      {in, "", "points.policies.rounds_ns.*", "", "", "When the rounds began, and the median of each, as in summary.json.", ""},
      {in, "", "step_times", "", "", "The table of step times for the policy `auto`; null: none.", ""},
      {in, "", "step_times.version", "number", "", "The version of this table.", ""},
      {in, "", "step_times.setting.*", "", "", "What all of its steps were run under: model, grid, exchange, link and more.", ""},
      {in, "", "step_times.points.*", "", "", "A policy at a point: as the fields of `points.policies`, its split, and `step_ms`, the median step time in ms.", ""},
  });
  return rows;
}

std::vector<Quantity> plan_quantities() {
  std::vector<Quantity> rows;
  const auto add = [&rows](Report report, std::vector<Quantity> more) {
    for (Quantity& row : more) {
      row.report = report;
      rows.push_back(std::move(row));
    }
  };
  constexpr auto in = Report::plan;
  add(Report::check_grid, {
      {in, "rank", "", "number", "each", "The rank in the world: dp_rank x expert_parallel + ep_rank.", ""},
      {in, "dp_rank", "", "number", "each", "The replica that the rank belongs to.", ""},
      {in, "ep_rank", "", "number", "each", "The rank in the group that exchanges tokens.", ""},
      {in, "experts", "", "numbers", "each", "The first and the last expert of the rank.", ""},
      {in, "requests", "", "count", "each", "The requests of a step.", ""},
      {in, "tokens a step", "", "count", "each", "The tokens that a step computes.", ""},
      {in, "context tokens", "", "count", "each", "The tokens that are in the cache before the first step.", ""},
      {in, "steps", "", "count", "each", "The steps of an iteration.", ""},
  });
  add(Report::check_policies, {
      {in, "policy", "", "text", "", "The label of the policy.", ""},
      {in, "schedule", "", "text", "", "The schedule that it enqueues.", ""},
      {in, "ubatches", "", "count", "", "The number of ubatches.", ""},
      {in, "split", "", "text", "", "How the batch is cut into ubatches; `-`: it is not.", ""},
      {in, "ops", "", "count", "", "The ops of the schedule.", ""},
      {in, "schedule check", "", "text", "", "`proven`: complete, free of cycles and of buffers that are used twice at a time, each op behind what it needs.", ""},
      {in, "exchange", "", "text", "", "How rows are exchanged; what `auto` became.", ""},
      {in, "tokens of ubatches, by rank", "", "text", "each", "How the first step is cut: the tokens of each ubatch, ranks apart by `|`.", ""},
  });
  add(Report::check_work, {
      {in, "phase", "", "text", "rank that has most", "The phase, over all layers and ubatches of the first step; models/README.md has the formulae. `total`: of all.", ""},
      {in, "GFLOP", "", "GFLOP", "rank that has most", "Multiplications and additions of its products, in 10^9.", ""},
      {in, "weights [MiB]", "", "MiB", "rank that has most", "Weights that it reads, in each ubatch again.", ""},
      {in, "cache read [MiB]", "", "MiB", "rank that has most", "Keys and values, or latents, that it reads.", ""},
      {in, "cache written [MiB]", "", "MiB", "rank that has most", "Those that it writes.", ""},
      {in, "FLOP a byte", "", "factor", "rank that has most", "Its operations over those bytes.", "flops / (weight_bytes + cache_read_bytes + cache_written_bytes)"},
      {in, "sent [MiB]", "", "MiB", "rank that has most", "Rows to other ranks.", ""},
      {in, "received [MiB]", "", "MiB", "rank that has most", "Rows of other ranks.", ""},
  });
  add(Report::check_memory, {
      {in, "memory [MiB]", "", "text", "", "The parts of a rank's memory, and their total. A column for each rank, in MiB.", ""},
      {in, "rank N", "", "MiB", "each", "What rank N needs for the part.", ""},
  });
  add(Report::check_points, {
      {in, "point", "", "number", "", "The point of the sweep. Behind it a column for each axis.", ""},
      {in, "tokens", "", "count", "rank that has most", "The tokens of a step.", ""},
      {in, "memory [MiB]", "", "MiB", "rank that has most", "The memory of a rank.", ""},
      {in, "policies", "", "text", "", "The policies of the point; behind one the earlier point in which it is measured (`sweep_unchanged`).", ""},
  });
  add(Report::plan, {
      {in, "op", "", "number", "", "The op, in the order in which ops are enqueued.", ""},
      {in, "ubatch", "", "number", "", "The ubatch that it belongs to.", ""},
      {in, "layer", "", "number", "", "The layer; `-` for `embed` and `output`.", ""},
      {in, "compute lane", "", "text", "", "The phase of an op on the compute lane.", ""},
      {in, "comm lane", "", "text", "", "The phase of an op on the comm lane.", ""},
      {in, "waits for", "", "numbers", "", "The ops that must have ended before.", ""},
  });
  add(Report::pictures, {
      {in, "step time [ms]", "", "ms", "slowest rank of each timed step", "The median, with its 95 % interval.", ""},
      {in, "hidden share of moving [%]", "", "%", "all, profiled steps", "As `hidden` of compare.", "hidden moving / moving"},
      {in, "tokens of a step, on the rank that has most", "", "count", "rank that has most", "The horizontal axis of a sweep.", ""},
      {in, "timeline", "", "ms", "each", "The profiled step of median length, on one clock for all ranks. Two rows a rank: compute and comm.", ""},
      {in, "waiting", "", "ms", "each", "Hatched, in the timeline: the rank has come to the exchange and another one has not.", ""},
      {in, "moving", "", "ms", "each", "Plain, in the comm row: rows travel.", ""},
      {in, "compute", "", "ms", "each", "An op that is no exchange.", ""},
      {in, "ubatch", "", "number", "each", "The colour of a bar.", ""},
  });
  return rows;
}

// clang-format on

}  // namespace dovetail
