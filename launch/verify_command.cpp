// `dovetail verify`: compares the outputs of two policy folders, also of different runs and grids.
#include <iostream>

#include <nlohmann/json.hpp>

#include "framework/base/error.hpp"
#include "framework/compare/verify.hpp"
#include "launch/commands.hpp"
#include "launch/terminal.hpp"

namespace dovetail {

int verify_command(const VerifyCommandOptions& options) {
  const auto mode = parse<CompareMode>(options.mode).value();  // checked with the command line
  const auto report = verify_policies(options.baseline, options.policy, {.mode = mode});
  if (options.format == OutputFormat::json) {
    std::cout << to_json(report).dump(2) << "\n";
  } else {
    std::cout << to_text(report, terminal_width());
  }
  return exit_code_of(report.verdict);
}

}  // namespace dovetail
