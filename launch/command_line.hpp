// The command line of `dovetail`: what was asked for, as plain data.
#pragma once

#include <optional>

#include "framework/run/run_options.hpp"
#include "launch/commands.hpp"

namespace dovetail {

struct CommandLine {
  /// Exactly one of these is chosen.
  std::string command;
  RunOptions run;
  CheckOptions check;
  PlanOptions plan;
  VerifyCommandOptions verify;
  CompareCommandOptions compare;
  BenchOptions bench;
  InfoOptions info;
};

/// Parses; on bad usage, or after --help, prints once (on the first rank only) and returns the exit
/// code in `exit_code`.
std::optional<CommandLine> parse_command_line(int argc, char** argv, int& exit_code);

/// Runs any command but `run`. Returns the exit code.
int run_other_command(const CommandLine& line);

/// True in the process that prints messages which all would print alike, where MPI is not there
/// yet, or not to be believed.
bool is_first_process();

}  // namespace dovetail
