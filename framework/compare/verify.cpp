#include "framework/compare/verify.hpp"

#include <algorithm>
#include <cmath>
#include <new>
#include <optional>
#include <set>

#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"
#include "framework/compare/routing_diff.hpp"
#include "framework/compare/verify_context.hpp"

namespace dovetail {
namespace {

using detail::VerifyContext;

std::optional<std::string> attribute_text(const RankFile& file, const std::string& name) {
  for (const hdf5::Attribute& one : file.attributes()) {
    if (one.name == name) {
      const auto* text = std::get_if<std::string>(&one.value);
      return text == nullptr ? std::nullopt : std::optional(*text);
    }
  }
  return std::nullopt;
}

/// The values of a text attribute over all ranks.
std::set<std::string> values_of(const PolicyFolder& folder, const char* name) {
  std::set<std::string> values;
  for (std::int64_t rank = 0; rank < folder.world_size(); ++rank) {
    values.insert(folder.rank(rank).text(name));
  }
  return values;
}

/// Behind a difference of the inputs, where there are other numbers of ranks.
constexpr const char* kPerRankHint =
    " (requests are per rank: halve `count` when you double the ranks)";

void compare_digests(VerifyContext& context) {
  for (const char* name : {attribute::kWeightsDigest, attribute::kInputsDigest}) {
    const std::set<std::string> own = values_of(context.policy, name);
    const std::set<std::string> other = values_of(context.baseline, name);
    if (own != other) {
      const bool is_scaled = name == std::string_view(attribute::kInputsDigest) &&
                             context.policy.world_size() != context.baseline.world_size();
      context.add_problem(std::string(name) + " differs: " + join_names(own) + " against " +
                          join_names(other) + (is_scaled ? kPerRankHint : ""));
    } else if (own.size() > 1) {
      context.add_problem(std::string(name) +
                          " differs between the ranks of a run: " + join_names(own));
    }
  }
}

std::int64_t num_layers_of(const RankFile& file) {
  std::int64_t layers = 1;
  for (const ScheduleRecord& schedule : file.schedules()) {
    for (const OpRecord& op : schedule.ops) {
      layers = std::max<std::int64_t>(layers, op.layer + 1);
    }
  }
  return layers;
}

bool is_on_cpu(const RankFile& file) {
  return file.text("device") == "cpu";
}

constexpr std::int64_t kLeastReductionLength = 1024;

/// The terms of the longest sum of a layer. Products over heads and experts may be longer than the
/// hidden size where that is small.
std::int64_t reduction_length_of(const RankFile& file) {
  const std::string hidden = std::string(path::kOutput) + "/hidden";
  return file.has(hidden) ? std::max(kLeastReductionLength, file.shape(hidden).back())
                          : kLeastReductionLength;
}

/// Of each layer the most of all ranks. What is not there, as in an older file or a run that was
/// cut short, says nothing.
std::vector<double> layer_roundings_of(const PolicyFolder& folder) {
  std::vector<double> most;
  for (const RankEntry& entry : folder.ranks()) {
    if (!entry.file || !entry.file->has(path::kMostRoundings)) {
      continue;
    }
    const auto own = entry.file->read<float>(path::kMostRoundings).values;
    most.resize(std::max(most.size(), own.size()), 0);
    for (std::size_t layer = 0; layer < own.size(); ++layer) {
      if (std::isfinite(own[layer])) {
        most[layer] = std::max<double>(most[layer], own[layer]);
      }
    }
  }
  return most;
}

/// By the activation dtype, which may be coarser than a tensor's own (logits in float32).
void choose_rule(VerifyContext& context) {
  const RankFile& own = context.policy.rank(0);
  const RankFile& other = context.baseline.rank(0);
  const auto own_dtype = attribute_text(own, "dtype");
  const auto other_dtype = attribute_text(other, "dtype");
  if (own_dtype != other_dtype) {
    context.add_problem("activation dtype differs: " + own_dtype.value_or("none") + " against " +
                        other_dtype.value_or("none"));
  }
  context.activation_dtype = parse<DType>(other_dtype.value_or("float32")).value_or(DType::float32);
  const bool same_grid =
      own.world_size() == other.world_size() &&
      own.integer(attribute::kExpertParallel) == other.integer(attribute::kExpertParallel);
  context.report.grid = same_grid ? GridRelation::same : GridRelation::different;
  context.num_layers = num_layers_of(other);
  context.reduction_length = reduction_length_of(other);
  context.devices =
      is_on_cpu(own) == is_on_cpu(other) ? DeviceRelation::same : DeviceRelation::different;
  context.layer_roundings = layer_roundings_of(context.baseline);
  context.report.rule = tolerance_rule(context.activation_dtype,
                                       context.num_layers,
                                       context.reduction_length,
                                       context.devices,
                                       context.layer_roundings);
}

/// All of both runs: the outputs that were compared are those of one iteration of each.
void compare_iterations(VerifyContext& context) {
  auto& report = context.report;
  report.iterations =
      judge_iterations(context.policy, {.baseline = &context.baseline, .exact = context.exact});
  report.baseline_iterations = judge_iterations(context.baseline);
  for (const auto& problem : report.iterations->problems) {
    context.add_problem("iterations: " + problem);
  }
  for (const auto& problem : report.baseline_iterations->problems) {
    context.add_problem("iterations of the baseline: " + problem);
  }
}

bool is_natural(const PolicyFolder& folder) {
  const RankFile& file = folder.rank(0);
  return file.has_attribute(attribute::kRouting) &&
         file.text(attribute::kRouting) == to_string(RoutingSource::natural);
}

/// Two runs of a coarse dtype round differently, so a router may choose another expert where two
/// are nearly as good; only recorded routing tells such a choice from a fault.
void advise_on_routing(VerifyContext& context) {
  VerifyReport& report = context.report;
  const bool is_coarse =
      context.activation_dtype == DType::bfloat16 || context.activation_dtype == DType::float16;
  const bool differs =
      std::any_of(report.tensors.begin(), report.tensors.end(), [](const auto& tensor) {
        return !tensor.problem.empty() && tensor.error > 0;
      });
  if (is_coarse && differs && !report.routing &&
      (is_natural(context.policy) || is_natural(context.baseline))) {
    report.advice =
        "routing was not recorded, so a near tie of a router, which two right runs in " +
        std::string(to_string(context.activation_dtype)) +
        " may decide differently, cannot be told from a fault; to tell, run again with --set "
        "'record.outputs=[hidden, logits, routing]'";
  }
}

void verify(VerifyContext& context) {
  compare_digests(context);
  choose_rule(context);
  context.rows = match_rows(context.policy, context.baseline);
  for (const std::string& problem : context.rows.problems) {
    context.add_problem(problem);
  }
  if (!context.report.problems.empty()) {
    return;  // other weights or inputs: comparing outputs would only bury the cause
  }
  context.excluded_from.assign(context.rows.tokens.size(), kNeverExcluded);
  compare_routing(context);
  compare_outputs(context);
  compare_iterations(context);
  advise_on_routing(context);
}

/// The folder, if all its ranks are there and complete; else nothing and a problem.
std::optional<PolicyFolder> open_complete(const std::filesystem::path& path,
                                          std::vector<std::string>& problems) {
  try {
    std::optional<PolicyFolder> folder(path);
    folder->require_complete();
    return folder;
  } catch (const InputError& error) {
    problems.emplace_back(error.what());
    return std::nullopt;
  }
}

}  // namespace

int exit_code_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::verified:
      return kExitDone;
    case Verdict::mismatch:
      return kExitMismatch;
    case Verdict::not_comparable:
      break;
  }
  return kExitBadInput;
}

