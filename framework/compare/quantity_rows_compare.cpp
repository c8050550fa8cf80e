// What the tables of `dovetail compare` show, and the words that they use.
#include <utility>

#include "framework/compare/quantity_rows.hpp"

namespace dovetail {
namespace {

constexpr const char* kOfSteps = "slowest rank of each timed step, mean of an iteration";

void add_rows(std::vector<Quantity>& rows, Report report, std::vector<Quantity> more) {
  for (Quantity& row : more) {
    row.report = report;
    rows.push_back(std::move(row));
  }
}

}  // namespace

// clang-format off
std::vector<Quantity> word_quantities() {
  constexpr auto in = Report::words;
  return {
      {in, "step", "", "", "", "One forward pass, from the first op to the last. Outside of it, and in no step time: the agreement of the ranks before it, the making of inputs, warm-up, capture of graphs, hashing and recording.", ""},
      {in, "ubatch", "", "", "", "A part of the batch (micro-batch). The ubatches of a step are computed in turn, so that one may exchange rows while another computes.", ""},
      {in, "op", "", "", "", "One phase of one layer of one ubatch. It runs on a lane: `compute` or `comm`.", ""},
      {in, "exchange", "", "", "", "Dispatch (rows travel to the ranks of their experts) and combine (their results travel back).", ""},
      {in, "moving", "", "", "", "The part of an exchange in which rows travel: from when the last rank of the group has come to it, to its end on this rank.", ""},
      {in, "waiting", "", "", "", "The part before that: this rank has come to the exchange and another one has not.", ""},
      {in, "exposed", "", "", "", "Of moving or waiting: while this rank computes nothing. Every nanosecond of a profiled step is the first of these that fits: compute, exposed moving, exposed waiting, hand-off, launch, other idle.", ""},
      {in, "hidden", "", "", "", "Of moving or waiting: while this rank computes.", ""},
      {in, "profiled step", "", "", "", "With `record.timing: ops`: a step that is run behind timed ones with start and end of each op recorded. The terms and factors are taken from these.", ""},
      {in, "pass", "", "", "", "A profiled step runs several times: in full, without times of ops and with them; without the exchange (compute-only), on a GPU also with all SMs; where the host enqueues kernel by kernel also with each op held back until it is enqueued whole; and the exchange alone (comm-only).", ""},
      {in, "slowest rank", "", "", "", "The rank whose step takes longest, chosen for each step anew.", ""},
      {in, "baseline", "", "", "", "The policy that others are compared with: `verify.baseline` of the run, else its first policy, or what `--baseline` names.", ""},
      {in, "vetoed, plain", "", "", "", "A step is vetoed where the ranks agree on no ubatches, for example below a threshold. It runs the plain schedule: `sequential`, one ubatch.", ""},
      {in, "proven", "", "", "", "Of a schedule: checked before the run to be complete, free of cycles and of buffers that are used twice at a time, with each op behind what it needs.", ""},
      {in, "stage", "", "", "", "Of the policy `staged`: a run of phases of a layer that is enqueued in one go. A pipeline stage is something else: the layers `model.layers` of a model.", ""},
      {in, "wire bytes", "", "bytes", "", "What leaves a rank for another one: rows, their metadata and counts. How many rows depends on the exchange: with `ragged` one for each token and other rank that has an expert of it. In summary.json: `traffic.dispatch_wire_bytes`, `traffic.combine_wire_bytes`.", ""},
      {in, "logical bytes", "", "bytes", "", "What the routing asks for: one row for each token and expert, the own rank's included, without padding. Figures of other systems mostly count a row for each token and rank instead, tokens x min(ranks, top k): the logical GB/s of `dovetail bench exchange`. In summary.json: `traffic.dispatch_logical_bytes`, `traffic.combine_logical_bytes`.", ""},
  };
}

namespace {

/// Of step times.
std::vector<Quantity> step_quantities() {
  std::vector<Quantity> rows;
  constexpr auto in = Report::compare_steps;  // until add_rows says of which report
  constexpr const char* step = kOfSteps;
  constexpr const char* kind = "slowest rank of each timed step of the kind";
  add_rows(rows, Report::compare_steps, {
      {in, std::string(kRunHeading), "run", "text", "", "The run's folder, with as much of its path as tells it from the others. Shown where there are several runs.", ""},
      {in, "policy", "policy", "text", "", "The label of the policy in the experiment.", ""},
      {in, std::string(kBaselineHeading), "baseline", "text", "", "What the row is compared with. Shown where there are several runs.", ""},
      {in, "status", "status", "text", "gravest of all", "`complete`, `failed`, `stopped`, `running` (also what a killed rank leaves), `invalid`, `incomplete` (a rank has no file), `unreadable`, `not_run`.", ""},
      {in, "ranks", "world_size", "count", "", "The number of ranks.", ""},
      {in, "ubatches", "ubatches", "count", "", "The number of ubatches, the most of any schedule of the policy.", ""},
      {in, "iterations", "step_ns.count", "count", step, "The timed iterations that all ranks have finished. The next five columns are over these.", ""},
      {in, "p50 [ms]", "step_ns.p50", "ms", step, "The median step time.", "of each iteration the mean of its steps"},
      {in, "p95 [ms]", "step_ns.p95", "ms", step, "95 of 100 iterations are faster. `-` with fewer than 20.", "linear between the two neighbours"},
      {in, "p99 [ms]", "step_ns.p99", "ms", step, "99 of 100 iterations are faster. `-` with fewer than 100.", "linear between the two neighbours"},
      {in, "min [ms]", "step_ns.min", "ms", step, "The fastest iteration.", ""},
      {in, "max [ms]", "step_ns.max", "ms", step, "The slowest iteration.", ""},
      {in, "speed-up", "speed_up", "factor", "", "How many times faster than the baseline. Above 1 is faster.", "round by round, the geometric mean; fewer than 3 rounds: p50 of the baseline / own p50"},
      {in, "95 %", "speed_up_interval", "factor", "", "In 95 of 100 such runs the speed-up that more rounds would come to lies within. Where 1 lies within, too, no difference is shown. With fewer than 3 rounds it is over steps, and with policies of two runs over the rounds of each: what differs between rounds, or between runs, is not in it, so no difference is claimed, and a note says so. Each interval is of one comparison: a line below the tables says how many there are and what chance alone would claim. They are not widened for that (as Holm's method would), so that what is said of a policy does not depend on which others were run. `-` for the baseline itself and with fewer than 3 rounds and 10 steps.", "Student's of the logarithms of the rounds' speed-ups (policies of two runs: Welch's); fewer than 3 rounds: circular block bootstrap of both medians"},
      {in, "", "step_ns_interval", "ns", step, "As `95 %`, of the median step time.", ""},
      {in, "", "speed_up_counts", "true, false", "", "Whether a difference from the baseline is shown: `speed_up_interval` is over `rounds` and leaves out 1. Null: nothing can be said; `speed_up_basis` says why. True of the policy `control`: the run was not quiet.", ""},
      {in, "", "speed_up_basis", "text", "", "What `speed_up_interval` is over: `rounds` of one run; `steps`, with fewer than 3 rounds, so that how rounds differ is not known; or two `runs`, whose difference is not known. Null: the baseline itself, or no speed-up.", ""},
      {in, "", "drift.run.change", "share", step, "How much longer the last iteration takes than the first one, by a robust trend; a note says so where it matters. Null with 2 to 4 rounds, and with one round of fewer than 10 iterations.", "median slope of all pairs of rounds (one round: of six parts of it), of logarithms"},
      {in, "", "drift.run.interval", "share", step, "Its 95 % interval.", "Sen's"},
      {in, "", "drift.run.matters", "true, false", "", "Whether it is above 2 % and its interval leaves out 0.", ""},
      {in, "", "drift.rounds.*", "share", step, "The same within rounds, from a round's first iteration to its last. Null with fewer than 3 rounds of 3 iterations.", ""},
      {in, "", "most_iterations", "count", "", "The iterations that the run would have taken at most.", ""},
      {in, "", "ended_early", "true, false", "", "Whether it took fewer, because its step times were known as precisely as `execution.precision` asks for.", ""},
      {in, "", "rounds_ns.p50", "ns", step, "The median of each round, over its iterations.", ""},
      {in, "", "rounds_ns.began_ns", "ns", "", "When the first round began, since 1970. Speed-ups are taken round by round where it is the baseline's.", ""},
      {in, "", "note", "text", "", "Below the table, by policy: vetoes and their reasons, why there is no speed-up, what is wrong with the run.", ""},
      {in, "", "notes", "text", "", "All that is said below the tables, a sentence each, with the names of the policies: the notes, and where figures are to be taken with care. In summary.json: those of the policy.", ""},
      {in, "", "flags", "text", "", "Which of these are true of the policy, each said in full among the `notes`. `drift`: step times grow or fall. `control`: the second copy of the baseline differs from it. `recording`, `unexplained`, `timed_vs_profiled`: the term is large. `not_explained`: what is unexplained is larger than the difference from the baseline. `not_quiet`: the profiled steps of the baseline were slowed down. `below_ideal`: the p50 is. `other_execution`: graph mode or exchange is not the baseline's, so `split tax` and `comm split` hold that difference, too. `one_round`, `other_runs`: `speed_up_basis` is `steps` or `runs`.", ""},
  });
  add_rows(rows, Report::compare_kinds, {
      {in, std::string(kRunHeading), "", "text", "", "As above.", ""},
      {in, "policy", "", "text", "", "As above. The table is shown where a policy has several kinds of steps.", ""},
      {in, "step", "step_kinds.steps", "text", "", "The place of a step in its iteration, from 0, or of several that were decided alike and whose times do not differ from the first one's: medians within 10 %, or each within the other's range.", ""},
      {in, "decision", "step_kinds.decision", "text", "", "Whether it was cut into ubatches, or why not, and which CUDA graph ran it.", ""},
      {in, "schedule", "step_kinds.schedule", "text", "", "The schedule that ran.", ""},
      {in, "samples", "step_kinds.step_ns.count", "count", kind, "The timed iterations with such steps. The next five columns are over these.", ""},
      {in, "p50 [ms]", "step_kinds.step_ns.p50", "ms", kind, "The median.", "of several steps their mean in each iteration"},
      {in, "p95 [ms]", "step_kinds.step_ns.p95", "ms", kind, "As above.", ""},
      {in, "p99 [ms]", "step_kinds.step_ns.p99", "ms", kind, "As above.", ""},
      {in, "min [ms]", "step_kinds.step_ns.min", "ms", kind, "The fastest.", ""},
      {in, "max [ms]", "step_kinds.step_ns.max", "ms", kind, "The slowest.", ""},
      {in, "", "step_kinds.step_ns.mean", "ns", kind, "The mean.", ""},
      {in, "", "step_kinds.ubatched", "true, false", "", "Whether it was cut into ubatches.", ""},
      {in, "", "step_kinds.veto", "text", "", "Why it was not; `none`: no veto.", ""},
      {in, "", "step_kinds.graph", "text", "", "Which CUDA graph ran it; `none`: eager.", ""},
      {in, "", "step_kinds.captured", "true, false", "", "Whether its graph was captured just before it.", ""},
      {in, "", "each_step.*", "", kind, "As `step_kinds`, of each step of an iteration and each decision.", ""},
  });
  return rows;
}

}  // namespace

std::vector<Quantity> compare_quantities() {
  std::vector<Quantity> rows = step_quantities();
  constexpr auto in = Report::compare_steps;
  constexpr const char* step = kOfSteps;
  add_rows(rows, Report::compare_devices, {
      {in, std::string(kRunHeading), "", "text", "", "As above.", ""},
      {in, "policy", "", "text", "", "As above.", ""},
      {in, "device", "device", "text", "all", "The kinds of device of the ranks.", ""},
      {in, "graph", "", "text", "", "How many timed steps ran as which kind of CUDA graph; `none` is eager.", ""},
      {in, "captures", "graphs.captures", "count", "rank 0; equal on all", "The CUDA graphs captured in all steps of the policy, warm-up included.", ""},
      {in, "replays", "graphs.replays", "count", "rank 0; equal on all", "The steps of the policy that ran as a replay.", ""},
      {in, "host share", "host_share", "%", "all, timed steps", "How much of a step the host needs to enqueue it. Near 100 % the GPU waits for the host.", "median of enqueue time / step time"},
      {in, "peak [GiB]", "memory.peak_reserved_bytes", "GiB", "fullest rank", "The most that the allocator held of the device.", ""},
      {in, "allocated", "memory.peak_allocated_bytes", "GiB", "fullest rank", "The most of it that tensors held.", ""},
      {in, "owned", "memory.owned_bytes", "GiB", "fullest rank", "What a rank owns for the whole run.", "weights + cache + exchange, of one rank"},
      {in, "weights", "memory.weights_bytes", "GiB", "fullest rank", "The weights of a rank.", ""},
      {in, "cache", "memory.cache_bytes", "GiB", "fullest rank", "Its cache of keys and values.", ""},
      {in, "exchange", "memory.exchange_bytes", "GiB", "fullest rank", "Its buffers of the exchange.", ""},
  });
  constexpr const char* slow = "slowest rank of each profiled step; mean over these";
  constexpr const char* mean = "mean over all, profiled steps";
  add_rows(rows, Report::compare_terms, {
      {in, std::string(kRunHeading), "", "text", "", "As above.", ""},
      {in, "policy [ms]", "", "text", "", "As above. All columns of this table are in ms.", ""},
      {in, "compute", "metrics.terms_ns.compute", "ms", mean, "What the baseline computes: its compute-only pass, on all SMs and without launch gaps. Without a baseline: the policy's own.", ""},
      {in, "split tax", "metrics.terms_ns.split_tax", "ms", mean, "What computing in smaller parts costs, on as many SMs: smaller matrices, weights that are read again.", "compute-only pass, on all SMs and without launch gaps - the same of the baseline"},
      {in, "SMs left out", "metrics.terms_ns.sms_left_out", "ms", mean, "On a GPU, where a policy leaves SMs to the exchange: what computing without them costs. `-`: not known, in files of before version 7; then part of `compute` and `split tax`.", "compute-only pass - the same with all SMs"},
      {in, "launch gaps", "metrics.terms_ns.launch_gaps", "ms", mean, "On a GPU, where the host enqueues ops kernel by kernel: what the GPU waits for the host within ops. `-`: not known, as before, or because no op could be held back.", "over compute ops: full pass - the same, each of them held back until it is enqueued whole"},
      {in, "contention", "metrics.terms_ns.contention", "ms", mean, "What computing beside the exchange costs: an op against the same op alone. Negative where ops were faster beside it.", "over ops beside which an exchange runs: time in the full pass - in the compute-only pass, both without launch gaps"},
      {in, "after exchange", "metrics.terms_ns.after_exchange", "ms", mean, "What ops take longer that begin when an exchange has just ended, with none beside them: their rows and weights have left the caches, a core or an SM has waited.", "over ops since whose predecessor began an exchange has ended: time in the full pass - in the compute-only pass, both without launch gaps"},
      {in, "exposed moving", "metrics.terms_ns.exposed_moving", "ms", mean, "Rows travel and the rank computes nothing.", "moving while no compute runs"},
      {in, "exposed waiting", "metrics.terms_ns.exposed_waiting", "ms", mean, "The rank waits for others in an exchange and computes nothing, or is done with the step before the slowest rank.", "waiting while neither moving nor compute runs + step of the slowest rank - own step"},
      {in, "hand-off", "metrics.terms_ns.hand_off", "ms", mean, "The threads of the ubatches hand over to each other and nothing else runs.", ""},
      {in, "launch", "metrics.terms_ns.launch", "ms", mean, "A thread has got its turn and its op has not started; nothing else runs. On a GPU: enqueued and not started.", ""},
      {in, "other idle", "metrics.terms_ns.other_idle", "ms", mean, "The rest of the profiled step: no op runs and no hand-off or launch explains it.", ""},
      {in, "recording", "metrics.terms_ns.recording", "ms", slow, "What start and end of each op add to a profiled step, taken off again, so mostly negative. A note says where it is above 1 % of the p50. `-`: not known; then part of `timed vs profiled`.", "step without times of ops beside a profiled one - profiled step"},
      {in, "timed vs profiled", "metrics.terms_ns.timed_vs_profiled", "ms", slow, "How much slower the timed steps are (their median) than the few that ran beside the profiled ones (their mean). A note says where it is above 3 %: the other terms are of faster or slower steps then.", "p50 - step without times of ops beside a profiled one"},
      {in, "unexplained", "metrics.terms_ns.unexplained", "ms", mean, "What is left: ops neither beside nor behind an exchange of their rank take another time than in the compute-only pass. A note says where it is above 3 % of the p50. Terms that are smaller than this say little.", "p50 - all terms to the left"},
      {in, "= p50", "metrics.measured_ns", "ms", step, "The median step time again: the sum of the terms.", ""},
      {in, "agreement", "before_ns.agreement", "ms", "all, timed steps", "Before the step and no part of it: the ranks agree on how it is run and wait until all are ready, as the last rank sees it. `-`: not known, in files of before version 7.", "median of: least of all ranks"},
      {in, "preparation", "before_ns.preparation", "ms", "slowest rank of each timed step", "Before the step and no part of it: inputs are put in place, the batch is cut, outputs are cleared.", "median of: most of all ranks"},
      {in, "= whole", "", "ms", "", "The whole step.", "p50 + agreement + preparation"},
      {in, "ideal", "metrics.ideal_ns", "ms", "largest of all ranks; mean over the profiled steps", "The shortest that a step could be if the baseline's exchange and compute overlapped fully and cost each other nothing. One for all policies of a baseline. It holds for the graph mode and the exchange of the baseline: a policy with others may be faster, and a note says so.", "of the baseline: max over ranks of max(compute, moving of the comm-only pass)"},
      {in, "", "metrics.unexplained_by_phase_ns.*", "ns", mean, "What ops neither beside nor behind an exchange take longer than in the compute-only pass, by phase.", ""},
      {in, "", "metrics.recording_error_ns", "ns", slow, "Half of the 95 % interval of `recording`, by the spread over the profiled steps. null: of one step.", ""},
      {in, "", "metrics.unrecorded_ns", "ns", slow, "The steps without times of ops beside the profiled ones.", ""},
      {in, "", "metrics.gated_ops.held", "count", "all, profiled steps", "The ops that were held back until they were enqueued whole, so that their launch gaps are known.", ""},
      {in, "", "metrics.gated_ops.not_held", "count", "all, profiled steps", "The ops that took longer to enqueue than they are held back: their launch gaps stay in `compute`.", ""},
  });
  constexpr const char* all = "all, profiled steps";
  add_rows(rows, Report::compare_exchange, {
      {in, std::string(kRunHeading), "", "text", "", "As above.", ""},
      {in, "policy", "", "text", "", "As above.", ""},
      {in, "moving [ms]", "metrics.moving_ns", "ms", mean, "How long rows travel in a step, hidden or not.", ""},
      {in, "hidden", "metrics.hidden_share", "%", all, "The share of moving beside which the rank computes.", "hidden moving / moving"},
      {in, "waiting [ms]", "metrics.waiting_ns", "ms", mean, "How long a rank waits for others in exchanges, hidden or not.", ""},
      {in, "split tax [x]", "metrics.split_tax_factor", "factor", all, "How much longer compute alone takes than the baseline's, on as many SMs and without launch gaps.", "(compute + split tax) / that of the baseline"},
      {in, "comm split [x]", "metrics.comm_split_factor", "factor", all, "How much longer the exchange alone takes than the baseline's, because its messages are smaller.", "moving of the comm-only pass / that of the baseline"},
      {in, "contention [x]", "metrics.contention_factor", "factor", all, "How much slower compute is beside the exchange. Over ops that spend at least half of their time beside moving.", "time of these ops in the full pass / in the compute-only pass"},
      {in, "comm contention [x]", "metrics.comm_contention_factor", "factor", all, "How much slower the exchange is beside compute. Over exchanges that spend at least half of their moving beside compute.", "moving of these in the full pass / in the comm-only pass"},
      {in, "imbalance [x]", "traffic.imbalance_ranks", "factor", "all, last timed iteration", "How much longer the experts take than if all ranks had the same number of rows in each layer.", "sum over layers of the fullest rank's rows / sum over layers of the mean"},
      {in, "hand-offs", "metrics.hand_off_wait_ns.count", "count", all, "How often a thread waited for its turn. The next two columns are over these waits.", ""},
      {in, "hand-off p50 [us]", "metrics.hand_off_wait_ns.p50", "us", all, "The median wait of a thread for its turn.", ""},
      {in, "p99 [us]", "metrics.hand_off_wait_ns.p99", "us", all, "99 of 100 of these waits are shorter. `-` with fewer than 100.", ""},
  });
  return rows;
}

// clang-format on

}  // namespace dovetail
