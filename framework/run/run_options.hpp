// What the command line asks of a run.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "framework/config/choices.hpp"
#include "framework/run/earlier_policy.hpp"

namespace dovetail {

struct RunOptions {
  std::string file;                       ///< the experiment file
  std::vector<std::string> overrides;     ///< "key.path=value"
  std::vector<std::string> policies;      ///< run only these and the baseline; empty = all
  std::vector<FaultKind> allowed_faults;  ///< silent faults that the run may have
  std::optional<std::size_t> point;       ///< only this one of a sweep, beside others; needs `out`
  std::string out;           ///< result folder; empty = results/<experiment>-<UTC time>
  std::string resume;        ///< folder of an earlier start of the same run or sweep, which goes on
  std::string command_line;  ///< of the process, for the record
  std::string program;       ///< how it was started, for commands that are proposed
  std::vector<EarlierPolicy> earlier;  ///< of a point of a sweep: what need not be measured again
};

}  // namespace dovetail
