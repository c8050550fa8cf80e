#include "launch/command_line.hpp"

#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <map>

#include <CLI/CLI.hpp>

#include "framework/base/error.hpp"
#include "framework/base/registry.hpp"
#include "framework/config/fault_config.hpp"
#include "framework/mpi/launcher.hpp"
#include "framework/record/run_folder.hpp"
#include "framework/record/run_info.hpp"

namespace dovetail {
namespace {

/// --format table or json, and `others` of one command.
void add_format(CLI::App* command,
                OutputFormat& format,
                const std::map<std::string, OutputFormat>& others = {}) {
  std::map<std::string, OutputFormat> formats = {{"table", OutputFormat::table},
                                                 {"json", OutputFormat::json}};
  std::string text = "table|json";
  for (const auto& [name, other] : others) {
    formats[name] = other;
    text += "|" + name;
  }
  command->add_option("--format", format, "how to print")
      ->transform(CLI::CheckedTransformer(formats))
      ->option_text(text);
}

void add_overrides(CLI::App* command, std::vector<std::string>& overrides) {
  command->add_option("--set", overrides, "key.path=value, over the file's value")
      ->allow_extra_args(false);
}

void add_experiment(CLI::App* command, std::string& file, std::vector<std::string>& overrides) {
  command->add_option("EXPERIMENT", file, "experiment file (YAML)")->required();
  add_overrides(command, overrides);
}

void add_run(CLI::App& app, RunOptions& options) {
  auto* command = app.add_subcommand("run", "run an experiment; start it with mpirun or srun");
  command->add_option("EXPERIMENT", options.file, "experiment file (YAML)")
      ->option_text("TEXT (not needed with --resume)");
  add_overrides(command, options.overrides);
  auto* out = command->add_option(
      "--out",
      options.out,
      "result folder; absent or empty, or of the same sweep, which then goes on");
  auto* resume = command
                     ->add_option("--resume",
                                  options.resume,
                                  "result folder of an earlier start of this run or sweep: what is "
                                  "complete there stays, the rest is measured")
                     ->option_text("DIR")
                     ->excludes(out);
  command->callback([&options] {
    if (options.file.empty() && options.resume.empty()) {
      throw CLI::RequiredError("EXPERIMENT");
    }
    if (options.file.empty()) {
      options.file = (std::filesystem::path(options.resume) / kExperimentFileName).string();
    }
  });
  command
      ->add_option(
          "--point",
          options.point,
          "run only this point of a sweep into --out, where other processes may run others "
          "at the same time; the first is 0")
      ->check(CLI::NonNegativeNumber)
      ->option_text("NUMBER")
      ->excludes(resume);
  command->add_option("--policy", options.policies, "run only these policies, and the baseline")
      ->allow_extra_args(false);
  std::map<std::string, FaultKind> faults;
  for (const auto& name : silent_fault_names()) {
    faults[name] = *parse<FaultKind>(name);
  }
  command
      ->add_option("--allow-fault",
                   options.allowed_faults,
                   "a kind of fault that the experiment may inject into its results or times")
      ->transform(CLI::CheckedTransformer(faults))
      ->option_text(join_names(silent_fault_names(), "|"))
      ->allow_extra_args(false);
}

/// Lists are written with commas.
void add_bench_exchange(CLI::App& bench, BenchOptions& options) {
  auto& exchange = options.exchange;
  bench
      .add_option("--device", options.device, "exchange, partition: where the ranks of mpirun are")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  bench
      .add_option("--exchanges",
                  exchange.exchanges,
                  "exchange: which (default: all); partition: one (default: as exchange auto)")
      ->delimiter(',');
  bench.add_option("--tokens", exchange.tokens, "exchange, partition: tokens of a rank")
      ->delimiter(',');
  bench
      .add_option("--comm-sms",
                  exchange.comm_sms,
                  "exchange: SMs on a GPU (default 8); partition: 0 = no bound (default "
                  "0,4,8,16,32)")
      ->delimiter(',');
  bench
      .add_option("--groups",
                  exchange.groups,
                  "exchange: groups into which the experts of a rank are cut (default 1)")
      ->delimiter(',');
  bench
      .add_option(
          "--routings", exchange.routings, "exchange: balanced (default), zipf, one_sided, empty")
      ->delimiter(',');
  bench.add_option("--hidden", exchange.hidden, "exchange, partition: elements of a row");
  bench.add_option("--experts", exchange.num_experts, "exchange, partition: of all ranks");
  bench.add_option(
      "--top-k", exchange.top_k, "exchange, partition: experts of a token (default 8)");
}

void add_compare(CLI::App& app, CompareCommandOptions& options) {
  auto* command = app.add_subcommand("compare", "compare the times of policies or whole runs");
  command->add_option("DIR", options.folders, "run folders or policy folders, or one sweep");
  command->add_option(
      "--baseline",
      options.baseline,
      "what speed-ups refer to: a policy of each run or point of a sweep, or for all "
      "runs RUN/POLICY, as the tables name it or as a path; default: "
      "verify.baseline of each run");
  auto* explain =
      command
          ->add_option("--explain",
                       options.column,
                       "say what a column or field means (default: all of them); behind "
                       "DIR the columns of its tables")
          ->expected(0, 1)
          ->option_text("[COLUMN]");
  add_format(command, options.format);
  command->callback([&options, explain] {
    options.explain = explain->count() > 0;
    if (options.folders.empty() && !options.explain) {
      throw CLI::RequiredError("DIR");
    }
  });
}

void add_commands(CLI::App& app, CommandLine& line) {
  add_run(app, line.run);
  auto* check = app.add_subcommand("check", "validate an experiment and print what would run");
  add_experiment(check, line.check.file, line.check.overrides);
  check->add_option("--ranks", line.check.num_ranks, "ranks of the world")->required();
  check->add_option("--device", line.check.device, "plan for this device; GPUs need not be there")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  check
      ->add_option("--gpu-memory-gib",
                   line.check.gpu_memory_gib,
                   "memory of each GPU, in GiB, that the ranks have to fit into (default: of the "
                   "GPUs of this machine)")
      ->check(CLI::PositiveNumber);
  add_format(check, line.check.format);
  auto* plan = app.add_subcommand("plan", "print the schedule of a policy");
  add_experiment(plan, line.plan.file, line.plan.overrides);
  plan->add_option("--policy", line.plan.policy, "name of a policy of the experiment")->required();
  add_format(plan, line.plan.format, {{"dot", OutputFormat::dot}});
  auto* verify = app.add_subcommand("verify", "compare the outputs of two policy folders");
  verify->add_option("BASELINE_POLICY_DIR", line.verify.baseline)->required();
  verify->add_option("POLICY_DIR", line.verify.policy)->required();
  verify->add_option("--mode", line.verify.mode, "tolerance (default) or bitwise")
      ->check(CLI::IsMember({"tolerance", "bitwise"}));
  add_format(verify, line.verify.format);
  add_compare(app, line.compare);
  auto* bench = app.add_subcommand("bench", "measure Dovetail's own costs");
  bench
      ->add_option("WHAT",
                   line.bench.what,
                   "handoff, runner, plan, graph, attention, record, load, exchange, partition")
      ->required();
  bench
      ->add_option("--checkpoint-mib",
                   line.bench.checkpoint_mib,
                   "load: size of the checkpoint that is written and read (default 512)")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 30));
  bench->add_option("--expert-parallel",
                    line.bench.expert_parallel,
                    "load: ranks, of which the first one's part is read (default 2)");
  add_bench_exchange(*bench, line.bench);
  add_format(bench, line.bench.format);
  auto* info =
      app.add_subcommand("info", "print versions, devices, and everything there is to choose");
  info->add_flag("--keys", line.info.keys, "print the keys of an experiment file instead");
  add_format(info, line.info.format, {{"markdown", OutputFormat::markdown}});
  app.require_subcommand(1);
}

}  // namespace

bool is_first_process() {
  return process_number(std::getenv) == 0;  // NOLINT(concurrency-mt-unsafe): no threads yet
}

int run_other_command(const CommandLine& line) {
  if (line.command == "check") {
    return check_command(line.check);
  }
  if (line.command == "plan") {
    return plan_command(line.plan);
  }
  if (line.command == "verify") {
    return verify_command(line.verify);
  }
  if (line.command == "compare") {
    return compare_command(line.compare);
  }
  if (line.command == "bench") {
    return bench_command(line.bench);
  }
  return info_command(line.info);
}

std::optional<CommandLine> parse_command_line(int argc, char** argv, int& exit_code) {
  CLI::App app("Experiments on overlapping communication with computation in MoE inference");
  app.name("dovetail");
  CommandLine line;
  add_commands(app, line);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (is_first_process()) {
      app.exit(error, std::cout, std::cerr);
    }
    exit_code = error.get_exit_code() == 0 ? kExitDone : kExitBadInput;
    return std::nullopt;
  }
  line.run.command_line = command_line(argc, argv);
  line.run.program = argv[0];
  line.compare.program = argv[0];
  line.command = app.get_subcommands().front()->get_name();
  return line;
}

}  // namespace dovetail
