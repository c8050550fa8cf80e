// The subcommands of `dovetail`, each with its options; all but `run` are functions here that
// return the exit code.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "framework/comm/exchange/bench/exchange_bench.hpp"

namespace dovetail {

enum class OutputFormat { table, json, dot, markdown };

struct CheckOptions {
  std::string file;
  std::vector<std::string> overrides;
  int num_ranks = 1;
  std::string device;                    ///< over the file's execution.device; empty = the file's
  std::optional<double> gpu_memory_gib;  ///< of each GPU; nothing = of the GPUs of this machine
  OutputFormat format = OutputFormat::table;
};

/// Validates an experiment for a number of ranks and prints what would run: device, dtype, grid,
/// splits, schedule checks, what each step would run, memory by part and rank, and whether it fits.
/// GPUs need not be there, nor a build with CUDA. Runs nothing.
int check_command(const CheckOptions& options);

struct PlanOptions {
  std::string file;
  std::vector<std::string> overrides;
  std::string policy;
  OutputFormat format = OutputFormat::table;
};

/// Prints the schedule of one of the experiment's policies.
int plan_command(const PlanOptions& options);

struct VerifyCommandOptions {
  std::string baseline;
  std::string policy;
  std::string mode = "tolerance";
  OutputFormat format = OutputFormat::table;
};

/// Compares two policy folders; kExitMismatch where the outputs differ.
int verify_command(const VerifyCommandOptions& options);

struct CompareCommandOptions {
  std::vector<std::string> folders;  ///< empty only with `explain`
  std::string baseline;
  bool explain = false;
  std::string column;   ///< explain this one; empty = all that are shown
  std::string program;  ///< how it was started, for commands that are proposed
  OutputFormat format = OutputFormat::table;
};

/// Prints times, speed-up and overlap of policy folders, or of all policies of run folders; or says
/// what the columns mean, with folders below their tables. kExitBadInput where files of a policy
/// are missing or damaged; the others are compared.
int compare_command(const CompareCommandOptions& options);

struct BenchOptions {
  std::string what;
  std::int64_t checkpoint_mib = 512;  ///< `load`: size of the files
  int expert_parallel = 2;            ///< `load`: ranks, of which the first loads its part
  std::string device = "auto";        ///< `exchange`, `partition`: auto, cpu, cuda
  ExchangeBenchOptions exchange;      ///< `exchange`, `partition`
  OutputFormat format = OutputFormat::table;
};

/// Micro-benchmarks of Dovetail's own costs: handoff, runner, plan, graph, attention, record, load,
/// exchange, partition. The last two are collective over the ranks that mpirun has started; rank 0
/// prints.
int bench_command(const BenchOptions& options);

struct InfoOptions {
  bool keys = false;
  OutputFormat format = OutputFormat::table;
};

/// Prints versions, devices, and every architecture, policy, split and exchange with a line on
/// each; or the keys of an experiment file, for which there is Markdown, too. Throws InputError for
/// anything else in Markdown.
int info_command(const InfoOptions& options);

}  // namespace dovetail
