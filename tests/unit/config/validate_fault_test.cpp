// Rules for faults: each with a twin that keeps to it.
#include "framework/config/validate_fault.hpp"

#include <gtest/gtest.h>

#include "framework/config/dump.hpp"
#include "tests/unit/config/validate_cases.hpp"

namespace dovetail {
namespace {

using testing::error_of;
using testing::executed;
using testing::host_capabilities;
using testing::kSmall;
using testing::replaced;

TEST(Validate, FaultsMustBeAbleToHappenInCapturedSteps) {
  Capabilities cuda = host_capabilities();
  cuda.cuda = true;
  cuda.phases.emplace_back("dispatch");
  const auto error_with = [&](const std::string& execution, const std::string& fault) {
    return error_of(
        replaced(executed(execution), "record:", "fault: {rank: 1, " + fault + "}\nrecord:"),
        2,
        cuda);
  };
  const std::string graph = "device: cuda, dtype: bfloat16, graph: full";
  for (const char* good : {"kind: capture",
                           "kind: exception",
                           "kind: exception, iteration: 3",  // where the graph is launched
                           "kind: hang, iteration: 3",
                           "kind: veto, iteration: 3"}) {
    EXPECT_EQ(error_with(graph, good), "") << good;
  }
  EXPECT_EQ(error_with("device: cuda", "kind: exception, iteration: 3"), "");
  EXPECT_NE(error_with("device: cuda", "kind: capture").find("fault.kind: capture, and no policy"),
            std::string::npos);
  EXPECT_EQ(error_with(graph, "kind: capture, phase: dispatch"), "");
  const std::string pieces = "device: cuda, dtype: bfloat16, graph: piecewise, exchange: ragged";
  EXPECT_EQ(error_with(pieces, "kind: capture"), "");
  EXPECT_NE(error_with(pieces, "kind: capture, phase: dispatch").find("fault.phase: dispatch, "),
            std::string::npos);
  EXPECT_NE(error_with(graph, "kind: capture, iteration: 1")
                .find("fault.iteration: 1, and steps are captured in the first one"),
            std::string::npos);
}

/// The error of kSmall, of the policies sequential (the baseline) and dual_batch, with this fault.
std::string error_with_fault(const std::string& fault) {
  return error_of(replaced(kSmall, "record:", "fault: " + fault + "\nrecord:"), 2);
}

TEST(Validate, FaultsOfTheContextsEndTheRun) {
  const std::string fill = "rank: 1, iteration: -1";
  for (const char* good : {"exception", "hang", "slow", "kill"}) {
    EXPECT_EQ(error_with_fault("{kind: " + std::string(good) + ", " + fill + "}"), "") << good;
  }
  for (const std::string bad : {"kind: veto, ",
                                "kind: capture, ",
                                "kind: stale_kv, phase: attention, ",
                                "kind: hang, ubatch: 1, ",
                                "kind: hang, policy: dual_batch, "}) {
    const std::string what = error_with_fault("{" + bad + fill + "}");
    EXPECT_NE(what.find("fault.iteration: -1, the steps that compute the contexts, "),
              std::string::npos)
        << bad << "\n"
        << what;
  }
  const std::string random = replaced(kSmall, "rank_scale:", "context: random\n  rank_scale:");
  EXPECT_NE(error_of(replaced(random, "record:", "fault: {kind: hang, " + fill + "}\nrecord:"), 2)
                .find("and the contexts are random"),
            std::string::npos);
}

TEST(Validate, DataFaultsNamePlacesInWhichTheyCanAct) {
  const std::string flipped = "{kind: flipped_element, rank: 1, phase: attention";
  const std::string timed = flipped + ", iteration: 2";
  EXPECT_EQ(error_with_fault(timed + "}"), "");
  EXPECT_EQ(error_with_fault(timed + ", policy: dual_batch}"), "");
  EXPECT_EQ(error_with_fault(timed + ", policy: sequential}"), "");
  EXPECT_EQ(error_with_fault("{kind: hang, rank: 1, policy: sequential}"), "");

  struct Case {
    std::string fault, message;
  };

  const std::vector<Case> bad = {
      {flipped + ", policy: other}",
       "fault.policy: unknown policy 'other'; known: sequential, dual_batch"},
      {"{kind: hang, rank: 1, policy: other}", "fault.policy: unknown policy 'other'"},
      {"{kind: flipped_element, rank: 1}",
       "fault.phase: experts, in which flipped_element cannot act; allowed: embed, attention, "
       "route"},
      {"{kind: stale_kv, rank: 1, phase: output, layer: -1}",
       "fault.phase: output, in which stale_kv cannot act; allowed: attention"},
      {"{kind: wrong_position, rank: 1, phase: embed}",
       "fault.layer: 0, with the phase embed, which is of no layer; allowed: -1"},
      {flipped + ", layer: -1}", "fault.layer: -1, with the phase attention; allowed: from 0"},
      {flipped + ", iteration: 12}",
       "fault.iteration: 12, and the timed iterations of policy dual_batch are those behind its "
       "warm-up; allowed: 2 to 11"},
      {flipped + ", iteration: 1}", "fault.iteration: 1, and the timed iterations of policy"},
      {"{kind: skipped_wait, rank: 1}", "fault.iteration: 0, in which buffers hold nothing yet"},
      {"[" + timed + ", policy: sequential}, {kind: hang, rank: 0}]",
       "fault[1].policy: policy sequential has another fault already; allowed: one"},
      {"[" + timed + ", policy: sequential}, " + timed + ", policy: other}]",
       "fault[1].policy: unknown policy 'other'"},
  };
  for (const auto& [fault, message] : bad) {
    const std::string what = error_with_fault(fault);
    EXPECT_TRUE(what.starts_with("bad.yaml:16:")) << fault << "\n" << what;
    EXPECT_NE(what.find(": " + message), std::string::npos) << fault << "\n" << what;
  }
  EXPECT_EQ(error_with_fault(flipped + ", iteration: 11}"), "");
  EXPECT_EQ(error_with_fault("{kind: exception, rank: 1, iteration: 11}"), "");
  EXPECT_NE(error_with_fault("{kind: hang, rank: 1, iteration: 300}")
                .find("fault.iteration: 300, and warm-up, timed and profiled iterations end with"),
            std::string::npos);
  EXPECT_EQ(error_with_fault("[" + timed + "}, {kind: hang, rank: 0, policy: sequential}]"), "");
}

TEST(Validate, DelaysAreOfEveryStepOfAPolicyThatTheyName) {
  const std::string delay = "{kind: delay, rank: 1";
  const std::string whole = delay + ", delay_us: 250, policy: dual_batch";
  EXPECT_EQ(error_with_fault(whole + "}"), "");
  EXPECT_EQ(error_with_fault(delay + ", delay_us: 1000000, policy: sequential, phase: embed, "
                                     "layer: -1}"),
            "");
  EXPECT_EQ(error_with_fault("[" + whole + "}, " + delay + ", delay_us: 1, policy: sequential}]"),
            "");

  struct Case {
    std::string fault, message;
  };

  const std::vector<Case> bad = {
      {delay + ", policy: dual_batch}", "fault.delay_us: delay needs it; allowed: 1 to 1000000"},
      {"{kind: hang, rank: 1, delay_us: 250}",
       "fault.delay_us: hang has none; allowed: with the kind delay"},
      {"{kind: stale_kv, rank: 1, phase: attention, iteration: 2, delay_us: 250}",
       "fault.delay_us: stale_kv has none; allowed: with the kind delay"},
      {delay + ", delay_us: 250}",
       "fault.policy: delay must name the policy whose steps it makes longer; allowed: sequential, "
       "dual_batch"},
      {delay + ", delay_us: 250, policy: other}",
       "fault.policy: unknown policy 'other'; known: sequential, dual_batch"},
      {whole + ", iteration: 0}",
       "fault.iteration: delay is of every step and of no row; allowed: leave it out"},
      {whole + ", token: 0}", "fault.token: delay is of every step"},
      {whole + ", choice: -1}", "fault.choice: delay is of every step"},
      {whole + ", element: -1}", "fault.element: delay is of every step"},
      {"[" + whole + "}, {kind: veto, rank: 0, policy: dual_batch}]",
       "fault[1].policy: policy dual_batch has another fault already; allowed: one"},
      {"[{kind: veto, rank: 0, policy: sequential}, " + whole + ", token: 0}]",
       "fault[1].token: delay is of every step"},
  };
  for (const auto& [fault, message] : bad) {
    const std::string what = error_with_fault(fault);
    EXPECT_TRUE(what.starts_with("bad.yaml:16:")) << fault << "\n" << what;
    EXPECT_NE(what.find(": " + message), std::string::npos) << fault << "\n" << what;
  }
  EXPECT_EQ(describe({.kind = FaultKind::delay,
                      .rank = 1,
                      .ubatch = 1,
                      .layer = 3,
                      .policy = "dual_batch",
                      .delay_us = 250}),
            "delay at rank 1, ubatch 1, layer 3, phase experts, every step, 250 us");
}

/// What is refused where it is stated is not stated by a dump, alone or in a list.
TEST(Validate, DelaysAreDumpedAsTheyMayBeStated) {
  const std::string delay = "{kind: delay, rank: 1, delay_us: 250, policy: dual_batch}";
  for (const std::string& faults :
       {delay, "[" + delay + ", {kind: veto, rank: 0, policy: sequential}]"}) {
    const auto loaded =
        parse_experiment(replaced(kSmall, "record:", "fault: " + faults + "\nrecord:"), "x");
    const std::string dumped = dump(loaded.experiment);
    EXPECT_EQ(error_of(dumped, 2), "") << dumped;
    EXPECT_EQ(parse_experiment(dumped, "dump").experiment, loaded.experiment) << dumped;
  }
}

TEST(Validate, DataFaultsAreLeftOutOfTheBaseline) {
  const FaultConfig fault = {.kind = FaultKind::stale_kv};
  EXPECT_FALSE(hits(fault, "base", "base"));
  EXPECT_TRUE(hits(fault, "other", "base"));
  EXPECT_TRUE(hits(fault, "base", ""));
  EXPECT_TRUE(hits({.kind = FaultKind::veto}, "base", "base"));
  const FaultConfig of_base = {.kind = FaultKind::stale_kv, .policy = "base"};
  EXPECT_TRUE(hits(of_base, "base", "base"));
  EXPECT_FALSE(hits(of_base, "other", "base"));
}

TEST(Validate, SilentFaultsAreAllowedByName) {
  const auto error_with = [](const std::string& fault, const std::vector<FaultKind>& allowed) {
    const auto loaded =
        parse_experiment(replaced(kSmall, "record:", "fault: " + fault + "\nrecord:"), "x.yaml");
    return testing::input_error_of([&] { check_allowed_faults(loaded, allowed); });
  };
  for (const auto& name : silent_fault_names()) {
    const FaultKind kind = *parse<FaultKind>(name);
    const std::string fault = "{rank: 1, kind: " + name + "}";
    EXPECT_EQ(error_with(fault, {FaultKind::hang, kind}), "");
    std::string refusal = "x.yaml:16:24: fault.kind: " + name;
    refusal += kind == FaultKind::delay ? " makes steps longer" : " makes results wrong";
    refusal += " in silence; allowed: only where the command line says --allow-fault " + name;
    for (const std::vector<FaultKind>& others :
         {std::vector<FaultKind>{},
          {FaultKind::hang,
           kind == FaultKind::stale_kv ? FaultKind::wrong_expert : FaultKind::stale_kv}}) {
      EXPECT_EQ(error_with(fault, others), refusal);
    }
  }
  EXPECT_EQ(silent_fault_names().size(), 10U);
  EXPECT_EQ(error_with("{rank: 1, kind: hang}", {}), "");
  EXPECT_TRUE(error_with("[{rank: 1, kind: hang}, {rank: 1, kind: stale_kv}]", {})
                  .starts_with("x.yaml:16:48: fault[1].kind: stale_kv"));
}

TEST(Validate, AFaultThatAnEarlyEndMayForestallIsRefused) {
  const auto with = [](const std::string& precision) {
    return error_of(kSmall,
                    2,
                    host_capabilities(),
                    {"execution.precision=" + precision, "fault={kind: exception, rank: 1}"});
  };
  EXPECT_EQ(with("0"), "");
  EXPECT_NE(with("0.1").find("fault.iteration: 0, before which execution.precision may end"),
            std::string::npos)
      << with("0.1");
  EXPECT_EQ(error_of(kSmall,
                     2,
                     host_capabilities(),
                     {"execution.precision=0.1",
                      "fault={kind: delay, rank: 1, delay_us: 1, policy: dual_batch}"}),
            "");
}

}  // namespace
}  // namespace dovetail