VerifyReport verify_policies(const std::filesystem::path& baseline_dir,
                             const std::filesystem::path& policy_dir,
                             const VerifyOptions& options) {
  VerifyReport report;
  report.baseline = baseline_dir.string();
  report.policy = policy_dir.string();
  report.mode = options.mode;
  const auto baseline = open_complete(baseline_dir, report.problems);
  const auto policy = open_complete(policy_dir, report.problems);
  if (!baseline.has_value() || !policy.has_value()) {
    return report;
  }
  report.baseline_link = baseline->rank(0).link();
  report.policy_link = policy->rank(0).link();
  try {
    report.verdict = Verdict::verified;
    VerifyContext context{
        .baseline = *baseline,
        .policy = *policy,
        .exact = options.mode == CompareMode::bitwise,
        .report = report,
    };
    verify(context);
    if (!report.problems.empty() && report.verdict == Verdict::verified) {
      report.verdict = Verdict::mismatch;
    }
  } catch (const InputError& error) {  // a file that contradicts itself, found while reading
    report.verdict = Verdict::not_comparable;
    report.problems.insert(report.problems.begin(), error.what());
  } catch (const std::bad_alloc&) {
    report.verdict = Verdict::not_comparable;
    report.problems = {report.policy + " and " + report.baseline + ": do not fit into memory"};
  }
  return report;
}

}  // namespace dovetail
