// What summary.json holds beyond the tables of compare, and what verify shows.
#include "framework/compare/quantity_rows.hpp"

namespace dovetail {

// clang-format off
namespace {

std::vector<Quantity> summary_verdicts() {
  constexpr auto in = Report::summary;
  return {
      {in, "", "verification", "", "", "What `dovetail verify` says of the policy against the baseline; null: it was not verified.", ""},
      {in, "", "verification.advice", "text", "", "What to record or to set where the verdict may have another cause than a fault; empty: nothing.", ""},
      {in, "", "iterations", "", "", "How each iteration was judged, by hashes of what it has left; null: without hashes.", ""},
      {in, "", "iterations.variants", "count", "all", "`workload.variants`.", ""},
      {in, "", "iterations.steps_per_iteration", "count", "all", "`workload.steps`.", ""},
      {in, "", "iterations.timed", "count", "all", "The timed iterations.", ""},
      {in, "", "iterations.profiled", "count", "all", "The profiled iterations.", ""},
      {in, "", "iterations.poisoned", "count", "all", "The iterations in which the exchange's buffers are NaN between uses.", ""},
      {in, "", "iterations.steps", "count", "all", "The steps of all of these.", "as_recorded + as_baseline + different + unjudged"},
      {in, "", "iterations.as_recorded", "count", "all", "The steps that ran like the recorded one and left its bits.", ""},
      {in, "", "iterations.as_baseline", "count", "all", "The steps that ran otherwise and left the baseline's bits.", ""},
      {in, "", "iterations.different", "count", "all", "The steps that left other bits than steps that ran alike. 0 in a run that is right.", ""},
      {in, "", "iterations.unjudged", "count", "all", "The steps of which nothing says whether they are right.", ""},
      {in, "", "iterations.hash_share", "fraction", "slowest rank", "How long hashing a step takes beside the step, outside of its time.", "median of the hashing time / median step time"},
      {in, "", "iterations.passed", "true, false", "all", "Whether `problems` is empty.", ""},
      {in, "", "iterations.problems", "text", "all", "What is different or not judged, a sentence each.", ""},
      {in, "", "attributes", "", "", "Null or empty: no rank file can be read.", ""},
      {in, "", "attributes.*", "", "rank 0", "An attribute of the rank file: see its table in results/README.md.", ""},
  };
}

}  // namespace

std::vector<Quantity> summary_quantities() {
  constexpr auto in = Report::summary;
  constexpr const char* step = "slowest rank of each timed step";
  constexpr const char* rank = "each; mean over the profiled steps";
  std::vector<Quantity> rows = {
      {in, "", "experiment", "text", "", "The name of the experiment.", ""},
      {in, "", "name", "text", "", "In `compare --format json`: the policy.", ""},
      {in, "", "folder", "text", "", "In `compare --format json`: the policy's folder.", ""},
      {in, "", "problem", "text", "", "Why the policy is not complete; empty: it is.", ""},
      {in, "", "timings", "text", "", "`valid`, or `invalid`: incomplete, or outputs mismatch. Then all times are null.", ""},
      {in, "", "expert_parallel", "count", "", "The ranks of a group that exchanges tokens.", ""},
      {in, "", "link", "text", "", "`none`, or how the link was emulated.", ""},
      {in, "", "fault", "text", "", "`none`, or the fault that was injected: the times are no measurement.", ""},
      {in, "", "measured_in_point", "number", "", "The point of the sweep that the rank files are from; null: this run has measured them.", ""},
      {in, "", "not_finite", "", "", "The first NaN or Inf of the recorded outputs; null: all are finite, or were compared and found equal.", ""},
      {in, "", "not_finite.*", "", "", "Its tensor, rank, request, position, element and value, and all of these as `text`.", ""},
      {in, "", "step_ns", "ns", "", "Null: no valid times.", ""},
      {in, "", "step_ns.mean", "ns", step, "The mean step time.", ""},
      {in, "", "before_ns", "ns", "", "Null: no valid times, or not known, in files of before version 7.", ""},
      {in, "", "rounds_ns", "", "", "Null: no valid times.", ""},
      {in, "", "drift", "", "", "Null: no valid times.", ""},
      {in, "", "drift.run", "", "", "Null: too few rounds and iterations to tell.", ""},
      {in, "", "drift.rounds", "", "", "Null: too few, likewise.", ""},
      {in, "", "step_kinds", "", "", "As compare's steps by kind. Null: no valid times.", ""},
      {in, "", "each_step", "", "", "Null: no valid times.", ""},
      {in, "", "decisions", "", "", "Null: the policy is not complete.", ""},
      {in, "", "decisions.steps", "count", "timed steps", "The steps that were finished.", ""},
      {in, "", "decisions.ubatched", "count", "timed steps", "The steps that ran the policy's own schedule.", ""},
      {in, "", "decisions.vetoed", "count", "timed steps", "The steps that ran plain instead.", ""},
      {in, "", "decisions.reasons", "count", "timed steps", "The vetoes by reason.", ""},
      {in, "", "decisions.reasons.*", "count", "timed steps", "The vetoes for this reason.", ""},
      {in, "", "decisions.graphs.*", "count", "timed steps", "The steps that ran as this kind of graph; `none`: eagerly.", ""},
      {in, "", "decisions.eager_reasons", "count", "timed steps", "The eager steps by reason.", ""},
      {in, "", "decisions.eager_reasons.*", "count", "timed steps", "The steps that were eager for this reason.", ""},
      {in, "", "decisions.captured", "count", "timed steps", "The steps whose graph was captured just before.", ""},
      {in, "", "graphs", "", "", "Null: the policy is not complete.", ""},
      {in, "", "graphs.eager_reasons", "count", "rank 0; equal on all", "All eager steps of the policy by reason.", ""},
      {in, "", "graphs.eager_reasons.*", "count", "rank 0; equal on all", "All steps of the policy that were eager for this reason.", ""},
      {in, "", "memory", "", "", "Null: the policy is not complete.", ""},
      {in, "", "metrics", "", "", "Null: no profiled steps (`record.timing: steps`), or no valid times.", ""},
      {in, "", "metrics.profiled_ns", "ns", "slowest rank of each profiled step; mean over these", "The profiled step.", ""},
      {in, "", "metrics.exposed_waiting_bounds_ns", "ns", "mean over all, profiled steps", "What the term may be, least and most, by the errors of the clocks of the ranks.", "exposed waiting with all others as early or as late as the bounds of `/timing/clock` allow"},
      {in, "", "metrics.exposed_moving_bounds_ns", "ns", "mean over all, profiled steps", "Likewise.", "exposed moving + exposed waiting - what that is at most or at least"},
      {in, "", "metrics.waiting_bounds_ns", "ns", "mean over all, profiled steps", "Likewise of waiting, hidden or not.", ""},
      {in, "", "metrics.moving_bounds_ns", "ns", "mean over all, profiled steps", "Likewise of moving, hidden or not.", ""},
      {in, "", "metrics.hidden_share_with_waiting", "fraction", "all, profiled steps", "The hidden share as others define it. A rank that comes late raises it.", "hidden (moving + waiting) / (moving + waiting)"},
      {in, "", "metrics.hand_off_wait_ns.*", "ns", "all, profiled steps", "min, mean, p95 and max of the waits of threads for their turn.", ""},
      {in, "", "metrics.ranks.step_ns", "ns", rank, "The profiled step of a rank.", ""},
      {in, "", "metrics.ranks.compute_ns", "ns", rank, "The time in which compute runs, in the full pass.", ""},
      {in, "", "metrics.ranks.moving_ns", "ns", rank, "Moving, hidden or not.", ""},
      {in, "", "metrics.ranks.waiting_ns", "ns", rank, "Waiting, hidden or not.", ""},
      {in, "", "metrics.ranks.hidden_ns", "ns", rank, "Moving beside compute.", ""},
      {in, "", "metrics.ranks.exposed_moving_ns", "ns", rank, "As the column.", "moving_ns - hidden_ns"},
      {in, "", "metrics.ranks.exposed_waiting_ns", "ns", rank, "As the column.", ""},
      {in, "", "metrics.ranks.hand_off_ns", "ns", rank, "As the column.", ""},
      {in, "", "metrics.ranks.launch_ns", "ns", rank, "As the column.", ""},
      {in, "", "metrics.ranks.other_idle_ns", "ns", rank, "As the column.", ""},
      {in, "", "metrics.ranks.compute_only_ns", "ns", rank, "The time in which compute runs, in the compute-only pass.", ""},
      {in, "", "metrics.ranks.sms_left_out_ns", "ns", rank, "As the column.", ""},
      {in, "", "metrics.ranks.launch_gaps_ns", "ns", rank, "As the column.", ""},
      {in, "", "metrics.ranks.comm_only_moving_ns", "ns", rank, "Moving in the comm-only pass.", ""},
      {in, "", "metrics.ranks.comm_only_waiting_ns", "ns", rank, "Waiting in the comm-only pass.", ""},
      {in, "", "traffic", "", "", "Null: the policy is not complete.", ""},
      {in, "", "traffic.tokens_per_expert", "rows", "all, last timed iteration", "The rows that each expert computed, by layer and expert, replicas added.", ""},
      {in, "", "traffic.tokens_per_rank", "rows", "all, last timed iteration", "The rows that the experts of each rank computed, by layer and rank.", ""},
      {in, "", "traffic.imbalance_experts", "factor", "all, last timed iteration", "By layer: the fullest expert over the mean; 1 in a layer without rows.", "largest of tokens_per_expert / their mean"},
  };
  const auto verdicts = summary_verdicts();
  rows.insert(rows.end(), verdicts.begin(), verdicts.end());
  return rows;
}

std::vector<Quantity> verify_quantities() {
  constexpr auto in = Report::verify;
  constexpr const char* all = "all";
  return {
      {in, "output", "verification.tensors.name", "text", all, "The tensor, as under `/output` of the rank files.", ""},
      {in, "dtype", "verification.tensors.dtype", "text", all, "Its element type.", ""},
      {in, "rows", "verification.tensors.rows", "count", all, "The rows that were compared: a row is a token, or of `logits` a request.", ""},
      {in, "excluded", "verification.tensors.excluded_rows", "count", all, "The rows left out, because natural routing chose other experts for them or for what they attend to.", ""},
      {in, "row error", "verification.tensors.error", "ratio", all, "The largest error of a row.", "||a - b|| / ||b||, a of the policy, b of the baseline"},
      {in, "bound", "verification.tensors.max_error", "ratio", "", "What rounding allows of it: R of \"What `verified` means\".", ""},
      {in, "element", "verification.tensors.element_error", "ratio", all, "The largest error of an element.", "|a - b| / max(|b|, rms of b's row)"},
      {in, "bound", "verification.tensors.max_element_error", "ratio", "", "What rounding allows of it.", "5 R"},
      {in, "bits differ", "verification.tensors.different_bits", "count", all, "The elements that are not equal to the bit.", ""},
      {in, "worst element", "", "text", all, "The element furthest from its bound, with both values.", ""},
      {in, "verdict", "", "text", all, "`ok` or `MISMATCH`.", ""},
      {in, "", "verification.tensors.passed", "true, false", all, "Whether the verdict is `ok`.", ""},
      {in, "", "verification.tensors.problem", "text", all, "Why it is not; else empty.", ""},
      {in, "", "verification.tensors.worst", "", all, "Null: all elements are equal.", ""},
      {in, "", "verification.tensors.worst.rank", "rank", all, "The policy's rank that holds the worst element.", ""},
      {in, "", "verification.tensors.worst.baseline_rank", "rank", all, "The baseline's rank that holds it.", ""},
      {in, "", "verification.tensors.worst.request", "id", all, "Its request.", ""},
      {in, "", "verification.tensors.worst.position", "token", all, "Its position in the request; -1 in rows of `logits`.", ""},
      {in, "", "verification.tensors.worst.element", "column", all, "Its place in the row.", ""},
      {in, "", "verification.tensors.worst.policy_value", "", all, "Its value in the policy.", ""},
      {in, "", "verification.tensors.worst.baseline_value", "", all, "Its value in the baseline.", ""},
      {in, "", "verification.verdict", "text", all, "`verified`, `mismatch` or `not_comparable` (a rank is missing, unreadable or not complete). Other weights or inputs are a mismatch.", ""},
      {in, "", "verification.baseline", "text", "", "The baseline's folder.", ""},
      {in, "", "verification.policy", "text", "", "The policy's folder.", ""},
      {in, "", "verification.mode", "text", "", "`tolerance` or `bitwise`.", ""},
      {in, "", "verification.grid", "text", "", "Whether both ran on the `same` grid of ranks or on `different` ones.", ""},
      {in, "", "verification.link", "text", "", "`none`, or how the policy's link was emulated.", ""},
      {in, "", "verification.baseline_link", "text", "", "The same of the baseline.", ""},
      {in, "", "verification.problems", "text", all, "A sentence each, the gravest first; empty: verified.", ""},
      {in, "", "verification.worst_tensor", "text", all, "The tensor that is furthest beyond, or nearest to, its bound.", ""},
      {in, "", "verification.rule.max_error", "ratio", "", "The bound of a row behind the last layer.", ""},
      {in, "", "verification.rule.max_element_error", "ratio", "", "The bound of an element there.", ""},
      {in, "", "verification.rule.max_excluded_share", "fraction", "", "How many tokens natural routing may exclude.", ""},
      {in, "", "verification.rule.reason", "text", "", "Where the bounds come from.", ""},
      {in, "", "verification.routing.source", "text", all, "Who chose the policy's experts: `natural`, `replayed` or `synthetic`.", ""},
      {in, "", "verification.routing.judged_token_layers", "count", all, "The choices that were judged: one for each token and layer.", ""},
      {in, "", "verification.routing.context_tokens", "count", all, "The tokens of contexts among them.", ""},
      {in, "", "verification.routing.wrong", "count", all, "The choices that rounding does not explain.", ""},
      {in, "", "verification.routing.different", "count", all, "The choices that differ as a near tie of the router allows.", ""},
      {in, "", "verification.routing.reordered", "count", all, "The choices of the same experts in another order.", ""},
      {in, "", "verification.routing.max_gap", "logit", all, "The most that the logits of exchanged experts are apart.", ""},
      {in, "", "verification.routing.max_gap_share", "fraction", all, "The same over what rounding allows.", ""},
      {in, "", "verification.routing.logits_share", "fraction", all, "The largest error of the router's logits over its bound.", ""},
      {in, "", "verification.routing.excluded_share", "fraction", all, "The tokens that are excluded at the last layer.", ""},
      {in, "", "verification.routing.passed", "true, false", all, "Whether routing is as it must be.", ""},
      {in, "", "verification.routing.problem", "text", all, "Why it is not; else empty.", ""},
      {in, "", "verification.iterations", "", "", "Null: tensors were not compared, or no hashes.", ""},
      {in, "", "verification.iterations.*", "", all, "As `iterations`, of the policy.", ""},
      {in, "", "verification.baseline_iterations", "", "", "Null: tensors were not compared, or no hashes.", ""},
      {in, "", "verification.baseline_iterations.*", "", all, "As `iterations`, of the baseline.", ""},
  };
}

// clang-format on

}  // namespace dovetail
